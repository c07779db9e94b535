//! The API as an OpenAPI document, generated from the types that the gateway itself reads and writes.

use crate::{dialect, native, sessions};
use utoipa::{
    Modify, OpenApi,
    openapi::{
        Components,
        security::{HttpAuthScheme, HttpBuilder, SecurityScheme},
    },
};

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Cortensor",
        description = "OpenAI-compatible, Anthropic-compatible and native API of a Cortensor router. A parameter that \
                       is not offered is refused by name, never dropped."
    ),
    paths(
        dialect::chat::chat_completions,
        dialect::completions::completions,
        dialect::embeddings::embeddings,
        dialect::responses::responses,
        native::models,
        native::model,
        dialect::messages::messages,
        dialect::messages::count_tokens,
        native::session,
        native::nodes,
        native::task,
        native::receipts,
        sessions::facts,
        sessions::generate,
        sessions::embed,
        sessions::count,
        sessions::proposals,
        sessions::pay,
        sessions::close,
        native::healthz,
        native::readyz,
        native::metrics
    ),
    security(("api_key" = [])),
    modifiers(&ApiKey)
)]
struct Document;

struct ApiKey;

impl Modify for ApiKey {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let scheme =
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some("x-api-key works too.")).build();
        let components = document.components.get_or_insert_with(Components::new);
        components.add_security_scheme("api_key", SecurityScheme::Http(scheme));
    }
}

/// The document as JSON, ending in a line feed.
#[must_use]
pub fn openapi_json() -> String {
    let mut text = Document::openapi().to_pretty_json().expect("the document is made of strings and maps");
    text.push('\n');
    text
}
