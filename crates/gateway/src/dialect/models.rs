//! The list of models, as OpenAI's clients read it: `GET /v1/models` and `GET /v1/models/{id}`.

use crate::service::ModelCard;
use serde::Serialize;
use utoipa::ToSchema;

/// All models that can be used now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelList {
    object: &'static str,
    data: Vec<ModelView>,
}

/// One model.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ModelView {
    /// Name to use in requests.
    id: String,
    object: &'static str,
    /// Unix time in seconds since when this router knows it.
    created: u64,
    owned_by: &'static str,
    /// What this network adds: manifest, price, tier, context, miners.
    cortensor: ModelCard,
}

impl From<ModelCard> for ModelView {
    fn from(card: ModelCard) -> Self {
        Self { id: card.name.clone(), object: "model", created: card.created, owned_by: "cortensor", cortensor: card }
    }
}

impl ModelList {
    pub(crate) fn new(cards: Vec<ModelCard>) -> Self {
        Self { object: "list", data: cards.into_iter().map(ModelView::from).collect() }
    }
}
