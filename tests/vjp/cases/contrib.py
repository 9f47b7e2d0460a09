"""Fused operators of ONNX Runtime."""

from __future__ import annotations

from functools import partial

import numpy as np

from tests.vjp.case import Array, case, held, normal

ms = partial(case, domain="com.microsoft")


def layer_normalized(x: Array, scale: Array, shift: Array | float, epsilon: float) -> Array:
    return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + epsilon) * scale + shift


def skipped(epsilon: float = 1e-12):
    def truth(x: Array, skip: Array, scale: Array, shift: Array | None = None, bias: Array | None = None) -> Array:
        return layer_normalized(x + skip + (0 if bias is None else bias), scale, 0 if shift is None else shift, epsilon)

    return truth


def simplified(x: Array, skip: Array, scale: Array, bias: Array | float = 0) -> Array:
    s = x + skip + bias
    return s / np.sqrt((s**2).mean(-1, keepdims=True) + 0.1) * scale


def convolved(x: Array, w: Array, b: Array, z: Array | float = 0, low: float = 0, high: float = np.inf) -> Array:
    """A 1x1 convolution, clipped."""
    return np.clip(np.einsum("nchw,kc->nkhw", x, w[:, :, 0, 0]) + b[:, None, None] + z, low, high)


SEQUENCE = normal("N", "H", 4)
KERNEL = held(normal(2, 3, 1, 1))

CASES = [
    ms("SkipLayerNormalization", SEQUENCE, SEQUENCE, normal(4), normal(4), normal(4), truth=skipped()),
    ms("SkipLayerNormalization", SEQUENCE, SEQUENCE, held(normal(4)), epsilon=0.1, opset=16, truth=skipped(0.1)),
    ms("SkipLayerNormalization", SEQUENCE, normal("H", 4), held(normal(4)), held(normal(4)), truth=skipped()),
    ms("SkipLayerNormalization", SEQUENCE, SEQUENCE, held(normal(4)), outputs=4, of=3, truth=lambda x, s, *_: x + s),
    ms("SkipSimplifiedLayerNormalization", SEQUENCE, SEQUENCE, normal(4), normal(4), epsilon=0.1, truth=simplified),
    ms("SkipSimplifiedLayerNormalization", SEQUENCE, SEQUENCE, held(normal(4)), epsilon=0.1, truth=simplified),
    ms("FusedConv", normal("N", 3, "H", "W"), KERNEL, held(normal(2)), activation="Relu", truth=convolved),
    ms("FusedConv", normal("N", 3, 2, 4), KERNEL, held(normal(2)), normal("N", 2, 2, 4),
       activation="Clip", activation_params=[-0.5, 0.5], truth=partial(convolved, low=-0.5, high=0.5)),
]  # fmt: skip
