//! What the columns of the output are. The first frame with rows gives their names and their order; types are the narrowest that hold
//! everything that is committed. A frame that needs another one is refused.

use std::collections::HashMap;
use std::fmt;

use arrow_ipc::convert::{IpcSchemaEncoder, try_fb_to_schema};
use arrow_ipc::root_as_schema;
use arrow_schema::{DataType, Field, Schema};

use super::pandas::{self, Whose};
use super::types::{self, Typed};

/// Under this name the host marks a column by its values, in the metadata of its field.
const MARK: &str = "fanfold";
/// The column has none: its type is not fixed.
const EMPTY: &str = "no value";
/// Its values are whole numbers, and `float64` holds each of them.
const EXACT: &str = "exact as float64";
/// Where pandas keeps what Arrow does not say of its frames.
const PANDAS: &str = "pandas";
/// What makes an extension type of a type.
const EXTENSION: [&str; 2] = ["ARROW:extension:name", "ARROW:extension:metadata"];
/// So many names are told.
const TOLD: usize = 5;

/// The columns of the output.
#[derive(Clone, Debug, PartialEq)]
pub struct TableSchema(Schema);

/// Why a frame does not fit. Tells the user, and is the same for every mini-batch with the same fault.
#[derive(Debug, PartialEq)]
pub enum Misfit {
    /// The names are not those of the output.
    Names { missing: Vec<String>, unknown: Vec<String> },
    /// Two columns have one name.
    Twice { column: String },
    /// A type that holds what others have is none that holds this.
    Type { column: String, found: DataType, expected: DataType },
    /// A type that Parquet has not got.
    Unwritable { column: String, found: DataType },
}

impl fmt::Display for Misfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Misfit::Names { missing, unknown } => {
                f.write_str("run() returned other columns than the output has:")?;
                if !missing.is_empty() {
                    write!(f, " {} missing", listed(missing))?;
                }
                if !unknown.is_empty() {
                    let and = if missing.is_empty() { "" } else { " and" };
                    write!(f, "{and} {} unknown", listed(unknown))?;
                }
                f.write_str("; return the same columns from every run(), such as `frame.reindex(columns=[…])`")
            }
            Misfit::Twice { column } => {
                write!(f, "run() returned two columns called `{column}`; rename one")
            }
            Misfit::Type { column, found, expected } => {
                let (is, was) = (types::name(found), types::name(expected));
                write!(f, "run() returned column `{column}` as {is}, and in the output it is {was}; ")?;
                match types::common(found, expected) {
                    Some(both) => write!(f, "return `frame.astype({{{column:?}: {both:?}}})` from every run()"),
                    None => f.write_str("give it the same type in every run()"),
                }
            }
            Misfit::Unwritable { column, found } => {
                let is = types::name(found);
                write!(
                    f,
                    "run() returned column `{column}` as {is}, which a Parquet file can't hold; return it as text or numbers"
                )
            }
        }
    }
}

/// "`a` and `b` are".
fn listed(names: &[String]) -> String {
    let mut quoted: Vec<String> = names.iter().take(TOLD).map(|name| format!("`{name}`")).collect();
    if names.len() > TOLD {
        quoted.push(format!("{} more", names.len() - TOLD));
    }
    let verb = if names.len() == 1 { "is" } else { "are" };
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} and {last} {verb}", rest.join(", ")),
        _ => format!("{} {verb}", quoted.join("")),
    }
}

impl TableSchema {
    /// That of the first frame with rows.
    pub fn first(frame: &Schema) -> Result<TableSchema, Misfit> {
        let mut fields = Vec::with_capacity(frame.fields().len());
        for (at, field) in frame.fields().iter().enumerate() {
            let column = field.name().clone();
            if frame.fields()[..at].iter().any(|other| other.name() == field.name()) {
                return Err(Misfit::Twice { column });
            }
            if !types::is_writable(field.data_type()) {
                return Err(Misfit::Unwritable { column, found: field.data_type().clone() });
            }
            fields.push(field.as_ref().clone().with_nullable(true));
        }
        Ok(TableSchema(Schema::new_with_metadata(fields, frame.metadata().clone())))
    }

    /// What they are with this frame; None: as before.
    pub fn joined(&self, frame: &Schema) -> Result<Option<TableSchema>, Misfit> {
        let named: HashMap<&str, &Field> =
            frame.fields().iter().map(|field| (field.name().as_str(), field.as_ref())).collect();
        let has = |name: &String| self.0.fields().iter().any(|field| field.name() == name);
        let missing: Vec<String> = self
            .0
            .fields()
            .iter()
            .map(|field| field.name().clone())
            .filter(|name| !named.contains_key(&**name))
            .collect();
        let unknown: Vec<String> =
            frame.fields().iter().map(|field| field.name().clone()).filter(|name| !has(name)).collect();
        if !missing.is_empty() || !unknown.is_empty() {
            return Err(Misfit::Names { missing, unknown });
        }
        if named.len() < frame.fields().len() {
            TableSchema::first(frame)?;
        }
        let (mut fields, mut whose) = (Vec::new(), HashMap::new());
        for old in self.0.fields() {
            let new = named[old.name().as_str()];
            let field = join(old, new)?;
            let of = match () {
                () if is_empty(new) && !is_empty(old) => Whose::Old,
                () if is_empty(old) && !is_empty(new) => Whose::New,
                () if old.data_type() == new.data_type() => Whose::Either,
                () if field.data_type() == old.data_type() => Whose::Old,
                () if field.data_type() == new.data_type() => Whose::New,
                () => Whose::Neither(types::name(field.data_type())),
            };
            whose.insert(old.name().as_str(), of);
            fields.push(field);
        }
        let mut metadata = self.0.metadata().clone();
        let (before, said) = (metadata.get(PANDAS), frame.metadata().get(PANDAS));
        if let Some(both) = pandas::joined(before.map(String::as_str), said.map(String::as_str), &whose) {
            metadata.insert(PANDAS, both);
        }
        let joined = TableSchema(Schema::new_with_metadata(fields, metadata));
        Ok((joined != *self).then_some(joined))
    }

    /// As the ledger keeps them.
    pub fn to_bytes(&self) -> Vec<u8> {
        IpcSchemaEncoder::new().schema_to_fb(&self.0).finished_data().to_vec()
    }

    /// What [`TableSchema::to_bytes`] made.
    pub fn from_bytes(bytes: &[u8]) -> Result<TableSchema, String> {
        let schema = root_as_schema(bytes).map_err(|error| error.to_string())?;
        try_fb_to_schema(schema).map(TableSchema).map_err(|error| error.to_string())
    }

    /// As the Parquet file has them.
    pub fn of_file(&self) -> Schema {
        let unmarked = |field: &Field| {
            let mut metadata = field.metadata().clone();
            metadata.remove(MARK);
            field.clone().with_metadata(metadata)
        };
        let fields: Vec<Field> = self.0.fields().iter().map(|field| unmarked(field)).collect();
        Schema::new_with_metadata(fields, self.0.metadata().clone())
    }

    /// What pandas says of its frames.
    pub fn pandas(&self) -> Option<&String> {
        self.0.metadata().get(PANDAS)
    }
}

fn join(old: &Field, new: &Field) -> Result<Field, Misfit> {
    let column = || old.name().clone();
    if !types::is_writable(new.data_type()) {
        return Err(Misfit::Unwritable { column: column(), found: new.data_type().clone() });
    }
    if is_empty(new) {
        return Ok(old.clone());
    }
    if is_empty(old) {
        return Ok(new.clone().with_nullable(true));
    }
    let misfit =
        || Misfit::Type { column: column(), found: new.data_type().clone(), expected: old.data_type().clone() };
    if EXTENSION.iter().any(|key| old.metadata().get(key) != new.metadata().get(key)) {
        return Err(misfit());
    }
    let typed = |field| Typed { data_type: Field::data_type(field), exact: is_exact(field) };
    let data_type = types::join(typed(old), typed(new)).ok_or_else(misfit)?;
    let mut metadata = old.metadata().clone();
    metadata.remove(MARK);
    if types::is_wide_integer(&data_type) && is_exact(old) && is_exact(new) {
        metadata.insert(MARK, EXACT);
    }
    Ok(old.clone().with_data_type(data_type).with_metadata(metadata))
}

fn is_empty(field: &Field) -> bool {
    field.metadata().get(MARK).is_some_and(|mark| mark == EMPTY) || *field.data_type() == DataType::Null
}

fn is_exact(field: &Field) -> bool {
    let marked = field.metadata().get(MARK).is_some_and(|mark| mark == EXACT);
    marked || types::is_integer(field.data_type()) && !types::is_wide_integer(field.data_type())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn marked(name: &str, data_type: DataType, mark: &str) -> Field {
        Field::new(name, data_type, true).with_metadata(HashMap::from([(MARK.to_string(), mark.to_string())]))
    }

    fn plain(name: &str, data_type: DataType) -> Field {
        Field::new(name, data_type, true)
    }

    fn schema(fields: Vec<Field>) -> Schema {
        Schema::new(fields)
    }

    /// The types after all of these frames.
    fn after(frames: &[Schema]) -> Result<Vec<(String, DataType)>, Misfit> {
        let mut table = TableSchema::first(&frames[0])?;
        for frame in &frames[1..] {
            table = table.joined(frame)?.unwrap_or(table);
            table = TableSchema::from_bytes(&table.to_bytes()).unwrap();
        }
        Ok(table.of_file().fields().iter().map(|field| (field.name().clone(), field.data_type().clone())).collect())
    }

    #[test]
    fn the_first_frame_gives_names_and_order_and_whoever_needs_it_the_types() {
        let frames = [
            schema(vec![
                plain("a", DataType::Null),
                marked("b", DataType::Float64, EMPTY),
                plain("c", DataType::Int32),
            ]),
            schema(vec![plain("c", DataType::Int64), plain("b", DataType::Utf8), plain("a", DataType::Boolean)]),
            schema(vec![plain("a", DataType::Null), plain("c", DataType::Int8), marked("b", DataType::Float64, EMPTY)]),
        ];
        let expected = [("a", DataType::Boolean), ("b", DataType::Utf8), ("c", DataType::Int64)]
            .map(|(name, of)| (name.to_string(), of));
        assert_eq!(after(&frames).unwrap(), expected);
    }

    #[test]
    fn a_column_that_never_had_a_value_keeps_the_type_it_was_given() {
        let frame = schema(vec![marked("a", DataType::Float64, EMPTY)]);
        assert_eq!(after(&[frame.clone(), frame]).unwrap(), [("a".to_string(), DataType::Float64)]);
    }

    #[test]
    fn whole_numbers_become_float64_only_if_all_of_them_are_exact() {
        let exact = schema(vec![marked("a", DataType::Int64, EXACT)]);
        let large = schema(vec![plain("a", DataType::Int64)]);
        let float = schema(vec![plain("a", DataType::Float64)]);
        for frames in [[&exact, &float], [&float, &exact]] {
            assert_eq!(after(&frames.map(Schema::clone)).unwrap()[0].1, DataType::Float64);
        }
        for frames in [[&exact, &large, &float], [&large, &exact, &float], [&float, &exact, &large]] {
            let misfit = after(&frames.map(Schema::clone)).unwrap_err();
            assert!(matches!(&misfit, Misfit::Type { .. }), "{misfit}");
        }
    }

    #[test]
    fn what_does_not_fit_is_told_with_column_types_and_what_to_do() {
        let first = schema(vec![plain("id", DataType::Int64), plain("score", DataType::Float64)]);
        let told = |fields: Vec<Field>| after(&[first.clone(), schema(fields)]).unwrap_err().to_string();
        insta::assert_snapshot!(told(vec![plain("id", DataType::Int64), plain("score", DataType::Utf8)]),
            @r#"run() returned column `score` as text, and in the output it is float64; return `frame.astype({"score": "str"})` from every run()"#);
        insta::assert_snapshot!(told(vec![plain("id", DataType::Int64), plain("label", DataType::Utf8), plain("x", DataType::Utf8)]),
            @"run() returned other columns than the output has: `score` is missing and `label` and `x` are unknown; return the same columns from every run(), such as `frame.reindex(columns=[…])`");
        let interval = DataType::Interval(arrow_schema::IntervalUnit::MonthDayNano);
        insta::assert_snapshot!(TableSchema::first(&schema(vec![plain("t", interval)])).unwrap_err().to_string(),
            @"run() returned column `t` as interval(monthdaynano), which a Parquet file can't hold; return it as text or numbers");
    }
}
