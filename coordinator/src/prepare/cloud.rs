//! An input at an address: one object, all objects below a name, or those that a pattern matches.
//!
//! Names are those of objects, relative to the address. Nothing is read but listings; what they say of size and version is the fingerprint of an
//! entry.

use std::cell::OnceCell;
use std::path::{Path, PathBuf};

use fanfold_shared::items::Fingerprint;
use fanfold_shared::job::{Input, InputType};
use fanfold_shared::uri::Uri;
use fanfold_store::{Client, Datastores, Next, Object, StoreError, Stores, Why};

use super::glob::{self, Pattern};
use super::source::{Look, Visit};
use super::{Cancel, ListError};

/// Objects between two looks at whether to stop.
const CANCEL_EVERY: u64 = 1024;

/// Opens addresses, with the datastores of this machine; those are read when the first one is opened.
#[derive(Default)]
pub(super) struct Cloud(OnceCell<Stores>);

impl Cloud {
    pub(super) fn open(&self, uri: &Uri) -> Result<Client, ListError> {
        let stores = match self.0.get() {
            Some(stores) => stores,
            None => {
                let stores = Stores::new(Datastores::load()?).map_err(ListError::Spill)?;
                self.0.get_or_init(|| stores)
            }
        };
        Ok(stores.open(uri)?)
    }
}

/// What an address stands for.
pub(super) struct Objects {
    /// What names are relative to.
    client: Client,
    /// The same as text: entries of the list, and messages, begin with it.
    root: PathBuf,
    which: Which,
}

enum Which {
    One(Object),
    All,
    Matching(Box<Pattern>, String),
}

impl Objects {
    /// Looks at what `input` names.
    pub(super) fn resolve(input: &Input, look: Look<'_>) -> Result<Objects, ListError> {
        let cloud = look.cloud;
        let uri = Uri::parse(&input.path).map_err(|error| ListError::Address {
            input: input.name.clone(),
            why: error.why,
            hint: error.hint,
        })?;
        let client = cloud.open(&uri)?;
        if !client.lists() {
            return Objects::of_web_server(input, look, &uri, &client);
        }
        if uri.path().is_empty() {
            return Ok(Objects::new(client, Which::All));
        }
        let missing = match client.head() {
            // In a hierarchical account a folder is an empty object as well.
            Ok(found) if found.size == 0 && has_any(&client)? => {
                return Ok(Objects::new(client, Which::All));
            }
            Ok(found) => return Objects::one(cloud, &uri, found),
            // Who may not list a bucket is not told either that an object is not there.
            Err(error) if matches!(error.why, Why::Missing(_) | Why::Denied(_)) => error,
            Err(error) => return Err(error.into()),
        };
        // What lies there goes before what the name would mean as a pattern, as on a disk.
        let any = has_any(&client);
        if matches!(any, Ok(true)) {
            return Ok(Objects::new(client, Which::All));
        }
        let absolute = format!("/{}", uri.path());
        if let Some((root, rest)) = glob::take_apart(&absolute) {
            let pattern = Pattern::new(&rest, false).map_err(|source| ListError::Pattern {
                input: input.name.clone(),
                pattern: input.path.clone(),
                source,
            })?;
            let root = root.to_str().expect("a part of text").trim_start_matches('/').to_string();
            let client = cloud.open(&uri.with_path(root))?;
            return Ok(Objects::new(client, Which::Matching(Box::new(pattern), rest)));
        }
        match any {
            Err(error) if !matches!(error.why, Why::Denied(_)) => Err(error.into()),
            // Who may neither look nor list is told what the first look said.
            _ => Err(missing.into()),
        }
    }

    fn one(cloud: &Cloud, uri: &Uri, found: Object) -> Result<Objects, ListError> {
        let (folder, name) = uri.split();
        let found = Object { path: name.to_string(), ..found };
        Ok(Objects::new(cloud.open(&folder)?, Which::One(found)))
    }

    /// One file: such a server has nothing else, and says so in its own way.
    fn of_web_server(input: &Input, look: Look<'_>, uri: &Uri, client: &Client) -> Result<Objects, ListError> {
        let (found, content_type) = match client.head_and_type() {
            Ok(found) => found,
            Err(error) => {
                let is_pattern = glob::take_apart(&format!("/{}", uri.path())).is_some();
                if !is_pattern || !matches!(error.why, Why::Missing(_)) {
                    return Err(error.into());
                }
                return Err(ListError::Address {
                    input: input.name.clone(),
                    why: format!("`{}` is a pattern, and a web server can't be asked what fits it", input.path),
                    hint: "name each file in `inputs`, or in the `paths` of an MLTable".into(),
                });
            }
        };
        let is_page = content_type.as_deref().is_some_and(is_page);
        match content_type {
            Some(content_type) if is_page && (look.input_type.is_table() || look.input_type == InputType::Lines) => {
                Err(ListError::Table {
                    path: uri.to_string().into(),
                    what: format!("its server says that it is `{content_type}`, a page and no data"),
                    hint: "is it the address of the file itself, and not of a page about it, or of one to log in? As it is, a page can be an \
                           input with `input_type: files`"
                        .into(),
                })
            }
            _ => Objects::one(look.cloud, uri, found),
        }
    }

    fn new(client: Client, which: Which) -> Objects {
        Objects { root: client.uri().to_string().into(), client, which }
    }

    /// The address that names are relative to.
    pub(super) fn root(&self) -> &Path {
        &self.root
    }

    /// A client for the object called `name`.
    pub(super) fn at(&self, name: &[u8]) -> Client {
        self.client.at(&String::from_utf8_lossy(name))
    }

    /// Calls `visit` with the name of every object and what is known of it, in no particular order.
    pub(super) fn for_each(&self, cancel: &Cancel<'_>, visit: &mut Visit<'_>) -> Result<(), ListError> {
        if let Which::One(object) = &self.which {
            return visit(object.path.as_bytes(), Some(fingerprint(object)));
        }
        let mut seen = 0u64;
        self.client.list(&mut |object| {
            seen += 1;
            if seen.is_multiple_of(CANCEL_EVERY) {
                cancel()?;
            }
            let name = object.path.as_bytes();
            match &self.which {
                Which::Matching(pattern, _) if !pattern.matches(name) => {}
                _ => visit(name, Some(fingerprint(&object)))?,
            }
            Ok(Next::Go)
        })
    }

    /// Why there is nothing in it.
    pub(super) fn explain(&self, input: &str) -> ListError {
        let root = self.root.display();
        let (what, hint) = match &self.which {
            Which::One(_) => (format!("`{root}` has nothing in it"), "give another object".to_string()),
            Which::All => (format!("there is no object below `{root}`"), "give another address".to_string()),
            Which::Matching(_, rest) => {
                let mut first = None;
                let mut look = |object: Object| {
                    first = Some(object.path);
                    Ok::<_, StoreError>(Next::Stop)
                };
                let hint = match self.client.list(&mut look).ok().and(first) {
                    Some(name) => format!("for example `{name}` is there; `**/` stands for any number of folders"),
                    None => format!("there is no object below `{root}`"),
                };
                (format!("`{root}/{rest}` matches no object"), hint)
            }
        };
        ListError::Empty { input: input.to_string(), what, hint }
    }
}

/// Whether a content of this type is a page for people.
fn is_page(content_type: &str) -> bool {
    let kind = content_type.split(';').next().unwrap_or_default().trim();
    ["text/html", "application/xhtml+xml"].iter().any(|page| kind.eq_ignore_ascii_case(page))
}

/// Whether anything lies below an address.
fn has_any(client: &Client) -> Result<bool, StoreError> {
    let mut any = false;
    client.list(&mut |_| {
        any = true;
        Ok::<_, StoreError>(Next::Stop)
    })?;
    Ok(any)
}

/// What the list keeps of an object.
pub(super) fn fingerprint(object: &Object) -> Fingerprint {
    Fingerprint::of_object(object.size, object.etag.as_deref(), object.modified_us)
}
