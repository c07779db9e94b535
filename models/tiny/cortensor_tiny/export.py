"""Writes the trained network as a Q8_0 GGUF file of the `llama` architecture.

Norm vectors stay in F32; every matrix is quantised. Rotary pairs are already in llama.cpp's
order, see `model`.
"""

import json
from pathlib import Path

import gguf
import numpy as np

from . import chat
from .model import Shape
from .tokenizer import CONTROL, END_OF_TEXT, MARKS, TURN_END

DESCRIPTION = (
    "A demonstration model that knows a handful of templated topics. It shows that the network works; it is not useful for real work."
)
WHOLE_NAMES = {"embedding": "token_embd", "output": "output", "output_norm": "output_norm"}
LAYER_NAMES = {
    "q": "attn_q", "k": "attn_k", "v": "attn_v", "o": "attn_output", "gate": "ffn_gate", "up": "ffn_up", "down": "ffn_down",
}


def write(path: Path, parameters: dict, shape: Shape, tokenizer) -> None:
    """Write the file; the same input gives the same bytes."""
    writer = gguf.GGUFWriter(str(path), "llama")
    _add_description(writer)
    _add_shape(writer, shape)
    _add_tokenizer(writer, tokenizer, shape.vocabulary)
    _add_matrix(writer, WHOLE_NAMES["embedding"], np.asarray(parameters["embedding"]))
    _add_matrix(writer, WHOLE_NAMES["output"], np.asarray(parameters["output"]))
    _add_vector(writer, WHOLE_NAMES["output_norm"], parameters["output_norm"])
    for number, layer in enumerate(parameters["layers"]):
        for ours, theirs in LAYER_NAMES.items():
            _add_matrix(writer, f"blk.{number}.{theirs}", np.asarray(layer[ours]).T)
        _add_vector(writer, f"blk.{number}.attn_norm", layer["attn_norm"])
        _add_vector(writer, f"blk.{number}.ffn_norm", layer["ffn_norm"])
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def _add_description(writer) -> None:
    writer.add_type("model")
    writer.add_name("cortensor-tiny")
    writer.add_basename("cortensor-tiny")
    writer.add_version("1")
    writer.add_description(DESCRIPTION)
    writer.add_license("apache-2.0")
    writer.add_languages(["en"])
    writer.add_tags(["demonstration", "text-generation"])
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)


def _add_shape(writer, shape: Shape) -> None:
    writer.add_vocab_size(shape.vocabulary)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.width)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.feed_forward)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.key_value_heads)
    writer.add_rope_dimension_count(shape.head_width)
    writer.add_rope_freq_base(shape.rope_base)
    writer.add_layer_norm_rms_eps(shape.norm_epsilon)


def _add_tokenizer(writer, tokenizer, vocabulary: int) -> None:
    tokens = [tokenizer.id_to_token(i) for i in range(vocabulary)]
    kinds = [gguf.TokenType.NORMAL] * vocabulary
    for name in CONTROL:
        kinds[tokens.index(name)] = gguf.TokenType.CONTROL
    for name in MARKS:
        kinds[tokens.index(name)] = gguf.TokenType.USER_DEFINED
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(merges_of(tokenizer))
    writer.add_bos_token_id(tokens.index(END_OF_TEXT))
    writer.add_eos_token_id(tokens.index(TURN_END))
    writer.add_eot_token_id(tokens.index(TURN_END))
    writer.add_pad_token_id(tokens.index(END_OF_TEXT))
    writer.add_add_bos_token(False)
    writer.add_add_eos_token(False)
    writer.add_chat_template(chat.template_source())


def merges_of(tokenizer) -> list:
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in merges]


def _add_matrix(writer, name: str, values: np.ndarray) -> None:
    kind = gguf.GGMLQuantizationType.Q8_0
    quantised = gguf.quants.quantize(np.ascontiguousarray(values, np.float32), kind)
    writer.add_tensor(f"{name}.weight", quantised, raw_dtype=kind)


def _add_vector(writer, name: str, values) -> None:
    writer.add_tensor(f"{name}.weight", np.asarray(values, np.float32))
