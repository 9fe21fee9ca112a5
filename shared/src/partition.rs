//! Values that are taken from paths: `{user}/{season}/*.wav`.
//!
//! A format is compared with as many of the last parts of a path as it has, each part by itself: `{name}` takes one or more bytes and gives
//! them its name, `*` takes any number of bytes, everything else stands for itself. As in the original, what comes before the first part of the
//! format in the path does not matter.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A format, read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PartitionFormat {
    text: String,
    /// For each part of a path what it is made of.
    parts: Vec<Vec<Piece>>,
    names: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Piece {
    Text(String),
    Any,
    /// The value of the name with this number.
    Value(usize),
}

/// Why a text is no format.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PartitionFormatError {
    /// Nothing is taken from a path.
    #[error("it names nothing: it needs a `{{name}}`")]
    NoName,
    /// A brace without its other.
    #[error("a brace in it has no other")]
    Brace,
    /// Something in braces that is no name.
    #[error("`{{{0}}}` in it is not a name: letters from a to z, digits and `_`, no digit first")]
    Name(String),
    /// A date, which the original makes of several parts of a path.
    #[error("`{{{0}}}` in it is a date, which is not available: name each part, as in `{{year}}/{{month}}`")]
    Date(String),
    /// A name stands twice.
    #[error("`{{{0}}}` stands in it twice")]
    Twice(String),
    /// Nothing tells where one value ends and the next begins.
    #[error("nothing stands between `{{{0}}}` and `{{{1}}}` in it, so one can't be told from the other")]
    Adjacent(String, String),
}

impl FromStr for PartitionFormat {
    type Err = PartitionFormatError;

    fn from_str(text: &str) -> Result<PartitionFormat, PartitionFormatError> {
        let dates = text.split('{').skip(1).filter_map(|rest| rest.split_once('}')).map(|(name, _)| name);
        if let Some(date) = dates.into_iter().find(|name| name.contains(':')) {
            return Err(PartitionFormatError::Date(date.into()));
        }
        let mut names = Vec::new();
        let whole = text.trim_matches('/');
        let parts = whole.split('/').map(|part| read_part(part, &mut names)).collect::<Result<Vec<_>, _>>()?;
        if names.is_empty() {
            return Err(PartitionFormatError::NoName);
        }
        Ok(PartitionFormat { text: text.to_string(), parts, names })
    }
}

impl TryFrom<String> for PartitionFormat {
    type Error = PartitionFormatError;

    fn try_from(text: String) -> Result<PartitionFormat, PartitionFormatError> {
        text.parse()
    }
}

impl From<PartitionFormat> for String {
    fn from(format: PartitionFormat) -> String {
        format.text
    }
}

impl fmt::Display for PartitionFormat {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

fn read_part(part: &str, names: &mut Vec<String>) -> Result<Vec<Piece>, PartitionFormatError> {
    let (mut pieces, mut rest) = (Vec::new(), part);
    while let Some(first) = rest.chars().next() {
        match first {
            '{' => {
                let (name, after) = rest[1..].split_once('}').ok_or(PartitionFormatError::Brace)?;
                let is_name = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                    && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_');
                if !is_name {
                    return Err(PartitionFormatError::Name(name.into()));
                }
                if names.iter().any(|known| known == name) {
                    return Err(PartitionFormatError::Twice(name.into()));
                }
                if let Some(Piece::Value(before)) = pieces.last() {
                    let before: &String = &names[*before];
                    return Err(PartitionFormatError::Adjacent(before.clone(), name.into()));
                }
                pieces.push(Piece::Value(names.len()));
                names.push(name.into());
                rest = after;
            }
            '}' => return Err(PartitionFormatError::Brace),
            '*' => {
                if pieces.last() != Some(&Piece::Any) {
                    pieces.push(Piece::Any);
                }
                rest = &rest[1..];
            }
            _ => {
                let end = rest.find(['{', '}', '*']).unwrap_or(rest.len());
                pieces.push(Piece::Text(rest[..end].into()));
                rest = &rest[end..];
            }
        }
    }
    Ok(pieces)
}

impl PartitionFormat {
    /// The names, in the order in which they stand in it.
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// The values that it takes from a path, in the order of [`PartitionFormat::names`]. None: the path does not fit.
    pub fn values<'p>(&self, path: &'p [u8]) -> Option<Vec<&'p [u8]>> {
        let mut values: Vec<&[u8]> = vec![b""; self.names.len()];
        let mut parts = path.rsplit(|byte| *byte == b'/').filter(|part| !part.is_empty());
        for pieces in self.parts.iter().rev() {
            if !fits(pieces, parts.next()?, &mut values) {
                return None;
            }
        }
        Some(values)
    }
}

/// Values take as much as they can, from the left; what stands for itself must be found.
fn fits<'p>(pieces: &[Piece], part: &'p [u8], values: &mut [&'p [u8]]) -> bool {
    let Some((first, rest)) = pieces.split_first() else { return part.is_empty() };
    match first {
        Piece::Text(text) => part.strip_prefix(text.as_bytes()).is_some_and(|after| fits(rest, after, values)),
        Piece::Any => (0..=part.len()).rev().any(|len| fits(rest, &part[len..], values)),
        Piece::Value(number) => (1..=part.len()).rev().any(|len| {
            values[*number] = &part[..len];
            fits(rest, &part[len..], values)
        }),
    }
}

/// The place, from 0, of the column that a table without a header calls so.
pub fn column_number(name: &str, of_mltable: bool) -> Option<u32> {
    let digits = if of_mltable { name.strip_prefix("Column")? } else { name };
    let number: u32 = digits.parse().ok().filter(|_| digits.bytes().all(|byte| byte.is_ascii_digit()))?;
    let is_plain = number.to_string() == digits;
    if of_mltable { number.checked_sub(1).filter(|_| is_plain) } else { Some(number).filter(|_| is_plain) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn values(format: &str, path: &str) -> Option<Vec<String>> {
        let format: PartitionFormat = format.parse().unwrap();
        let values = format.values(path.as_bytes())?;
        Some(values.into_iter().map(|value| String::from_utf8_lossy(value).into_owned()).collect())
    }

    #[test]
    fn values_are_taken_from_the_end_of_a_path() {
        let told = |format, path| values(format, path).map(|values| values.join("|"));
        assert_eq!(told("{user}/{season}/*.wav", "/data/ann/winter/a.wav").as_deref(), Some("ann|winter"));
        assert_eq!(told("/{user}/{season}/*.wav", "/data/ann/winter/a.b.wav").as_deref(), Some("ann|winter"));
        assert_eq!(told("{user}/{season}/*.wav", "/data/ann/winter/a.mp3"), None);
        assert_eq!(told("{user}/{season}/*.wav", "winter/a.wav"), None);
        assert_eq!(told("year={year}/{part}.csv", "/d/year=2024/x.csv").as_deref(), Some("2024|x"));
        assert_eq!(told("{a}-{b}.csv", "/1-2-3.csv").as_deref(), Some("1-2|3"));
        assert_eq!(told("{a}/*", "/x//y").as_deref(), Some("x"));
        assert_eq!(told("{a}_*", "/_x"), None, "a value is not empty");
    }

    #[test]
    fn what_is_no_format_is_told_why() {
        use PartitionFormatError as E;
        for (text, error) in [
            ("*.wav", E::NoName),
            ("{a/b}", E::Brace),
            ("a}", E::Brace),
            ("{1a}", E::Name("1a".into())),
            ("{}", E::Name(String::new())),
            ("{day:yyyy/MM/dd}", E::Date("day:yyyy/MM/dd".into())),
            ("{a}/{a}", E::Twice("a".into())),
            ("{a}{b}", E::Adjacent("a".into(), "b".into())),
        ] {
            assert_eq!(text.parse::<PartitionFormat>().unwrap_err(), error, "{text}");
        }
    }

    #[test]
    fn columns_without_a_header_have_numbers() {
        assert_eq!(
            ["0", "12", "01", "+1", "a"].map(|name| column_number(name, false)),
            [Some(0), Some(12), None, None, None]
        );
        assert_eq!(
            ["Column1", "Column0", "Column01", "0"].map(|name| column_number(name, true)),
            [Some(0), None, None, None]
        );
    }
}
