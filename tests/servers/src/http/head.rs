//! The first lines of a request or a response.

use std::fmt::Write as _;

/// A request's or a response's head.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Head {
    /// `GET /path?query HTTP/1.1`, or `HTTP/1.1 200 OK`.
    pub first: String,
    /// As sent, in order.
    pub headers: Vec<(String, String)>,
}

impl Head {
    /// Of a request.
    pub fn request(method: &str, target: &str, headers: &[(&str, &str)]) -> Head {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
        Head { first: format!("{method} {target} HTTP/1.1"), headers }
    }

    /// Of a response.
    pub fn response(status: u16, headers: &[(&str, String)]) -> Head {
        let headers = headers.iter().map(|(name, value)| (name.to_string(), value.clone())).collect();
        Head { first: format!("HTTP/1.1 {status} {}", reason(status)), headers }
    }

    /// Reads one from the beginning of `bytes`, with its length; None if there is more to come.
    pub fn parse(bytes: &[u8]) -> Option<(Head, usize)> {
        let end = bytes.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
        let first_end = bytes.windows(2).position(|two| two == b"\r\n")? + 2;
        let mut headers = [httparse::EMPTY_HEADER; 100];
        let parsed = httparse::parse_headers(&bytes[first_end..end], &mut headers).expect("well-formed headers");
        let httparse::Status::Complete((_, headers)) = parsed else { return None };
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let headers = headers.iter().map(|header| (header.name.to_string(), text(header.value))).collect();
        Some((Head { first: text(&bytes[..first_end - 2]), headers }, end))
    }

    /// The value of a header.
    pub fn get(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(own, _)| own.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// Puts a header in the place of those of that name.
    pub fn set(&mut self, name: &str, value: impl ToString) {
        self.headers.retain(|(own, _)| !own.eq_ignore_ascii_case(name));
        self.headers.push((name.to_string(), value.to_string()));
    }

    /// The method of a request.
    pub fn method(&self) -> &str {
        self.first.split(' ').next().unwrap_or_default()
    }

    /// The path and the query of a request, as sent.
    pub fn target(&self) -> &str {
        self.first.split(' ').nth(1).unwrap_or_default()
    }

    /// The status of a response.
    pub fn status(&self) -> u16 {
        self.first.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default()
    }

    /// As it is sent.
    pub fn bytes(&self) -> Vec<u8> {
        let mut text = format!("{}\r\n", self.first);
        for (name, value) in &self.headers {
            let _ = write!(text, "{name}: {value}\r\n");
        }
        text.push_str("\r\n");
        text.into_bytes()
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        206 => "Partial Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        412 => "Precondition Failed",
        416 => "Range Not Satisfiable",
        429 => "Too Many Requests",
        500 => "Internal Server Error",
        503 => "Service Unavailable",
        _ => "As The Test Wants",
    }
}
