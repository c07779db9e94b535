"""Matrix products and attention with gradients written by hand.

The factors are rounded to bfloat16 and summed in float32. The gradients that
JAX derives contract along strided axes, which XLA's CPU backend does slowly;
written out in the layouts it likes, a training step takes half the time.
"""

import jax
import jax.numpy as jnp

LOW = jnp.bfloat16


def _contract(a, b, axis_a: int, axis_b: int, batch: tuple = ()):
    dimensions = (((axis_a,), (axis_b,)), (batch, batch))
    return jax.lax.dot_general(a.astype(LOW), b.astype(LOW), dimensions, preferred_element_type=jnp.float32)


def _rows(x):
    return x.reshape(-1, x.shape[-1])


@jax.custom_vjp
def linear(x, weight):
    """x (..., D) times weight (D, F)."""
    return _contract(x, weight, x.ndim - 1, 0)


def _linear_forward(x, weight):
    return linear(x, weight), (x.astype(LOW), weight)


def _linear_backward(saved, grad):
    x, weight = saved
    flat = _rows(grad)
    grad_x = _contract(flat, weight, 1, 1).reshape(x.shape)
    # The barrier keeps XLA from folding the transposition into a slow product.
    turned = jax.lax.optimization_barrier(_rows(x).T)
    return grad_x, _contract(turned, flat, 1, 0)


linear.defvjp(_linear_forward, _linear_backward)


def _weights_of(q, k, bias):
    scores = _contract(q, k, 2, 2, (0,)) + bias
    raised = jnp.exp(scores - jnp.max(scores, axis=-1, keepdims=True))
    return raised / jnp.sum(raised, axis=-1, keepdims=True)


@jax.custom_vjp
def attend(q, k, v, bias):
    """softmax(q kT + bias) v, for q (N, R, C), k and v (N, S, C), bias (N, R, S); bias gets no gradient."""
    return _contract(_weights_of(q, k, bias), v, 2, 1, (0,))


def _attend_forward(q, k, v, bias):
    weights = _weights_of(q, k, bias).astype(LOW)
    return _contract(weights, v, 2, 1, (0,)), (q.astype(LOW), k.astype(LOW), v.astype(LOW), weights)


def _attend_backward(saved, grad):
    q, k, v, weights = saved
    grad_weights = _contract(grad, v, 2, 2, (0,))
    wide = weights.astype(jnp.float32)
    inner = jnp.sum(grad_weights * wide, axis=-1, keepdims=True)
    grad_scores = (wide * (grad_weights - inner)).astype(LOW)
    grad_q = _contract(grad_scores, k, 2, 1, (0,))
    grad_k = _contract(grad_scores, q, 1, 1, (0,))
    return grad_q, grad_k, _contract(weights, grad, 1, 1, (0,)), None


attend.defvjp(_attend_forward, _attend_backward)
