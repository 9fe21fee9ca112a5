//! Types of columns: which of two holds all values of both, and what they are called where pandas is spoken.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, TimeUnit};

/// A type, and whether its values are known to be whole numbers that `float64` holds exactly.
#[derive(Clone, Copy)]
pub struct Typed<'a> {
    pub data_type: &'a DataType,
    pub exact: bool,
}

/// The narrowest type that holds every value of both without loss; None: there is none.
pub fn join(a: Typed<'_>, b: Typed<'_>) -> Option<DataType> {
    use DataType as T;
    let (one, other) = (a.data_type, b.data_type);
    if one == other {
        return Some(one.clone());
    }
    if let (Some(x), Some(y)) = (integer(one), integer(other)) {
        return x.join(y);
    }
    Some(match (one, other) {
        (T::Null, any) | (any, T::Null) => any.clone(),
        (T::Utf8, T::LargeUtf8) | (T::LargeUtf8, T::Utf8) => T::LargeUtf8,
        (T::Binary, T::LargeBinary) | (T::LargeBinary, T::Binary) => T::LargeBinary,
        (T::Decimal128(p, s), T::Decimal128(q, t)) => {
            let scale = (*s).max(*t);
            let whole = (i16::from(*p) - i16::from(*s)).max(i16::from(*q) - i16::from(*t));
            let precision = u8::try_from(whole + i16::from(scale)).ok()?;
            (precision <= 38).then_some(T::Decimal128(precision, scale))?
        }
        (T::List(x), T::List(y)) => T::List(join_items(x, y)?),
        (T::LargeList(x) | T::List(x), T::LargeList(y) | T::List(y)) => T::LargeList(join_items(x, y)?),
        (T::FixedSizeList(x, n), T::FixedSizeList(y, m)) if n == m => T::FixedSizeList(join_items(x, y)?, *n),
        (T::Struct(x), T::Struct(y)) => T::Struct(join_fields(x, y)?),
        _ => {
            // What a float of so many bits holds exactly.
            let bits = |typed: Typed<'_>| match typed.data_type {
                T::Float16 => Some(16),
                T::Float32 => Some(32),
                T::Float64 => Some(64),
                data_type => match integer(data_type)?.bits {
                    8 => Some(16),
                    16 => Some(32),
                    32 => Some(64),
                    _ => typed.exact.then_some(64),
                },
            };
            match bits(a)?.max(bits(b)?) {
                16 => T::Float16,
                32 => T::Float32,
                _ => T::Float64,
            }
        }
    })
}

fn join_items(a: &Arc<Field>, b: &Arc<Field>) -> Option<Arc<Field>> {
    let plain = |field| Typed { data_type: Field::data_type(field), exact: false };
    let data_type = join(plain(a), plain(b))?;
    Some(Arc::new(a.as_ref().clone().with_data_type(data_type).with_nullable(true)))
}

fn join_fields(a: &Fields, b: &Fields) -> Option<Fields> {
    let same_names = a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.name() == b.name());
    if !same_names {
        return None;
    }
    a.iter().zip(b).map(|(a, b)| join_items(a, b)).collect()
}

struct Integer {
    signed: bool,
    bits: u8,
}

impl Integer {
    fn join(self, other: Integer) -> Option<DataType> {
        let signed = self.signed || other.signed;
        // A signed type needs one bit more for what an unsigned one holds.
        let needs =
            |integer: &Integer| if signed && !integer.signed { integer.bits.saturating_mul(2) } else { integer.bits };
        Some(match (signed, needs(&self).max(needs(&other))) {
            (true, 8) => DataType::Int8,
            (true, 16) => DataType::Int16,
            (true, 32) => DataType::Int32,
            (true, 64) => DataType::Int64,
            (false, 8) => DataType::UInt8,
            (false, 16) => DataType::UInt16,
            (false, 32) => DataType::UInt32,
            (false, 64) => DataType::UInt64,
            _ => return None,
        })
    }
}

fn integer(data_type: &DataType) -> Option<Integer> {
    let (signed, bits) = match data_type {
        DataType::Int8 => (true, 8),
        DataType::Int16 => (true, 16),
        DataType::Int32 => (true, 32),
        DataType::Int64 => (true, 64),
        DataType::UInt8 => (false, 8),
        DataType::UInt16 => (false, 16),
        DataType::UInt32 => (false, 32),
        DataType::UInt64 => (false, 64),
        _ => return None,
    };
    Some(Integer { signed, bits })
}

/// Whether whole numbers of this type may be beyond what `float64` holds exactly.
pub fn is_wide_integer(data_type: &DataType) -> bool {
    integer(data_type).is_some_and(|integer| integer.bits == 64)
}

/// Whether it is a whole number.
pub fn is_integer(data_type: &DataType) -> bool {
    integer(data_type).is_some()
}

/// Whether a Parquet file can have a column of this type, and give it back as it was.
pub fn is_writable(data_type: &DataType) -> bool {
    use DataType as T;
    match data_type {
        T::Null | T::Boolean | T::Utf8 | T::LargeUtf8 | T::Binary | T::LargeBinary => true,
        T::FixedSizeBinary(width) => *width > 0,
        T::Float16 | T::Float32 | T::Float64 | T::Date32 | T::Date64 => true,
        T::Time32(_) | T::Time64(_) | T::Timestamp(..) | T::Duration(_) | T::Decimal128(..) | T::Decimal256(..) => true,
        T::List(items) | T::LargeList(items) | T::FixedSizeList(items, _) => is_writable(items.data_type()),
        // One without fields has no place for its rows.
        T::Struct(fields) => !fields.is_empty() && fields.iter().all(|field| is_writable(field.data_type())),
        T::Map(entries, _) => is_writable(entries.data_type()),
        other => is_integer(other),
    }
}

/// What pyarrow calls it, near enough for whoever reads a message.
pub fn name(data_type: &DataType) -> String {
    use DataType as T;
    let unit = |unit: &TimeUnit| match unit {
        TimeUnit::Second => "s",
        TimeUnit::Millisecond => "ms",
        TimeUnit::Microsecond => "us",
        TimeUnit::Nanosecond => "ns",
    };
    match data_type {
        T::Null => "without a value".into(),
        T::Boolean => "bool".into(),
        T::Utf8 | T::LargeUtf8 => "text".into(),
        T::Binary | T::LargeBinary => "bytes".into(),
        T::Date32 | T::Date64 => "date".into(),
        T::Timestamp(of, None) => format!("datetime64[{}]", unit(of)),
        T::Timestamp(of, Some(zone)) => format!("datetime64[{}, {zone}]", unit(of)),
        T::Duration(of) => format!("timedelta64[{}]", unit(of)),
        T::Decimal128(precision, scale) => format!("decimal({precision}, {scale})"),
        T::List(items) | T::LargeList(items) => format!("list of {}", name(items.data_type())),
        T::FixedSizeList(items, n) => format!("list of {n} {}", name(items.data_type())),
        T::Struct(fields) => {
            let fields: Vec<String> =
                fields.iter().map(|field| format!("{}: {}", field.name(), name(field.data_type()))).collect();
            format!("dict {{{}}}", fields.join(", "))
        }
        other => other.to_string().to_lowercase(),
    }
}

/// What both could be, in the words of `DataFrame.astype`; None: only whoever wrote the script knows.
pub fn common(a: &DataType, b: &DataType) -> Option<String> {
    use DataType as T;
    let number = |data_type: &DataType| is_integer(data_type) || data_type.is_floating();
    match (a, b) {
        (T::Timestamp(_, x), T::Timestamp(_, y)) if x == y => Some(match x {
            None => "datetime64[us]".into(),
            Some(zone) => format!("datetime64[us, {zone}]"),
        }),
        (T::Duration(_), T::Duration(_)) => Some("timedelta64[us]".into()),
        _ if number(a) && number(b) => Some("float64".into()),
        _ if a.is_nested() || b.is_nested() => None,
        _ => Some("str".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(data_type: &DataType, exact: bool) -> Typed<'_> {
        Typed { data_type, exact }
    }

    #[test]
    fn types_widen_where_nothing_is_lost_whichever_comes_first() {
        use DataType::*;
        let list = |items: DataType| List(Arc::new(Field::new("item", items, true)));
        for (a, b, both) in [
            (Int32, Int64, Some(Int64)),
            (UInt8, Int8, Some(Int16)),
            (UInt32, Int32, Some(Int64)),
            (UInt64, Int64, None),
            (Int16, Float32, Some(Float32)),
            (Int32, Float32, Some(Float64)),
            (Float16, Float64, Some(Float64)),
            (Int8, Float16, Some(Float16)),
            (Boolean, Int8, None),
            (Utf8, LargeUtf8, Some(LargeUtf8)),
            (Utf8, Int64, None),
            (Utf8, Binary, None),
            (Null, Date32, Some(Date32)),
            (Decimal128(3, 2), Decimal128(5, 3), Some(Decimal128(5, 3))),
            (Decimal128(38, 0), Decimal128(3, 2), None),
            (list(Null), list(Utf8), Some(list(Utf8))),
            (list(Int8), list(Float64), Some(list(Float64))),
            (Timestamp(TimeUnit::Nanosecond, None), Timestamp(TimeUnit::Microsecond, None), None),
        ] {
            assert_eq!(join(of(&a, false), of(&b, false)), both, "{a} and {b}");
            assert_eq!(join(of(&b, false), of(&a, false)), both, "{b} and {a}");
        }
        assert_eq!(join(of(&Int64, false), of(&Float64, false)), None);
        assert_eq!(join(of(&Int64, true), of(&Float64, false)), Some(Float64));
        assert_eq!(join(of(&Float32, false), of(&UInt64, true)), Some(Float64));
    }

    #[test]
    fn names_are_those_of_pandas() {
        let list = DataType::List(Arc::new(Field::new("item", DataType::Int64, true)));
        assert_eq!(name(&list), "list of int64");
        assert_eq!(name(&DataType::Timestamp(TimeUnit::Nanosecond, Some("UTC".into()))), "datetime64[ns, UTC]");
        assert_eq!(name(&DataType::Float64), "float64");
        assert_eq!(common(&DataType::Int64, &DataType::Utf8).as_deref(), Some("str"));
        assert_eq!(common(&list, &DataType::Utf8), None);
    }
}
