"""Trains the network: Muon for the matrices, Adam for the rest, a flat rate and a linear cool-down.

A run is determined by its recipe. It writes a checkpoint now and then and goes
on from it when started again. Sums of floating-point numbers may differ in
their last bits between machines, so another machine gives an equally good model
but not the same bytes.
"""

import json
import time
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np

from . import model
from .corpus import documents
from .dataset import Encoder, pack

jax.config.update("jax_numpy_rank_promotion", "allow")


@dataclass(frozen=True)
class Recipe:
    """Everything that decides the outcome of a run, apart from the corpus."""

    steps: int = 2000
    cooldown: int = 800
    warmup: int = 40
    rows: int = 16
    row_tokens: int = 256
    matrix_rate: float = 0.02
    embedding_rate: float = 0.03
    output_rate: float = 0.006
    norm_rate: float = 0.004
    momentum: float = 0.95
    weight_decay: float = 0.01
    seed: int = 1


def rate_factor(recipe: Recipe, step):
    """Rises during the warm-up, stays at 1, falls to 0 in the cool-down."""
    rising = (step + 1) / recipe.warmup
    falling = (recipe.steps - step) / recipe.cooldown
    return jnp.clip(jnp.minimum(rising, falling), 0.0, 1.0)


def loss_of(parameters, batch, shape):
    tokens, weights, segments, positions = batch
    inputs = (x[:, :-1] for x in (tokens, positions, segments))
    scores = model.logits(parameters, *inputs, shape)
    chosen = jnp.take_along_axis(scores, tokens[:, 1:, None], axis=-1)[..., 0]
    losses = jax.nn.logsumexp(scores, axis=-1) - chosen
    weight = weights[:, 1:].astype(jnp.float32) / 255
    answers = (weights[:, 1:] == 255).astype(jnp.float32)
    answer_loss = jnp.sum(losses * answers) / jnp.maximum(jnp.sum(answers), 1.0)
    return jnp.sum(losses * weight) / jnp.maximum(jnp.sum(weight), 1.0), answer_loss


def orthogonalise(update):
    """Newton-Schulz iteration towards the nearest semi-orthogonal matrix (Jordan, Muon, 2024)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = update.shape[0] > update.shape[1]
    x = update.T if tall else update
    x = x / (jnp.linalg.norm(x) + 1e-7)
    for _ in range(5):
        gram = x @ x.T
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.T if tall else x) * jnp.sqrt(max(1.0, update.shape[1] / update.shape[0]))


def is_matrix(path, leaf) -> bool:
    return leaf.ndim == 2 and path[0].key == "layers"


def adam_rate(recipe: Recipe, path) -> float:
    return {"embedding": recipe.embedding_rate, "output": recipe.output_rate}.get(path[0].key, recipe.norm_rate)


def updated(recipe: Recipe, step, path, weight, grad, first, second):
    """One parameter after one step, with its two running averages."""
    factor = rate_factor(recipe, step)
    if is_matrix(path, weight):
        first = recipe.momentum * first + grad
        direction = orthogonalise(grad + recipe.momentum * first)
        rate = recipe.matrix_rate * factor
        return weight * (1 - rate * recipe.weight_decay) - rate * direction, first, second
    first = 0.9 * first + 0.1 * grad
    second = 0.98 * second + 0.02 * grad * grad
    debiased = (first / (1 - 0.9 ** (step + 1))) / (jnp.sqrt(second / (1 - 0.98 ** (step + 1))) + 1e-10)
    return weight - adam_rate(recipe, path) * factor * debiased, first, second


@partial(jax.jit, static_argnames=("recipe", "shape"), donate_argnums=(0,))
def train_step(state, batch, recipe, shape):
    parameters, firsts, seconds, step = state
    (_, answer_loss), grads = jax.value_and_grad(loss_of, has_aux=True)(parameters, batch, shape)
    paths, structure = jax.tree_util.tree_flatten_with_path(parameters)
    columns = zip(paths, *(jax.tree.leaves(tree) for tree in (grads, firsts, seconds)))
    results = [updated(recipe, step, path, w, g, m, v) for (path, w), g, m, v in columns]
    trees = [jax.tree.unflatten(structure, column) for column in zip(*results)]
    return (*trees, step + 1), answer_loss


def second_moments(parameters):
    """Matrices need none, so theirs is a placeholder of one element."""
    keep = lambda path, leaf: jnp.zeros(1 if is_matrix(path, leaf) else leaf.shape)  # noqa: E731
    return jax.tree_util.tree_map_with_path(keep, parameters)


def fresh_state(shape: model.Shape, recipe: Recipe):
    parameters = model.initial_parameters(shape, recipe.seed)
    zeros = jax.tree.map(jnp.zeros_like, parameters)
    return parameters, zeros, second_moments(parameters), jnp.zeros((), jnp.int32)


def save(path: Path, state) -> None:
    leaves = {f"leaf{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
    partial_path = path.with_suffix(".part.npz")
    np.savez(partial_path, **leaves)
    partial_path.replace(path)


def load(path: Path, like):
    with np.load(path) as stored:
        leaves = [jnp.asarray(stored[f"leaf{i}"]) for i in range(len(stored.files))]
    return jax.tree.unflatten(jax.tree.structure(like), leaves)


def batches(tokenizer, recipe: Recipe, context: int, skip: int):
    """Endless batches; the corpus is generated as it is needed, so no document is seen twice."""
    encoder = Encoder(tokenizer)
    encoded = (encoder.encode(document) for document in documents(recipe.seed, None))
    rows = pack(encoded, recipe.row_tokens + 1, context, recipe.seed)
    for number in range(recipe.steps):
        batch = [next(rows) for _ in range(recipe.rows)]
        if number < skip:
            continue
        fields = ("tokens", "weights", "segments", "positions")
        yield tuple(jnp.asarray(np.stack([getattr(r, f) for r in batch]).astype(np.int32)) for f in fields)


def train(tokenizer, shape: model.Shape, recipe: Recipe, folder: Path):
    """Run or resume; returns the trained parameters."""
    folder.mkdir(parents=True, exist_ok=True)
    checkpoint = folder / "checkpoint.npz"
    state = fresh_state(shape, recipe)
    print(f"{model.parameter_count(state[0])} parameters; {json.dumps(asdict(recipe))}", flush=True)
    if checkpoint.exists():
        state = load(checkpoint, state)
    begun, first, recent = time.monotonic(), int(state[3]), []
    for step, batch in enumerate(batches(tokenizer, recipe, shape.context, first), start=first):
        state, loss = train_step(state, batch, recipe, shape)
        recent.append(loss)
        if (step + 1) % 20 == 0:
            mean = float(np.mean([float(x) for x in recent]))
            pace = (time.monotonic() - begun) / (step + 1 - first)
            left = pace * (recipe.steps - step - 1) / 60
            print(f"step {step + 1} answer loss {mean:.4f} {pace:.2f} s/step, {left:.0f} min left", flush=True)
            recent = []
        if (step + 1) % 50 == 0 or step + 1 == recipe.steps:
            save(checkpoint, state)
    return state[0]
