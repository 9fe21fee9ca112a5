//! What a worker says of itself: plain lines with the time, on standard error.

use std::io::Write;

use fanfold_shared::clock;
use fanfold_shared::text::one_line;

/// The longest line.
const MOST: usize = 2000;

/// Says something, on one line.
pub fn say(text: &str) {
    // A closed stream leaves nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "{} {}", clock::rfc3339(clock::wall_us()), one_line(text, MOST));
}
