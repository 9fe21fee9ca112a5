//! Everything over TLS, and what happens where it is not trusted.

use std::io::{Read, Write};
use std::net::TcpStream;

use fanfold_test_servers::{Redis, RedisOptions, TestCa};

use super::ECHO;
use super::world::{Secured, broker, ca, client, identity};
use crate::running::job_of;
use crate::support::{assert_each_once, wait_for};

#[test]
fn a_whole_job_over_tls_and_nobody_else_is_trusted() {
    let redis = Redis::start_with(RedisOptions {
        tls: Some(identity().clone()),
        client_ca: Some(ca().file()),
        ..RedisOptions::default()
    });
    let (url, vhost) = (redis.url(), broker().vhost_name());
    let mut secured = Secured::new(&broker().amqps_url().replace("/%2f", &format!("/{vhost}")), redis, &url);
    let text = |path: &std::path::Path| path.to_str().unwrap().to_string();
    secured.more = vec![
        ("FANFOLD_CA", text(&ca().file())),
        ("FANFOLD_CERT", text(&client().certificate)),
        ("FANFOLD_KEY", text(&client().key)),
    ];
    let (certificate, key) = (text(&identity().certificate), text(&identity().key));
    secured.serve(&["--tls-cert", &certificate, "--tls-key", &key]);
    assert!(secured.url.starts_with("https://"), "{}", secured.url);
    let _worker = secured.worker(|_| ());
    job_of(&secured.place, ECHO, "");
    let items = secured.place.write_items(20);
    let job = secured.run(&["submit", "job.yaml", "--wait"]).expect(0).stdout.trim().to_string();
    assert_each_once(&secured.rows(&job), &items);
    wait_for("what the worker says of itself to come through Redis", || {
        secured.run(&["nodes"]).expect(0).stdout.contains("default").then_some(())
    });

    // Without TLS there is no answer to who speaks none.
    let mut stream = TcpStream::connect(secured.address()).unwrap();
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: x\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    assert!(!answer.starts_with(b"HTTP"), "{}", String::from_utf8_lossy(&answer));
    let plain = secured.url.replace("https:", "http:");
    let ran = secured.run(&["ls", "--service", &plain]).expect(4);
    assert!(ran.stderr.contains(&plain) && ran.stderr.contains("hint: "), "{}", ran.stderr);

    // Somebody else's authority: nobody is believed, and the file that says so is named.
    let other = TestCa::new();
    let stranger = text(&other.file());
    let ran = secured.run(&["ls", "--ca", &stranger]).expect(4);
    assert!(ran.stderr.contains(&stranger) && ran.stderr.contains("`--ca` (FANFOLD_CA)"), "{}", ran.stderr);
    let missing = text(&secured.place.path("nothing.pem"));
    let ran = secured.run(&["ls", "--ca", &missing]);
    assert!(ran.code != Some(0) && ran.stderr.contains(&missing), "{}", ran.stderr);

    // All at once: a broker that does not answer is tried for seconds.
    let begin = |change: &[(&'static str, Option<&str>)]| {
        let mut command = secured.fanfold(&["run", "job.yaml", "--job-dir", "refused"]);
        for (name, value) in change {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        command.spawn().expect("the program starts")
    };
    let plain_broker = broker().url_of(&vhost);
    let refused = [
        (begin(&[("FANFOLD_CA", Some(&stranger))]), "amqps://localhost:"),
        (begin(&[("FANFOLD_CERT", None), ("FANFOLD_KEY", None)]), "amqps://localhost:"),
        (
            begin(&[
                ("FANFOLD_CA", Some(&stranger)),
                ("FANFOLD_BROKER_FILE", None),
                ("FANFOLD_BROKER", Some(&plain_broker)),
            ]),
            "rediss://localhost:",
        ),
    ];
    for (at, (child, server)) in refused.into_iter().enumerate() {
        let ran = crate::support::finish(child, crate::support::LIMIT).expect(4);
        assert!(ran.stderr.contains(server), "{}", ran.stderr);
        let named = [stranger.as_str(), "FANFOLD_CERT", stranger.as_str()][at];
        assert!(ran.stderr.contains(named) && ran.stderr.contains("FANFOLD_CA"), "{at}: {}", ran.stderr);
    }
}
