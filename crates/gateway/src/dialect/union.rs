//! Parameters that may be given in more than one form. Each reads its forms by a visitor of its own, so that an error
//! keeps the exact path of the field at fault, which `#[serde(untagged)]` would lose.

use serde::{
    Deserialize, Deserializer, Serialize,
    de::{MapAccess, SeqAccess, Visitor, value::MapAccessDeserializer},
};
use std::{fmt, marker::PhantomData};
use utoipa::ToSchema;

/// A text, or a list of `T`.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum TextOrList<T> {
    /// One text.
    Text(String),
    /// Several items.
    List(Vec<T>),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for TextOrList<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Forms<T> {
            type Value = TextOrList<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an array")
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(TextOrList::Text(text.to_owned()))
            }
            fn visit_string<E>(self, text: String) -> Result<Self::Value, E> {
                Ok(TextOrList::Text(text))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Self::Value, A::Error> {
                let mut list = Vec::new();
                while let Some(item) = items.next_element()? {
                    list.push(item);
                }
                Ok(TextOrList::List(list))
            }
        }
        deserializer.deserialize_any(Forms(PhantomData))
    }
}

/// A name, or an object `T`.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum NameOrObject<T> {
    /// A name.
    Name(String),
    /// An object.
    Object(T),
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for NameOrObject<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms<T>(PhantomData<T>);
        impl<'de, T: Deserialize<'de>> Visitor<'de> for Forms<T> {
            type Value = NameOrObject<T>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string or an object")
            }
            fn visit_str<E>(self, name: &str) -> Result<Self::Value, E> {
                Ok(NameOrObject::Name(name.to_owned()))
            }
            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(NameOrObject::Object)
            }
        }
        deserializer.deserialize_any(Forms(PhantomData))
    }
}

/// One item of a prompt that is a list: a text, a token, or a list of tokens.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, ToSchema)]
#[serde(untagged)]
pub(crate) enum PromptItem {
    /// A prompt as text.
    Text(String),
    /// One token of a prompt.
    Token(u32),
    /// A prompt as tokens.
    Tokens(Vec<u32>),
}

impl<'de> Deserialize<'de> for PromptItem {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Forms;
        impl<'de> Visitor<'de> for Forms {
            type Value = PromptItem;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string, a token id or an array of token ids")
            }
            fn visit_str<E>(self, text: &str) -> Result<Self::Value, E> {
                Ok(PromptItem::Text(text.to_owned()))
            }
            fn visit_u64<E: serde::de::Error>(self, id: u64) -> Result<Self::Value, E> {
                u32::try_from(id).map(PromptItem::Token).map_err(|_| E::custom("a token id fits in 32 bits"))
            }
            fn visit_seq<A: SeqAccess<'de>>(self, mut ids: A) -> Result<Self::Value, A::Error> {
                let mut tokens = Vec::new();
                while let Some(id) = ids.next_element()? {
                    tokens.push(id);
                }
                Ok(PromptItem::Tokens(tokens))
            }
        }
        deserializer.deserialize_any(Forms)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::json;

    fn check<T: for<'de> Deserialize<'de> + PartialEq + fmt::Debug>(text: &str, expect: &T) {
        assert_eq!(&json::parse::<T>(text.as_bytes(), 8).unwrap(), expect);
    }

    #[test]
    fn every_form_is_read() {
        check(r#""a\n""#, &TextOrList::<u32>::Text("a\n".into()));
        check("[1, 2]", &TextOrList::List(vec![1, 2]));
        check(r#""auto""#, &NameOrObject::<Vec<u32>>::Name("auto".into()));
        check(
            r#"[[1,2],"x",3]"#,
            &TextOrList::List(vec![PromptItem::Tokens(vec![1, 2]), PromptItem::Text("x".into()), PromptItem::Token(3)]),
        );
    }

    #[test]
    fn errors_keep_their_path() {
        let error = json::parse::<TextOrList<PromptItem>>(b"[1, 2, [3, -4]]", 8).unwrap_err();
        assert_eq!(error.param.as_deref(), Some("[2][1]"));
        let error = json::parse::<TextOrList<u32>>(b"5", 8).unwrap_err();
        assert!(error.message.contains("expected a string or an array"), "{}", error.message);
    }
}
