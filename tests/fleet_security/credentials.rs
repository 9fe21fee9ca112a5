//! Wrong passwords, users and rights: said with the user's name, never with the password.

use std::os::unix::fs::PermissionsExt;

use fanfold_test_servers::{Redis, RedisOptions};

use super::ECHO;
use super::world::{Secured, broker};
use crate::running::job_of;
use crate::support::{LIMIT, finish, wait_for};

const WRONG: &str = "wr0ng-pa55word";

/// Redis with one user.
fn redis() -> Redis {
    let acl = vec!["user default off".into(), "user fanfold on >right ~fanfold:* +@all".into()];
    Redis::start_with(RedisOptions { acl, ..RedisOptions::default() })
}

#[test]
fn who_is_refused_is_told_as_whom_and_never_shown_the_password() {
    let (good, redis) = (broker().vhost(), redis());
    let redis_good = redis.url_of("fanfold", "right");
    let redis_wrong = redis.url_of("fanfold", WRONG);
    let (user, password) = broker().credentials();
    let wrong_password = good.replace(password, WRONG);
    let unknown_user = good.replace(&format!("{user}:{password}"), &format!("nobody:{WRONG}"));
    // An administrator may connect, but this virtual host has no place for anybody.
    broker().ctl(&["add_vhost", "closed"]);
    let closed = broker().url_of("closed");
    let mut secured = Secured::new(&good, redis, &redis_good);
    job_of(&secured.place, ECHO, "");
    secured.place.write_items(3);
    let cases = [
        ("FANFOLD_BROKER", wrong_password.as_str(), "user `fanfold` or its password is wrong"),
        ("FANFOLD_BROKER", unknown_user.as_str(), "user `nobody` or its password is wrong"),
        ("FANFOLD_BROKER", closed.as_str(), "fanfold"),
        ("FANFOLD_REDIS", redis_wrong.as_str(), "user `fanfold` or its password is wrong"),
    ];
    let state = secured.place.path("refused").display().to_string();
    let mut started = Vec::new();
    for (variable, url, why) in cases {
        for args in
            [vec!["run", "job.yaml", "--job-dir", "job"], vec!["serve", "--listen", "127.0.0.1:0", "--state", &state]]
        {
            let mut command = secured.fanfold(&args);
            command.env_remove(format!("{variable}_FILE")).env(variable, url);
            // One after the other: the second service would find the state of the first in use.
            started.push((finish(command.spawn().unwrap(), LIMIT), url, why, args[0]));
        }
    }
    for (ran, url, why, verb) in started {
        let ran = ran.expect(4);
        let shown = url.split('@').nth(1).unwrap().trim_end_matches('/');
        assert!(ran.stderr.contains(why) && ran.stderr.contains(shown), "{verb} {url}: {}", ran.stderr);
        assert!(ran.stderr.contains("\nhint: check "), "{verb}: {}", ran.stderr);
        assert!(!ran.stderr.contains(WRONG) && !ran.stderr.contains(password), "{verb}: {}", ran.stderr);
    }

    // The worker goes on trying, and says why once.
    let worker = secured.worker(|command| {
        command.env_remove("FANFOLD_BROKER_FILE").env("FANFOLD_BROKER", &unknown_user);
    });
    let refusals = |name: &str| broker().log().matches(&format!("user '{name}'")).count();
    let before = refusals("nobody");
    wait_for("more tries", || (refusals("nobody") >= before + 3).then_some(()));
    wait_for("the worker to say why", || worker.said().contains("trying again for ever").then_some(()));
    let said = worker.said();
    assert_eq!(said.matches("trying again for ever").count(), 1, "{said}");
    assert!(said.contains("user `nobody` or its password is wrong") && !said.contains(WRONG), "{said}");
    drop(worker);

    // Whose token is wrong is told by the service, and a token that others can read is refused.
    secured.serve(&[]);
    let state = secured.place.path("service");
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&state), mode(&state.join("token"))), (0o700, 0o600));
    let mut command = secured.fanfold(&["submit", "job.yaml"]);
    command.env_remove("FANFOLD_TOKEN_FILE").env("FANFOLD_TOKEN", WRONG);
    let ran = finish(command.spawn().unwrap(), LIMIT).expect(2);
    assert!(
        ran.stderr.starts_with("error: the token is not this service's\nhint: ") && !ran.stderr.contains(WRONG),
        "{}",
        ran.stderr
    );
    let public = secured.place.write("public", "0123456789abcdef0123456789abcdef\n");
    std::fs::set_permissions(&public, std::fs::Permissions::from_mode(0o644)).unwrap();
    let other = secured.place.path("other").display().to_string();
    let ran = secured.run(&["serve", "--listen", "127.0.0.1:0", "--state", &other, "--token-file", "public"]).expect(2);
    assert!(
        ran.stderr.contains("others can read the token in `public`") && !ran.stderr.contains("0123456789"),
        "{}",
        ran.stderr
    );
}
