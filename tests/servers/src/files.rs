//! An HTTP(S) server of files, with ranges, ETags and conditions, as the web has millions of.

use std::fs;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::Identity;
use crate::http::{Body, Connection, Head, Listening, listen};

/// Serves the files of a directory; of a folder its `index.html`.
pub struct Files {
    listening: Listening,
    scheme: &'static str,
    ranges: Arc<AtomicBool>,
    versions: Arc<AtomicBool>,
}

impl Files {
    /// Plain.
    pub fn serve(root: &Path) -> Files {
        Files::start(root, None)
    }

    /// With TLS.
    pub fn serve_tls(root: &Path, identity: &Identity) -> Files {
        Files::start(root, Some(identity))
    }

    fn start(root: &Path, identity: Option<&Identity>) -> Files {
        let (root, ranges) = (root.to_path_buf(), Arc::new(AtomicBool::new(true)));
        let versions = Arc::new(AtomicBool::new(true));
        let (knows_ranges, says_versions) = (ranges.clone(), versions.clone());
        let listening = listen(identity, move |connection| {
            // A client that leaves is no fault of the server's.
            let _ = serve(connection, &root, &knows_ranges, &says_versions);
        });
        Files { listening, scheme: if identity.is_some() { "https" } else { "http" }, ranges, versions }
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.listening.port()
    }

    /// The URL of a file, from its path below the root.
    pub fn url(&self, path: &str) -> String {
        format!("{}://127.0.0.1:{}/{path}", self.scheme, self.port())
    }

    /// Whether it knows ranges; without, it always sends the whole file.
    pub fn set_ranges(&self, known: bool) {
        self.ranges.store(known, Ordering::SeqCst);
    }

    /// Whether it says by ETag and time which version of a file it sends.
    pub fn set_versions(&self, said: bool) {
        self.versions.store(said, Ordering::SeqCst);
    }
}

fn serve(mut connection: Connection, root: &Path, ranges: &AtomicBool, versions: &AtomicBool) -> io::Result<()> {
    while let Some(head) = connection.read_head()? {
        connection.read_body(Body::of_request(&head), |_| Ok(()))?;
        let with_body = match head.method() {
            "GET" => true,
            "HEAD" => false,
            _ => {
                connection.write(&Head::response(405, &[("content-length", "0".into())]).bytes())?;
                continue;
            }
        };
        if is_folder(root, head.target()) {
            let location = ("location", format!("{}/", head.target()));
            connection.write(&Head::response(301, &[location, ("content-length", "0".into())]).bytes())?;
            continue;
        }
        let Some((mut file, meta)) = find(root, head.target()) else {
            connection.write(&Head::response(404, &[("content-length", "0".into())]).bytes())?;
            continue;
        };
        let etag = format!("\"{:x}-{:x}-{:x}\"", meta.size(), meta.mtime(), meta.mtime_nsec());
        let modified = jiff::Timestamp::from_second(meta.mtime()).expect("a time of this age");
        let modified = jiff::fmt::rfc2822::DateTimePrinter::new().timestamp_to_rfc9110_string(&modified);
        let mut about = vec![("etag", etag.clone()), ("last-modified", modified.expect("a time of this age"))];
        if !versions.load(Ordering::SeqCst) {
            about.clear();
        }
        if is_page(head.target()) {
            about.push(("content-type", "text/html; charset=utf-8".into()));
        }
        if head.get("if-match").is_some_and(|wanted| wanted != etag) {
            connection.write(&Head::response(412, &[("content-length", "0".into())]).bytes())?;
            continue;
        }
        let size = meta.size();
        let knows_ranges = ranges.load(Ordering::SeqCst);
        let range = head.get("range").filter(|_| knows_ranges && head.get("if-range").is_none_or(|tag| tag == etag));
        let (status, start, length) = match range.map(|range| within(range, size)) {
            None => (200, 0, size),
            Some(None) => {
                about.extend([("content-length", "0".into()), ("content-range", format!("bytes */{size}"))]);
                connection.write(&Head::response(416, &about).bytes())?;
                continue;
            }
            Some(Some((start, end))) => {
                about.push(("content-range", format!("bytes {start}-{}/{size}", end - 1)));
                (206, start, end - start)
            }
        };
        if knows_ranges {
            about.push(("accept-ranges", "bytes".into()));
        }
        about.push(("content-length", length.to_string()));
        connection.write(&Head::response(status, &about).bytes())?;
        if with_body {
            file.seek(SeekFrom::Start(start))?;
            let mut left = length;
            let mut buffer = vec![0; 256 << 10];
            while left > 0 {
                let most = buffer.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                let read = file.read(&mut buffer[..most])?;
                if read == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                connection.write(&buffer[..read])?;
                left -= read as u64;
            }
        }
    }
    Ok(())
}

/// Of a folder its page is sent, where it has one.
fn is_page(target: &str) -> bool {
    target.ends_with('/') || target.ends_with(".html")
}

/// A folder without its slash.
fn is_folder(root: &Path, target: &str) -> bool {
    !target.ends_with('/') && place(root, target).is_some_and(|path| path.is_dir())
}

fn place(root: &Path, target: &str) -> Option<PathBuf> {
    let path = target.split(['?', '#']).next().unwrap_or_default().trim_start_matches('/');
    let path = PathBuf::from(unescape(path)?);
    path.components().all(|part| matches!(part, Component::Normal(_))).then(|| root.join(path))
}

fn find(root: &Path, target: &str) -> Option<(fs::File, fs::Metadata)> {
    let mut path = place(root, target)?;
    if target.ends_with('/') {
        path.push("index.html");
    }
    let file = fs::File::open(path).ok()?;
    let meta = file.metadata().ok().filter(fs::Metadata::is_file)?;
    Some((file, meta))
}

/// `%20` and the like.
fn unescape(text: &str) -> Option<String> {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        if byte != b'%' {
            bytes.push(byte);
            continue;
        }
        let digits = [rest.next()?, rest.next()?];
        bytes.push(u8::from_str_radix(std::str::from_utf8(&digits).ok()?, 16).ok()?);
    }
    String::from_utf8(bytes).ok()
}

/// `bytes=a-b` as where it starts and ends; None: there is nothing of it.
fn within(range: &str, size: u64) -> Option<(u64, u64)> {
    let (from, to) = range.strip_prefix("bytes=")?.split_once('-')?;
    let (start, end) = match (from, to) {
        ("", last) => (size.saturating_sub(last.parse().ok()?), size),
        (from, "") => (from.parse().ok()?, size),
        (from, to) => (from.parse().ok()?, to.parse::<u64>().ok()?.saturating_add(1).min(size)),
    };
    (start < end).then_some((start, end))
}
