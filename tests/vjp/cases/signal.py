"""Fourier transforms: real and complex, both directions, one-sided, cut and filled up."""

from __future__ import annotations

from typing import Any

import numpy as np

from tests.vjp.case import Arg, Array, Case, case, fed, index, normal


def as_pairs(z: Array) -> Array:
    return np.stack([z.real, z.imag], -1)


def dft(*args: Arg | None, opset: int = 17, **attrs: Any) -> Case:
    def transformed(x: Array, length: Array | None = None, axis: Array | None = None) -> Array:
        along = attrs.get("axis", 1) if opset < 20 else -2 if axis is None else int(axis)
        along = along % x.ndim
        z = x[..., 0] if x.shape[-1] == 1 else x @ [1, 1j]
        n, inverse = None if length is None else int(length), attrs.get("inverse", 0)
        if not attrs.get("onesided", 0):
            return as_pairs((np.fft.ifft if inverse else np.fft.fft)(z, n, along))
        return np.fft.irfft(z, n, along)[..., None] if inverse else as_pairs(np.fft.rfft(z, n, along))

    return case("DFT", *args, truth=transformed, opset=opset, **attrs)


def stft(*args: Arg | None, **attrs: Any) -> Case:
    def transformed(x: Array, step: Array, window: Array | None = None, length: Array | None = None) -> Array:
        z = x if x.ndim == 2 else x[..., 0] if x.shape[-1] == 1 else x @ [1, 1j]
        n = int(length) if length is not None else z.shape[1] if window is None else window.size
        starts = range(0, z.shape[1] - n + 1, int(step))
        frames = np.stack([z[:, i : i + n] * (1 if window is None else window) for i in starts], 1)
        return as_pairs(np.fft.rfft(frames) if attrs.get("onesided", 1) else np.fft.fft(frames))

    return case("STFT", *args, truth=transformed, **attrs)


CASES = [
    dft(normal("N", 6, 1)),
    dft(normal("N", "H", 2)),
    dft(normal("N", "L", 1), onesided=1),
    dft(normal("N", 7, 2), inverse=1),
    dft(normal(2, 6, 1), inverse=1, axis=0),
    dft(normal("N", "H", 3, 1), index(4)),
    dft(normal("N", "H", 3, 2), index(10), axis=-2),
    dft(normal("N", 6, 1), fed(index(9)), onesided=1),
    dft(normal("N", 6, 1), index(5, np.int32), onesided=1),
    dft(normal("N", 5, 2), onesided=1, inverse=1),
    dft(normal("N", 5, 2), index(9), onesided=1, inverse=1),
    dft(normal("N", "H", 2), onesided=1, inverse=1),
    dft(normal("N", 5, 3, 2), index(8), onesided=1, inverse=1),
    dft(normal("N", 5, "W", 1), opset=20),
    dft(normal("N", 5, "W", 2), None, index(1), opset=20, inverse=1),
    dft(normal("N", 5, "W", 1), fed(index(8)), index(-3), opset=20, onesided=1),
    dft(normal("N", 5, 2), index(9), opset=20, onesided=1, inverse=1),
    dft(normal(2, 5, 2), None, fed(index(1)), opset=20),
    dft(normal("N", 5, 3, 1), fed(index(8)), fed(index(-3)), opset=20, onesided=1),
    dft(normal("N", "H", 3, 2), None, fed(index(2)), opset=20, onesided=1, inverse=1),
    stft(normal("N", 17, 1), index(3), normal(5), onesided=1),
    stft(normal("N", 17, 1), index(3), normal(5), index(5), onesided=0),
    stft(normal("N", "L", 2), index(2), normal(4), onesided=0),
    stft(normal("N", 12, 1), fed(index(4, np.int32)), None, index(6, np.int32), onesided=1),
    stft(normal("N", 9), index(3), normal(4), onesided=1),
]
