"""Fourier transforms.

Complex numbers are pairs of real ones along the last axis. The adjoint of a transform is its conjugate transpose: the
same transform the other way around, but for the factor 1 / length that belongs to the inverse.
"""

from __future__ import annotations

import numpy as np

from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, RuleError, rule
from onnxcam.vjp.rules.indexing import as_int64, scatter_along

Axis = int | str  # or an int64 scalar that only the running graph knows


@rule("DFT", versions=(17, 20), only=[0])
def fourier_transform(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = F X;  dX = F^H ct, cut or filled up to X's size; of a real X the real part."""
    axis, rank, inverse, onesided = transformed_axis(g, n), n.rank(), n.attr("inverse", 0), n.attr("onesided", 0)
    if inverse and onesided:
        return [half_spectrum(g, n, ct, axis)]
    size = size_along(g, n.input[0], axis)
    length = as_int64(g, g.op("Reshape", n.input[1], g.ints(1))) if n.has(1) else size
    if onesided:  # the other half is not given out
        ct = resized(g, ct, rank, axis, length)
    dx = adjoint(g, n, ct, length, axis, inverse=1 - inverse)
    dx = real_part(g, dx) if is_real(n) else dx
    return [resized(g, dx, rank, axis, size) if n.has(1) else dx]


def half_spectrum(g: Emitter, n: Node, ct: str, axis: Axis) -> str:
    """d X of a real signal from half a spectrum, which is read twice, but for 0 and the highest of an even length."""
    given, bins = n.number(1), n.size(axis) if isinstance(axis, int) else None
    if n.has(1) and (given is None or bins is None or given // 2 + 1 != bins):
        raise RuleError("half a spectrum is not known to have dft_length / 2 + 1 frequencies")
    length = size_along(g, ct, axis)
    k = g.arange(g.op("Squeeze", size_along(g, n.input[0], axis), g.ints(0)))
    once = g.op("Or", g.op("Equal", k, g.ints(0)), g.op("Equal", g.op("Add", k, k), length))
    times = g.op("Where", once, n.array(1), n.array(2))
    along = g.op("Reshape", times, placed(g, n.rank(), axis, g.ints(-1), others=1))
    return g.op("Mul", adjoint(g, n, ct, length, axis, inverse=0, onesided=1), along)


def transformed_axis(g: Emitter, n: Node) -> Axis:
    """The axis of a DFT: an attribute, from opset 20 on an input."""
    if g.graph.opset < 20:
        return n.axis(1)
    if not n.has(2):
        return n.rank() - 2
    given = n.number(2)
    return as_int64(g, n.input[2]) if given is None else int(given) % n.rank()


def size_along(g: Emitter, value: str, axis: Axis) -> str:
    """The size of a primal value, or a cotangent, along an axis, as a vector of one."""
    if isinstance(axis, int):
        return g.dims(value, (axis, 1))
    return g.op("Gather", g.op("Shape", value), g.op("Reshape", axis, g.ints(1)))


def placed(g: Emitter, rank: int, axis: Axis, number: str, *, others: int) -> str:
    """A number for every axis: for one that in a vector of one, for the others another."""
    if isinstance(axis, int):
        parts = g.ints(*[others] * axis), number, g.ints(*[others] * (rank - axis - 1))
        return g.op("Concat", *parts, axis=0)
    here = g.op("Equal", g.ints(*range(rank)), g.op("Mod", axis, g.const(rank, np.int64)))
    return g.op("Where", here, number, g.ints(others))


def is_real(n: Node) -> bool:
    """Whether a signal has real parts only."""
    last = n.size(-1)
    if last is None:
        raise RuleError("whether its signal is complex is not known before it runs")
    return last == 1


def adjoint(g: Emitter, n: Node, ct: str, length: str, axis: Axis, *, inverse: int, onesided: int = 0) -> str:
    """The conjugate transpose of a transform of some length (a vector of one), by the transform that is `inverse`."""
    count, as_input = g.op("Squeeze", length, g.ints(0)), g.graph.opset >= 20
    where = [g.const(axis, np.int64) if isinstance(axis, int) else axis] if as_input else []
    there = None if as_input else axis
    transformed = g.op("DFT", ct, count, *where, axis=there, inverse=inverse, onesided=onesided)
    return g.op("Mul" if inverse else "Div", transformed, g.cast(length, n.elem_type))


def real_part(g: Emitter, value: str) -> str:
    """The real part of pairs, as an axis of one."""
    return g.op("Slice", value, g.ints(0), g.ints(1), g.ints(-1))


def resized(g: Emitter, value: str, rank: int, axis: Axis, size: str) -> str:
    """A value cut, or filled up with zeros, at the end of one axis; `size`: a vector of one."""
    lacking = g.op("Sub", size, size_along(g, value, axis))
    return g.op("Pad", value, g.op("Concat", g.ints(*[0] * rank), placed(g, rank, axis, lacking, others=0), axis=0))


@rule("STFT", versions=(17,), only=[0, 2])
def short_time_fourier_transform(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = F (window X), frame by frame;  dX = window F^H ct added up where frames meet, d window = X F^H ct summed."""
    length = frame_length(g, n)
    if n.attr("onesided", 1):
        ct = resized(g, ct, 4, 2, length)
    frames = adjoint(g, n, ct, length, 2, inverse=1)  # (batch, frames, length, 2)
    if n.rank() == 2 or is_real(n):
        frames = real_part(g, frames)
    index = frame_index(g, n, ct, length)
    dx = dw = None
    if n.wants(0):
        weighted = g.op("Mul", frames, g.op("Unsqueeze", n.x(2), g.ints(1))) if n.has(2) else frames
        parts = [2] if n.rank() == 3 and not is_real(n) else [1][: n.rank() - 2]
        row = g.op("Reshape", weighted, g.ints(0, -1, *parts))
        dx = scatter_along(g, n, row, g.op("Reshape", index, g.ints(-1)), 1)
    if n.wants(2):
        signal = n.x() if n.rank() == 3 else g.op("Unsqueeze", n.x(), g.ints(2))
        read = g.op("Gather", signal, index, axis=1)
        dw = g.reduce("ReduceSum", g.op("Mul", frames, read), [0, 1, 3], keepdims=0)
    return [dx, None, dw]


def frame_length(g: Emitter, n: Node) -> str:
    """The length of a frame, as a vector of one."""
    if n.has(3):
        return as_int64(g, g.op("Reshape", n.input[3], g.ints(1)))
    return g.op("Shape", n.input[2]) if n.has(2) else g.dims(n.input[0], (1, 1))


def frame_index(g: Emitter, n: Node, ct: str, length: str) -> str:
    """(frames, length): which samples of the signal each frame reads."""
    count = g.op("Gather", g.op("Shape", ct), g.const(1, np.int64))
    starts = g.op("Mul", g.arange(count), as_int64(g, g.op("Reshape", n.input[1], g.ints(1))))
    return g.op("Add", g.op("Unsqueeze", starts, g.ints(1)), g.arange(g.op("Squeeze", length, g.ints(0))))
