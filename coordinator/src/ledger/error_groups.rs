//! Which failures are one distinct error.
//!
//! A job of ten million items may fail ten million times with as many texts (`KeyError: 'img_17.png'`), but from a handful
//! of places. So the key is the place: kind and traceback without the exception's text. It bounds what is stored, and lets
//! `fanfold errors` show what went wrong before it shows how often.

use fanfold_shared::message::ErrorKind;

/// Stored tracebacks end here, bytes.
pub(super) const TRACEBACK_LIMIT: usize = 64 << 10;
/// Stored messages and stderr tails end here, bytes.
pub(super) const TEXT_LIMIT: usize = 8 << 10;

/// Identifies a distinct error.
pub(super) fn key(kind: ErrorKind, message: &str, traceback: &str) -> [u8; 16] {
    let mut hasher = blake3::Hasher::new();
    hasher.update(kind.name().as_bytes());
    if !traceback.is_empty() {
        for line in place(traceback) {
            hasher.update(b"\n");
            hasher.update(line.as_bytes());
        }
    } else {
        hasher.update(b"\0");
        match kind {
            // They differ only in numbers.
            ErrorKind::ShortReturn => {}
            // "`a.png`: changed since the job listed it: size 10 -> 12": neither the item nor the details matter.
            ErrorKind::Input => {
                let reason = message.rsplit_once("`: ").map_or(message, |(_, reason)| reason);
                hasher.update(reason.split(": ").next().unwrap_or_default().as_bytes());
            }
            _ => {
                hasher.update(message.as_bytes());
            }
        }
    }
    hasher.finalize().as_bytes()[..16].try_into().expect("a hash has 32 bytes")
}

/// The lines of a traceback that say where and of which type: frames (indented), and the first word of the line after them.
/// What follows belongs to the exception's text, which may have many lines and differ each time.
fn place(traceback: &str) -> impl Iterator<Item = &str> {
    let mut after_frame = true;
    traceback.lines().filter_map(move |line| {
        let frame = line.starts_with(' ');
        let heads = after_frame && !frame;
        after_frame = frame || line.is_empty();
        if frame {
            Some(line)
        } else if heads {
            line.split(':').next()
        } else {
            None
        }
    })
}

/// `text`, cut to `limit` bytes at a character, with a note.
pub(super) fn bounded(text: &str, limit: usize) -> std::borrow::Cow<'_, str> {
    if text.len() <= limit {
        return text.into();
    }
    format!("{}… ({} bytes in all)", &text[..text.floor_char_boundary(limit)], text.len()).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn traceback(line: u32, error: &str) -> String {
        format!(
            "Traceback (most recent call last):\n  File \"score.py\", line {line}, in run\n    return f(x)\n{error}\n"
        )
    }

    fn of(text: &str) -> [u8; 16] {
        key(ErrorKind::Exception, "", text)
    }

    #[test]
    fn one_place_and_type_is_one_error_whatever_its_text() {
        let first = of(&traceback(7, "KeyError: 'a'"));
        assert_eq!(first, of(&traceback(7, "KeyError: 'b'\nsecond line: 17\nthird")));
        assert_ne!(first, of(&traceback(8, "KeyError: 'a'")), "another line");
        assert_ne!(first, of(&traceback(7, "ValueError: 'a'")), "another type");
        assert_ne!(first, key(ErrorKind::Oom, "", &traceback(7, "KeyError: 'a'")), "another kind");
    }

    #[test]
    fn a_chained_error_is_told_from_its_cause() {
        let chain = |second| {
            let link = "\nDuring handling of the above exception, another exception occurred:\n\n";
            of(&(traceback(7, "KeyError: 1") + link + &traceback(9, second)))
        };
        assert_eq!(chain("OSError: x"), chain("OSError: y"));
        assert_ne!(chain("OSError: x"), chain("TypeError: x"));
        assert_ne!(chain("OSError: x"), of(&traceback(7, "KeyError: 1")));
    }

    #[test]
    fn without_a_traceback_the_message_stands_for_it() {
        let signal = |message| key(ErrorKind::Signal, message, "");
        assert_ne!(signal("killed by SIGSEGV"), signal("killed by SIGABRT"));
        let input = |message| key(ErrorKind::Input, message, "");
        assert_eq!(input("`a`: permission denied"), input("`b`: permission denied"));
        assert_ne!(input("`a`: permission denied"), input("`a`: is a directory"));
        assert_eq!(input("`a`: changed: size 10 -> 12"), input("`b`: changed: size 7 -> 8"));
        let short = |message| key(ErrorKind::ShortReturn, message, "");
        assert_eq!(short("1 of 5"), short("2 of 5"));
    }

    #[test]
    fn long_texts_are_cut_at_a_character() {
        assert_eq!(bounded("äöü", 6), "äöü");
        assert_eq!(bounded("äöü", 5), "äö… (6 bytes in all)");
    }
}
