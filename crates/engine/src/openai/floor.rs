//! What is charged for a prompt that the upstream does not count.
//!
//! One token for every [`BYTES_PER_TOKEN`] bytes of text, rounded up, and nothing for roles, separators and whatever else
//! a template adds. Texts of natural languages and code have more tokens than that with the vocabularies in use, so the
//! client pays less than it would at a server that counts; and never more than a header allows, which is a token a byte.

use cortensor_protocol::Prompt;

/// Bytes of text that count as one token.
const BYTES_PER_TOKEN: usize = 6;

/// The tokens that a prompt is charged at least as; exact where it is given as tokens.
pub(super) fn prompt_floor(prompt: &Prompt) -> u32 {
    let tokens = match prompt {
        Prompt::Tokens(tokens) => tokens.len(),
        Prompt::Text(text) => text.len().div_ceil(BYTES_PER_TOKEN),
        Prompt::Chat { messages, tools, .. } => {
            let said = messages.iter().map(|message| {
                let calls = message.tool_calls.iter().map(|call| call.name.len() + call.arguments.len());
                message.content.len() + calls.sum::<usize>()
            });
            let offered = tools.iter().map(|tool| tool.name.len() + tool.description.len() + tool.parameters.len());
            said.chain(offered).sum::<usize>().div_ceil(BYTES_PER_TOKEN)
        }
    };
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use cortensor_protocol::{ChatMessage, Role, ToolChoice};

    #[test]
    fn prompts_are_counted_low() {
        assert_eq!(prompt_floor(&Prompt::Tokens(vec![1, 2, 3])), 3);
        assert_eq!(prompt_floor(&Prompt::Text("What is a receipt?".into())), 3);
        let messages = vec![ChatMessage::text(Role::System, "abcdef"), ChatMessage::text(Role::User, "g")];
        let prompt = Prompt::Chat { messages, tools: vec![], tool_choice: ToolChoice::Auto };
        assert_eq!(prompt_floor(&prompt), 2);
    }
}
