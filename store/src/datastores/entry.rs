//! One datastore: where it is, and as whom to ask there.

use std::path::{Path, PathBuf};

use serde_json::{Map, Value};

use super::secret::Secret;

/// A bucket, container or server, and the credentials for it.
#[derive(Clone, Debug)]
pub struct Datastore {
    /// Where.
    pub access: Access,
    /// As whom; None: as the environment says, as for addresses without a datastore.
    pub credential: Option<Credential>,
    /// Certificates (PEM) of authorities to trust besides the system's.
    pub ca_file: Option<PathBuf>,
}

/// Where a datastore is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Access {
    /// A container of an account of Azure, flat or hierarchical (Data Lake Gen2).
    Azure {
        /// The storage account.
        account: String,
        /// The container (Gen2: file system).
        container: String,
        /// Instead of `https://<account>.blob.core.windows.net`.
        endpoint: Option<String>,
        /// Whether it is Data Lake Gen2: only shown.
        gen2: bool,
    },
    /// A bucket of S3, or of a server that speaks like it.
    S3 {
        /// The bucket.
        bucket: String,
        /// Its region.
        region: Option<String>,
        /// Another server than Amazon's.
        endpoint: Option<String>,
        /// The bucket is in the path of requests, not in the host's name; None: so it is with an endpoint.
        path_style: Option<bool>,
    },
    /// A bucket of Google Cloud Storage.
    Gcs {
        /// The bucket.
        bucket: String,
        /// Another server than Google's.
        endpoint: Option<String>,
    },
    /// A folder on a web server.
    Http {
        /// Its address.
        url: String,
    },
}

/// As whom to ask.
#[derive(Clone, Debug)]
pub enum Credential {
    /// As nobody.
    Anonymous,
    /// Azure: the key of the account.
    AccountKey(Secret),
    /// Azure: a shared access signature.
    Sas(Secret),
    /// Azure: an application.
    ServicePrincipal {
        /// The directory (Azure AD tenant).
        tenant_id: String,
        /// The application.
        client_id: String,
        /// Its secret.
        client_secret: Secret,
        /// Instead of `https://login.microsoftonline.com`.
        authority_host: Option<String>,
    },
    /// S3.
    AccessKey {
        /// The public half.
        access_key_id: Secret,
        /// The secret half.
        secret_access_key: Secret,
        /// Of temporary credentials.
        session_token: Option<Secret>,
    },
    /// Google: the JSON file of a service account.
    ServiceAccountFile(PathBuf),
    /// Google: the text of such a file.
    ServiceAccount(Secret),
    /// A web server, or Azure: a token of the kind `Bearer`.
    Token(Secret),
    /// A web server.
    Password {
        /// The user.
        username: String,
        /// The password.
        password: Secret,
    },
}

const TYPES: &str = "`azure_blob`, `azure_data_lake_gen2`, `s3`, `gcs` or `https`";

impl Datastore {
    /// Reads an entry; relative paths start at `base`.
    pub(super) fn parse(value: &Value, base: &Path) -> Result<Datastore, String> {
        let Value::Object(map) = value else { return Err(format!("it must be a map with `type:` {TYPES}")) };
        let mut keys = Keys { map, base, known: vec!["type", "ca_file", "anonymous"] };
        let kind = keys.text("type")?.ok_or_else(|| format!("`type` is missing: {TYPES}"))?;
        let access = match kind.as_str() {
            "azure_blob" | "azure_data_lake_gen2" => Access::Azure {
                account: keys.required(&["account", "account_name"])?,
                container: keys.required(&["container", "container_name", "filesystem"])?,
                endpoint: keys.url("endpoint")?,
                gen2: kind == "azure_data_lake_gen2",
            },
            "s3" => Access::S3 {
                bucket: keys.required(&["bucket"])?,
                region: keys.text("region")?,
                endpoint: keys.url("endpoint")?,
                path_style: keys.flag("path_style")?,
            },
            "gcs" => Access::Gcs { bucket: keys.required(&["bucket"])?, endpoint: keys.url("endpoint")? },
            "https" => {
                let url = keys.url("url")?.ok_or("`url` is missing: the address of a folder on the server")?;
                Access::Http { url }
            }
            _ => return Err(format!("`type` must be {TYPES}")),
        };
        let credential = keys.credential(&access)?;
        let ca_file = keys.text("ca_file")?.map(|path| base.join(path));
        keys.refuse_others(&kind)?;
        Ok(Datastore { access, credential, ca_file })
    }

    /// Whether a secret stands in the file of datastores itself.
    pub(super) fn has_literal_secret(&self) -> bool {
        self.secrets().iter().any(|secret| matches!(secret, Secret::Literal(_)))
    }

    /// All its secrets.
    pub fn secrets(&self) -> Vec<&Secret> {
        match &self.credential {
            None | Some(Credential::Anonymous | Credential::ServiceAccountFile(_)) => Vec::new(),
            Some(
                Credential::AccountKey(secret)
                | Credential::Sas(secret)
                | Credential::ServiceAccount(secret)
                | Credential::Token(secret)
                | Credential::ServicePrincipal { client_secret: secret, .. }
                | Credential::Password { password: secret, .. },
            ) => vec![secret],
            Some(Credential::AccessKey { access_key_id, secret_access_key, session_token }) => {
                [access_key_id, secret_access_key].into_iter().chain(session_token).collect()
            }
        }
    }

    /// Its type, as the file spells it.
    pub fn kind(&self) -> &'static str {
        match self.access {
            Access::Azure { gen2: true, .. } => "azure_data_lake_gen2",
            Access::Azure { .. } => "azure_blob",
            Access::S3 { .. } => "s3",
            Access::Gcs { .. } => "gcs",
            Access::Http { .. } => "https",
        }
    }

    /// Where it is, for people.
    pub fn place(&self) -> String {
        match &self.access {
            Access::Azure { account, container, endpoint, .. } => match endpoint {
                Some(endpoint) => format!("{endpoint}/{container}"),
                None => format!("abfss://{container}@{account}.dfs.core.windows.net"),
            },
            Access::S3 { bucket, endpoint, .. } => match endpoint {
                Some(endpoint) => format!("{endpoint}/{bucket}"),
                None => format!("s3://{bucket}"),
            },
            Access::Gcs { bucket, endpoint } => match endpoint {
                Some(endpoint) => format!("{endpoint}/{bucket}"),
                None => format!("gs://{bucket}"),
            },
            Access::Http { url } => url.clone(),
        }
    }

    /// As whom it is asked, and where that comes from; no secret.
    pub fn credential_text(&self) -> String {
        match &self.credential {
            None => "what the environment says".into(),
            Some(Credential::Anonymous) => "no credentials".into(),
            Some(Credential::AccountKey(secret)) => format!("account key {secret}"),
            Some(Credential::Sas(secret)) => format!("shared access signature {secret}"),
            Some(Credential::ServicePrincipal { tenant_id, client_id, client_secret, .. }) => {
                format!("service principal {client_id} of tenant {tenant_id}, secret {client_secret}")
            }
            Some(Credential::AccessKey { secret_access_key, session_token, .. }) => {
                let token = if session_token.is_some() { " with a session token" } else { "" };
                format!("access key{token}, secret {secret_access_key}")
            }
            Some(Credential::ServiceAccountFile(path)) => format!("service account from {}", path.display()),
            Some(Credential::ServiceAccount(secret)) => format!("service account {secret}"),
            Some(Credential::Token(secret)) => format!("token {secret}"),
            Some(Credential::Password { username, password }) => format!("user {username}, password {password}"),
        }
    }
}

/// The keys of an entry, and which of them mean something.
struct Keys<'a> {
    map: &'a Map<String, Value>,
    base: &'a Path,
    known: Vec<&'static str>,
}

impl Keys<'_> {
    fn text(&mut self, key: &'static str) -> Result<Option<String>, String> {
        self.known.push(key);
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::String(text)) if !text.is_empty() => Ok(Some(text.clone())),
            Some(Value::Number(number)) => Ok(Some(number.to_string())),
            Some(_) => Err(format!("`{key}` must be text")),
        }
    }

    fn flag(&mut self, key: &'static str) -> Result<Option<bool>, String> {
        self.known.push(key);
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(format!("`{key}` must be true or false")),
        }
    }

    fn url(&mut self, key: &'static str) -> Result<Option<String>, String> {
        let Some(text) = self.text(key)? else { return Ok(None) };
        let url = url::Url::parse(&text).ok().filter(|url| matches!(url.scheme(), "http" | "https"));
        let url = url.ok_or_else(|| format!("`{key}` must be an address: https://host[:port][/path]"))?;
        if !url.username().is_empty() || url.password().is_some() || url.query().is_some() {
            return Err(format!("`{key}` is an address only: credentials have keys of their own"));
        }
        Ok(Some(text.trim_end_matches('/').to_string()))
    }

    fn required(&mut self, names: &[&'static str]) -> Result<String, String> {
        let mut found = None;
        for name in names {
            found = found.or(self.text(name)?);
        }
        let found = found.ok_or_else(|| format!("`{}` is missing", names[0]))?;
        match found.contains(['/', '?', '#', '@']) {
            true => Err(format!("`{}` is a name, not an address", names[0])),
            false => Ok(found),
        }
    }

    fn secret(&mut self, key: &'static str) -> Result<Option<Secret>, String> {
        self.known.push(key);
        match self.map.get(key) {
            None | Some(Value::Null) => Ok(None),
            Some(value) => Secret::read(key, value, self.base).map(Some),
        }
    }

    /// The one credential of an entry.
    fn credential(&mut self, access: &Access) -> Result<Option<Credential>, String> {
        let mut found: Vec<(&str, Credential)> = Vec::new();
        if self.flag("anonymous")? == Some(true) {
            found.push(("anonymous", Credential::Anonymous));
        }
        match access {
            Access::Azure { .. } => {
                let key = self.secret("account_key")?;
                found.extend(key.map(|secret| ("account_key", Credential::AccountKey(secret))));
                let sas = self.secret("sas_token")?;
                found.extend(sas.map(|secret| ("sas_token", Credential::Sas(secret))));
                let authority_host = self.url("authority_host")?;
                match (self.text("tenant_id")?, self.text("client_id")?, self.secret("client_secret")?) {
                    (None, None, None) => {}
                    (Some(tenant_id), Some(client_id), Some(client_secret)) => found.push((
                        "client_secret",
                        Credential::ServicePrincipal { tenant_id, client_id, client_secret, authority_host },
                    )),
                    _ => return Err("a service principal has `tenant_id`, `client_id` and `client_secret`".into()),
                }
            }
            Access::S3 { .. } => {
                let keys = (self.secret("access_key_id")?, self.secret("secret_access_key")?);
                match (keys, self.secret("session_token")?) {
                    ((None, None), None) => {}
                    ((Some(access_key_id), Some(secret_access_key)), session_token) => found.push((
                        "secret_access_key",
                        Credential::AccessKey { access_key_id, secret_access_key, session_token },
                    )),
                    _ => return Err("an access key has `access_key_id` and `secret_access_key`".into()),
                }
            }
            Access::Gcs { .. } => {
                let file = self.text("service_account_file")?.map(|path| self.base.join(path));
                found.extend(file.map(|path| ("service_account_file", Credential::ServiceAccountFile(path))));
                let text = self.secret("service_account")?;
                found.extend(text.map(|secret| ("service_account", Credential::ServiceAccount(secret))));
            }
            Access::Http { .. } => {
                let token = self.secret("token")?;
                found.extend(token.map(|secret| ("token", Credential::Token(secret))));
                match (self.text("username")?, self.secret("password")?) {
                    (None, None) => {}
                    (Some(username), Some(password)) => {
                        found.push(("password", Credential::Password { username, password }));
                    }
                    _ => return Err("`username` and `password` go together".into()),
                }
            }
        }
        match found.len() {
            0 | 1 => Ok(found.pop().map(|(_, credential)| credential)),
            _ => {
                let names: Vec<String> = found.iter().map(|(name, _)| format!("`{name}`")).collect();
                Err(format!("it has {}: keep one credential", names.join(" and ")))
            }
        }
    }

    fn refuse_others(&self, kind: &str) -> Result<(), String> {
        match self.map.keys().find(|key| !self.known.contains(&key.as_str())) {
            None => Ok(()),
            // A key that nobody knows may be a secret in the wrong place.
            Some(key) if key.len() > 40 => Err("it has a key that means nothing".into()),
            Some(key) => {
                let mut known = self.known.clone();
                known.sort_unstable();
                known.dedup();
                Err(format!("`{key}` means nothing for `{kind}`; its keys are {}", known.join(", ")))
            }
        }
    }
}
