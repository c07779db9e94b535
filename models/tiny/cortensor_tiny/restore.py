"""Reads a file that `export` wrote back into parameters, shape and tokenizer.

Used to compare our network with llama.cpp on the committed weights; it reads no
other model's files.
"""

from pathlib import Path

import gguf
import jax.numpy as jnp
import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

from .export import LAYER_NAMES, WHOLE_NAMES
from .model import Shape
from .tokenizer import CONTROL, MARKS


def read(path: Path) -> tuple:
    """(parameters, shape, tokenizer); the weights carry the rounding of Q8_0."""
    reader = gguf.GGUFReader(str(path))
    shape = _shape(reader)
    tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type) for t in reader.tensors}
    array = lambda name: jnp.asarray(np.array(tensors[f"{name}.weight"], np.float32))  # noqa: E731
    layers = []
    for number in range(shape.layers):
        layer = {ours: array(f"blk.{number}.{theirs}").T for ours, theirs in LAYER_NAMES.items()}
        layers.append(layer | {norm: array(f"blk.{number}.{norm}") for norm in ("attn_norm", "ffn_norm")})
    parameters = {name: array(theirs) for name, theirs in WHOLE_NAMES.items()} | {"layers": layers}
    return parameters, shape, _tokenizer(reader)


def _value(reader, key: str):
    return reader.fields[key].contents()


def _shape(reader) -> Shape:
    return Shape(
        vocabulary=_value(reader, "llama.vocab_size"),
        width=_value(reader, "llama.embedding_length"),
        layers=_value(reader, "llama.block_count"),
        heads=_value(reader, "llama.attention.head_count"),
        key_value_heads=_value(reader, "llama.attention.head_count_kv"),
        feed_forward=_value(reader, "llama.feed_forward_length"),
        context=_value(reader, "llama.context_length"),
        rope_base=_value(reader, "llama.rope.freq_base"),
    )


def _tokenizer(reader) -> Tokenizer:
    tokens = _value(reader, "tokenizer.ggml.tokens")
    merges = [tuple(merge.split(" ")) for merge in _value(reader, "tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE({token: i for i, token in enumerate(tokens)}, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(CONTROL)
    tokenizer.add_tokens([AddedToken(mark, normalized=False) for mark in MARKS])
    return tokenizer
