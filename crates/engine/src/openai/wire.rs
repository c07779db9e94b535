//! What compatible servers answer, read leniently: every field may be missing or null, unknown ones are ignored.

use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;

/// A chunk of a stream, or a whole answer.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Chunk {
    pub(super) choices: Option<Vec<Choice>>,
    pub(super) usage: Option<Usage>,
    pub(super) error: Option<Value>,
    /// vLLM, when asked for token ids.
    pub(super) prompt_token_ids: Option<Vec<u32>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Choice {
    pub(super) delta: Option<Delta>,
    /// In whole answers, where streams have `delta`.
    pub(super) message: Option<Delta>,
    /// In completions of plain text.
    pub(super) text: Option<String>,
    pub(super) finish_reason: Option<String>,
    /// vLLM: the stop text, or null at the end of sequence.
    pub(super) stop_reason: Option<Value>,
    pub(super) logprobs: Option<LogProbs>,
    /// vLLM, when asked for token ids.
    pub(super) token_ids: Option<Vec<u32>>,
    /// vLLM: one entry a prompt token, the first one null.
    pub(super) prompt_logprobs: Option<Vec<Option<HashMap<String, PromptLogProb>>>>,
    pub(super) prompt_token_ids: Option<Vec<u32>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Delta {
    pub(super) content: Option<String>,
    /// Two names of one thing; some servers send both.
    pub(super) reasoning_content: Option<String>,
    pub(super) reasoning: Option<String>,
    pub(super) refusal: Option<String>,
    pub(super) tool_calls: Option<Vec<CallDelta>>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct CallDelta {
    pub(super) index: Option<u32>,
    pub(super) function: Option<FunctionDelta>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct FunctionDelta {
    pub(super) name: Option<String>,
    /// JSON text, in pieces; some servers send an object.
    pub(super) arguments: Option<Value>,
}

/// Log-probabilities in the form of chat completions, or in the older form of completions.
#[derive(Debug, Default, Deserialize)]
pub(super) struct LogProbs {
    pub(super) content: Option<Vec<TokenLogProb>>,
    pub(super) tokens: Option<Vec<String>>,
    pub(super) token_logprobs: Option<Vec<Option<f32>>>,
    pub(super) top_logprobs: Option<Vec<Option<HashMap<String, f32>>>>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct TokenLogProb {
    #[serde(default)]
    pub(super) token: String,
    pub(super) bytes: Option<Vec<u8>>,
    pub(super) logprob: Option<f32>,
    /// llama-server tells ids.
    pub(super) id: Option<u32>,
    pub(super) top_logprobs: Option<Vec<TokenLogProb>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct PromptLogProb {
    pub(super) logprob: f32,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct Usage {
    pub(super) prompt_tokens: Option<u32>,
    pub(super) completion_tokens: Option<u32>,
    pub(super) prompt_tokens_details: Option<PromptDetails>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct PromptDetails {
    pub(super) cached_tokens: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Models {
    #[serde(default)]
    pub(super) data: Vec<Model>,
}

#[derive(Clone, Debug, Default, Deserialize)]
pub(super) struct Model {
    #[serde(default)]
    pub(super) id: String,
    pub(super) owned_by: Option<String>,
    /// vLLM and SGLang.
    pub(super) max_model_len: Option<u32>,
    /// llama-server.
    pub(super) meta: Option<ModelMeta>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
pub(super) struct ModelMeta {
    pub(super) n_vocab: Option<u32>,
}

/// llama-server's `/props`.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Props {
    pub(super) total_slots: Option<u32>,
    pub(super) build_info: Option<String>,
    pub(super) default_generation_settings: Option<PropsSettings>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct PropsSettings {
    pub(super) n_ctx: Option<u32>,
}

/// vLLM's `/version` and Ollama's `/api/version`.
#[derive(Debug, Deserialize)]
pub(super) struct Version {
    pub(super) version: String,
}

/// llama-server's `/apply-template`.
#[derive(Debug, Deserialize)]
pub(super) struct Templated {
    pub(super) prompt: String,
}

#[derive(Debug, Deserialize)]
pub(super) struct Tokenized {
    pub(super) tokens: Vec<u32>,
}

#[derive(Debug, Default, Deserialize)]
pub(super) struct Embeddings {
    #[serde(default)]
    pub(super) data: Vec<Embedding>,
    pub(super) usage: Option<Usage>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Embedding {
    pub(super) index: Option<usize>,
    pub(super) embedding: Vec<f32>,
}

impl LogProbs {
    /// Both forms as one list.
    pub(super) fn into_tokens(self) -> Vec<TokenLogProb> {
        if let Some(content) = self.content {
            return content;
        }
        let logprobs = self.token_logprobs.unwrap_or_default();
        let tops = self.top_logprobs.unwrap_or_default();
        let tokens = self.tokens.unwrap_or_default().into_iter().enumerate();
        tokens
            .map(|(at, token)| TokenLogProb {
                token,
                logprob: logprobs.get(at).copied().flatten(),
                top_logprobs: tops.get(at).and_then(Option::as_ref).map(sorted),
                ..TokenLogProb::default()
            })
            .collect()
    }
}

fn sorted(top: &HashMap<String, f32>) -> Vec<TokenLogProb> {
    let alternative = |(token, &logprob): (&String, &f32)| TokenLogProb {
        token: token.clone(),
        logprob: Some(logprob),
        ..TokenLogProb::default()
    };
    let mut top: Vec<TokenLogProb> = top.iter().map(alternative).collect();
    top.sort_by(|a, b| {
        b.logprob.unwrap_or(f32::MIN).total_cmp(&a.logprob.unwrap_or(f32::MIN)).then(a.token.cmp(&b.token))
    });
    top
}
