//! The values of keys in Parquet files. Only their columns are read; the rows stay where they are.

use std::fs::File;

use fanfold_shared::text::counted;
use jiff::civil::Date;
use jiff::{Span, civil};
use parquet::basic::{ConvertedType, Type};
use parquet::column::reader::{ColumnReader, ColumnReaderImpl};
use parquet::data_type::{ByteArray, DataType};
use parquet::errors::ParquetError;
use parquet::file::reader::{ChunkReader, FileReader, SerializedFileReader};
use parquet::schema::types::{ColumnDescriptor, SchemaDescriptor};

use super::columns::{Keys, Place};
use super::key;
use super::rows::{Row, TakeRow};
use crate::prepare::tables::{ObjectFile, TableFile, is_plausible};
use crate::prepare::{Cancel, ListError};

/// Rows that are read together.
const BATCH: usize = 8192;

/// What the text of a value is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Text,
    Signed,
    Unsigned,
    Bool,
    Date,
}

/// Hands on the rows of a file.
pub(super) fn rows(
    keys: &Keys<'_>,
    of: &TableFile<'_>,
    in_path: &[Option<Vec<u8>>],
    cancel: &Cancel<'_>,
    take: &mut TakeRow<'_>,
) -> Result<(), ListError> {
    let Some((client, known)) = &of.object else {
        let file = File::open(of.path).map_err(|error| of.unreadable("open", error))?;
        return rows_of(keys, of, in_path, file, cancel, take);
    };
    let file = ObjectFile::open(client, of, *known)?;
    let read = rows_of(keys, of, in_path, file.clone(), cancel, take);
    // What could not be fetched is no fault of the file's.
    read.map_err(|error| file.trouble().map_or(error, ListError::from))
}

fn rows_of<R: ChunkReader + 'static>(
    keys: &Keys<'_>,
    of: &TableFile<'_>,
    in_path: &[Option<Vec<u8>>],
    file: R,
    cancel: &Cancel<'_>,
    take: &mut TakeRow<'_>,
) -> Result<(), ListError> {
    let unreadable = |error: ParquetError| {
        let hint = "is it a Parquet file, and whole? `input_type` may also be `csv`, `tsv` or `jsonl`";
        of.refuse(format!("it can't be read as Parquet: {error}"), hint)
    };
    is_plausible(of, &file)?;
    let reader = SerializedFileReader::new(file).map_err(unreadable)?;
    let metadata = reader.metadata().file_metadata();
    if metadata.num_rows() == 0 {
        return Ok(());
    }
    let schema = metadata.schema_descr();
    let places =
        keys.places(in_path, |name| column(schema, name).ok_or_else(|| keys.missing(of, name, &names(schema))))?;
    let mut kinds = Vec::new();
    for (place, name) in places.iter().zip(keys.names()) {
        if let Place::Column(at) = place {
            kinds.push((*at, kind(&schema.column(*at)).ok_or_else(|| unfit(of, &schema.column(*at), name))?));
        }
    }
    let (mut key, mut number) = (Vec::new(), 0);
    for row_group in 0..reader.num_row_groups() {
        let group = reader.get_row_group(row_group).map_err(unreadable)?;
        let readers = kinds.iter().map(|(at, _)| group.get_column_reader(*at));
        let mut readers = readers.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
        let mut left = usize::try_from(group.metadata().num_rows()).unwrap_or(0);
        while left > 0 {
            cancel()?;
            let wanted = left.min(BATCH);
            let texts = readers.iter_mut().zip(&kinds).map(|(reader, (_, kind))| texts(reader, *kind, wanted));
            let texts = texts.collect::<Result<Vec<_>, _>>().map_err(unreadable)?;
            if texts.iter().any(|texts| texts.len() != wanted) {
                let what =
                    format!("row group {row_group} has not the {} that its footer says", counted(left as u64, "row"));
                return Err(of.refuse(what, "write it anew"));
            }
            for at in 0..wanted {
                key.clear();
                let mut of_columns = texts.iter();
                for place in &places {
                    match place {
                        Place::Path(value) => key::push(&mut key, Some(value)),
                        Place::Column(_) => {
                            let texts = of_columns.next().expect("as many as columns");
                            key::push(&mut key, texts[at].as_deref());
                        }
                    }
                }
                let row_group = row_group as u32;
                take(Row { key: &key, number, header: b"", columns: 0, record: b"", row_group })?;
                number += 1;
            }
            left -= wanted;
        }
    }
    Ok(())
}

/// The column of the schema with this name: one that is no part of another.
fn column(schema: &SchemaDescriptor, name: &str) -> Option<usize> {
    schema.columns().iter().position(|column| column.path().parts().first().is_some_and(|first| first == name))
}

fn names(schema: &SchemaDescriptor) -> String {
    let fields = schema.root_schema().get_fields();
    fields.iter().map(|field| field.name()).collect::<Vec<_>>().join(", ")
}

/// None: a value of the column has no text, or more than one.
fn kind(column: &ColumnDescriptor) -> Option<Kind> {
    use ConvertedType as C;
    if column.path().parts().len() > 1 || column.max_rep_level() > 0 || column.max_def_level() > 1 {
        return None;
    }
    let converted = match column.logical_type_ref() {
        // What has no older name is a time in nanoseconds and the like.
        Some(logical) => Some(C::from(Some(logical.clone()))).filter(|converted| *converted != C::NONE)?,
        None => column.converted_type(),
    };
    match (column.physical_type(), converted) {
        (Type::BYTE_ARRAY, C::UTF8 | C::ENUM | C::JSON) => Some(Kind::Text),
        (Type::INT32 | Type::INT64, C::NONE | C::INT_8 | C::INT_16 | C::INT_32 | C::INT_64) => Some(Kind::Signed),
        (Type::INT32 | Type::INT64, C::UINT_8 | C::UINT_16 | C::UINT_32 | C::UINT_64) => Some(Kind::Unsigned),
        (Type::INT32, C::DATE) => Some(Kind::Date),
        (Type::BOOLEAN, C::NONE) => Some(Kind::Bool),
        _ => None,
    }
}

fn unfit(of: &TableFile<'_>, column: &ColumnDescriptor, name: &str) -> ListError {
    let logical = match column.logical_type_ref() {
        Some(logical) => format!("{logical:?}"),
        None => column.converted_type().to_string(),
    };
    let kind = match column.path().parts().len() {
        1 => format!("{} ({logical})", column.physical_type()),
        _ => "nested".to_string(),
    };
    of.refuse(
        format!("its column `{name}`, which `partition_keys` names, is {kind}: its values have no one text"),
        "such columns are of text, whole numbers, booleans or dates: write one of these beside it",
    )
}

/// The texts of the next `wanted` values of a column.
fn texts(reader: &mut ColumnReader, kind: Kind, wanted: usize) -> Result<Vec<Option<Vec<u8>>>, ParquetError> {
    match reader {
        ColumnReader::BoolColumnReader(reader) => {
            each(reader, wanted, |value| if *value { b"True".to_vec() } else { b"False".to_vec() })
        }
        ColumnReader::Int32ColumnReader(reader) => each(reader, wanted, |value| match kind {
            Kind::Date => date(*value).into_bytes(),
            Kind::Unsigned => value.cast_unsigned().to_string().into_bytes(),
            _ => value.to_string().into_bytes(),
        }),
        ColumnReader::Int64ColumnReader(reader) => each(reader, wanted, |value| match kind {
            Kind::Unsigned => value.cast_unsigned().to_string().into_bytes(),
            _ => value.to_string().into_bytes(),
        }),
        ColumnReader::ByteArrayColumnReader(reader) => each(reader, wanted, |value: &ByteArray| value.data().to_vec()),
        _ => unreachable!("columns of other kinds are refused"),
    }
}

fn each<T: DataType>(
    reader: &mut ColumnReaderImpl<T>,
    wanted: usize,
    text: impl Fn(&T::T) -> Vec<u8>,
) -> Result<Vec<Option<Vec<u8>>>, ParquetError> {
    let (mut levels, mut values, mut read) = (Vec::new(), Vec::new(), 0);
    while read < wanted {
        let (records, _, _) = reader.read_records(wanted - read, Some(&mut levels), None, &mut values)?;
        if records == 0 {
            break;
        }
        read += records;
    }
    // A column that must have values has no levels.
    if levels.is_empty() {
        return Ok(values.iter().map(|value| Some(text(value))).collect());
    }
    let mut values = values.iter();
    Ok(levels.iter().map(|level| if *level > 0 { values.next().map(&text) } else { None }).collect())
}

/// As Python writes it.
fn date(days: i32) -> String {
    const EPOCH: Date = civil::date(1970, 1, 1);
    match Span::new().try_days(days).and_then(|days| EPOCH.checked_add(days)) {
        Ok(date) => date.to_string(),
        // Beyond the years 1 to 9999 Python has no dates either.
        Err(_) => format!("day {days}"),
    }
}
