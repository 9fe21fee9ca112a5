//! Who reaches the service's port and has no token; and who has one and means no good.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use super::ECHO;
use super::world::Secured;
use crate::running::job_of;
use crate::support::{LIMIT, wait_for};

/// The service's own limit is 10 s; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(25);

fn connect(secured: &Secured) -> TcpStream {
    let stream = TcpStream::connect(secured.address()).expect("it listens");
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

/// Sends bytes, and reads until the service closes.
fn exchange(secured: &Secured, bytes: &[u8]) -> String {
    let mut stream = connect(secured);
    // What is too large is answered, or cut off, before it is all sent.
    let _ = stream.write_all(bytes);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    String::from_utf8_lossy(&answer).into_owned()
}

/// One request; the status, 0 for none.
fn ask(secured: &Secured, line: &str, token: bool, more: &str, body: &str) -> (u16, String) {
    let token = if token { format!("authorization: Bearer {}\r\n", secured.token()) } else { String::new() };
    let request = format!(
        "{line} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {}\r\n{token}{more}\r\n{body}",
        body.len()
    );
    let answer = exchange(secured, request.as_bytes());
    (answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0), answer)
}

#[test]
fn who_says_nothing_or_says_it_slowly_is_sent_away_and_a_flood_is_bounded() {
    let secured = Secured::plain();
    let token = secured.token();
    let slow = [
        (String::new(), ""),
        ("GET /healthz HTTP/1.1\r\nhost".to_string(), ""),
        // The next request on a connection that was good once.
        ("GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n".to_string(), "HTTP/1.1 200"),
        (
            format!(
                "POST /v1/jobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {token}\r\ncontent-length: 90\r\n\r\n{{"
            ),
            "HTTP/1.1 408",
        ),
    ];
    std::thread::scope(|scope| {
        for (bytes, begins) in &slow {
            let secured = &secured;
            scope.spawn(move || {
                let (began, mut stream, mut answer) = (Instant::now(), connect(secured), Vec::new());
                stream.write_all(bytes.as_bytes()).unwrap();
                let ended = stream.read_to_end(&mut answer);
                let timed_out = ended.is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock);
                assert!(!timed_out, "`{bytes}` is still waited for after {:?}", began.elapsed());
                let answer = String::from_utf8_lossy(&answer);
                assert!(answer.starts_with(begins), "`{bytes}`: {answer}");
            });
        }
    });

    let crowd: Vec<TcpStream> = (0..600).map(|_| connect(&secured)).collect();
    let closed = || {
        let is_closed = |stream: &&TcpStream| {
            stream.set_nonblocking(true).unwrap();
            let mut byte = [0];
            !(&mut &**stream).read(&mut byte).is_err_and(|error| error.kind() == std::io::ErrorKind::WouldBlock)
        };
        crowd.iter().filter(is_closed).count()
    };
    wait_for("those beyond the bound to be closed", || (closed() >= 600 - 512).then_some(()));
    drop(crowd);
    wait_for("the service to answer again", || (ask(&secured, "GET /healthz", false, "", "").0 == 200).then_some(()));
}

#[test]
fn odd_requests_get_nowhere() {
    let secured = Secured::plain();
    job_of(&secured.place, ECHO, "");
    secured.place.write_items(3);
    secured.place.write("outside.txt", "not yours");
    let job = secured.run(&["submit", "job.yaml"]).expect(0).stdout.trim().to_string();
    for method in ["GET", "HEAD", "OPTIONS", "TRACE", "DELETE", "PUT", "BREW"] {
        let (status, _) = ask(&secured, &format!("{method} /v1/jobs"), false, "", "");
        assert_eq!(status, 401, "{method} without a token");
        let (status, _) = ask(&secured, &format!("{method} /v1/jobs"), true, "", "");
        assert_eq!(status, if matches!(method, "GET" | "HEAD") { 200 } else { 405 }, "{method}");
    }
    let up = "%2e%2e";
    for path in [
        format!("/v1/jobs/{job}/logs/{up}/{up}/{up}/outside.txt"),
        format!("/v1/jobs/{job}/logs/..%2f..%2f..%2foutside.txt"),
        format!("/v1/jobs/{job}/logs/%2fetc%2fpasswd"),
        format!("/v1/jobs/{job}/logs//etc/passwd"),
        format!("/v1/jobs/{job}/logs/..%00"),
        format!("/v1/jobs/{up}%2f{up}/logs/x"),
        format!("/v1/jobs/{up}/{up}/service/token"),
        "/v1/jobs/%00".to_string(),
        "/v1/jobs/x%0d%0aset-cookie:%20a=b".to_string(),
        format!("/v1/nodes/{up}%2f%0d%0a/drain"),
    ] {
        let (status, answer) = ask(&secured, &format!("GET {path}"), true, "", "");
        assert!((400..500).contains(&status) && !answer.contains("not yours"), "{path}: {answer}");
        assert!(!answer.to_lowercase().contains("\r\nset-cookie"), "{answer}");
        assert_eq!(ask(&secured, &format!("GET {path}"), false, "", "").0, 401, "{path} without a token");
    }
    let body = r#"{"job_file": "job.yaml"}"#;
    let long = "k".repeat(1 << 20);
    let (status, answer) = ask(&secured, "POST /v1/jobs", true, &format!("idempotency-key: {long}\r\n"), body);
    assert!(matches!(status, 0 | 431), "{answer}");
    let middling = "k".repeat(10_000);
    let (status, answer) = ask(&secured, "POST /v1/jobs", true, &format!("idempotency-key: {middling}\r\n"), body);
    assert!(status == 400 && answer.contains("bad_key"), "{answer}");
    let large = " ".repeat(2 << 20);
    assert!(matches!(ask(&secured, "POST /v1/jobs", true, "", &large).0, 0 | 413));
    assert!(matches!(ask(&secured, "POST /v1/jobs", false, "", &large).0, 0 | 401));
    // Two lengths, two bodies: what is behind a proxy must not see another request than the proxy did.
    let smuggled = format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\ncontent-length: 4\r\ncontent-length: 90\r\n\r\nGET ",
        secured.token()
    );
    assert!(exchange(&secured, smuggled.as_bytes()).starts_with("HTTP/1.1 400"));
    let second = exchange(&secured, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
    assert!(second.is_empty() || second.starts_with("HTTP/1.1 4"), "{second}");
    assert_eq!(secured.run(&["ls"]).expect(0).stdout.lines().count(), 2, "one job, as before");
    secured.service.as_ref().unwrap().signal(nix::sys::signal::Signal::SIGTERM);
    let mut secured = secured;
    secured.service.take().unwrap().ends(LIMIT, 0);
}
