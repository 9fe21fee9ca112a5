//! Parquet files of any bytes: row groups, or a refusal.
#![no_main]

mod common;

use common::{Table, size};
use fanfold::prepare::fuzz::Kind;
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let [by, footer @ ..] = data else { return };
    // A footer in its place: else nearly every file is refused for its last bytes.
    let len = (footer.len() as u32).to_le_bytes();
    let content = [b"PAR1", footer, &len, b"PAR1"].concat();
    Table::new(&content, Kind::Parquet).holds_together(size(*by), |_, _| true);
});
