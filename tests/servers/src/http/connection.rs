//! One connection, plain or with TLS, at either end.

use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::libc;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection, StreamOwned};

use super::Head;

/// A connection and what was read of it beyond the head.
pub(crate) struct Connection {
    stream: Stream,
    tcp: TcpStream,
    read_ahead: Vec<u8>,
}

enum Stream {
    Plain(TcpStream),
    Server(Box<StreamOwned<ServerConnection, TcpStream>>),
    Client(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// How long a body is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// So many bytes.
    Length(u64),
    /// In chunks, which are passed on as they are.
    Chunked,
    /// Until the connection ends.
    ToTheEnd,
}

impl Body {
    /// The body behind the head of a request.
    pub fn of_request(head: &Head) -> Body {
        if head.get("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Body::Chunked;
        }
        Body::Length(length(head).unwrap_or(0))
    }

    /// The body behind the head of a response to a request with this method.
    pub fn of_response(head: &Head, method: &str) -> Body {
        if method == "HEAD" || matches!(head.status(), 100..=199 | 204 | 304) {
            return Body::Length(0);
        }
        if head.get("transfer-encoding").is_some_and(|value| value.eq_ignore_ascii_case("chunked")) {
            return Body::Chunked;
        }
        length(head).map_or(Body::ToTheEnd, Body::Length)
    }
}

fn length(head: &Head) -> Option<u64> {
    head.get("content-length").map(|length| length.trim().parse().expect("a length"))
}

impl Connection {
    /// One that a server has accepted.
    pub fn accepted(tcp: TcpStream, tls: Option<Arc<ServerConfig>>) -> io::Result<Connection> {
        let other = tcp.try_clone()?;
        tcp.set_nodelay(true)?;
        let stream = match tls {
            None => Stream::Plain(tcp),
            Some(config) => {
                let session = ServerConnection::new(config).map_err(io::Error::other)?;
                Stream::Server(Box::new(StreamOwned::new(session, tcp)))
            }
        };
        Ok(Connection { stream, tcp: other, read_ahead: Vec::new() })
    }

    /// One to a port of this machine.
    pub fn open(port: u16, tls: Option<Arc<ClientConfig>>) -> io::Result<Connection> {
        let tcp = TcpStream::connect(("127.0.0.1", port))?;
        let other = tcp.try_clone()?;
        tcp.set_nodelay(true)?;
        let stream = match tls {
            None => Stream::Plain(tcp),
            Some(config) => {
                let name = ServerName::try_from("localhost").expect("a valid name");
                let session = ClientConnection::new(config, name).map_err(io::Error::other)?;
                Stream::Client(Box::new(StreamOwned::new(session, tcp)))
            }
        };
        Ok(Connection { stream, tcp: other, read_ahead: Vec::new() })
    }

    /// The connection itself, to be ended from elsewhere.
    pub fn tcp(&self) -> io::Result<TcpStream> {
        self.tcp.try_clone()
    }

    /// The next head; None if the other side has ended.
    pub fn read_head(&mut self) -> io::Result<Option<Head>> {
        loop {
            if let Some((head, length)) = Head::parse(&self.read_ahead) {
                self.read_ahead.drain(..length);
                return Ok(Some(head));
            }
            if self.read_more()? == 0 {
                return Ok(None);
            }
        }
    }

    /// Gives the bytes of a body, as they are on the wire, to `take`, piece by piece, until the body has ended.
    pub fn read_body(&mut self, body: Body, mut take: impl FnMut(&[u8]) -> io::Result<()>) -> io::Result<()> {
        match body {
            Body::Length(mut left) => {
                while left > 0 {
                    let piece = self.piece(left)?.ok_or(io::ErrorKind::UnexpectedEof)?;
                    left -= piece.len() as u64;
                    take(&piece)?;
                }
                Ok(())
            }
            Body::ToTheEnd => {
                while let Some(piece) = self.piece(u64::MAX)? {
                    take(&piece)?;
                }
                Ok(())
            }
            Body::Chunked => loop {
                let line = self.line()?;
                let size = line.split(|&byte| byte == b';' || byte == b'\r').next().unwrap_or_default();
                let size = std::str::from_utf8(size).ok().and_then(|size| u64::from_str_radix(size.trim(), 16).ok());
                let size = size.ok_or_else(|| io::Error::other("a chunk without a size"))?;
                take(&line)?;
                self.read_body(Body::Length(size + 2), &mut take as &mut dyn FnMut(&[u8]) -> io::Result<()>)?;
                if size == 0 {
                    return Ok(());
                }
            },
        }
    }

    fn line(&mut self) -> io::Result<Vec<u8>> {
        loop {
            if let Some(end) = self.read_ahead.windows(2).position(|two| two == b"\r\n") {
                return Ok(self.read_ahead.drain(..end + 2).collect());
            }
            if self.read_more()? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }

    fn piece(&mut self, most: u64) -> io::Result<Option<Vec<u8>>> {
        if self.read_ahead.is_empty() && self.read_more()? == 0 {
            return Ok(None);
        }
        let length = self.read_ahead.len().min(usize::try_from(most).unwrap_or(usize::MAX));
        Ok(Some(self.read_ahead.drain(..length).collect()))
    }

    fn read_more(&mut self) -> io::Result<usize> {
        let mut buffer = vec![0; 64 << 10];
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.read(&mut buffer),
            Stream::Server(stream) => stream.read(&mut buffer),
            Stream::Client(stream) => stream.read(&mut buffer),
        }?;
        self.read_ahead.extend_from_slice(&buffer[..read]);
        Ok(read)
    }

    /// Sends.
    pub fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let stream: &mut dyn Write = match &mut self.stream {
            Stream::Plain(stream) => stream,
            Stream::Server(stream) => stream,
            Stream::Client(stream) => stream,
        };
        stream.write_all(bytes)?;
        stream.flush()
    }
}

/// Closes a connection as a machine that has never heard of it does.
pub(crate) fn reset(stream: &TcpStream) {
    let linger = libc::linger { l_onoff: 1, l_linger: 0 };
    // SAFETY: the descriptor is open, and the option is a `linger` of that size.
    unsafe {
        let value = (&raw const linger).cast();
        let size = size_of::<libc::linger>() as libc::socklen_t;
        libc::setsockopt(stream.as_raw_fd(), libc::SOL_SOCKET, libc::SO_LINGER, value, size);
    }
    let _ = stream.shutdown(Shutdown::Both);
}
