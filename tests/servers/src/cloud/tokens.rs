//! Gives bearer tokens to service principals, as Microsoft Entra ID does.

use std::collections::BTreeMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde_json::json;

use crate::Identity;
use crate::http::{Body, Connection, Head, Listening, listen};

/// Who gets a token.
#[derive(Clone, Debug)]
pub struct ServicePrincipal {
    /// The tenant's id.
    pub tenant: String,
    /// The client's id.
    pub client: String,
    /// The client's secret.
    pub secret: String,
}

/// The token endpoint of one service principal, at `/<tenant>/oauth2/v2.0/token`.
pub struct Tokens {
    listening: Listening,
    given: Arc<Mutex<Vec<String>>>,
}

impl Tokens {
    /// With TLS. Each token is valid for so many seconds.
    pub fn start(identity: &Identity, principal: ServicePrincipal, valid: u64) -> Tokens {
        let given = Arc::new(Mutex::new(Vec::new()));
        let all = given.clone();
        let listening = listen(Some(identity), move |connection| {
            // A client that leaves is no fault of the server's.
            let _ = serve(connection, &principal, valid, &all);
        });
        Tokens { listening, given }
    }

    /// The authority's host: `https://127.0.0.1:port`.
    pub fn url(&self) -> String {
        format!("https://127.0.0.1:{}", self.listening.port())
    }

    /// The tokens given so far.
    pub fn given(&self) -> Vec<String> {
        self.given.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

fn serve(
    mut connection: Connection,
    principal: &ServicePrincipal,
    valid: u64,
    given: &Mutex<Vec<String>>,
) -> io::Result<()> {
    while let Some(head) = connection.read_head()? {
        let mut body = Vec::new();
        connection.read_body(Body::of_request(&head), |piece| {
            body.extend_from_slice(piece);
            Ok(())
        })?;
        let form: BTreeMap<String, String> = url::form_urlencoded::parse(&body).into_owned().collect();
        let is = |name: &str, value: &str| form.get(name).is_some_and(|found| found == value);
        let (status, answer) = if head.method() != "POST"
            || head.target() != format!("/{}/oauth2/v2.0/token", principal.tenant)
        {
            (404, json!({"error": "invalid_request", "error_description": "no such tenant"}))
        } else if !is("grant_type", "client_credentials") || !is("scope", "https://storage.azure.com/.default") {
            (400, json!({"error": "invalid_scope", "error_description": "not for storage"}))
        } else if !is("client_id", &principal.client) || !is("client_secret", &principal.secret) {
            (
                401,
                json!({"error": "invalid_client", "error_description": "AADSTS7000215: Invalid client secret provided."}),
            )
        } else {
            let token = token(principal, valid);
            given.lock().unwrap_or_else(PoisonError::into_inner).push(token.clone());
            (200, json!({"token_type": "Bearer", "expires_in": valid, "access_token": token}))
        };
        let answer = answer.to_string();
        let about = [("content-type", "application/json".to_string()), ("content-length", answer.len().to_string())];
        connection.write(&Head::response(status, &about).bytes())?;
        connection.write(answer.as_bytes())?;
    }
    Ok(())
}

/// Azurite looks at times, issuer and audience, and believes the signature.
fn token(principal: &ServicePrincipal, valid: u64) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("after 1970").as_secs();
    let claims = json!({
        "aud": "https://storage.azure.com", "iss": format!("https://sts.windows.net/{}/", principal.tenant),
        "iat": now - 5, "nbf": now - 5, "exp": now + valid, "appid": principal.client, "tid": principal.tenant,
    });
    let part = |text: String| URL_SAFE_NO_PAD.encode(text);
    let head = json!({"typ": "JWT", "alg": "RS256", "kid": "test"});
    format!("{}.{}.{}", part(head.to_string()), part(claims.to_string()), part(format!("signature-{now}")))
}
