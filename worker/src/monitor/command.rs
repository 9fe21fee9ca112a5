//! Command lines as they may be shown: one harmless line, and nobody's password.
//!
//! They are of all processes of the host, and land where everybody sees them who sees the job. It is better to hide too much than
//! too little.

use std::borrow::Cow;

use fanfold_shared::text::one_line;

/// Characters of a command line.
const SHOWN: usize = 200;
const HIDDEN: &str = "***";
/// How the parts of an option's name end whose value is nobody's business.
const SECRETS: [&str; 10] =
    ["password", "passwd", "pass", "passphrase", "secret", "token", "apikey", "auth", "credentials", "bearer"];
/// Options whose value is `user:password`.
const USERS: [&str; 3] = ["-u", "--user", "--proxy-user"];
/// What is left of such an argument of a command is a header with a secret.
const HEADERS: [&str; 3] = ["authorization:", "proxy-authorization:", "cookie:"];
/// Such an option with one of these at its end only says where the secret is, or what it is like.
const ABOUT: [&str; 6] = ["file", "path", "dir", "name", "type", "id"];

/// What to show of `line`, the arguments of the program `name` with a NUL after each. Not `whole`: it was cut there.
pub(super) fn shown(line: &[u8], whole: bool, name: &str) -> String {
    let mut arguments: Vec<&[u8]> = line.split(|&byte| byte == 0).collect();
    while arguments.last().is_some_and(|last| last.is_empty()) {
        arguments.pop();
    }
    if !whole {
        // Of half an address nobody can tell whether a password is in it.
        arguments.pop();
    }
    if arguments.is_empty() {
        // The kernel's own, the dead, and what could not be read.
        return one_line(&format!("[{name}]"), SHOWN).into_owned();
    }
    let mut text = String::new();
    let mut next = Next::Shown;
    for argument in arguments {
        if !text.is_empty() {
            text.push(' ');
        }
        let argument = String::from_utf8_lossy(argument);
        // What a shell is given is a command line of its own.
        for word in without_user(&argument).split_inclusive(char::is_whitespace) {
            next = word_shown(word, next, &mut text);
        }
        if next == Next::RestHidden {
            next = Next::Shown;
        }
    }
    if !whole {
        text.push_str(" …");
    }
    one_line(&text, SHOWN).into_owned()
}

/// What becomes of the next word.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Next {
    Shown,
    Hidden,
    /// It is `user:password`.
    User,
    /// As all that follow in its argument.
    RestHidden,
}

/// Adds a word, with the space that ends it, as it may be shown.
fn word_shown(word: &str, this: Next, text: &mut String) -> Next {
    let bare = word.trim_end();
    let space = &word[bare.len()..];
    let mut next = Next::Shown;
    match this {
        // Between two spaces: it is the word after them that is meant.
        _ if bare.is_empty() => next = this,
        Next::Hidden => text.push_str(HIDDEN),
        Next::RestHidden => {
            text.push_str(HIDDEN);
            next = Next::RestHidden;
        }
        Next::User => match bare.split_once(':') {
            Some((user, _)) => text.extend([user, ":", HIDDEN]),
            None => text.push_str(bare),
        },
        Next::Shown => {
            let unquoted = bare.trim_start_matches(['"', '\'']).to_ascii_lowercase();
            let (secret, value) = secret_option(bare);
            match value {
                Some(value) if secret => text.extend([&bare[..bare.len() - value.len()], HIDDEN]),
                _ => text.push_str(bare),
            }
            next = match value {
                _ if HEADERS.contains(&unquoted.as_str()) => Next::RestHidden,
                None if secret => Next::Hidden,
                None if USERS.contains(&bare) => Next::User,
                _ => Next::Shown,
            };
        }
    }
    text.push_str(space);
    next
}

/// Whether the argument is `--option`, `--option=value` or `NAME=value` of something secret, and the value.
fn secret_option(argument: &str) -> (bool, Option<&str>) {
    let (name, value) = match argument.split_once('=') {
        Some((name, value)) => (name, Some(value)),
        None if argument.starts_with('-') => (argument, None),
        None => return (false, None),
    };
    let name = name.to_ascii_lowercase().replace("api-key", "apikey").replace("api_key", "apikey");
    let mut parts = name.trim_matches('-').split(['-', '_', '.']);
    let about = parts.next_back().unwrap_or_default();
    let is_secret = |part: &str| SECRETS.iter().any(|end| part.ends_with(end));
    (is_secret(about) || !ABOUT.contains(&about) && parts.any(is_secret), value)
}

/// `amqp://user:password@host` without what is before the `@`, but for a plain user name.
fn without_user(argument: &str) -> Cow<'_, str> {
    let Some((before, rest)) = argument.split_once("//") else { return Cow::Borrowed(argument) };
    // The last one: passwords may hold any character, an `@` as well.
    let Some((identity, after)) = rest.rsplit_once('@') else { return Cow::Borrowed(argument) };
    let user = identity.split_once(':').map(|(user, _)| user);
    match user.filter(|user| user.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c))) {
        Some(user) => format!("{before}//{user}:{HIDDEN}@{after}"),
        None => format!("{before}//{HIDDEN}@{after}"),
    }
    .into()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(arguments: &[&str]) -> String {
        let line: Vec<u8> = arguments.iter().flat_map(|argument| [argument.as_bytes(), b"\0"].concat()).collect();
        shown(&line, true, "name")
    }

    #[test]
    fn an_address_is_shown_without_its_password() {
        for (address, shown) in [
            ("amqp://fanfold:secret@box1:5672/vhost", "amqp://fanfold:***@box1:5672/vhost"),
            ("--redis=rediss://:secret@box1/", "--redis=rediss://:***@box1/"),
            ("https://secret@host/", "https://***@host/"),
            ("http://u:se/cr@et@host/x", "http://u:***@host/x"),
            ("curl http://host/ http://u:secret@host/", "curl http://***@host/"),
            ("//u:sec\nret@host", "//u:***@host"),
            ("http://host:80/index.html", "http://host:80/index.html"),
            ("me@host:/path", "me@host:/path"),
        ] {
            assert_eq!(of(&["program", address]), format!("program {shown}"));
        }
    }

    #[test]
    fn the_value_of_a_secret_option_is_not_shown() {
        for (arguments, shown) in [
            (&["--requirepass", "secret"][..], "--requirepass ***"),
            (&["--password", "secret", "x"], "--password *** x"),
            (&["--password", "-secret"], "--password ***"),
            (
                &["sh", "-c", "A=1 PGPASSWORD=secret tool --token  secret -x"],
                "sh -c A=1 PGPASSWORD=*** tool --token  *** -x",
            ),
            (
                &["curl", "-u", "me:secret", "-H", "Authorization: Bearer secret", "x"],
                "curl -u me:*** -H Authorization: *** *** x",
            ),
            (&["python", "-u", "score.py"], "python -u score.py"),
            (&["--hf-token=secret"], "--hf-token=***"),
            (&["PGPASSWORD=secret", "psql"], "PGPASSWORD=*** psql"),
            (&["--api-key", "--other", "x"], "--api-key *** x"),
            (&["--token-file", "/run/token", "--secret.path=/x"], "--token-file /run/token --secret.path=/x"),
            (&["--tokenizer", "bert", "--max_tokens=5"], "--tokenizer bert --max_tokens=5"),
        ] {
            assert_eq!(of(arguments), shown);
        }
    }

    #[test]
    fn a_command_line_is_one_harmless_line() {
        assert_eq!(of(&["sh", "-c", "a\nb\x1b[31m"]), "sh -c a\\nb\\x1b[31m");
        let long = of(&["program", &"x".repeat(300)]);
        assert!(long.chars().count() == SHOWN && long.ends_with("x…"), "{long}");
        assert_eq!(shown(b"", true, "kthr\x07ead"), "[kthr\\x07ead]");
        assert_eq!(shown(b"\0\0", true, "empty"), "[empty]");
        assert_eq!(shown(b"program\0amqp://u:sec", false, "name"), "program …");
        assert_eq!(shown(b"title of its own", true, "name"), "title of its own");
        assert_eq!(shown(b"\xff\xfe\0", true, "name"), "\u{fffd}\u{fffd}");
    }
}
