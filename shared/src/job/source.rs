//! Where a piece of a job came from: a place in the job file, in a file it names, in a `--set` flag, or in the registration of a
//! dataset.

use std::path::PathBuf;

use crate::uri::masked;

/// What the user wrote something in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// A file, as the user named it.
    File(PathBuf),
    /// A `--set key=value` of the command line.
    Flag,
    /// What a dataset is registered with.
    Registration,
}

/// The text of one origin.
#[derive(Debug)]
struct Source {
    origin: Origin,
    text: String,
}

/// Everything the job was read from. Spans name their source by its position here.
#[derive(Debug, Default)]
pub(crate) struct Sources(Vec<Source>);

/// A stretch of one line of a source. Lines and columns count from 1, columns and width in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Span {
    pub(crate) source: usize,
    pub(crate) line: u64,
    pub(crate) column: u64,
    pub(crate) width: u64,
}

/// Where an error is, for the user.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// In what.
    pub origin: Origin,
    /// Where in it; None if the error is about all of it (a key is missing).
    pub spot: Option<Spot>,
}

/// See [`Place::spot`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spot {
    /// Counted from 1.
    pub line: u64,
    /// Counted from 1, in characters.
    pub column: u64,
    /// How many characters are meant, at least 1.
    pub width: u64,
    /// The whole line, without its end.
    pub text: String,
}

impl Sources {
    /// Takes a text in; the number stands for it in spans.
    pub(crate) fn add(&mut self, origin: Origin, text: impl Into<String>) -> usize {
        self.0.push(Source { origin, text: text.into() });
        self.0.len() - 1
    }

    /// The text of a source.
    pub(crate) fn text(&self, source: usize) -> &str {
        &self.0[source].text
    }

    /// The place of `span`, with its line.
    pub(crate) fn place(&self, span: Span) -> Place {
        let source = &self.0[span.source];
        let text = source.text.lines().nth(span.line.saturating_sub(1) as usize).unwrap_or("");
        // A byte order mark is not a character that anyone typed.
        let text = masked(text.trim_start_matches('\u{feff}')).into_owned();
        let spot = Spot { line: span.line.max(1), column: span.column.max(1), width: span.width.max(1), text };
        Place { origin: source.origin.clone(), spot: Some(spot) }
    }

    /// The place that is all of a source.
    pub(crate) fn whole(&self, source: usize) -> Place {
        Place { origin: self.0[source].origin.clone(), spot: None }
    }
}
