"""Fused operators of ONNX Runtime."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np

from tests.vjp.case import Arg, Array, case, held, index, ints, normal, positive, values
from tests.vjp.cases.sampling import grid_of, sampled

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


def erf_gelu(x: Array, b: Array | float = 0) -> Array:
    return (x + b) * (1 + np.vectorize(math.erf)((x + b) / math.sqrt(2))) / 2


def tanh_gelu(x: Array, b: Array | float = 0) -> Array:
    z = x + b
    return z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))) / 2


def gemm(activation: Callable[[Array], Array], alpha: float = 1, *, trans: bool = False):
    def truth(a: Array, b: Array, c: Array | float = 0) -> Array:
        return activation(alpha * a @ (b.T if trans else b) + c)

    return truth


def bits_product(bits: int, block: int, columns: int, groups: Array | None = None, *, packed: bool = True):
    """A (B - z) s, with B and z taken out of their bytes one by one."""

    def numbers(data: Array, count: int) -> Array:
        each = [data >> (bits * i) & (2**bits - 1) for i in range(8 // bits)]
        return np.stack(each, -1).reshape(len(data), -1)[:, :count].astype(float)

    def truth(a: Array, b: Array, s: Array, z: Array | None = None, _: Array | None = None, bias: Array | float = 0):
        group = np.arange(columns) // block if groups is None else groups
        rows, blocks = len(b), -(-columns // block)
        points = np.full((rows, blocks), 2.0 ** (bits - 1))
        if z is not None:
            points = numbers(z.reshape(rows, -1), blocks) if packed else z.reshape(rows, blocks)
        weight = numbers(b.reshape(rows, -1), columns) - points[:, group]
        return a @ (weight * s.reshape(rows, blocks)[:, group]).T + bias

    return truth


def bytes_of(*shape: int) -> Arg:
    return index(np.random.default_rng(3).integers(0, 256, shape), np.uint8)


def sampled_as(attrs: dict[str, Any], x: Array, grid: Array) -> Array:
    return sampled(x, grid, attrs)


def cropped(nearest: bool = False, outside: float = 0):
    """Every pixel of every region by itself."""

    def one(x: Array, y_at: float, x_at: float) -> Array:
        (height, width) = x.shape[1:]
        if not (0 <= y_at <= height - 1 and 0 <= x_at <= width - 1):
            return np.full(len(x), outside)
        if nearest:
            return x[:, int(y_at + 0.5), int(x_at + 0.5)]
        top, left = int(np.floor(y_at)), int(np.floor(x_at))
        down, right = min(top + 1, height - 1), min(left + 1, width - 1)
        upper = x[:, top, left] + (x[:, top, right] - x[:, top, left]) * (x_at - left)
        lower = x[:, down, left] + (x[:, down, right] - x[:, down, left]) * (x_at - left)
        return upper + (lower - upper) * (y_at - top)

    def positions(start: float, end: float, count: int, size: int) -> Array:
        return (np.linspace(start, end, count) if count > 1 else np.array([(start + end) / 2])) * (size - 1)

    def truth(x: Array, rois: Array, batch: Array, size: Array) -> Array:
        found = np.zeros((len(rois), x.shape[1], *size))
        for r, (y1, x1, y2, x2) in enumerate(rois):
            for i, y_at in enumerate(positions(y1, y2, size[0], x.shape[2])):
                for j, x_at in enumerate(positions(x1, x2, size[1], x.shape[3])):
                    found[r, :, i, j] = one(x[batch[r]], y_at, x_at)
        return found

    return truth


def turned(count: int, *, interleaved: bool = False, dim: int | None = None):
    """Pairs of every head as complex numbers, turned."""

    def truth(x: Array, ids: Array, cos: Array, sin: Array) -> Array:
        four = x.reshape(*x.shape[:2], count, -1).swapaxes(1, 2) if x.ndim == 3 else x
        ids = ids[:, None] if ids.ndim == 2 else ids + np.arange(four.shape[2])
        size = dim or four.shape[3]
        part, half = four[..., :size], size // 2
        z = part[..., ::2] + 1j * part[..., 1::2] if interleaved else part[..., :half] + 1j * part[..., half:]
        z = z * (cos[ids] + 1j * sin[ids])
        pairs = np.stack([z.real, z.imag], -1 if interleaved else -2)
        y = np.concatenate([pairs.reshape(part.shape), four[..., size:]], -1)
        return y.swapaxes(1, 2).reshape(x.shape) if x.ndim == 3 else y

    return truth


ROIS = values([[0.1, 0.05, 0.83, 0.92], [-0.2, 0.3, 0.6, 0.74], [0.22, 0.9, 0.77, 0.31]])
CROPS = ROIS, index([0, 1, 0], np.int32)
ANGLES = held(normal(6, 2)), held(normal(6, 2))
PLACES = index([[0, 1, 2], [5, 3, 4]])

SEQUENCE = normal("N", "H", 4)
KERNEL = held(normal(2, 3, 1, 1))
GROUPS = np.random.default_rng(4).integers(0, 2, 32)

CASES = [
    ms("SkipLayerNormalization", SEQUENCE, SEQUENCE, normal(4), normal(4), normal(4), truth=skipped()),
    ms("SkipLayerNormalization", SEQUENCE, SEQUENCE, held(normal(4)), epsilon=0.1, opset=16, truth=skipped(0.1)),
    ms("SkipLayerNormalization", SEQUENCE, normal("H", 4), held(normal(4)), held(normal(4)), truth=skipped()),
    ms("SkipLayerNormalization", SEQUENCE, SEQUENCE, held(normal(4)), outputs=4, of=3, truth=lambda x, s, *_: x + s),
    *(
        ms("SkipLayerNormalization", SEQUENCE, SEQUENCE, held(normal(4)), outputs=4, of=of, epsilon=0.1, opset=opset,
           truth=lambda x, s, _, of=of: (x + s).mean(-1, keepdims=True) if of == 1 else
           1 / np.sqrt((x + s).var(-1, keepdims=True) + 0.1))
        for of in (1, 2)
        for opset in (16, 17)
    ),
    *(
        ms("SkipSimplifiedLayerNormalization", SEQUENCE, SEQUENCE, held(normal(4)), outputs=4, of=of, epsilon=0.1,
           truth=lambda x, s, _, of=of: (of - 1) / np.sqrt(((x + s) ** 2).mean(-1, keepdims=True) + 0.1))
        for of in (1, 2)
    ),
    ms("SkipSimplifiedLayerNormalization", SEQUENCE, SEQUENCE, normal(4), normal(4), epsilon=0.1, truth=simplified),
    ms("SkipSimplifiedLayerNormalization", SEQUENCE, SEQUENCE, held(normal(4)), epsilon=0.1, truth=simplified),
    ms("FusedConv", normal("N", 3, "H", "W"), KERNEL, held(normal(2)), activation="Relu", truth=convolved),
    ms("FusedConv", normal("N", 3, 2, 4), KERNEL, held(normal(2)), normal("N", 2, 2, 4),
       activation="Clip", activation_params=[-0.5, 0.5], truth=partial(convolved, low=-0.5, high=0.5)),
    ms("FusedGemm", normal("N", 3), normal(3, 4), normal(4), activation="Tanh", alpha=0.5, truth=gemm(np.tanh, 0.5)),
    ms("FusedGemm", normal("N", 3), held(normal(4, 3)), transB=1, activation="LeakyRelu", activation_alpha=0.25,
       truth=gemm(lambda y: np.where(y > 0, y, 0.25 * y), trans=True)),
    ms("FusedGemm", normal("N", 3), normal(3, 4), activation="Selu", activation_alpha=1.2, activation_gamma=0.8,
       truth=gemm(lambda y: 0.8 * np.where(y > 0, y, 1.2 * (np.exp(y) - 1)))),
    ms("FusedMatMul", normal("N", 2, 3), normal("N", 4, 3), transB=1, alpha=0.5,
       truth=lambda a, b: 0.5 * a @ b.swapaxes(1, 2)),
    ms("FusedMatMul", normal("N", 3, 2), normal(3, 4), transA=1, truth=lambda a, b: a.swapaxes(1, 2) @ b),
    ms("FusedMatMul", normal(2, "N", 3), normal(3, "N", 4), transBatchA=1, transBatchB=1,
       truth=lambda a, b: a.swapaxes(0, 1) @ b.swapaxes(0, 1)),
    ms("FusedMatMul", normal(3, "N", 2), normal("N", 3, 4), transBatchA=1, transA=1,
       truth=lambda a, b: a.transpose(1, 2, 0) @ b),
    ms("TransposeMatMul", normal("N", 3), held(normal(4, 3)), transB=1, alpha=2.0, truth=lambda a, b: 2 * a @ b.T),
    ms("Gelu", normal("N", 5), truth=erf_gelu),
    ms("BiasGelu", normal("N", "H", 5), normal(5), truth=erf_gelu),
    ms("FastGelu", normal("N", 5), truth=tanh_gelu),
    ms("FastGelu", normal("N", "H", 5), normal(5), truth=tanh_gelu),
    ms("QuickGelu", normal("N", 5), truth=lambda x: x / (1 + np.exp(-1.702 * x))),
    ms("QuickGelu", normal("N", 5), alpha=1.0, truth=lambda x: x / (1 + np.exp(-x))),
    ms("MatMulNBits", normal("N", 2, 32), bytes_of(3, 2, 8), held(positive(6)), bits=4, block_size=16, K=32, N=3,
       truth=bits_product(4, 16, 32)),
    ms("MatMulNBits", normal("N", 40), bytes_of(3, 3, 8), held(positive(9)), bytes_of(6), None, held(normal(3)),
       bits=4, block_size=16, K=40, N=3, truth=bits_product(4, 16, 40)),
    ms("MatMulNBits", normal("N", 32), bytes_of(3, 2, 8), held(positive(6)), None, index(GROUPS, np.int32),
       bits=4, block_size=16, K=32, N=3, truth=bits_product(4, 16, 32, GROUPS)),
    ms("MatMulNBits", normal("N", 32), bytes_of(3, 2, 16), held(positive(6)), bytes_of(6), bits=8, block_size=16,
       K=32, N=3, truth=bits_product(8, 16, 32)),
    ms("MatMulNBits", normal("N", 32), bytes_of(3, 2, 8), held(positive(6)), held(positive(6)), bits=4, block_size=16,
       K=32, N=3, truth=bits_product(4, 16, 32, packed=False)),
    ms("CropAndResize", normal(2, 2, "H", 5), *CROPS, index([3, 4], np.int32), truth=cropped()),
    ms("CropAndResize", normal(2, 2, 4, 5), *CROPS, index([1, 1], np.int32), truth=cropped()),
    ms("CropAndResize", normal(2, 2, 4, 5), *CROPS, index([3, 2], np.int32), mode="nearest", extrapolation_value=2.0,
       truth=cropped(nearest=True, outside=2)),
    ms("RotaryEmbedding", normal(2, 3, 8), PLACES, *ANGLES, truth=turned(2)),
    ms("RotaryEmbedding", normal(2, 3, 8), PLACES, normal(6, 2), normal(6, 2), truth=turned(2)),
    ms("RotaryEmbedding", normal(2, 2, 3, 4), PLACES, *ANGLES, interleaved=1, truth=turned(2, interleaved=True)),
    ms("RotaryEmbedding", normal("N", 3, 8), index([2]), *ANGLES, num_heads=2, truth=turned(2)),
    ms("RotaryEmbedding", normal(2, 3, 12), PLACES, *ANGLES, num_heads=2, rotary_embedding_dim=4,
       truth=turned(2, dim=4)),
    ms("Pad", normal("N", 3), ints(0, 1, 0, 2), truth=lambda x, _: np.pad(x, [(0, 0), (1, 2)])),
    ms("Pad", normal("N", 4), ints(0, 1, 0, 2), mode="reflect",
       truth=lambda x, _: np.pad(x, [(0, 0), (1, 2)], "reflect")),
    ms("Trilu", normal("N", 3, 3), index(1), upper=0, truth=lambda x, k: np.tril(x, 1)),
    ms("Trilu", normal("N", 3, 4), truth=np.triu),
    ms("ExpandDims", normal("N", 3), index(-1, np.int32), truth=lambda x, _: x[..., None]),
    ms("ExpandDims", normal("N", 3), index([1], np.int32), truth=lambda x, _: x[:, None]),
    ms("GatherND", normal(3, "N"), index([[2], [0], [2]], np.int32), truth=lambda x, i: x[i[:, 0]]),
    *(
        ms("GridSample", normal("N", 2, 4, 5), grid_of("N", 3, 2, 2), truth=partial(sampled_as, attrs), **attrs)
        for attrs in ({}, {"mode": "bicubic", "padding_mode": "reflection"}, {"mode": "nearest", "align_corners": 1})
    ),
    ms("Inverse", normal("N", 3, 3), truth=np.linalg.inv),
    ms("Inverse", normal(2, 2), truth=np.linalg.inv),
]  # fmt: skip
