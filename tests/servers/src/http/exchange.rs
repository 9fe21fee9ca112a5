//! One request and its answer.

use std::sync::Arc;

use super::{Body, Connection, Head};

/// Sends a request to a server on a port of this machine, and returns the status and the body of the answer.
pub(crate) fn exchange(port: u16, tls: bool, mut head: Head, body: &[u8]) -> (u16, String) {
    let mut connection = Connection::open(port, tls.then(|| Arc::new(crate::tls::client()))).expect("it listens");
    head.set("host", format!("127.0.0.1:{port}"));
    head.set("content-length", body.len());
    connection.write(&head.bytes()).expect("it takes the request");
    connection.write(body).expect("it takes the request");
    let answer = connection.read_head().expect("it answers").expect("it answers");
    let mut text = Vec::new();
    let take = |piece: &[u8]| {
        text.extend_from_slice(piece);
        Ok(())
    };
    connection.read_body(Body::of_response(&answer, head.method()), take).expect("a whole answer");
    (answer.status(), String::from_utf8_lossy(&text).into_owned())
}
