//! Where something lies in the cloud: what an address means, and which ones are refused because they hold a secret.
//!
//! An address is taken apart once and shown in one form, but for those of the original (`azureml://`), which are shown as they were written. It never holds a secret: a signature, a token or a password in one is refused without
//! being repeated, as addresses travel (job files, `job.yaml`, messages, logs). Credentials are the affair of `fanfold-store`.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// An address: a place and what lies there.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Uri {
    place: Place,
    path: String,
    spelled: Spelled,
}

/// How the place of an address was written, where that is not how it is shown. It is none of what the address means: two are equal without it.
#[derive(Clone, Debug, Default)]
struct Spelled(Option<Box<str>>);

impl PartialEq for Spelled {
    fn eq(&self, _: &Spelled) -> bool {
        true
    }
}

impl Eq for Spelled {}

impl PartialOrd for Spelled {
    fn partial_cmp(&self, other: &Spelled) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Spelled {
    fn cmp(&self, _: &Spelled) -> Ordering {
        Ordering::Equal
    }
}

impl Hash for Spelled {
    fn hash<H: Hasher>(&self, _: &mut H) {}
}

/// A bucket, container, server or datastore.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Place {
    /// `s3://bucket`
    S3 {
        /// Its name.
        bucket: String,
    },
    /// `gs://bucket`
    Gcs {
        /// Its name.
        bucket: String,
    },
    /// `az://container`, `abfss://container@account.dfs.core.windows.net`
    Azure {
        /// Its name.
        container: String,
        /// The host of the account; None: the environment says which account.
        host: Option<String>,
    },
    /// `https://host:8443`
    Http {
        /// Scheme, host and port.
        origin: String,
    },
    /// `datastore://name`
    Datastore {
        /// Its name in the file of datastores.
        name: String,
    },
}

/// Why a text is no address. It never repeats what may be secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub struct UriError {
    /// What is wrong.
    pub why: String,
    /// What to write.
    pub hint: String,
    /// It holds what looks like a secret: the text must not be shown.
    pub secret: bool,
}

/// The schemes of addresses, for messages.
pub const SCHEMES: &str = "s3://, abfss://, az://, gs://, https:// and datastore://";

/// Names of what signs a request in a query, in lower case.
const SIGNING: [&str; 12] = [
    "sig",
    "se",
    "sv",
    "signature",
    "x-amz-signature",
    "x-amz-credential",
    "x-amz-security-token",
    "x-goog-signature",
    "awsaccesskeyid",
    "token",
    "access_token",
    "key",
];

impl Uri {
    /// Whether `text` is meant as an address; what [`Uri::parse`] says of it is then what the user should hear.
    pub fn is_meant(text: &str) -> bool {
        let Some((scheme, _)) = text.split_once("://") else { return false };
        let scheme = scheme.to_ascii_lowercase();
        KNOWN.contains(&scheme.as_str())
    }

    /// Takes an address apart.
    ///
    /// # Errors
    /// It is none, or holds a secret.
    pub fn parse(text: &str) -> Result<Uri, UriError> {
        let error = |why: String, hint: &str| UriError { why, hint: hint.into(), secret: false };
        let Some((scheme, rest)) = text.split_once("://") else {
            return Err(error("it has no scheme".into(), "addresses begin with s3://, abfss://, gs:// or https://"));
        };
        let scheme = scheme.to_ascii_lowercase();
        refuse_secrets(&scheme, rest)?;
        if rest.chars().any(char::is_control) {
            return Err(error("it holds a control character".into(), "names in the cloud have none"));
        }
        let (authority, path) = rest.split_once('/').unwrap_or((rest, ""));
        if authority.is_empty() {
            let what = match scheme.as_str() {
                "http" | "https" => "server",
                "datastore" | "azureml" => "datastore",
                "s3" | "s3a" | "gs" => "bucket",
                _ => "container",
            };
            return Err(error(format!("it names no {what}"), "write it behind the two slashes"));
        }
        let place = match scheme.as_str() {
            "s3" | "s3a" => Place::S3 { bucket: authority.into() },
            "gs" => Place::Gcs { bucket: authority.into() },
            "az" | "abfs" | "abfss" | "wasb" | "wasbs" => match authority.split_once('@') {
                None => Place::Azure { container: authority.into(), host: None },
                Some((container, host)) if !container.is_empty() && host.contains('.') => {
                    // One account has two hosts for the same blobs.
                    let host = host.to_ascii_lowercase().replacen(".blob.", ".dfs.", 1);
                    Place::Azure { container: container.into(), host: Some(host) }
                }
                Some(_) => {
                    let hint = "write abfss://<container>@<account>.dfs.core.windows.net/<path>";
                    return Err(error("its account has no host".into(), hint));
                }
            },
            "http" | "https" => return Uri::http(&scheme, authority, path),
            "datastore" => return Uri::in_datastore(authority, path),
            "azureml" => return Uri::azureml(rest),
            _ => {
                return Err(error(
                    format!("`{scheme}://` is no scheme of addresses"),
                    &format!("there are {SCHEMES}; or copy or mount the data on this machine and give that path"),
                ));
            }
        };
        Ok(Uri { place, path: clean(path)?, spelled: Spelled::default() })
    }

    fn http(scheme: &str, authority: &str, path: &str) -> Result<Uri, UriError> {
        let path = percent_decoded(path);
        let path = path.ok_or_else(|| UriError {
            why: "its path is not UTF-8".into(),
            hint: "escape each byte of its UTF-8 form with `%`".into(),
            secret: false,
        })?;
        let origin = format!("{scheme}://{}", authority.to_ascii_lowercase());
        Ok(Uri { place: Place::Http { origin }, path: clean(&path)?, spelled: Spelled::default() })
    }

    fn in_datastore(name: &str, path: &str) -> Result<Uri, UriError> {
        if !is_datastore_name(name) {
            let hint = "a datastore's name has letters, digits, `_` and `-`, at most 64";
            return Err(UriError { why: "it names no datastore".into(), hint: hint.into(), secret: false });
        }
        Ok(Uri { place: Place::Datastore { name: name.into() }, path: clean(path)?, spelled: Spelled::default() })
    }

    /// `datastores/<name>/paths/<path>`, with or without `subscriptions/…` before it, as the original writes it.
    fn azureml(rest: &str) -> Result<Uri, UriError> {
        let parts: Vec<&str> = rest.split('/').collect();
        let at = parts.iter().position(|part| *part == "datastores");
        let uri = match at.map(|at| &parts[at + 1..]) {
            Some([name, "paths", path @ ..]) => Uri::in_datastore(name, &path.join("/")),
            Some([name]) => Uri::in_datastore(name, ""),
            _ => Err(UriError {
                why: "it names no datastore".into(),
                hint: "write azureml://datastores/<name>/paths/<path>".into(),
                secret: false,
            }),
        }?;
        let before = parts[..at.map_or(0, |at| at + 2)].join("/");
        Ok(Uri { spelled: Spelled(Some(format!("azureml://{before}/paths").into())), ..uri })
    }

    /// The same, in the form in which equal addresses look the same.
    pub fn canonical(&self) -> Uri {
        Uri { spelled: Spelled::default(), ..self.clone() }
    }

    /// Where it lies.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// What lies there: no slash at either end; empty: all of it. It may be a pattern, which this type knows nothing of.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Whether a web server is asked for it, which has files and nothing that could be listed.
    pub fn is_of_web_server(&self) -> bool {
        matches!(self.place, Place::Http { .. })
    }

    /// The same place with another path, which has no slash at either end.
    pub fn with_path(&self, path: impl Into<String>) -> Uri {
        Uri { path: path.into(), place: self.place.clone(), spelled: self.spelled.clone() }
    }

    /// What is called `name` below it.
    pub fn join(&self, name: &str) -> Uri {
        match (self.path.is_empty(), name.is_empty()) {
            (_, true) => self.clone(),
            (true, _) => self.with_path(name),
            (false, _) => self.with_path(format!("{}/{name}", self.path)),
        }
    }

    /// The last part of its path; empty: it is all of a place.
    pub fn file_name(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default()
    }

    /// The folder that it lies in, and its name there.
    pub fn split(&self) -> (Uri, &str) {
        match self.path.rsplit_once('/') {
            Some((folder, name)) => (self.with_path(folder), name),
            None => (self.with_path(""), &self.path),
        }
    }
}

impl TryFrom<String> for Uri {
    type Error = UriError;

    fn try_from(text: String) -> Result<Uri, UriError> {
        Uri::parse(&text)
    }
}

impl From<Uri> for String {
    fn from(uri: Uri) -> String {
        uri.to_string()
    }
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Uri, UriError> {
        Uri::parse(text)
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::S3 { bucket } => write!(f, "s3://{bucket}"),
            Place::Gcs { bucket } => write!(f, "gs://{bucket}"),
            Place::Azure { container, host: Some(host) } => write!(f, "abfss://{container}@{host}"),
            Place::Azure { container, host: None } => write!(f, "az://{container}"),
            Place::Http { origin } => f.write_str(origin),
            Place::Datastore { name } => write!(f, "datastore://{name}"),
        }
    }
}

impl fmt::Display for Uri {
    /// In a form that [`Uri::parse`] reads back, and whoever wrote it knows again.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match &self.spelled.0 {
            Some(spelled) => Cow::from(&**spelled),
            None => self.place.to_string().into(),
        };
        let path = match self.place {
            Place::Http { .. } => percent_encoded(&self.path),
            _ => self.path.clone(),
        };
        match path.as_str() {
            "" => write!(f, "{place}"),
            path => write!(f, "{place}/{path}"),
        }
    }
}

const KNOWN: [&str; 12] =
    ["s3", "s3a", "gs", "az", "abfs", "abfss", "wasb", "wasbs", "http", "https", "datastore", "azureml"];

/// A path or an address, in the form in which equal addresses look the same.
pub fn canonical(text: &str) -> Cow<'_, str> {
    match Uri::is_meant(text).then(|| Uri::parse(text)) {
        Some(Ok(uri)) => uri.canonical().to_string().into(),
        _ => text.into(),
    }
}

/// Whether a datastore may be called so.
pub fn is_datastore_name(text: &str) -> bool {
    !text.is_empty() && text.len() <= 64 && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == '-')
}

/// An address with a secret in it is refused; what else stands behind a `?` is a pattern, but for servers, where it is a query.
fn refuse_secrets(scheme: &str, rest: &str) -> Result<(), UriError> {
    let refuse = |what: &str| {
        Err(UriError {
            why: format!("it holds {what}, which is a secret"),
            hint:
                "addresses are stored and shown: keep credentials in the file of datastores (`fanfold datastore list` \
                   says where it lies), or in the environment, and write the address without"
                    .into(),
            secret: true,
        })
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    if let Some((user, _)) = authority.rsplit_once('@') {
        // `container@account…` is the only `@` that is no user.
        let azure = matches!(scheme, "az" | "abfs" | "abfss" | "wasb" | "wasbs");
        if !azure || user.contains(':') {
            return refuse("a user or a password");
        }
    }
    let is_of_server = matches!(scheme, "http" | "https");
    // Escaped twice, a query looks like a part of the path.
    let plain = if is_of_server { percent_decoded(rest).unwrap_or_else(|| rest.into()) } else { rest.to_string() };
    let begins = |c: char| c == '?' || is_of_server && matches!(c, '#' | ';' | '&');
    if let Some(at) = plain.find(begins) {
        let pairs = plain[at..].split(['&', ';', '?', '#']).filter_map(|pair| pair.split_once('='));
        let signs = pairs.into_iter().any(|(name, _)| {
            // Of a pattern, what stands before is a folder.
            let name = name.rsplit('/').next().unwrap_or(name).to_ascii_lowercase();
            SIGNING.contains(&name.as_str())
                || name.contains("token")
                || name.contains("secret")
                || name.ends_with("signature")
        });
        if signs {
            return refuse("a signature or a token");
        }
        if is_of_server && rest.contains(['?', '#']) {
            // One that signs nothing might still do so under a name that nobody knows.
            return Err(UriError {
                why: "it has a query".into(),
                hint: "write the address without `?`, `#` and what follows; a server that wants proof of who asks is \
                       described in the file of datastores (`type: https`)"
                    .into(),
                secret: true,
            });
        }
    }
    Ok(())
}

/// A text that may be shown: what stands behind the scheme of an address in it that holds a secret becomes asterisks, one for each character.
pub fn masked(text: &str) -> Cow<'_, str> {
    let mut masked = String::new();
    let mut shown = 0;
    for (at, _) in text.match_indices("://") {
        let ends = |c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | ',' | '<' | '>' | '|' | ']' | '}');
        let start = at + 3;
        if start < shown {
            continue;
        }
        let end = text[start..].find(ends).map_or(text.len(), |len| start + len);
        let word = text[..at].rfind(|c: char| !c.is_ascii_alphanumeric() && !matches!(c, '+' | '-' | '.'));
        let scheme = text[word.map_or(0, |word| word + text[word..].chars().next().map_or(1, char::len_utf8))..at]
            .to_ascii_lowercase();
        if refuse_secrets(&scheme, &text[start..end]).is_err_and(|error| error.secret) {
            masked.push_str(&text[shown..start]);
            masked.extend(text[start..end].chars().map(|_| '*'));
            shown = end;
        }
    }
    match shown {
        0 => text.into(),
        _ => (masked + &text[shown..]).into(),
    }
}

/// A path without slashes at its ends.
fn clean(path: &str) -> Result<String, UriError> {
    let path = path.trim_start_matches('/').trim_end_matches('/');
    let refuse = |what: &str, hint: &str| Err(UriError { why: what.into(), hint: hint.into(), secret: false });
    for part in path.split('/').filter(|_| !path.is_empty()) {
        match part {
            "" => return refuse("it has two slashes in a row", "write one; names of no characters can't be read"),
            "." | ".." => return refuse("`.` and `..` mean nothing in it", "write the path without them"),
            _ => {}
        }
    }
    Ok(path.into())
}

fn percent_decoded(text: &str) -> Option<String> {
    let bytes = text.as_bytes();
    let (mut decoded, mut at) = (Vec::with_capacity(bytes.len()), 0);
    while at < bytes.len() {
        let escaped = (bytes[at] == b'%').then(|| text.get(at + 1..at + 3)).flatten();
        match escaped.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                decoded.push(byte);
                at += 3;
            }
            None => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8(decoded).ok()
}

fn percent_encoded(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' => encoded.push(byte.into()),
            b'-' | b'_' | b'.' | b'~' | b'/' | b'!' | b'$' | b'&' | b'\'' | b'(' | b')' | b'*' | b'+' | b',' | b';'
            | b'=' | b':' | b'@' => encoded.push(byte.into()),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_shown_in_one_form_and_read_back() {
        for (typed, shown) in [
            ("s3://bucket", "s3://bucket"),
            ("s3://b/x?/design=3/y.csv", "s3://b/x?/design=3/y.csv"),
            ("s3a://bucket/a/b/", "s3://bucket/a/b"),
            ("s3://bucket/x?.png", "s3://bucket/x?.png"),
            ("s3://b/100%25 a=b", "s3://b/100%25 a=b"),
            ("gs://b/**/*.csv", "gs://b/**/*.csv"),
            ("az://c/a", "az://c/a"),
            ("abfs://c@acct.dfs.core.windows.net/a", "abfss://c@acct.dfs.core.windows.net/a"),
            ("wasbs://c@acct.blob.core.windows.net/a", "abfss://c@acct.dfs.core.windows.net/a"),
            ("HTTPS://Host:8443/a%20b/c", "https://host:8443/a%20b/c"),
            ("https://h/caf%C3%A9/100%", "https://h/caf%C3%A9/100%25"),
            ("datastore://images/2024", "datastore://images/2024"),
        ] {
            let uri = Uri::parse(typed).unwrap_or_else(|error| panic!("{typed}: {error}"));
            assert_eq!(uri.to_string(), shown, "{typed}");
            assert_eq!(Uri::parse(shown).as_ref(), Ok(&uri), "{shown}");
        }
    }

    #[test]
    fn one_of_the_original_is_shown_as_it_was_written_and_means_a_datastore() {
        let long = "azureml://subscriptions/s/resourcegroups/g/workspaces/w/datastores/images/paths/a";
        for (typed, shown, means) in [
            (
                "azureml://datastores/images/paths/2024/a",
                "azureml://datastores/images/paths/2024/a",
                "datastore://images/2024/a",
            ),
            ("azureml://datastores/images", "azureml://datastores/images/paths", "datastore://images"),
            (&format!("{long}/"), long, "datastore://images/a"),
        ] {
            let uri = Uri::parse(typed).unwrap();
            assert_eq!((uri.to_string(), uri.canonical().to_string()), (shown.into(), means.into()));
            assert_eq!(uri, Uri::parse(means).unwrap());
            assert_eq!(Uri::parse(shown).unwrap().to_string(), shown);
            assert_eq!(canonical(typed), means);
            assert_eq!(uri.split().0.join("b").to_string(), uri.with_path(uri.split().0.join("b").path()).to_string());
        }
        assert_eq!(canonical("data/x"), "data/x");
    }

    #[test]
    fn what_may_be_secret_is_refused_and_never_repeated() {
        for text in [
            "https://acct.blob.core.windows.net/c/a?sv=2024&sig=CANARY",
            "https://h/a%3Fsv=2024&sig=CANARY",
            "https://h/a;sig=CANARY",
            "https://h/a#access_token=CANARY",
            "https://h/a#CANARY",
            "abfss://c@acct.dfs.core.windows.net/a?se=1&sp=r&sig=CANARY",
            "az://c/a?sig=CANARY",
            "s3://b/k?X-Amz-Signature=CANARY",
            "s3://AKIA:CANARY@b/k",
            "https://user:CANARY@host/a",
            "https://CANARY@host/a",
            "https://host/a?code=CANARY",
            "abfss://c:CANARY@acct.dfs.core.windows.net/a",
            "datastore://u:CANARY@x/a",
        ] {
            let error = Uri::parse(text).unwrap_err();
            assert!(error.secret, "{text}");
            assert!(!format!("{error:?}").contains("CANARY"), "{error:?}");
        }
    }

    #[test]
    fn a_text_is_shown_without_the_secrets_in_its_addresses() {
        let text = "inputs: ['s3://b/x', \"https://h/a?sig=CANARY\", abfss://c@h.dfs/a?x=1&sig=CANARY]";
        let shown = masked(text);
        assert!(!shown.contains("CANARY") && shown.starts_with("inputs: ['s3://b/x', \"https://***"), "{shown}");
        assert_eq!(shown.chars().count(), text.chars().count());
        assert_eq!(masked("é s3://b/k, https://h/a"), "é s3://b/k, https://h/a");
    }

    #[test]
    fn what_names_nothing_is_refused() {
        for text in [
            "data/x",
            "ftp://h/a",
            "s3://",
            "s3:///k",
            "s3://b/a//b",
            "s3://b/../c",
            "abfss://c@acct/a",
            "azureml://x/y",
            "datastore://a b/c",
            "s3://b/a\nb",
            "https://h/%ff",
        ] {
            let error = Uri::parse(text).unwrap_err();
            assert!(!error.secret && !error.hint.is_empty(), "{text}: {error:?}");
        }
    }

    #[test]
    fn paths_are_joined_and_split() {
        let root = Uri::parse("s3://b").unwrap();
        assert_eq!(root.join("a/b").to_string(), "s3://b/a/b");
        assert_eq!(root.join("a").join("b").file_name(), "b");
        let (folder, name) = (root.join("a/b"), "c");
        assert_eq!(folder.join(name).split(), (folder, name));
        assert_eq!(root.join("c").split(), (root.clone(), "c"));
        assert!(Uri::is_meant("abfss://x") && Uri::is_meant("azureml://datastores/x"));
        assert!(!Uri::is_meant("azureml:iris:1") && !Uri::is_meant("ftp://x") && !Uri::is_meant("/a/b"));
    }
}
