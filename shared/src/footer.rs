//! Whether the footer of a Parquet file can be what it says, before a library believes it.
//!
//! A footer is a structure of Thrift's compact protocol, in which a list begins with the number of its elements. A damaged or made-up one may say two
//! billion where two hundred bytes are left, and libraries count through them. Each element takes a byte at least
//! (<https://github.com/apache/thrift/blob/master/doc/specs/thrift-compact-protocol.md>), so that is seen without reading one.

/// Structures within structures; those of Parquet are seven deep.
const DEEPEST: u32 = 64;

/// A list has more elements than bytes are left for them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("its footer has a list of {elements} elements where {left} bytes are left")]
pub struct TooMany {
    /// What it says.
    pub elements: u64,
    /// Bytes behind that.
    pub left: u64,
}

/// Refuses a footer, without its length and magic, that has lists longer than itself. What else is wrong with it, whoever reads it tells.
///
/// # Errors
/// The first such list.
pub fn check(footer: &[u8]) -> Result<(), TooMany> {
    match Walk(footer).value(STRUCT, DEEPEST) {
        Err(Stop::TooMany(why)) => Err(why),
        Ok(()) | Err(Stop::Malformed) => Ok(()),
    }
}

enum Stop {
    TooMany(TooMany),
    Malformed,
}

const BOOLEANS: [u8; 2] = [1, 2];
const STRUCT: u8 = 12;

/// What is left.
struct Walk<'a>(&'a [u8]);

impl Walk<'_> {
    fn skip(&mut self, bytes: u64) -> Result<(), Stop> {
        let bytes = usize::try_from(bytes).map_err(|_| Stop::Malformed)?;
        self.0 = self.0.get(bytes..).ok_or(Stop::Malformed)?;
        Ok(())
    }

    fn byte(&mut self) -> Result<u8, Stop> {
        let (first, rest) = self.0.split_first().ok_or(Stop::Malformed)?;
        self.0 = rest;
        Ok(*first)
    }

    fn number(&mut self) -> Result<u64, Stop> {
        let mut number = 0;
        for shift in (0..64).step_by(7) {
            let byte = self.byte()?;
            number |= u64::from(byte & 0x7f) << shift;
            if byte < 0x80 {
                return Ok(number);
            }
        }
        Err(Stop::Malformed)
    }

    fn elements(&self, elements: u64) -> Result<u64, Stop> {
        let left = self.0.len() as u64;
        if elements > left { Err(Stop::TooMany(TooMany { elements, left })) } else { Ok(elements) }
    }

    /// Walks over a value of this type of the protocol, at most so deep.
    fn value(&mut self, kind: u8, deep: u32) -> Result<(), Stop> {
        let deep = deep.checked_sub(1).ok_or(Stop::Malformed)?;
        match kind {
            // As elements: as fields they are in the type.
            1..=3 => self.skip(1),
            4..=6 => self.number().map(drop),
            7 => self.skip(8),
            8 => {
                let len = self.number()?;
                self.skip(len)
            }
            9 | 10 => {
                let head = self.byte()?;
                let elements = match head >> 4 {
                    15 => self.number()?,
                    few => few.into(),
                };
                for _ in 0..self.elements(elements)? {
                    self.value(head & 15, deep)?;
                }
                Ok(())
            }
            11 => {
                let elements = self.number()?;
                if elements == 0 {
                    return Ok(());
                }
                let kinds = self.byte()?;
                for _ in 0..self.elements(elements)? {
                    self.value(kinds >> 4, deep)?;
                    self.value(kinds & 15, deep)?;
                }
                Ok(())
            }
            STRUCT => loop {
                let head = self.byte()?;
                if head == 0 {
                    return Ok(());
                }
                if head >> 4 == 0 {
                    self.number()?;
                }
                if !BOOLEANS.contains(&(head & 15)) {
                    self.value(head & 15, deep)?;
                }
            },
            13 => self.skip(16),
            _ => Err(Stop::Malformed),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_that_can_t_be_are_seen_wherever_they_stand() {
        // Fields: a boolean, a number, a text, a list of two structures; then a list (of booleans, of structures) of two billion.
        let sound = [0x11, 0x15, 0x96, 0x01, 0x18, 2, b'a', b'b', 0x19, 0x2c, 0x15, 2, 0, 0];
        for kind in [1, STRUCT] {
            let long = [0x19, 0xf0 | kind, 0xff, 0xff, 0xff, 0xff, 0x07, 0, 0];
            let footer = [&sound[..], &long[..]].concat();
            assert_eq!(check(&footer), Err(TooMany { elements: (1 << 31) - 1, left: 2 }), "{kind}");
            assert_eq!(check(&[&sound[..], &[0x19, 0x20 | kind, 0, 0, 0]].concat()), Ok(()));
        }
        let map = [0x1b, 0xff, 0x7f, 0x88, 0];
        assert_eq!(check(&map), Err(TooMany { elements: 0x3fff, left: 1 }));
        for cut in 0..sound.len() {
            // Where its list has lost its elements, that is seen; else somebody else says that it is cut.
            let seen = TooMany { elements: 2, left: cut as u64 - 10.min(cut as u64) };
            assert_eq!(check(&sound[..cut]), if matches!(cut, 10 | 11) { Err(seen) } else { Ok(()) }, "{cut}");
        }
        // Lists within lists end somewhere.
        assert_eq!(check(&[0x19; 1000]), Ok(()));
    }
}
