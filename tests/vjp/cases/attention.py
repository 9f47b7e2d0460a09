"""Attention as ONNX and ONNX Runtime spell it."""

from __future__ import annotations

from functools import partial

import numpy as np

from tests.vjp.case import Array, case, held, index, normal

ms = partial(case, domain="com.microsoft")
onnx23 = partial(case, "Attention", opset=23)


def softmax(x: Array) -> Array:
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def heads(x: Array, count: int) -> Array:
    return x.reshape(*x.shape[:2], count, -1).swapaxes(1, 2) if x.ndim == 3 else x


def attended(
    q: Array, k: Array, v: Array, mask: Array | float = 0, scale: float | None = None, *, causal: bool = False,
    cap: float = 0, past: int = 0, open_end: bool = False,
) -> Array:  # fmt: skip
    """[batch, heads, queries, size]; a boolean mask says what counts, another is added.

    An open end lets the last query look at every key, causal or not.
    """
    k, v = (x.repeat(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = q @ k.swapaxes(2, 3) * (1 / np.sqrt(q.shape[-1]) if scale is None else scale)
    scores = cap * np.tanh(scores / cap) if cap else scores
    if causal:
        seen = np.tri(*scores.shape[2:], past, dtype=bool)
        seen[-1] |= open_end
        scores = np.where(seen, scores, -1e300)
    if isinstance(mask, np.ndarray) and mask.dtype == bool:
        scores, mask = np.where(mask, scores, -1e300), 0
    return softmax(scores + mask) @ v


def flat(y: Array) -> Array:
    return y.swapaxes(1, 2).reshape(y.shape[0], y.shape[2], -1)


def four(q: Array, k: Array, v: Array, mask: Array | float = 0, *past: Array, **options) -> Array:
    if past:
        k, v = np.concatenate([past[0], k], 2), np.concatenate([past[1], v], 2)
        options["past"] = past[0].shape[2]
    return attended(q, k, v, 0 if mask is None else mask, **options)


def three(own: int, shared: int, **options):
    def truth(q: Array, k: Array, v: Array, mask: Array | float = 0) -> Array:
        return flat(attended(heads(q, own), heads(k, shared), heads(v, shared), mask, **options))

    return truth


def packed(count: int, sizes: tuple[int, ...] = (4, 4, 4), **options):
    def truth(x: Array, w: Array, b: Array, mask=None, past=None, extra=0) -> Array:
        q, k, v = (heads(p, count) for p in np.split(x @ w + b, np.cumsum(sizes)[:2], -1))
        if past is not None:
            k, v = np.concatenate([past[0], k], 2), np.concatenate([past[1], v], 2)
        off = 0 if mask is None else spread(mask, k.shape[2])
        before = 0 if past is None else past.shape[3]
        return flat(attended(q, k, v, off + (0 if extra is None else extra), past=before, **options))

    return truth


def spread(mask: Array, keys: int) -> Array:
    """-10000 where a key does not count: of a number of keys, one flag a key, one per query and key."""
    if mask.ndim == 1:
        mask = np.arange(keys) < mask[:, None]
    return np.where(mask[:, None, None] if mask.ndim == 2 else mask[:, None], 0, -10000.0)


def many(count: int, **options):
    def truth(q, k=None, v=None, b=None, mask=None, extra=0, old_k=None, old_v=None) -> Array:
        if b is not None:
            width = q.shape[-1]
            q, k, v = q + b[:width], k + b[width : 2 * width], v + b[2 * width :]
        q, k, v = (heads(x, count) for x in (q, k, v))
        if old_k is not None:
            k, v = np.concatenate([old_k, k], 2), np.concatenate([old_v, v], 2)
            options["past"] = old_k.shape[2]
        off = 0 if mask is None else spread(mask, k.shape[2])
        return flat(attended(q, k, v, off + (0 if extra is None else extra), **options))

    return truth


def cached(q: Array, k: Array, v: Array, mask: Array | None, _key: None, _value: None, filled: Array) -> Array:
    """The queries are the last of the keys that are there."""
    keys, queries = np.arange(k.shape[2]), np.arange(q.shape[2])[:, None]
    there = filled[:, None, None, None]
    seen = (keys < there) & (keys <= queries + there - q.shape[2])
    return attended(q, k, v, seen if mask is None else seen & mask)


HEADED = normal("N", 2, 3, 4), normal("N", 2, 5, 4), normal("N", 2, 5, 6)
X, WEIGHT, BIAS = normal("N", 5, 3), normal(3, 12), normal(12)
FLAGS = np.random.default_rng(0).integers(0, 2, (2, 5)).astype(np.int32) | np.array([1, 0, 0, 0, 0], np.int32)
ALLOWED = np.array([[1, 0, 1, 1, 0], [1, 1, 0, 1, 0], [0, 1, 1, 0, 1]], bool)

CASES = [
    onnx23(*HEADED, truth=four),
    onnx23(*HEADED, held(normal(3, 5)), scale=0.3, truth=partial(four, scale=0.3)),
    onnx23(*HEADED, normal("N", 1, 3, 5), truth=four),
    onnx23(*HEADED, index(ALLOWED, bool), truth=four),
    onnx23(*HEADED, index(ALLOWED | np.eye(3, 5, dtype=bool), bool), is_causal=1, truth=partial(four, causal=True)),
    case("Attention", normal(2, 2, 3, 4), normal(2, 2, 6, 4), normal(2, 2, 6, 5), None, None, None, index([6, 4]),
         opset=24, is_causal=1, truth=cached),
    onnx23(*HEADED, is_causal=1, softcap=2.0, truth=partial(four, causal=True, cap=2)),
    onnx23(normal("N", 4, 3, 2), normal("N", 2, 3, 2), normal("N", 2, 3, 2), truth=four),
    onnx23(normal("N", "H", 8), normal("N", "H", 4), normal("N", "H", 4), q_num_heads=4, kv_num_heads=2,
           truth=three(4, 2)),
    onnx23(normal("N", 3, 8), normal("N", 3, 8), normal("N", 3, 4), q_num_heads=2, kv_num_heads=2, is_causal=1,
           truth=three(2, 2, causal=True)),
    onnx23(normal("N", 2, 3, 4), normal("N", 2, 1, 4), normal("N", 2, 1, 6), None, normal("N", 2, 2, 4),
           normal("N", 2, 2, 6), outputs=3, is_causal=1, truth=partial(four, causal=True)),
    onnx23(normal("N", 2, 1, 4), normal("N", 2, 1, 4), normal("N", 2, 1, 6), None, normal("N", 2, 2, 4),
           normal("N", 2, 2, 6), outputs=3, is_causal=1, truth=partial(four, causal=True)),
    ms("Attention", X, WEIGHT, BIAS, num_heads=2, truth=packed(2)),
    ms("Attention", X, held(WEIGHT), held(BIAS), num_heads=2, scale=0.3, unidirectional=1,
       truth=packed(2, scale=0.3, causal=True)),
    ms("Attention", X, normal(3, 14), normal(14), num_heads=2, qkv_hidden_sizes=[4, 4, 6], truth=packed(2, (4, 4, 6))),
    ms("Attention", normal(2, 5, 3), WEIGHT, BIAS, index(FLAGS, np.int32), num_heads=2, truth=packed(2)),
    ms("Attention", normal(2, 5, 3), WEIGHT, BIAS, index([3, 5], np.int32), num_heads=2, truth=packed(2)),
    ms("Attention", normal(2, 5, 3), WEIGHT, BIAS, index(np.stack([FLAGS] * 5, 1), np.int32), num_heads=2,
       truth=packed(2)),
    ms("Attention", X, WEIGHT, BIAS, None, None, normal("N", 2, 5, 5), num_heads=2, truth=packed(2)),
    ms("Attention", X, WEIGHT, BIAS, None, normal(2, "N", 2, 3, 2), num_heads=2, outputs=2, unidirectional=1,
       truth=packed(2, causal=True)),
    ms("MultiHeadAttention", normal("N", 3, 4), normal("N", 5, 4), normal("N", 5, 6), num_heads=2, truth=many(2)),
    ms("MultiHeadAttention", normal("N", 3, 4), normal("N", 5, 4), normal("N", 5, 6), normal(14), num_heads=2,
       scale=0.3, truth=many(2, scale=0.3)),
    ms("MultiHeadAttention", normal(2, 3, 4), normal(2, 5, 4), normal(2, 5, 6), None, index(FLAGS, np.int32),
       normal(1, 2, 3, 5), num_heads=2, truth=many(2)),
    ms("MultiHeadAttention", normal("N", 3, 4), normal("N", 3, 4), normal("N", 3, 4), num_heads=2, unidirectional=1,
       truth=many(2, causal=True)),
    ms("MultiHeadAttention", normal("N", 2, 4), normal("N", 5, 4), normal("N", 5, 4), num_heads=2, unidirectional=1,
       truth=many(2, causal=True, open_end=True)),
    ms("MultiHeadAttention", normal("N", 1, 4), normal("N", 3, 4), normal("N", 3, 4), num_heads=2, unidirectional=1,
       truth=many(2, causal=True, open_end=True)),
    ms("MultiHeadAttention", normal("N", 3, 4), normal("N", 2, 5, 2), normal("N", 2, 5, 2), num_heads=2, truth=many(2)),
    ms("MultiHeadAttention", normal("N", 1, 4), normal("N", 1, 4), normal("N", 1, 4), None, None, None,
       normal("N", 2, 3, 2), normal("N", 2, 3, 2), num_heads=2, outputs=3, truth=many(2)),
]  # fmt: skip
