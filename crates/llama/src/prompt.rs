//! From a request to the tokens of its prompt.

use crate::{ffi::Model, vocabulary::Vocabulary};
use cortensor_engine::{EngineError, chat::ChatTemplate};
use cortensor_protocol::{GenerationRequest, Prompt, TokenId, ToolChoice, manifest::ToolFormat};
use std::sync::Arc;

/// What turns requests into tokens; shared between threads.
pub(crate) struct Prompter {
    pub(crate) model: Arc<Model>,
    pub(crate) vocabulary: Arc<Vocabulary>,
    pub(crate) template: ChatTemplate,
    pub(crate) tool_format: ToolFormat,
    pub(crate) bos_text: String,
}

impl Prompter {
    /// The tokens of the prompt.
    pub(crate) fn tokens(&self, request: &GenerationRequest) -> Result<Vec<TokenId>, EngineError> {
        let tokens = match &request.prompt {
            Prompt::Chat { .. } => self.chat(&request.prompt)?,
            Prompt::Text(text) => self.tokenize(text, true, true)?,
            Prompt::Tokens(tokens) => {
                if let Some(bad) = tokens.iter().find(|&&token| token as usize >= self.vocabulary.len()) {
                    return Err(unsupported("prompt", format!("token {bad} is not in the model's vocabulary")));
                }
                tokens.clone()
            }
        };
        if tokens.is_empty() {
            return Err(unsupported("prompt", "it has no tokens".into()));
        }
        Ok(tokens)
    }

    fn chat(&self, prompt: &Prompt) -> Result<Vec<TokenId>, EngineError> {
        let Prompt::Chat { messages, tools, tool_choice } = prompt else { return Ok(Vec::new()) };
        let tools = if *tool_choice == ToolChoice::None { &[] } else { tools.as_slice() };
        if !tools.is_empty() && self.tool_format == ToolFormat::None {
            return Err(unsupported("tools", "this model was not trained to call tools; send none".into()));
        }
        let text = self
            .template
            .render(messages, tools, true)
            .map_err(|error| unsupported("messages", format!("the model's chat template: {error}")))?;
        // Some templates write the beginning-of-sequence token themselves; two of them would change the answer.
        let written = !self.bos_text.is_empty() && text.starts_with(&self.bos_text);
        self.tokenize(&text, !written, true)
    }

    /// The tokens of a text.
    pub(crate) fn tokenize(&self, text: &str, bos: bool, special: bool) -> Result<Vec<TokenId>, EngineError> {
        self.model
            .tokenize(text, bos, special)
            .ok_or_else(|| unsupported("prompt", "the text is longer than the tokenizer can count".into()))
    }
}

pub(crate) fn unsupported(parameter: &'static str, problem: String) -> EngineError {
    EngineError::Unsupported { parameter, problem }
}

/// Bytes of text that a request brings: a measure of the work before the engine.
pub(crate) fn text_bytes(request: &GenerationRequest) -> usize {
    match &request.prompt {
        Prompt::Chat { messages, tools, .. } => {
            let messages: usize = messages.iter().map(|message| message.content.len()).sum();
            let tools: usize = tools.iter().map(|tool| tool.parameters.len() + tool.description.len()).sum();
            messages + tools
        }
        Prompt::Text(text) => text.len(),
        Prompt::Tokens(_) => 0,
    }
}
