"""A Llama-architecture network in JAX: RMSNorm, rotary positions, grouped-query attention, SwiGLU.

Shapes use B (sequences), T (tokens), D (width), H (query heads), K (key/value
heads), C (width of one head). Rotary pairs are *adjacent* elements (2i, 2i+1),
which is the layout that llama.cpp expects of the `llama` architecture, so the
exporter copies the projections without permuting them.

Guarantees: the forward pass is a pure function of its arguments. It does not
sample, tokenise or keep a cache.
"""

from dataclasses import asdict, dataclass

import jax
import jax.numpy as jnp
import numpy as np


@dataclass(frozen=True)
class Shape:
    """Sizes of the network. Every matrix row is a multiple of 32, the block of Q8_0."""

    vocabulary: int = 2048
    width: int = 256
    layers: int = 4
    heads: int = 4
    key_value_heads: int = 2
    feed_forward: int = 512
    context: int = 2048
    rope_base: float = 10000.0
    norm_epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def as_dict(self) -> dict:
        return asdict(self)


def initial_parameters(shape: Shape, seed: int) -> dict:
    """Fresh weights: normal, scaled by fan-in, residual outputs scaled down by depth."""
    rng = np.random.default_rng(seed)
    wide_kv = shape.key_value_heads * shape.head_width

    def matrix(fan_in: int, fan_out: int, scale: float = 1.0) -> jnp.ndarray:
        values = rng.standard_normal((fan_in, fan_out)) * scale / np.sqrt(fan_in)
        return jnp.asarray(values, jnp.float32)

    residual = 1.0 / np.sqrt(2 * shape.layers)
    layer = lambda: {  # noqa: E731 - a recipe used once a layer
        "attn_norm": jnp.ones(shape.width),
        "q": matrix(shape.width, shape.width),
        "k": matrix(shape.width, wide_kv),
        "v": matrix(shape.width, wide_kv),
        "o": matrix(shape.width, shape.width, residual),
        "ffn_norm": jnp.ones(shape.width),
        "gate": matrix(shape.width, shape.feed_forward),
        "up": matrix(shape.width, shape.feed_forward),
        "down": matrix(shape.feed_forward, shape.width, residual),
    }
    embedding = rng.standard_normal((shape.vocabulary, shape.width)) * 0.02
    return {
        "embedding": jnp.asarray(embedding, jnp.float32),
        "layers": [layer() for _ in range(shape.layers)],
        "output_norm": jnp.ones(shape.width),
    }


def parameter_count(parameters: dict) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(parameters))


def product(equation: str, a: jnp.ndarray, b: jnp.ndarray) -> jnp.ndarray:
    """An einsum with bfloat16 factors and a float32 sum: twice as fast on CPUs that have it."""
    low = (a.astype(jnp.bfloat16), b.astype(jnp.bfloat16))
    return jnp.einsum(equation, *low, preferred_element_type=jnp.float32)


def linear(x: jnp.ndarray, weight: jnp.ndarray) -> jnp.ndarray:
    return product("btd,df->btf", x, weight)


def rms_norm(x: jnp.ndarray, weight: jnp.ndarray, epsilon: float) -> jnp.ndarray:
    return x * jax.lax.rsqrt(jnp.mean(x * x, axis=-1, keepdims=True) + epsilon) * weight


def rotary_tables(positions: jnp.ndarray, shape: Shape) -> tuple[jnp.ndarray, jnp.ndarray]:
    """Cosines and sines, each (B, T, 1, C/2), of the rotation of every position."""
    half = shape.head_width // 2
    frequency = shape.rope_base ** (-jnp.arange(half, dtype=jnp.float32) / half)
    angle = positions[..., None].astype(jnp.float32) * frequency
    return jnp.cos(angle)[:, :, None, :], jnp.sin(angle)[:, :, None, :]


def rotate(x: jnp.ndarray, tables: tuple[jnp.ndarray, jnp.ndarray]) -> jnp.ndarray:
    """Rotate each adjacent pair of the last axis of (B, T, heads, C)."""
    cos, sin = tables
    even, odd = x[..., 0::2], x[..., 1::2]
    pairs = jnp.stack([even * cos - odd * sin, even * sin + odd * cos], axis=-1)
    return pairs.reshape(x.shape)


def attention(layer: dict, x: jnp.ndarray, tables, mask: jnp.ndarray, shape: Shape) -> jnp.ndarray:
    batch, length, _ = x.shape
    heads, kv, width = shape.heads, shape.key_value_heads, shape.head_width
    q = rotate(linear(x, layer["q"]).reshape(batch, length, heads, width), tables)
    k = rotate(linear(x, layer["k"]).reshape(batch, length, kv, width), tables)
    v = linear(x, layer["v"]).reshape(batch, length, kv, width)
    q = q.reshape(batch, length, kv, heads // kv, width) * width**-0.5
    scores = product("btkgc,bskc->bkgts", q, k)
    scores = jnp.where(mask[:, None, None], scores, -1e9)
    mixed = product("bkgts,bskc->btkgc", jax.nn.softmax(scores, axis=-1), v)
    return linear(mixed.reshape(batch, length, heads * width), layer["o"])


def hidden_states(parameters: dict, tokens, positions, segments, shape: Shape) -> jnp.ndarray:
    """Normalised last hidden states (B, T, D); a token sees only its own segment's past."""
    length = tokens.shape[1]
    causal = jnp.tril(jnp.ones((length, length), bool))
    mask = causal[None] & (segments[:, :, None] == segments[:, None, :])
    tables = rotary_tables(positions, shape)
    x = parameters["embedding"][tokens]
    for layer in parameters["layers"]:
        normed = rms_norm(x, layer["attn_norm"], shape.norm_epsilon)
        x = x + attention(layer, normed, tables, mask, shape)
        normed = rms_norm(x, layer["ffn_norm"], shape.norm_epsilon)
        gated = jax.nn.silu(linear(normed, layer["gate"])) * linear(normed, layer["up"])
        x = x + linear(gated, layer["down"])
    return rms_norm(x, parameters["output_norm"], shape.norm_epsilon)


def logits(parameters: dict, tokens, positions, segments, shape: Shape) -> jnp.ndarray:
    """Scores (B, T, vocabulary) of the next token; the embedding is also the output matrix."""
    states = hidden_states(parameters, tokens, positions, segments, shape)
    return product("btd,vd->btv", states, parameters["embedding"])
