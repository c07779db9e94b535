//! Finds out what an upstream is and what it can do, before it is offered to anybody.

use super::{
    MAX_JSON, MAX_LARGE_JSON,
    body::Dialect,
    config::{ConnectError, Flavour, OpenAiConfig},
    floor::prompt_floor,
    http::{Http, HttpError},
    wire::{Chunk, Embeddings, Model, Models, Props, Version},
};
use crate::EngineInfo;
use alloy_primitives::B256;
use cortensor_protocol::{ModelManifest, Prompt, Tier};
use serde_json::json;
use std::time::Duration;

/// Longest context assumed of a server that does not tell: what Ollama uses unless told otherwise.
const CONTEXT_UNKNOWN: u32 = 4096;
/// Sequences assumed of a server that does not tell.
const SLOTS_UNKNOWN: u32 = 8;
/// Models named in an error.
const LISTED: usize = 8;

/// What was found.
pub(super) struct Found {
    pub(super) info: EngineInfo,
    pub(super) dialect: Dialect,
    /// Whether it reported the tokens of a prompt.
    pub(super) counts_prompts: bool,
}

/// What an answer of the upstream showed.
struct Shown {
    logprobs: bool,
    counts_prompts: bool,
}

pub(super) async fn probe(config: &OpenAiConfig, http: &Http) -> Result<Found, ConnectError> {
    let model = listed(config, http).await?;
    let flavour = match config.flavour {
        Some(flavour) => flavour,
        None => Flavour::from_owner(model.owned_by.as_deref().unwrap_or_default()),
    };
    let server = server(http, flavour).await?;
    let shown = shown(config, http).await?;
    if !shown.counts_prompts {
        tracing::warn!(
            code = "E-USAGE-001",
            model = config.model,
            "the upstream does not count prompt tokens; prompts are charged by a low count made from their text"
        );
    }
    let tier = tier(config, http, flavour, &shown).await.min(config.tier_max);
    let embedding_length = embedding_length(config, http).await;
    let context = config.context.or(server.context).or(model.max_model_len).unwrap_or(CONTEXT_UNKNOWN);
    let mut manifest = config.manifest.clone().unwrap_or_else(|| manifest(config, &model, context));
    if config.manifest.is_none() {
        manifest.embedding_length = embedding_length;
    }
    let info = EngineInfo {
        context: context.min(manifest.context_length),
        tier,
        slots: config.slots.or(server.slots).unwrap_or(SLOTS_UNKNOWN).max(1),
        embeds: embedding_length > 0,
        build: server.build,
        manifest,
    };
    let dialect = Dialect {
        flavour,
        model: config.model.clone(),
        logprobs: tier >= Tier::C,
        token_ids: tier >= Tier::B,
        continues: config.continues.unwrap_or(flavour.continues()),
        traced: config.traced,
        tool_format: config.tool_format,
    };
    Ok(Found { info, dialect, counts_prompts: shown.counts_prompts })
}

/// The model's entry in the upstream's list. A server without a list is taken at its word.
async fn listed(config: &OpenAiConfig, http: &Http) -> Result<Model, ConnectError> {
    let models: Models = match http.json(http.get("/models"), MAX_JSON).await {
        Ok(models) => models,
        Err(HttpError::Status { status: 404 | 405 | 501, .. }) => return Ok(Model::default()),
        Err(error) => return Err(error.into()),
    };
    let matches = |model: &&Model| model.id == config.model || model.id.strip_suffix(":latest") == Some(&config.model);
    if let Some(model) = models.data.iter().find(matches) {
        return Ok(model.clone());
    }
    // llama-server serves one model under whatever name is asked for.
    match models.data.as_slice() {
        [only] if only.owned_by.as_deref() == Some("llamacpp") => Ok(only.clone()),
        all => {
            let names: Vec<&str> = all.iter().take(LISTED).map(|model| model.id.as_str()).collect();
            let more = if all.len() > LISTED { " and others" } else { "" };
            let listed = if names.is_empty() { "none".into() } else { format!("{}{more}", names.join(", ")) };
            Err(ConnectError::UnknownModel { model: config.model.clone(), listed })
        }
    }
}

/// What the server tells of itself.
struct Server {
    build: String,
    context: Option<u32>,
    slots: Option<u32>,
}

async fn server(http: &Http, flavour: Flavour) -> Result<Server, ConnectError> {
    let plain = |version: Option<String>| Server {
        build: [flavour.name(), version.as_deref().unwrap_or_default(), "(remote)"].join(" ").replace("  ", " "),
        context: None,
        slots: None,
    };
    let path = match flavour {
        Flavour::Vllm => "/version",
        Flavour::Ollama => "/api/version",
        Flavour::LlamaServer => return llama_server(http, plain).await,
        Flavour::Sglang | Flavour::Generic => return Ok(plain(None)),
    };
    // The version is for people to read; a server that hides it is still of use.
    let version: Result<Version, _> = http.json(http.root_get(path), MAX_JSON).await;
    Ok(plain(version.ok().map(|version| version.version)))
}

async fn llama_server(http: &Http, plain: impl Fn(Option<String>) -> Server) -> Result<Server, ConnectError> {
    match http.json::<Props>(http.root_get("/props"), MAX_JSON).await {
        Ok(props) => Ok(Server {
            context: props.default_generation_settings.and_then(|settings| settings.n_ctx),
            slots: props.total_slots,
            ..plain(props.build_info)
        }),
        Err(HttpError::Status { status: 403 | 404 | 501, .. }) => Ok(plain(None)),
        Err(error) => Err(error.into()),
    }
}

/// Lets the upstream generate a token and looks at what it tells.
async fn shown(config: &OpenAiConfig, http: &Http) -> Result<Shown, ConnectError> {
    let ask = |logprobs: bool| {
        let mut body = json!({
            "model": config.model, "max_tokens": 1, "messages": [{ "role": "user", "content": "Say OK." }],
        });
        if logprobs {
            body["logprobs"] = true.into();
            body["top_logprobs"] = 1.into();
        }
        http.json_within::<Chunk>(http.post("/chat/completions", &body), MAX_JSON, config.first_timeout)
    };
    match ask(true).await {
        Ok(answer) => look(answer),
        // Some servers answer an option that they do not have with an internal error.
        Err(HttpError::Status { status, .. }) if !matches!(status, 401 | 403 | 429) => {
            let answer = ask(false).await.map_err(|error| ConnectError::Probe(error.to_string()))?;
            Ok(Shown { logprobs: false, ..look(answer)? })
        }
        Err(error) => Err(ConnectError::Probe(error.to_string())),
    }
}

/// What can be checked of the upstream's work: decided by what it does, not by what it is.
async fn tier(config: &OpenAiConfig, http: &Http, flavour: Flavour, shown: &Shown) -> Tier {
    match shown.logprobs {
        false => Tier::D,
        true if flavour == Flavour::Vllm && scores_prompts(config, http).await => Tier::B,
        true => Tier::C,
    }
}

fn look(answer: Chunk) -> Result<Shown, ConnectError> {
    let counts_prompts = answer.usage.is_some_and(|usage| usage.prompt_tokens.is_some());
    let choice = answer.choices.unwrap_or_default().into_iter().next();
    let choice = choice.ok_or_else(|| ConnectError::Probe("the answer has no choices".into()))?;
    let tokens = choice.logprobs.map(super::wire::LogProbs::into_tokens).unwrap_or_default();
    Ok(Shown { logprobs: tokens.first().is_some_and(|token| token.logprob.is_some()), counts_prompts })
}

/// Whether the upstream takes token ids, reports them, and gives log-probabilities of a prompt.
async fn scores_prompts(config: &OpenAiConfig, http: &Http) -> bool {
    let body = json!({
        "model": config.model, "prompt": [1, 2, 3], "max_tokens": 1, "prompt_logprobs": 1, "return_token_ids": true,
    });
    // Any failure here only means that the proof is missing: the tier stays C.
    let answer: Result<Chunk, _> =
        http.json_within(http.post("/completions", &body), MAX_JSON, config.first_timeout).await;
    let choice = answer.ok().and_then(|answer| answer.choices?.into_iter().next()).unwrap_or_default();
    let scored = choice.prompt_logprobs.unwrap_or_default();
    let all = scored.len() == 3 && scored.iter().skip(1).all(|at| at.as_ref().is_some_and(|at| !at.is_empty()));
    all && choice.token_ids.is_some_and(|ids| ids.len() == 1)
}

/// Length of the upstream's embeddings of this model; 0 when it gives none.
async fn embedding_length(config: &OpenAiConfig, http: &Http) -> u32 {
    match embed(http, &config.model, &["a".to_owned()], config.probe_timeout).await {
        Ok((vectors, _)) => vectors.first().map_or(0, |vector| u32::try_from(vector.len()).unwrap_or(0)),
        Err(error) => {
            tracing::debug!(%error, "the upstream gives no embeddings");
            0
        }
    }
}

/// Embeds texts; unit-length vectors in the order of the texts.
pub(super) async fn embed(
    http: &Http,
    model: &str,
    inputs: &[String],
    patience: Duration,
) -> Result<(Vec<Vec<f32>>, u32), HttpError> {
    let body = json!({ "model": model, "input": inputs, "encoding_format": "float" });
    let answer: Embeddings = http.json_within(http.post("/embeddings", &body), MAX_LARGE_JSON, patience).await?;
    let mut vectors: Vec<Vec<f32>> = vec![Vec::new(); inputs.len()];
    for (place, embedding) in answer.data.into_iter().enumerate() {
        let slot = vectors.get_mut(embedding.index.unwrap_or(place));
        *slot.ok_or_else(|| HttpError::Decode("there are more embeddings than texts".into()))? = embedding.embedding;
    }
    let length = vectors.first().map_or(0, Vec::len);
    if length == 0 || vectors.iter().any(|vector| vector.len() != length) {
        return Err(HttpError::Decode("embeddings are missing or of different lengths".into()));
    }
    for vector in &mut vectors {
        let norm = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        if !norm.is_finite() || norm == 0.0 {
            return Err(HttpError::Decode("an embedding is zero or not finite".into()));
        }
        vector.iter_mut().for_each(|x| *x /= norm);
    }
    let floor = || inputs.iter().map(|text| prompt_floor(&Prompt::Text(text.clone()))).fold(0, u32::saturating_add);
    let tokens = answer.usage.and_then(|usage| usage.prompt_tokens).unwrap_or_else(floor);
    Ok((vectors, tokens))
}

/// A manifest from what the upstream tells; what it keeps to itself stays zero or empty.
fn manifest(config: &OpenAiConfig, model: &Model, context: u32) -> ModelManifest {
    ModelManifest {
        name: config.name.clone().unwrap_or_else(|| config.model.clone()),
        weights_blake3: B256::ZERO,
        weights_sha256: B256::ZERO,
        tokenizer: B256::ZERO,
        chat_template: B256::ZERO,
        quantisation: "unknown".into(),
        context_length: context,
        kv_cache: "unknown".into(),
        vocabulary: model.meta.and_then(|meta| meta.n_vocab).unwrap_or(0),
        embedding_length: 0,
        tool_format: config.tool_format,
        licence: String::new(),
    }
}
