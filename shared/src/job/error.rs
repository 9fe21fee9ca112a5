//! What is wrong with a job file: every fault of it at once, each with its place, the reason and a way out.

use std::fmt;
use std::io;

use super::source::{Origin, Place, Spot};
use crate::report::{ExitCode, Report};
use crate::uri::masked;

/// The longest source line that is shown whole, characters; of a longer one the part around the fault is shown.
const LINE_MAX: usize = 140;

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobFileError {
    /// The key it is about, dotted where it is nested (`environment.python`); empty if it is about the file.
    pub key: String,
    /// What is wrong.
    pub message: String,
    /// Where.
    pub place: Place,
    /// What to write instead.
    pub hint: Option<String>,
}

/// Every fault of a job file and its `--set` flags: never empty, in the order of the file, flags last.
///
/// It prints like a compiler's errors; the first `error: ` and the last hint are left to [`crate::report::Failure::print`].
#[derive(Debug)]
pub struct JobFileErrors {
    /// The faults.
    pub errors: Vec<JobFileError>,
    /// Why the file could not be read, if that is the fault.
    pub cause: Option<io::Error>,
}

impl JobFileErrors {
    pub(crate) fn new(mut errors: Vec<JobFileError>) -> JobFileErrors {
        debug_assert!(!errors.is_empty());
        for error in &mut errors {
            // Names of files and keys reach messages by many ways; none of them must drive the terminal.
            error.message = one_line(&error.message);
            error.hint = error.hint.as_deref().map(one_line);
        }
        errors.sort_by_key(|error| match (&error.place.origin, &error.place.spot) {
            (Origin::File(_), Some(spot)) => (0, spot.line, spot.column),
            (Origin::File(_), None) => (1, 0, 0),
            (Origin::Flag | Origin::Registration, _) => (2, 0, 0),
        });
        JobFileErrors { errors, cause: None }
    }
}

impl fmt::Display for JobFileErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (i, error) in self.errors.iter().enumerate() {
            if i > 0 {
                if let Some(hint) = &self.errors[i - 1].hint {
                    write!(f, "\nhint: {hint}")?;
                }
                write!(f, "\n\nerror: ")?;
            }
            write!(f, "{error}")?;
        }
        Ok(())
    }
}

impl std::error::Error for JobFileErrors {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        self.cause.as_ref().map(|cause| cause as _)
    }
}

impl Report for JobFileErrors {
    fn exit_code(&self) -> ExitCode {
        ExitCode::Usage
    }

    fn hint(&self) -> Option<String> {
        self.errors.last().and_then(|error| error.hint.clone())
    }
}

impl fmt::Display for JobFileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        let origin = match &self.place.origin {
            Origin::File(path) => path.display().to_string(),
            Origin::Flag => "--set".to_string(),
            Origin::Registration => "the registration".to_string(),
        };
        let Some(spot) = &self.place.spot else { return write!(f, "\n  --> {origin}") };
        let (line, caret) = excerpt(spot);
        match self.place.origin {
            Origin::File(_) => {
                let number = spot.line.to_string();
                let pad = " ".repeat(number.len());
                writeln!(f, "\n {pad}--> {origin}:{number}:{}", spot.column)?;
                write!(f, " {pad} |\n {number} | {line}\n {pad} | {caret}")
            }
            Origin::Flag | Origin::Registration => write!(f, "\n  --> {origin}\n   |\n   | {line}\n   | {caret}"),
        }
    }
}

/// The source line as it can be shown in a terminal, and the carets under the fault.
fn excerpt(spot: &Spot) -> (String, String) {
    let line: Vec<char> = spot.text.chars().map(|c| if c == '\t' { ' ' } else { c }).collect();
    let column = (spot.column as usize - 1).min(line.len());
    // Whatever a file holds must not drive the terminal.
    let shown = |chars: &[char]| chars.iter().map(|c| if c.is_control() { '\u{fffd}' } else { *c }).collect::<String>();
    let (text, before) = if line.len() <= LINE_MAX {
        (shown(&line), column)
    } else {
        let from = column.saturating_sub(LINE_MAX / 2);
        let to = (from + LINE_MAX).min(line.len());
        let lead = if from > 0 { "…" } else { "" };
        let trail = if to < line.len() { "…" } else { "" };
        (format!("{lead}{}{trail}", shown(&line[from..to])), column - from + lead.chars().count())
    };
    let room = text.chars().count().saturating_sub(before).max(1);
    (text.trim_end().to_string(), format!("{}{}", " ".repeat(before), "^".repeat((spot.width as usize).min(room))))
}

/// User text inside a message, bounded, without the secrets of addresses in it.
pub(crate) fn shown(text: &str) -> String {
    const MAX: usize = 80;
    let text = &*masked(text);
    match text.char_indices().nth(MAX) {
        Some((end, _)) => format!("{}…", one_line(&text[..end])),
        None => one_line(text),
    }
}

/// Text with its control characters written out: `\n`, `\u{1b}`.
fn one_line(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        if c.is_control() { out.extend(c.escape_debug()) } else { out.push(c) }
    }
    out
}
