//! Tables for the crash tests: what goes in, and what is in a Parquet file that comes out, or becomes one.

use std::fs::{self, File};
use std::io::{self, Cursor};
use std::path::Path;
use std::sync::Arc;

use arrow_array::{Array, ArrayRef, Int64Array, RecordBatch, StringArray};
use arrow_ipc::reader::StreamReader;
use arrow_schema::DataType;
use parquet::arrow::ArrowWriter;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::file::properties::WriterProperties;

use crate::seed::Random;
use crate::support::Place;

/// What kind of table it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Text.
    Csv,
    /// Record batches.
    Parquet,
}

impl Kind {
    /// The name that the output gets.
    pub fn output(self) -> &'static str {
        match self {
            Kind::Csv => "rows.csv",
            Kind::Parquet => "rows.parquet",
        }
    }
}

/// What is in the column `text`: with everything that a CSV file must quote.
fn text(number: usize) -> String {
    format!("row {number},\n\"é\"")
}

/// The key of a row.
fn key(number: usize) -> String {
    format!("row-{number:05}")
}

/// What is in the column `part` in all rows of a mini-batch, and in no other.
fn part(mini_batch: usize) -> String {
    format!("p{mini_batch:05}")
}

/// Makes some files of tables. Returns the keys of the rows of each mini-batch, which are `size` rows of a file.
pub fn make(place: &Place, kind: Kind, size: usize, random: &mut Random) -> Vec<Vec<String>> {
    fs::create_dir(place.path("data")).unwrap();
    let (mut mini_batches, mut next) = (Vec::new(), 0);
    for file in 0..random.between(2, 6) {
        let rows: Vec<usize> = (next..next + random.between(20, 120) as usize).collect();
        next += rows.len();
        let path = place.path(format!("data/{file}"));
        match kind {
            Kind::Csv => {
                let lines = rows.iter().enumerate().map(|(at, row)| {
                    let quoted = text(*row).replace('"', "\"\"");
                    format!("{},{row},\"{quoted}\",{}\n", key(*row), part(mini_batches.len() + at / size))
                });
                fs::write(path, format!("key,number,text,part\n{}", lines.collect::<String>())).unwrap();
            }
            Kind::Parquet => write_parquet(&path, &rows, size, mini_batches.len()),
        }
        mini_batches.extend(rows.chunks(size).map(|rows| rows.iter().map(|row| key(*row)).collect()));
    }
    mini_batches
}

/// With row groups of so many rows: one each is a mini-batch, the first of them the one with this number.
fn write_parquet(path: &Path, rows: &[usize], group: usize, first: usize) {
    let parts = (0..rows.len()).map(|at| Some(part(first + at / group)));
    let columns: [(&str, ArrayRef); 4] = [
        ("key", Arc::new(rows.iter().map(|row| Some(key(*row))).collect::<StringArray>())),
        ("number", Arc::new(rows.iter().map(|row| Some(*row as i64)).collect::<Int64Array>())),
        ("text", Arc::new(rows.iter().map(|row| Some(text(*row))).collect::<StringArray>())),
        ("part", Arc::new(parts.collect::<StringArray>())),
    ];
    let batch = RecordBatch::try_from_iter(columns).unwrap();
    let options = WriterProperties::builder().set_max_row_group_row_count(Some(group)).build();
    let mut writer = ArrowWriter::try_new(File::create(path).unwrap(), batch.schema(), Some(options)).unwrap();
    writer.write(&batch).unwrap();
    writer.close().unwrap();
}

/// The rows of a whole Parquet file, as a job with text would write them.
pub fn rows_of_file(path: &Path) -> Vec<u8> {
    let batches = ParquetRecordBatchReaderBuilder::try_new(File::open(path).unwrap()).unwrap().build().unwrap();
    let mut rows = Vec::new();
    batches.for_each(|batch| rows_of(&batch.unwrap(), &mut rows));
    rows
}

/// The same of what is committed before it is one: streams, one behind the other.
pub fn rows_of_streams(bytes: &[u8]) -> Vec<u8> {
    let (mut at, mut rows) = (Cursor::new(bytes), Vec::new());
    while (at.position() as usize) < bytes.len() {
        let stream = StreamReader::try_new(io::Read::by_ref(&mut at), None).expect("a stream begins here");
        stream.for_each(|batch| rows_of(&batch.expect("a whole batch"), &mut rows));
    }
    rows
}

/// Each value must be that of its row.
fn rows_of(batch: &RecordBatch, rows: &mut Vec<u8>) {
    let column = |name: &str, of: &DataType| {
        let column = batch.column_by_name(name).unwrap_or_else(|| panic!("there is no column `{name}`"));
        arrow_cast::cast(column, of).unwrap()
    };
    let strings = |name| column(name, &DataType::Utf8).as_any().downcast_ref::<StringArray>().unwrap().clone();
    let (keys, texts, ballast) = (strings("key"), strings("text"), strings("ballast"));
    let numbers = column("number", &DataType::Int64);
    let numbers = numbers.as_any().downcast_ref::<Int64Array>().unwrap();
    for (at, number) in numbers.iter().enumerate() {
        let number = number.expect("every row has one") as usize;
        assert_eq!((keys.value(at), texts.value(at)), (&*key(number), &*text(number)));
        rows.extend_from_slice(keys.value(at).as_bytes());
        if ballast.is_valid(at) {
            rows.push(b' ');
            rows.extend_from_slice(ballast.value(at).as_bytes());
        }
        rows.push(b'\n');
    }
}
