"""Positions behind what mixes elements: reductions, products, and operators behind which nothing has a place."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

import onnx

from onnxcam.graph.nodes import attributes
from onnxcam.graph.operators import ATTENTION, PRODUCTS, operand_order, reduced_axes
from onnxcam.graph.positions import Array, Known, Positions, Rule, averaged, kept, together


def nowhere(known: Known, node: onnx.NodeProto, i: int) -> Positions:
    """All positions mixed, or moved in a way that the input decides."""
    return {}


def reduced(known: Known, node: onnx.NodeProto, i: int) -> Positions:
    """A mean, sum, maximum over axes: what they hold of positions is gone, unless it is less than a cell."""
    which = reduced_axes(known.graph, node)
    if known.sizes(node.input[0]) is None or which is None:
        return {}
    here = all_averaged(known.of(node.input[0]), which)
    if attributes(node).get("keepdims", 1):
        return here
    return kept(here, lambda along: replace(along, at=along.at.squeeze(tuple(which))))


def pooled(known: Known, node: onnx.NodeProto, i: int) -> Positions:
    """One number per channel, of all axes behind: of tokens (N, T, C) it is their channels that are pooled."""
    old = known.sizes(node.input[0])
    if old is None or attributes(node).get("channels_last", 0):
        return {}
    return all_averaged(known.of(node.input[0]), range(2, len(old)))


def all_averaged(here: Positions, axes: Iterable[int]) -> Positions:
    """Positions behind a weighted sum over several axes, one after the other."""
    for axis in axes:
        here = kept(here, lambda along, axis=axis: averaged(along, axis))  # type: ignore[misc]
    return here


def multiplied(known: Known, node: onnx.NodeProto, i: int) -> Positions:
    """A matrix product: rows keep their places, columns theirs; where both have some (q k'), rows name the result."""
    operands = [node.input[at] for at in OPERANDS.get(node.op_type, (0, 1))]
    shapes = [known.sizes(name) for name in operands]
    if any(shape is None or len(shape) < 2 for shape in shapes):
        return {}
    attrs = attributes(node)
    orders = (operand_order(attrs, side, len(shape or ())) for side, shape in zip("AB", shapes, strict=True))
    rows, columns = (turned(known.of(name), order) for name, order in zip(operands, orders, strict=True))
    if operands[1] in known.graph.fixed:
        rows = all_averaged(rows, [len(shapes[0] or ()) - 1])
    named = apart_from(rows, -1) or apart_from(columns, -2)
    rank = len(known.sizes(node.output[0]) or ())
    firm = any(name in known.graph.fixed for name in operands)
    return kept(together([named], rank), lambda along: replace(along, firm=along.firm and firm))


def turned(here: Positions, order: list[int]) -> Positions:
    """The same with the axes in another order."""
    return kept(here, lambda along: replace(along, at=along.at.transpose(order)))


def apart_from(here: Positions, axis: int) -> Positions:
    """The coordinates that do not change along an axis."""
    return kept(here, lambda along: None if along.at.shape[axis] > 1 else along)


def attended(known: Known, node: onnx.NodeProto, i: int) -> Positions:
    """Attention in one node: every query gathers from all keys, and names the result."""
    query, new = known.sizes(node.input[0]), known.sizes(node.output[i])
    if query is None or new is None or query[:-1] != new[:-1]:
        return {}
    return kept(known.of(node.input[0]), lambda a: None if a.at.shape[-1] > 1 else replace(a, firm=False))


def summed(known: Known, node: onnx.NodeProto, i: int) -> Positions:
    """Einsum: an operand's axes go where the equation puts them; a sum over positions mixes them."""
    terms, arrow, result = str(attributes(node).get("equation", "")).replace(" ", "").partition("->")
    if not arrow or "." in terms or "." in result:
        return {}
    parts = []
    for name, term in zip(node.input, terms.split(","), strict=True):
        here = known.of(name)
        gone = [axis for axis, letter in enumerate(term) if letter not in result]
        if any(set(along.axes) & set(gone) for along in here.values()) or len(set(term)) < len(term):
            return {}
        parts.append(kept(here, lambda along, term=term: replace(along, at=arranged(along.at, term, result))))  # type: ignore[misc]
    return together(parts, len(result))


def arranged(at: Array, term: str, result: str) -> Array:
    """A coordinate whose axes bear the letters of `term`, with those of `result`."""
    order = [term.index(letter) for letter in result if letter in term]
    rest = [axis for axis in range(len(term)) if axis not in order]
    return at.transpose(*order, *rest).reshape([at.shape[term.index(c)] if c in term else 1 for c in result])


OPERANDS = {"QLinearMatMul": (0, 3), "QGemm": (0, 3)}  # where scales and zero points stand between
REDUCING = [
    "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd", "ReduceL1", "ReduceL2", "ReduceLogSum",
    "ReduceLogSumExp", "ReduceSumSquare", "ArgMax", "ArgMin",
]  # fmt: skip
ENDING = [
    "Col2Im", "CenterCropPad", "Compress", "DFT", "DecoderMaskedMultiHeadAttention", "Det", "DynamicQuantizeLSTM",
    "EmbedLayerNormalization", "GRU", "GatherElements", "GatherND", "GridSample", "If", "LSTM", "LinearAttention",
    "Loop", "MaxRoiPool", "MaxUnpool", "NonZero", "OneHot", "RNN", "ReverseSequence", "RoiAlign", "STFT", "Scan",
    "ScatterElements", "ScatterND", "Shape", "Size", "TopK", "Upsample",
]  # fmt: skip
GLOBAL = ["GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool", "QLinearGlobalAveragePool"]
MIXES: dict[str, Rule] = {
    **dict.fromkeys(ENDING, nowhere),
    **dict.fromkeys(REDUCING, reduced),
    **dict.fromkeys(GLOBAL, pooled),
    **dict.fromkeys(PRODUCTS, multiplied),
    **dict.fromkeys(ATTENTION, attended),
    "Einsum": summed,
}
