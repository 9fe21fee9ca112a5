//! Puts parts together on a condition, which the library's interface has no word for.
//!
//! S3: a client of its own whose every request carries the condition as a default header, signed with the rest; only the request that puts the
//! parts together is made with it. Azure: default headers come behind the signature of a shared key, so the request is signed anew on
//! its way out. Google's interface has no such condition.

use std::collections::BTreeMap;
use std::fmt;

use async_trait::async_trait;
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::azure::{AzureAuthorizer, AzureConfigKey, MicrosoftAzure, MicrosoftAzureBuilder};
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService,
};
use object_store::gcp::GoogleCloudStorage;
use object_store::list::PaginatedListStore;
use object_store::multipart::MultipartStore;
use object_store::{ClientOptions, HeaderMap, HeaderValue};

use crate::Over;
use crate::patience::Patient;

/// What of a place writes in parts.
pub(crate) enum Multipart {
    /// S3.
    S3 {
        /// For everything but the last request.
        store: Box<AmazonS3>,
        /// What it was built of.
        builder: Box<AmazonS3Builder>,
        /// And with.
        options: Box<ClientOptions>,
    },
    /// Azure.
    Azure {
        /// For everything but the last request.
        store: Box<MicrosoftAzure>,
        /// What it was built of.
        builder: Box<MicrosoftAzureBuilder>,
    },
    /// Google.
    Gcs(Box<GoogleCloudStorage>),
    /// Nothing does.
    None,
}

impl Multipart {
    /// Begins uploads, takes parts, and forgets them.
    pub fn store(&self) -> Option<&dyn MultipartStore> {
        match self {
            Multipart::S3 { store, .. } => Some(&**store),
            Multipart::Azure { store, .. } => Some(&**store),
            Multipart::Gcs(store) => Some(&**store),
            Multipart::None => None,
        }
    }

    /// Lists a page at a time.
    pub fn pages(&self) -> Option<&dyn PaginatedListStore> {
        match self {
            Multipart::S3 { store, .. } => Some(&**store),
            Multipart::Azure { store, .. } => Some(&**store),
            Multipart::Gcs(store) => Some(&**store),
            Multipart::None => None,
        }
    }

    /// Whether the marks of an object are said when its upload begins; else they are said when its parts are put together.
    pub fn marks_first(&self) -> bool {
        !matches!(self, Multipart::Azure { .. })
    }

    /// Puts the parts of one object together, on the condition `over` if the service knows one.
    pub fn last(&self, over: &Over, marks: &BTreeMap<String, String>) -> object_store::Result<Box<dyn MultipartStore>> {
        match self {
            Multipart::S3 { store, builder, options } => {
                let options = (**options).clone().with_default_headers(condition(over)?);
                let builder = (**builder).clone().with_credentials(store.credentials().clone());
                Ok(Box::new(builder.with_client_options(options).build()?))
            }
            Multipart::Azure { store, builder } => {
                let mut headers = condition(over)?;
                for (name, value) in marks {
                    let name = format!("x-ms-meta-{name}").parse::<http::HeaderName>();
                    headers.insert(name.map_err(generic)?, value.parse::<HeaderValue>().map_err(generic)?);
                }
                let account = builder.get_config_value(&AzureConfigKey::AccountName).unwrap_or_default();
                let credentials = store.credentials().clone();
                let signs = Signs { headers, account, store: (**store).clone() };
                let builder = (**builder).clone().with_credentials(credentials).with_http_connector(signs);
                Ok(Box::new(builder.build()?))
            }
            Multipart::Gcs(store) => Ok(store.clone()),
            Multipart::None => {
                Err(object_store::Error::NotImplemented { operation: "put".into(), implementer: "a web server".into() })
            }
        }
    }
}

fn condition(over: &Over) -> object_store::Result<HeaderMap> {
    let (name, value) = match over {
        Over::Nothing => ("if-none-match", "*"),
        Over::This(version) => match &version.etag {
            Some(etag) => ("if-match", etag.as_str()),
            None => return Ok(HeaderMap::new()),
        },
    };
    let mut headers = HeaderMap::new();
    headers.insert(name, value.parse::<HeaderValue>().map_err(generic)?);
    Ok(headers)
}

fn generic(error: impl std::error::Error + Send + Sync + 'static) -> object_store::Error {
    object_store::Error::Generic { store: "put", source: Box::new(error) }
}

/// Adds headers to the request that puts blocks together, and signs it again where its headers are signed.
#[derive(Clone)]
struct Signs {
    headers: HeaderMap,
    account: String,
    store: MicrosoftAzure,
}

impl fmt::Debug for Signs {
    /// Without what it signs with.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Signs").field("account", &self.account).finish_non_exhaustive()
    }
}

impl HttpConnector for Signs {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let client = Patient.connect(options)?;
        Ok(HttpClient::new(Signed { client, signs: self.clone() }))
    }
}

#[derive(Debug)]
struct Signed {
    client: HttpClient,
    signs: Signs,
}

#[async_trait]
impl HttpService for Signed {
    async fn call(&self, mut request: HttpRequest) -> Result<HttpResponse, HttpError> {
        if request.uri().query().is_some_and(|query| query.contains("comp=blocklist")) {
            for (name, value) in &self.signs.headers {
                request.headers_mut().insert(name, value.clone());
            }
            let authorization = request.headers().get("authorization");
            if authorization.is_some_and(|value| value.as_bytes().starts_with(b"SharedKey ")) {
                request.headers_mut().remove("authorization");
                let failed = |error| HttpError::new::<object_store::Error>(HttpErrorKind::Unknown, error);
                let credential = self.signs.store.credentials().get_credential().await.map_err(failed)?;
                AzureAuthorizer::new(&credential, &self.signs.account).try_authorize(&mut request).map_err(failed)?;
            }
        }
        self.client.execute(request).await
    }
}
