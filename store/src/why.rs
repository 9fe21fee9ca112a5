//! From the library's errors to ours. Its texts hold addresses as they went over the wire, so nothing of them is repeated but what is known to be
//! harmless: a status, the server's code of the error, the innermost cause of a connection that failed.

use std::error::Error;

use object_store::client::{HttpError, HttpErrorKind};

use crate::Why;
use crate::patience::TooSlow;

/// Bytes of a server's message that are shown.
const SAID: usize = 200;

pub(crate) fn why(error: &object_store::Error) -> Why {
    let said = || said(error);
    match error {
        object_store::Error::NotFound { .. } => Why::Missing(said()),
        object_store::Error::PermissionDenied { .. } => Why::Denied(said()),
        object_store::Error::Unauthenticated { .. } => Why::Unauthenticated(said()),
        object_store::Error::Precondition { .. } | object_store::Error::NotModified { .. } => {
            Why::Changed("it was written anew".into())
        }
        object_store::Error::AlreadyExists { .. } => Why::Exists,
        object_store::Error::InvalidPath { .. } => {
            Why::setup("a name there has an empty part, `.` or `..`, or a control character, and can't be asked for")
        }
        // As a web server, or as a store; the library has different words for it.
        object_store::Error::NotSupported { source } if source.to_string().contains("Range request") => Why::NoParts,
        object_store::Error::NotImplemented { .. } | object_store::Error::NotSupported { .. } => {
            Why::setup("its server can't do that")
        }
        _ => transport(error).or_else(|| status(error)).unwrap_or_else(|| other(error)),
    }
}

/// A request without an answer.
fn transport(error: &object_store::Error) -> Option<Why> {
    let mut cause: Option<&(dyn Error + 'static)> = error.source();
    while let Some(found) = cause {
        if let Some(http) = found.downcast_ref::<HttpError>() {
            return Some(no_answer(http));
        }
        cause = found.source();
    }
    None
}

fn no_answer(error: &HttpError) -> Why {
    let mut inner: &(dyn Error + 'static) = error;
    let mut dns = false;
    while let Some(cause) = inner.source() {
        dns |= cause.to_string().starts_with("dns error");
        inner = cause;
    }
    // The innermost one names no address.
    let text = inner.to_string();
    if inner.is::<TooSlow>() {
        return Why::TimedOut(text);
    }
    let text = match text.contains("://") {
        true => String::new(),
        false => text,
    };
    let lower = text.to_ascii_lowercase();
    if dns || lower.contains("lookup address") || lower.contains("name or service") {
        return Why::NoSuchHost(text);
    }
    if lower.contains("certificate") || lower.contains("tls") || lower.contains("handshake") {
        return Why::Tls(text);
    }
    match error.kind() {
        HttpErrorKind::Timeout => Why::TimedOut(String::new()),
        _ if lower.contains("timed out") => Why::TimedOut(String::new()),
        HttpErrorKind::Connect => Why::Unreachable(text),
        HttpErrorKind::Interrupted | HttpErrorKind::Request | HttpErrorKind::Decode => {
            Why::Unreachable(if text.is_empty() { "the connection broke".into() } else { text })
        }
        _ => Why::Other(if text.is_empty() { "the request failed".into() } else { text }),
    }
}

/// The status in the words of the library's error, whose type is private to it: `…status code: 503 Service Unavailable: …`.
fn status(error: &object_store::Error) -> Option<Why> {
    let text = error.to_string();
    let (_, rest) = text.split_once("status code: ")?;
    let code: u16 = rest.get(..3)?.parse().ok()?;
    let said = said(error);
    Some(match code {
        401 => Why::Unauthenticated(said),
        403 => Why::Denied(said),
        404 => Why::Missing(said),
        409 => Why::Exists,
        412 => Why::Changed("it was written anew".into()),
        416 => Why::Changed("it has become shorter".into()),
        code => Why::Server(code, said),
    })
}

/// What the server called the error: `<Code>…</Code>` and `<Message>…</Message>` of S3 and Azure, as far as they are short words of its own.
fn said(error: &object_store::Error) -> String {
    let text = error.to_string();
    let tag = |name: &str| {
        let start = text.find(&format!("<{name}>"))? + name.len() + 2;
        let len = text[start..].find("</")?;
        let inner = text[start..start + len].lines().next().unwrap_or_default().trim();
        (!inner.is_empty()).then(|| inner.chars().take(SAID).collect::<String>())
    };
    match (tag("Code"), tag("Message")) {
        (Some(code), Some(message)) if !message.contains("ignature") && !message.contains("://") => {
            format!("{code}: {message}")
        }
        (Some(code), _) => code,
        // Tokens are asked for at other servers, which answer in JSON.
        (None, _) if text.contains("invalid_client") => "invalid_client: the secret or the client is not known".into(),
        (None, _) => String::new(),
    }
}

fn other(error: &object_store::Error) -> Why {
    let text = error.to_string();
    for (words, why) in [
        ("non-partial response", Why::NoParts),
        ("Content-Length", Why::setup("its server does not say how long it is")),
        ("content-length", Why::setup("its server does not say how long it is")),
        ("Requested", Why::Changed("it has become shorter".into())),
        ("without LOCATION", Why::setup("the server sends to another region: set the region of the bucket")),
        ("OAuth", Why::Unauthenticated("no token was given out for it".into())),
        ("token", Why::Unauthenticated("no token was given out for it".into())),
    ] {
        if text.contains(words) {
            return why;
        }
    }
    Why::Other("the request failed".into())
}
