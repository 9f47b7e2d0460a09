"""Rotary embeddings: pairs of channels of every head, turned by an angle that follows the position."""

from __future__ import annotations

import numpy as np

from onnxcam.graph import MICROSOFT
from onnxcam.vjp.body import Outputs, lowered, lowering
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangents, Node, RuleError, rule
from onnxcam.vjp.rules.attention import from_heads, in_heads, positions


def rotated(w: Emitter, n: Node, x: str, cos: str, sin: str, count: int) -> str:
    """Pairs (a, b) in the first `count` channels as (a cos - b sin, a sin + b cos).

    Args:
        x: [batch, heads, positions, size].
        cos, sin: [batch or 1, 1, positions, pairs].
    """
    pair = [0, 0, 0, -1, 2] if n.attr("interleaved", 0) else [0, 0, 0, 2, -1]
    axis = pair.index(2)
    pairs = w.op("Reshape", w.op("Slice", x, w.ints(0), w.ints(count), w.ints(3)), w.ints(*pair))
    a, b = (w.op("Gather", pairs, w.const(i, np.int64), axis=axis) for i in (0, 1))
    left = w.op("Sub", w.op("Mul", a, cos), w.op("Mul", b, sin))
    right = w.op("Add", w.op("Mul", a, sin), w.op("Mul", b, cos))
    both = w.op("Concat", *(w.op("Unsqueeze", part, w.ints(axis)) for part in (left, right)), axis=axis)
    rest = w.op("Slice", x, w.ints(count), w.ints(np.iinfo(np.int64).max), w.ints(3))
    return w.op("Concat", w.op("Reshape", both, w.ints(0, 0, 0, count)), rest, axis=3)


def width_of(n: Node, i: int) -> int:
    """The number of pairs, which is the last size of input i. RuleError: it is not known."""
    width = n.size(-1, i)
    if width is None:
        raise RuleError("the width of its angles is not known")
    return width


@rule("RotaryEmbedding", versions=(23,), only=[0, 1, 2])
def rotary_embedding(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Pairs (a, b) of channels turned by an angle;  dX = ct turned back, d cos = ct_a a + ct_b b of all heads."""
    if n.wants(1) or n.wants(2):
        return lowered(spelled)(g, n, ct)
    return [g.op("RotaryEmbedding", ct, n.x(1), g.op("Neg", n.x(2)), *n.input[3:], **n.attrs)]


def spelled(w: Emitter, n: Node) -> Outputs:
    """ONNX's RotaryEmbedding. With position ids the angles are looked up."""
    flat, count = n.rank() == 3, n.attr("rotary_embedding_dim", 0) or 2 * width_of(n, 1)
    x = in_heads(w, n.x(), n.attr("num_heads")) if flat else n.x()
    told = (w.op("Gather", n.x(i), n.input[3], axis=0) if n.has(3) else n.x(i) for i in (1, 2))
    cos, sin = (w.op("Unsqueeze", angle, w.ints(1)) for angle in told)
    y = rotated(w, n, x, cos, sin, count)
    return [from_heads(w, y) if flat else y]


@lowering("RotaryEmbedding", domain=MICROSOFT, only=[0, 2, 3])
def onnxruntime_rotary_embedding(w: Emitter, n: Node) -> Outputs:
    """Pairs (a, b) of every head turned: (a cos - b sin, a sin + b cos), angles by position."""
    width = width_of(n, 2)
    flat, count = n.rank() == 3, n.attr("rotary_embedding_dim", 0) or 2 * width
    x = w.op("Reshape", n.x(), w.ints(0, 0, n.attr("num_heads", 0) or -1, *size_of_heads(n, width))) if flat else n.x()
    x = w.op("Transpose", x, perm=[0, 2, 1, 3]) if flat else x
    y = rotated(w, n, x, angles(w, n, x, 2), angles(w, n, x, 3), count)
    return [from_heads(w, y) if flat else y]


def size_of_heads(n: Node, width: int) -> list[int]:
    """The last axis of [batch, positions, heads, size]: left open where the number of heads is said."""
    return [-1] if n.attr("num_heads", 0) else [2 * width]


def angles(w: Emitter, n: Node, x: str, i: int) -> str:
    """Cosines or sines [batch or 1, 1, positions, pairs] of the positions; one position is that of the first row."""
    ids = n.input[1]
    if n.rank(1) == 2:
        return w.op("Unsqueeze", w.op("Gather", n.x(i), ids, axis=0), w.ints(1))
    return w.op("Gather", n.x(i), w.op("Add", positions(w, x), ids), axis=0)
