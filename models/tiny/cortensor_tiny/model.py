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

from .kernels import attend, linear


@dataclass(frozen=True)
class Shape:
    """Sizes of the network. Every matrix row is a multiple of 32, the block of Q8_0."""

    vocabulary: int = 3072
    width: int = 192
    layers: int = 4
    heads: int = 3
    key_value_heads: int = 1
    feed_forward: int = 384
    context: int = 2048
    rope_base: float = 10000.0
    norm_epsilon: float = 1e-5

    @property
    def head_width(self) -> int:
        return self.width // self.heads

    def as_dict(self) -> dict:
        return asdict(self)


def initial_parameters(shape: Shape, seed: int) -> dict:
    """Fresh weights: normal, scaled by fan-in, residual outputs scaled down by depth.

    The embedding is as large as what a layer adds. Were it small, the layers would
    drown which token stands where, and names and numbers could not be copied.
    """
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

    def table(deviation: float):
        return jnp.asarray(rng.standard_normal((shape.vocabulary, shape.width)) * deviation, jnp.float32)

    return {
        "embedding": table(1.0),
        "output": table(0.01),
        "layers": [layer() for _ in range(shape.layers)],
        "output_norm": jnp.ones(shape.width),
    }


def parameter_count(parameters: dict) -> int:
    return sum(leaf.size for leaf in jax.tree.leaves(parameters))


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


def attention(layer: dict, x: jnp.ndarray, tables, bias: jnp.ndarray, shape: Shape) -> jnp.ndarray:
    """Grouped-query attention; the query heads of one group share the rows of one product."""
    batch, length, _ = x.shape
    heads, kv, width = shape.heads, shape.key_value_heads, shape.head_width
    group = heads // kv
    q = rotate(linear(x, layer["q"]).reshape(batch, length, heads, width), tables) * width**-0.5
    k = rotate(linear(x, layer["k"]).reshape(batch, length, kv, width), tables)
    v = linear(x, layer["v"]).reshape(batch, length, kv, width)
    q = q.reshape(batch, length, kv, group, width).transpose(0, 2, 3, 1, 4)
    k, v = (y.transpose(0, 2, 1, 3).reshape(batch * kv, length, width) for y in (k, v))
    mixed = attend(q.reshape(batch * kv, group * length, width), k, v, bias)
    mixed = mixed.reshape(batch, kv, group, length, width).transpose(0, 3, 1, 2, 4)
    return linear(mixed.reshape(batch, length, heads * width), layer["o"])


def attention_bias(segments: jnp.ndarray, shape: Shape) -> jnp.ndarray:
    """0 where a token may look, a large negative number elsewhere, in the shape that `attend` takes."""
    batch, length = segments.shape
    kv, group = shape.key_value_heads, shape.heads // shape.key_value_heads
    causal = jnp.tril(jnp.ones((length, length), bool))
    allowed = causal[None] & (segments[:, :, None] == segments[:, None, :])
    bias = jnp.where(allowed, 0.0, -1e9)[:, None, None]
    return jnp.broadcast_to(bias, (batch, kv, group, length, length)).reshape(batch * kv, group * length, length)


def hidden_states(parameters: dict, tokens, positions, segments, shape: Shape) -> jnp.ndarray:
    """Normalised last hidden states (B, T, D); a token sees only its own segment's past."""
    bias = attention_bias(segments, shape)
    tables = rotary_tables(positions, shape)
    x = parameters["embedding"][tokens]
    for layer in parameters["layers"]:
        normed = rms_norm(x, layer["attn_norm"], shape.norm_epsilon)
        x = x + attention(layer, normed, tables, bias, shape)
        normed = rms_norm(x, layer["ffn_norm"], shape.norm_epsilon)
        gated = jax.nn.silu(linear(normed, layer["gate"])) * linear(normed, layer["up"])
        x = x + linear(gated, layer["down"])
    return rms_norm(x, parameters["output_norm"], shape.norm_epsilon)


def logits(parameters: dict, tokens, positions, segments, shape: Shape) -> jnp.ndarray:
    """Scores (B, T, vocabulary) of the next token."""
    states = hidden_states(parameters, tokens, positions, segments, shape)
    return linear(states, parameters["output"].T)
