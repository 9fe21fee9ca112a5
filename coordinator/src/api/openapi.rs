//! The OpenAPI document, made from the routes' own words.

use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::datasets::DatasetRequest;
use super::error::{Envelope, ErrorBody};
use super::routes::{Receipt, RetryRequest, Submission};
use super::{datasets, files, routes};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "fanfold",
        description = "Jobs on a fleet: submit them, look at them, steer them. Every error is `{\"error\": {\"code\", \"message\", \"hint\"}}`."
    ),
    paths(
        routes::healthz,
        routes::submit,
        routes::jobs,
        routes::status,
        files::errors,
        files::logs,
        files::log,
        files::results,
        routes::explain,
        routes::cancel,
        routes::pause,
        routes::resume,
        routes::retry,
        datasets::register,
        datasets::datasets,
        datasets::dataset,
        routes::nodes,
        routes::drain,
        routes::openapi,
        routes::metrics,
    ),
    components(schemas(Envelope, ErrorBody, Submission, Receipt, RetryRequest, DatasetRequest)),
    security(("token" = [])),
    modifiers(&Token)
)]
struct Document;

struct Token;

impl Modify for Token {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some("What the service's `--token-file` holds"))
            .build();
        document.components.get_or_insert_default().add_security_scheme("token", SecurityScheme::Http(scheme));
    }
}

/// The document, as JSON.
pub fn document() -> String {
    let mut text = Document::openapi().to_pretty_json().expect("plain types can be written");
    text.push('\n');
    text
}

#[cfg(test)]
mod tests {
    #[test]
    fn the_document_is_what_clients_were_made_from() {
        insta::assert_snapshot!(super::document());
    }
}
