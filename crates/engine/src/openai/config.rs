//! How a remote backend is configured, and why connecting to one may fail.

use super::http::{HttpError, SetupError};
use cortensor_protocol::{ModelManifest, Tier, ToolFormat};
use serde::{Deserialize, Serialize};
use std::{path::PathBuf, time::Duration};

/// Where the upstream's API key comes from. Never from a command line, where every user of the machine could read it.
#[derive(Clone, Debug, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeySource {
    /// The upstream wants none.
    #[default]
    None,
    /// An environment variable of this name.
    Environment(String),
    /// A file that contains nothing but the key.
    File(PathBuf),
}

/// The kind of server, which decides what can be asked of it beyond OpenAI's API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Flavour {
    /// vLLM.
    Vllm,
    /// llama.cpp's server.
    LlamaServer,
    /// Ollama.
    Ollama,
    /// SGLang.
    Sglang,
    /// Anything else that speaks OpenAI's API.
    Generic,
}

impl Flavour {
    /// From the owner that a server writes into its list of models.
    pub(super) fn from_owner(owner: &str) -> Self {
        match owner {
            "vllm" => Self::Vllm,
            "llamacpp" => Self::LlamaServer,
            "sglang" => Self::Sglang,
            "library" => Self::Ollama,
            _ => Self::Generic,
        }
    }

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Vllm => "vLLM",
            Self::LlamaServer => "llama-server",
            Self::Ollama => "Ollama",
            Self::Sglang => "SGLang",
            Self::Generic => "OpenAI-compatible server",
        }
    }

    /// Whether an answer that was begun elsewhere can be continued in a conversation.
    pub(super) fn continues(self) -> bool {
        self != Self::Generic
    }

    /// Whether the server tells the tokens of a prompt.
    pub(super) fn tokenizes(self) -> bool {
        matches!(self, Self::Vllm | Self::LlamaServer)
    }
}

/// One model of one upstream.
#[derive(Clone, Debug, PartialEq)]
pub struct OpenAiConfig {
    /// Such as `http://127.0.0.1:8000/v1`. Without a path, `/v1` is meant.
    pub base_url: String,
    /// The model's name at the upstream.
    pub model: String,
    /// The name that clients of the network use; the upstream's if `None`.
    pub name: Option<String>,
    /// The upstream's key.
    pub key: KeySource,
    /// The kind of server; asked of the server if `None`.
    pub flavour: Option<Flavour>,
    /// What exactly the model is, where the operator knows it; otherwise put together from what the upstream tells.
    pub manifest: Option<ModelManifest>,
    /// Longest context; asked of the server if `None`, and 4,096 where it does not tell.
    pub context: Option<u32>,
    /// Generations that run at the upstream at once; llama-server's own number if `None`, else 8.
    pub slots: Option<u32>,
    /// Generations that may wait for a slot.
    pub queue: u32,
    /// Never claim more than this tier, whatever the probe finds.
    pub tier_max: Tier,
    /// Whether tools may be used. The upstream parses the calls; they are reported in Hermes form.
    pub tool_format: ToolFormat,
    /// Whether a begun conversation can be continued; by the kind of server if `None`.
    pub continues: Option<bool>,
    /// Whether log-probabilities and the prompt's tokens are asked for with every generation, as receipts need them;
    /// without it, log-probabilities only where the client wants them.
    pub traced: bool,
    /// For the TCP and TLS handshakes.
    pub connect_timeout: Duration,
    /// From sending a request to the first event of a streamed answer. Servers that load models on demand need minutes.
    pub first_timeout: Duration,
    /// Between two pieces of an answer.
    pub idle_timeout: Duration,
    /// For a whole generation.
    pub total_timeout: Duration,
    /// For each request that is not a generation.
    pub probe_timeout: Duration,
}

impl OpenAiConfig {
    /// A configuration with the usual limits.
    #[must_use]
    pub fn new(base_url: impl Into<String>, model: impl Into<String>) -> Self {
        Self {
            base_url: base_url.into(),
            model: model.into(),
            name: None,
            key: KeySource::None,
            flavour: None,
            manifest: None,
            context: None,
            slots: None,
            queue: 64,
            tier_max: Tier::B,
            tool_format: ToolFormat::Native,
            continues: None,
            traced: true,
            connect_timeout: Duration::from_secs(5),
            first_timeout: Duration::from_secs(120),
            idle_timeout: Duration::from_secs(60),
            total_timeout: Duration::from_secs(3600),
            probe_timeout: Duration::from_secs(30),
        }
    }
}

/// Why an upstream could not be taken into use. Says what to change.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The configuration is wrong.
    #[error("{0}")]
    Config(String),
    /// The upstream does not answer, or refuses the key.
    #[error("{0}")]
    Unreachable(String),
    /// It does not have the model.
    #[error("the upstream has no model {model:?}; it lists {listed}")]
    UnknownModel {
        /// As configured.
        model: String,
        /// The first few that it has.
        listed: String,
    },
    /// It has the model, but generates nothing.
    #[error("the upstream did not complete a one-token request: {0}")]
    Probe(String),
}

impl From<SetupError> for ConnectError {
    fn from(error: SetupError) -> Self {
        Self::Config(error.to_string())
    }
}

impl From<HttpError> for ConnectError {
    fn from(error: HttpError) -> Self {
        Self::Unreachable(error.to_string())
    }
}
