//! What is taken when it is committed can be written when everything is: every type, and every type that became a wider one.

use std::sync::Arc;

use arrow_array::builder::{Int32Builder, MapBuilder, StringBuilder};
use arrow_array::types::Int32Type;
use arrow_array::{ArrayRef, ListArray, RecordBatch, StructArray, new_null_array};
use arrow_cast::cast;
use arrow_schema::{DataType as T, Field, Fields, Schema, TimeUnit};
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use tempfile::tempfile;

use super::pass::fitted;
use super::types::{self, Typed};

const ROWS: usize = 3;

fn items(of: &T) -> Arc<Field> {
    Arc::new(Field::new("item", of.clone(), true))
}

/// Every type that a frame may have, alone and in others.
fn all_types() -> Vec<T> {
    use TimeUnit::{Microsecond, Millisecond, Nanosecond, Second};
    let mut plain = vec![T::Null, T::Boolean, T::Utf8, T::LargeUtf8, T::Binary, T::LargeBinary, T::FixedSizeBinary(16)];
    plain.extend([T::Int8, T::Int16, T::Int32, T::Int64, T::UInt8, T::UInt16, T::UInt32, T::UInt64]);
    plain.extend([T::Float16, T::Float32, T::Float64, T::Date32, T::Date64]);
    plain.extend([T::Time32(Second), T::Time32(Millisecond), T::Time64(Microsecond), T::Time64(Nanosecond)]);
    for unit in [Second, Millisecond, Microsecond, Nanosecond] {
        plain.extend([T::Timestamp(unit, None), T::Timestamp(unit, Some("Europe/Berlin".into())), T::Duration(unit)]);
    }
    plain.extend([T::Decimal128(3, 1), T::Decimal128(20, 2), T::Decimal256(60, 4)]);
    let mut all = plain.clone();
    for of in plain {
        all.extend([
            T::List(items(&of)),
            T::LargeList(items(&of)),
            T::FixedSizeList(items(&of), 2),
            T::List(items(&T::List(items(&of)))),
            T::Struct(Fields::from(vec![
                Field::new("a", of.clone(), true),
                Field::new("b", T::List(items(&of)), true),
            ])),
        ]);
    }
    let entries = Fields::from(vec![Field::new("key", T::Utf8, false), Field::new("value", T::Int32, true)]);
    all.push(T::Map(Arc::new(Field::new("entries", T::Struct(entries), false)), false));
    all
}

/// Some rows, with as much in them as goes without values.
fn rows(of: &T) -> ArrayRef {
    match of {
        T::List(item) => {
            let lengths = [Some(vec![]), Some(vec![Some(1)]), Some(vec![Some(2), Some(3)])];
            let offsets = ListArray::from_iter_primitive::<Int32Type, _, _>(lengths).offsets().clone();
            Arc::new(ListArray::new(item.clone(), offsets, rows(item.data_type()), None))
        }
        T::LargeList(item) => cast(&rows(&T::List(item.clone())), of).expect("only its offsets are wider"),
        T::Struct(fields) => Arc::new(StructArray::new(
            fields.clone(),
            fields.iter().map(|field| rows(field.data_type())).collect(),
            None,
        )),
        T::Map(..) => {
            let mut builder = MapBuilder::new(None, StringBuilder::new(), Int32Builder::new());
            for _ in 0..ROWS {
                builder.keys().append_value("key");
                builder.values().append_null();
                builder.append(true).expect("as many keys as values");
            }
            Arc::new(builder.finish())
        }
        other => new_null_array(other, ROWS),
    }
}

fn batch(of: &T) -> RecordBatch {
    let schema = Arc::new(Schema::new(vec![Field::new("column", of.clone(), true)]));
    RecordBatch::try_new(schema, vec![rows(of)]).unwrap()
}

#[test]
fn whatever_is_taken_can_be_written_and_comes_back() {
    for of in all_types() {
        assert!(types::is_writable(&of), "{of}");
        let batch = batch(&of);
        let mut file = tempfile().unwrap();
        let mut writer =
            ArrowWriter::try_new(&mut file, batch.schema(), None).unwrap_or_else(|error| panic!("{of}: {error}"));
        writer.write(&batch).unwrap_or_else(|error| panic!("{of}: {error}"));
        writer.close().unwrap_or_else(|error| panic!("{of}: {error}"));
        let mut read = ParquetRecordBatchReaderBuilder::try_new(file).and_then(|reader| reader.build()).unwrap();
        let found =
            read.next().unwrap_or_else(|| panic!("{of}: no rows")).unwrap_or_else(|error| panic!("{of}: {error}"));
        assert_eq!(found.column(0), batch.column(0), "{of}");
    }
}

#[test]
fn whatever_became_a_wider_type_is_cast_to_it() {
    let all = all_types();
    let mut wider = 0;
    for a in &all {
        for b in &all {
            let typed = |data_type| Typed { data_type, exact: true };
            let Some(joined) = types::join(typed(a), typed(b)) else { continue };
            assert!(types::is_writable(&joined), "{a} and {b} are {joined}");
            let schema = Arc::new(Schema::new(vec![Field::new("column", joined.clone(), true)]));
            let cast = fitted(&batch(a), &schema).unwrap_or_else(|error| panic!("{a} and {b} are {joined}: {error}"));
            assert_eq!(cast.num_rows(), ROWS);
            wider += u32::from(joined != *a);
        }
    }
    assert!(wider > 200, "{wider}");
}
