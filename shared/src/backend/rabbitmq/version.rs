//! Which version the server is. It says so in its first frame, which the library keeps to itself; so that frame is asked for once more, on a
//! connection that goes no further.

use std::io::{self, Read, Write};
use std::time::Duration;

use lapin::tcp::{RustlsConnector, TcpStream};
use lapin::uri::AMQPUri;

const LIMIT: Duration = Duration::from_secs(5);
/// Of the first frame: it names the server's capabilities and is far smaller.
const MOST_BYTES: usize = 64 << 10;

/// Asks a server for its version: `3.10.8`.
pub(super) async fn ask(uri: AMQPUri, tls: Option<RustlsConnector>) -> Option<String> {
    let frame = tokio::task::spawn_blocking(move || first_frame(&uri, tls.as_ref())).await;
    frame.ok()?.ok().and_then(|frame| version(&frame))
}

fn first_frame(uri: &AMQPUri, tls: Option<&RustlsConnector>) -> io::Result<Vec<u8>> {
    let host = uri.authority.host.as_str();
    let stream = TcpStream::connect_timeout((host, uri.authority.port), LIMIT)?;
    stream.set_read_timeout(Some(LIMIT))?;
    stream.set_write_timeout(Some(LIMIT))?;
    let mut stream = match tls {
        Some(tls) => stream.into_rustls(tls, host).map_err(io::Error::other)?,
        None => stream,
    };
    stream.write_all(b"AMQP\x00\x00\x09\x01")?;
    stream.flush()?;
    let mut head = [0; 7];
    stream.read_exact(&mut head)?;
    let size = u32::from_be_bytes([head[3], head[4], head[5], head[6]]) as usize;
    let mut frame = vec![0; size.min(MOST_BYTES)];
    stream.read_exact(&mut frame)?;
    Ok(frame)
}

/// The property `version` of the table of server properties: its name with its length before it, `S`, the text with its length.
fn version(frame: &[u8]) -> Option<String> {
    const KEY: &[u8] = b"\x07versionS";
    let at = frame.windows(KEY.len()).position(|bytes| bytes == KEY)? + KEY.len();
    let (len, rest) = frame[at..].split_first_chunk::<4>()?;
    let text = rest.get(..u32::from_be_bytes(*len) as usize)?;
    String::from_utf8(text.to_vec()).ok().filter(|text| !text.is_empty() && text.len() < 100)
}

/// Whether a server of that version is of this major version, or a later one.
pub(super) fn is_at_least(version: &str, major: u32) -> bool {
    version.split('.').next().and_then(|first| first.parse::<u32>().ok()).is_some_and(|found| found >= major)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_found_in_the_first_frame() {
        let frame = b"\0\x0a\0\x0a\0\x09\0\0\0\x1f\x07productS\0\0\0\x08RabbitMQ\x07versionS\0\0\0\x063.10.8";
        assert_eq!(version(frame).as_deref(), Some("3.10.8"));
        for cut in 0..frame.len() - 1 {
            assert_eq!(version(&frame[..cut]), None);
        }
        assert!(is_at_least("4.0.1", 4) && is_at_least("10.0", 4) && !is_at_least("3.13.7", 4) && !is_at_least("", 4));
    }
}
