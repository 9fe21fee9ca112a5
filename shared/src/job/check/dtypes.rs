//! The names of dtypes: what pandas would say of one, as far as that is sure without asking it.
//!
//! pandas and numpy have more names than a list can hold, packages add some, and later versions will. So only what is surely none is refused here:
//! a slip of a name that there is, a name from other languages, and what `read_csv` never takes. Words that are not known here are for the job's
//! Python to judge ([`is_unheard_of`]).

/// Plain words that numpy (any version) or pandas takes.
const NAMES: &str = "\
    bool bool_ bool8 boolean byte bytes bytes_ bytes0 category cdouble cfloat clongdouble clongfloat complex complex_ complex64 complex128 \
    complex192 complex256 csingle double float float_ float16 float32 float64 float80 float96 float128 Float32 Float64 half int int_ int0 int8 \
    int16 int32 int64 Int8 Int16 Int32 Int64 intc interval intp long longcomplex longdouble longfloat longlong object object_ object0 short \
    single singlecomplex Sparse str str_ str0 string string_ ubyte uint uint0 uint8 uint16 uint32 uint64 UInt8 UInt16 UInt32 UInt64 uintc uintp \
    ulong ulonglong unicode unicode_ ushort void void0";

/// What is called otherwise elsewhere.
const ELSEWHERE: [(&str, &str); 14] = [
    ("categorical", "category"),
    ("char", "str"),
    ("character", "str"),
    ("factor", "category"),
    ("integer", "Int64"),
    ("bigint", "Int64"),
    ("number", "float"),
    ("numeric", "float"),
    ("real", "float"),
    ("text", "str"),
    ("varchar", "str"),
    ("nvarchar", "str"),
    ("datetime", "str"),
    ("timestamp", "str"),
];

/// Why pandas takes no `dtype` of this name, and what to write; None: it may.
pub(super) fn fault(name: &str) -> Option<(String, String)> {
    let lower = name.to_ascii_lowercase();
    let of_times = |word: &str| lower == word || (lower.starts_with(&format!("{word}[")) && !lower.contains(','));
    if let Some((word, to)) =
        [("datetime64", "to_datetime"), ("timedelta64", "to_timedelta")].into_iter().find(|(word, _)| of_times(word))
    {
        let message = format!("`{name}` is no dtype that `pandas.read_csv` reads");
        return Some((
            message,
            format!("read the column as `str`, and let the script call `pandas.{to}`; no `{word}` is read from text"),
        ));
    }
    if !is_unheard_of(name) {
        return None;
    }
    let message = format!("pandas knows no dtype `{name}`");
    let to = ELSEWHERE.iter().find(|(word, _)| *word == lower).map(|(_, to)| *to);
    let times = to.is_some() && matches!(lower.as_str(), "datetime" | "timestamp");
    match to.or_else(|| meant(name)) {
        Some(_) if times => {
            Some((message, "read the column as `str`, and let the script call `pandas.to_datetime`".into()))
        }
        Some(to) => Some((message, format!("did you mean `{to}`?"))),
        None => None,
    }
}

/// Whether it is a plain word that is not known here: pandas may know it all the same.
pub fn is_unheard_of(name: &str) -> bool {
    let is_word = name.starts_with(|c: char| c.is_ascii_alphabetic())
        && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
    // A code of numpy's: one letter, perhaps with a number of bytes.
    let is_code = name.chars().skip(1).all(|c| c.is_ascii_digit());
    is_word && !is_code && !NAMES.split_ascii_whitespace().any(|known| known == name)
}

/// The known name that this is a slip of.
fn meant(name: &str) -> Option<&'static str> {
    let known = || NAMES.split_ascii_whitespace();
    let stem = |name: &str| name.trim_end_matches(|c: char| c.is_ascii_digit()).to_string();
    // Other sizes of a kind that there is may come.
    let grows =
        matches!(stem(name).as_str(), "int" | "uint" | "float" | "complex" | "Int" | "UInt" | "Float" | "bfloat");
    let size: u32 = name[stem(name).len()..].parse().unwrap_or(1);
    if grows && (size.is_power_of_two() && size > 1) {
        return None;
    }
    if let Some(same) = known().find(|known| known.eq_ignore_ascii_case(name)) {
        return Some(same);
    }
    // Case counts: `Int64` is another one than `int64`. Of short words everything is near.
    let most = if name.len() > 6 { 2 } else { 1 };
    let near = known().filter(|known| known.len() > 3 && name.len() > 3);
    let near = near.map(|known| (strsim::damerau_levenshtein(known, name), known)).min()?;
    (near.0 <= most).then_some(near.1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_pandas_takes_is_not_refused() {
        for name in [
            "str",
            "int",
            "Int64",
            "float32",
            "category",
            "string",
            "string[pyarrow]",
            "int64[pyarrow]",
            "timestamp[ns][pyarrow]",
            "datetime64[ns, UTC]",
            "<i8",
            ">f4",
            "i4",
            "U10",
            "S",
            "O",
            "?",
            "|S5",
            "Sparse[int]",
            "period[D]",
            "interval[int64]",
            "decimal128(5, 2)[pyarrow]",
            "boolean",
            // Of other packages, or perhaps to come.
            "geometry",
            "bfloat16",
            "int128",
            "float256",
            "int4",
            "json",
            "dbdate",
            "decimal",
            "ip",
            "date",
        ] {
            assert_eq!(fault(name), None, "{name}");
        }
    }

    #[test]
    fn a_slip_and_a_name_from_elsewhere_get_the_right_one() {
        let hint = |name: &str| fault(name).unwrap_or_else(|| panic!("{name}")).1;
        for (name, right) in [
            ("strng", "string"),
            ("flaot64", "float64"),
            ("Int46", "Int16"),
            ("catgory", "category"),
            ("Bool", "bool"),
            ("String", "string"),
            ("INT", "int"),
            ("text", "str"),
            ("integer", "Int64"),
            ("objct", "object"),
        ] {
            assert_eq!(hint(name), format!("did you mean `{right}`?"), "{name}");
        }
        assert!(hint("datetime64[ns]").contains("pandas.to_datetime"));
        assert!(hint("timedelta64").contains("pandas.to_timedelta"));
        assert!(hint("timestamp").contains("pandas.to_datetime"));
    }
}
