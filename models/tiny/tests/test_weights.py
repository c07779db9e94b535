"""The committed GGUF file: its metadata, its shapes, its tokenizer and its place in the card."""

import hashlib

import gguf
import pytest
from conftest import HERE
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from cortensor_tiny import chat
from cortensor_tiny.__main__ import WEIGHTS
from cortensor_tiny.model import Shape
from cortensor_tiny.tokenizer import CONTROL, MARKS

BLOCK = 32
TEXTS = ["Hello, world!", "  two  spaces \n\n tabs\t", "naïve café – 東京 🚀", "a\x00b", "12 + 345 = 357", "<tool_call>{}</tool_call>"]


@pytest.fixture(scope="module")
def reader():
    return gguf.GGUFReader(str(WEIGHTS))


def value(reader, key):
    return reader.fields[key].contents()


def test_metadata(reader):
    shape = Shape()
    expected = {
        "general.architecture": "llama",
        "general.name": "cortensor-tiny",
        "general.license": "apache-2.0",
        "llama.context_length": shape.context,
        "llama.embedding_length": shape.width,
        "llama.block_count": shape.layers,
        "llama.attention.head_count": shape.heads,
        "llama.attention.head_count_kv": shape.key_value_heads,
        "tokenizer.ggml.model": "gpt2",
        "tokenizer.ggml.pre": "gpt-2",
        "tokenizer.ggml.add_bos_token": False,
        "tokenizer.chat_template": chat.template_source(),
    }
    assert {key: value(reader, key) for key in expected} == expected


def test_special_tokens(reader):
    tokens = value(reader, "tokenizer.ggml.tokens")
    kinds = value(reader, "tokenizer.ggml.token_type")
    assert tokens[value(reader, "tokenizer.ggml.eos_token_id")] == "<|im_end|>"
    assert tokens[value(reader, "tokenizer.ggml.bos_token_id")] == "<|endoftext|>"
    assert {kinds[tokens.index(name)] for name in CONTROL} == {gguf.TokenType.CONTROL}
    assert {kinds[tokens.index(name)] for name in MARKS} == {gguf.TokenType.USER_DEFINED}


def test_matrices_are_q8_0_with_whole_blocks(reader):
    for tensor in reader.tensors:
        kind = gguf.GGMLQuantizationType.F32 if "norm" in tensor.name else gguf.GGMLQuantizationType.Q8_0
        assert tensor.tensor_type == kind, tensor.name
        assert tensor.shape[0] % BLOCK == 0, tensor.name
    assert WEIGHTS.stat().st_size < 8_000_000


@pytest.mark.parametrize("text", TEXTS)
def test_any_text_comes_back_from_the_tokenizer(reader, text):
    tokens = value(reader, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in value(reader, "tokenizer.ggml.merges")]
    words = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    words.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    words.decoder = decoders.ByteLevel()
    assert words.decode(words.encode(text).ids) == text


def test_no_merge_joins_digits(reader):
    for token in value(reader, "tokenizer.ggml.tokens"):
        assert sum(letter.isdigit() for letter in token) <= 1, token


def test_the_card_names_these_weights():
    card = (HERE / "MODEL_CARD.md").read_text(encoding="utf-8")
    assert hashlib.sha256(WEIGHTS.read_bytes()).hexdigest() in card
