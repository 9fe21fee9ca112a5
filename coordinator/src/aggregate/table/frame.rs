//! Looks at the rows of a mini-batch: one whole Arrow IPC stream, of which only the heads of its messages are read.

use std::io::{Read, Seek, SeekFrom};

use arrow_ipc::{MessageHeader, root_as_message};

/// A head longer than this is a lie.
const MOST_HEAD: usize = 64 << 20;
/// What every message begins with.
const CONTINUATION: u32 = u32::MAX;

/// What a stream says of itself.
#[derive(Debug, PartialEq)]
pub struct Frame {
    /// The message with its schema; None: there is nothing at all.
    pub schema: Option<Box<[u8]>>,
    /// Its rows.
    pub rows: u64,
}

/// Walks through a stream of `len` bytes. Whoever wrote it has proved its values; here it is only made sure that it is whole, so that the
/// next one begins where it ends.
pub fn examine<R: Read + Seek>(stream: &mut R, len: u64) -> Result<Frame, String> {
    let mut frame = Frame { schema: None, rows: 0 };
    let mut at = 0u64;
    if len == 0 {
        return Ok(frame);
    }
    loop {
        let mut prefix = [0; 8];
        read(stream, &mut prefix, at)?;
        let word =
            |from: usize| u32::from_le_bytes([prefix[from], prefix[from + 1], prefix[from + 2], prefix[from + 3]]);
        let (marker, head_len) = (word(0), word(4) as usize);
        at += 8;
        if marker != CONTINUATION || head_len > MOST_HEAD || head_len as u64 > len - at.min(len) {
            return Err(format!("no message of Arrow begins at byte {}", at - 8));
        }
        if head_len == 0 {
            return match at == len && frame.schema.is_some() {
                true => Ok(frame),
                false => Err(format!("the stream ends at byte {at} of {len}")),
            };
        }
        let mut head = vec![0; head_len];
        read(stream, &mut head, at)?;
        at += head_len as u64;
        let broken = |why: &str| format!("the message that ends at byte {at} {why}");
        let message = root_as_message(&head).map_err(|error| broken(&format!("can't be read: {error}")))?;
        let body = u64::try_from(message.bodyLength()).map_err(|_| broken("has a negative length"))?;
        match (message.header_type(), &frame.schema) {
            (MessageHeader::Schema, None) => frame.schema = Some(head.into()),
            (MessageHeader::RecordBatch, Some(_)) => {
                let batch = message.header_as_record_batch().ok_or_else(|| broken("is no record batch"))?;
                if batch.compression().is_some() {
                    return Err(broken("is compressed"));
                }
                let rows = u64::try_from(batch.length()).map_err(|_| broken("has a negative number of rows"))?;
                frame.rows = frame.rows.saturating_add(rows);
            }
            // Of a type that the schema names, and whoever looks at that refuses.
            (MessageHeader::DictionaryBatch, Some(_)) => {}
            _ => return Err(broken("is none that a stream of rows has there")),
        }
        at = at.checked_add(body).filter(|end| *end <= len).ok_or_else(|| broken("is longer than the stream"))?;
        stream.seek(SeekFrom::Start(at)).map_err(|error| error.to_string())?;
    }
}

fn read(stream: &mut impl Read, buffer: &mut [u8], at: u64) -> Result<(), String> {
    stream.read_exact(buffer).map_err(|error| format!("the stream breaks off behind byte {at}: {error}"))
}

#[cfg(test)]
mod tests {
    use std::io::Cursor;
    use std::sync::Arc;

    use arrow_array::{ArrayRef, Int64Array, RecordBatch};
    use arrow_ipc::writer::StreamWriter;
    use proptest::prelude::*;

    use super::*;

    fn stream(rows: &[i64]) -> Vec<u8> {
        let column: ArrayRef = Arc::new(Int64Array::from(rows.to_vec()));
        let batch = RecordBatch::try_from_iter([("a", column)]).unwrap();
        let mut writer = StreamWriter::try_new(Vec::new(), &batch.schema()).unwrap();
        writer.write(&batch).unwrap();
        writer.write(&batch).unwrap();
        writer.into_inner().unwrap()
    }

    fn look(bytes: &[u8]) -> Result<Frame, String> {
        examine(&mut Cursor::new(bytes), bytes.len() as u64)
    }

    #[test]
    fn a_stream_is_whole_or_refused() {
        let whole = stream(&[1, 2, 3]);
        assert_eq!(look(&whole).unwrap().rows, 6);
        assert_eq!(look(b"").unwrap(), Frame { schema: None, rows: 0 });
        for end in 1..whole.len() {
            look(&whole[..end]).unwrap_err();
        }
        let twice = [whole.clone(), whole.clone()].concat();
        assert!(look(&twice).unwrap_err().contains("the stream ends at byte"));
        assert!(look(b"text, as an older version wrote it\n").unwrap_err().contains("no message of Arrow"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(place in 0usize..600, byte in any::<u8>(), noise in prop::collection::vec(any::<u8>(), 0..64)) {
            let mut bytes = stream(&[1, 2, 3]);
            let at = place % bytes.len();
            bytes[at] = byte;
            let _ = look(&bytes);
            let _ = look(&noise);
        }
    }
}
