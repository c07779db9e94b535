//! The table of routes.

use crate::{
    app::App,
    config::{Cors, GatewayConfig},
    dialect::{chat, completions, embeddings, messages, responses},
    generation,
    metrics::Metrics,
    native,
    service::InferenceService,
    sessions,
};
use axum::{
    Router,
    http::HeaderValue,
    routing::{get, post},
};
use std::sync::Arc;
use tower_http::cors::{AllowHeaders, AllowOrigin, Any, CorsLayer};

/// The whole API over a service, for a server of one's own; [`crate::serve`] adds the bounds that need the socket.
pub fn router(service: Arc<dyn InferenceService>, config: GatewayConfig) -> Router {
    with_metrics(service, config, Arc::default())
}

pub(crate) fn with_metrics(service: Arc<dyn InferenceService>, config: GatewayConfig, metrics: Arc<Metrics>) -> Router {
    let cors = cors_layer(&config.cors);
    let app = Arc::new(App::new(service, config, metrics));
    let routes = Router::new()
        .route("/v1/chat/completions", post(chat::chat_completions))
        .route("/v1/completions", post(completions::completions))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/responses", post(responses::responses))
        .route("/v1/messages", post(messages::messages))
        .route("/v1/messages/count_tokens", post(messages::count_tokens))
        .route("/v1/models", get(native::models))
        // Names of models may hold slashes.
        .route("/v1/models/{*name}", get(native::model))
        .route("/v1/session", get(native::session))
        .route("/v1/session/vouchers", get(sessions::proposals).post(sessions::pay))
        .route("/v1/session/close", post(sessions::close))
        .route("/v1/router", get(sessions::facts))
        .route("/v1/tasks", post(sessions::generate))
        .route("/v1/tasks/embeddings", post(sessions::embed))
        .route("/v1/tasks/count", post(sessions::count))
        .route("/v1/nodes", get(native::nodes))
        .route("/v1/tasks/{id}", get(native::task))
        .route("/v1/tasks/{id}/receipts", get(native::receipts))
        .route("/healthz", get(native::healthz))
        .route("/readyz", get(native::readyz))
        .route("/metrics", get(native::metrics))
        .route("/openapi.json", get(native::openapi))
        .fallback(native::not_found)
        .method_not_allowed_fallback(native::wrong_method)
        .with_state(app);
    match cors {
        Some(layer) => routes.layer(layer),
        None => routes,
    }
}

fn cors_layer(cors: &Cors) -> Option<CorsLayer> {
    let origins = match cors {
        Cors::Off => return None,
        Cors::Any => AllowOrigin::any(),
        Cors::Origins(origins) => {
            AllowOrigin::list(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()))
        }
    };
    // A star would not cover Authorization (Fetch standard, "CORS non-wildcard request-header name").
    let exposed = [crate::app::REQUEST_ID, generation::TASK, axum::http::header::RETRY_AFTER];
    Some(
        CorsLayer::new()
            .allow_origin(origins)
            .allow_methods(Any)
            .allow_headers(AllowHeaders::mirror_request())
            .expose_headers(exposed),
    )
}
