"""Where chosen elements of a score come from: the head, among several that were joined, which made them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxcam.graph.index import Graph
from onnxcam.graph.integers import MICROSOFT
from onnxcam.graph.nodes import attributes
from onnxcam.graph.paths import depends_on_input
from onnxcam.graph.slicing import stretches

Mask = npt.NDArray[np.bool_]
Known = Mapping[str, npt.NDArray[Any]]  # values by name, for the image at hand
ELEMENTWISE = frozenset(
    [
        "Identity",
        "Cast",
        "Sigmoid",
        "Tanh",
        "Exp",
        "Relu",
        "Clip",
        "Dropout",
        "Neg",
        "QuantizeLinear",
        "DequantizeLinear",
    ]
)
RESHAPING = frozenset({"Reshape", "Flatten", "Squeeze", "Unsqueeze"})
JOINING: dict[str, Callable[[onnx.NodeProto], Sequence[str]]] = {  # and what they join
    "Concat": lambda node: node.input,
    "QLinearConcat": lambda node: node.input[2::3],  # each with its scale and zero point
}
INDEXED = frozenset({"Gather", "GatherElements", "TopK"})  # take elements along an axis, by indices


def source_of(graph: Graph, name: str, chosen: Mask, known: Known | None = None) -> str:
    """The value nearest to the image that still holds all the chosen elements of `name`.

    A detector joins the outputs of its heads, a head those of its branches. Steps that only rearrange, join or squash
    are followed back for as long as one value holds everything chosen.

    Args:
        chosen: bool, of the value's own shape.
        known: indices that the model worked out, see `indices_of`.
    """
    found = name
    while name in graph.producer and chosen.any():
        node = graph.nodes[graph.producer[name]]
        before = step_back(graph, node, chosen, list(node.output).index(name), known or {})
        if before is None:
            break
        name, chosen = before
        found = name if node.op_type in JOINING else found
    return found


def step_back(graph: Graph, node: onnx.NodeProto, chosen: Mask, output: int, known: Known) -> tuple[str, Mask] | None:
    """The one input that holds the chosen elements of a node's output, and which of its own; None: none, or several."""
    if node.domain not in ("", MICROSOFT):
        return None
    if node.op_type in INDEXED:
        return picked(graph, node, chosen, known)
    return WAYS_BACK[node.op_type](graph, node, chosen, output) if node.op_type in WAYS_BACK else None


def indices_of(graph: Graph, score: str) -> list[str]:
    """Indices that an image decides, by which the elements of a score were picked: those of its surest boxes.

    They have a row for each image, as the score has.
    """
    waiting, seen, found = [score], {score}, []
    rows = (graph.shape(score) or (None,))[0]
    while waiting:
        node = graph.maker(waiting.pop())
        if node is None or node.domain != "" or node.op_type not in INDEXED | WAYS_BACK.keys():
            continue
        if node.op_type in INDEXED:
            shape = graph.shape(indices := indices_name(node))
            found += [indices] if shape and rows and shape[0] == rows and indices not in graph.fixed else []
        before = [name for name in node.input if graph.is_real(name) and name not in seen | graph.fixed]
        seen.update(before)
        waiting += before
    return found


def indices_name(node: onnx.NodeProto) -> str:
    """The name of the indices by which a node of INDEXED picks elements."""
    return str(node.output[1] if node.op_type == "TopK" else node.input[1])


def picked(graph: Graph, node: onnx.NodeProto, chosen: Mask, known: Known) -> tuple[str, Mask] | None:
    """The elements that were picked, among all; None where the indices are not known."""
    name, shape = indices_name(node), graph.shape(node.input[0])
    indices = known[name] if name in known else graph.constant(name)
    if indices is None or shape is None:
        return None
    axis = int(attributes(node).get("axis", -1 if node.op_type == "TopK" else 0)) % len(shape)
    spread = indices.ndim if node.op_type == "Gather" else 1  # axes that stand for the one of what is picked from
    outside = (*chosen.shape[:axis], None, *chosen.shape[axis + spread :])
    whole = [size if isinstance(size, int) else other for size, other in zip(shape, outside, strict=True)]
    if None in whole or (node.op_type != "Gather" and indices.shape != chosen.shape):
        return None
    at = np.nonzero(chosen)
    along = indices[at[axis : axis + spread] if node.op_type == "Gather" else at]
    found = np.zeros(whole, bool)
    found[(*at[:axis], along, *at[axis + spread :])] = True
    return node.input[0], found


def same_place(graph: Graph, node: onnx.NodeProto, chosen: Mask, _: int) -> tuple[str, Mask] | None:
    """Element by element."""
    return node.input[0], chosen


def reshaped(graph: Graph, node: onnx.NodeProto, chosen: Mask, _: int) -> tuple[str, Mask] | None:
    """The same elements in the same order."""
    shape = sizes(graph, node.input[0], chosen)
    return None if shape is None or np.prod(shape) != chosen.size else (node.input[0], chosen.reshape(shape))


def transposed(graph: Graph, node: onnx.NodeProto, chosen: Mask, _: int) -> tuple[str, Mask] | None:
    """The axes back in their old order."""
    perm = attributes(node).get("perm") or list(range(chosen.ndim))[::-1]
    return node.input[0], chosen.transpose(np.argsort(perm))


def along_axis(graph: Graph, node: onnx.NodeProto, chosen: Mask, _: int) -> tuple[str, Mask] | None:
    """A softmax: each element depends on all along the axis."""
    axis = int(attributes(node).get("axis", -1))
    return node.input[0], np.broadcast_to(chosen.any(axis, keepdims=True), chosen.shape)


def joined(graph: Graph, node: onnx.NodeProto, chosen: Mask, _: int) -> tuple[str, Mask] | None:
    """The one input that holds everything chosen; None where several do."""
    axis, names = int(attributes(node)["axis"]) % chosen.ndim, JOINING[node.op_type](node)
    lengths = [(graph.shape(name) or ())[axis : axis + 1] for name in names]
    if not all(length and isinstance(length[0], int) for length in lengths):
        return None
    ends = np.cumsum([int(length[0] or 0) for length in lengths])
    if ends[-1] != chosen.shape[axis]:
        return None
    parts = np.split(chosen, ends[:-1], axis)
    holding = [i for i, part in enumerate(parts) if part.any()]
    return (names[holding[0]], parts[holding[0]]) if len(holding) == 1 else None


def parted(graph: Graph, node: onnx.NodeProto, chosen: Mask, output: int) -> tuple[str, Mask] | None:
    """One of the pieces of a Split, between those before and behind it."""
    axis = int(attributes(node).get("axis", 0)) % chosen.ndim
    lengths = [(graph.shape(name) or ())[axis : axis + 1] for name in node.output]
    if not all(length and isinstance(length[0], int) for length in lengths):
        return None
    before, behind = (sum(int(size or 0) for (size,) in part) for part in (lengths[:output], lengths[output + 1 :]))
    margins = [(before, behind) if i == axis else (0, 0) for i in range(chosen.ndim)]
    return node.input[0], np.pad(chosen, margins)


def cut(graph: Graph, node: onnx.NodeProto, chosen: Mask, _: int) -> tuple[str, Mask] | None:
    """The part of a value that a Slice of known bounds takes."""
    shape, parts = graph.shape(node.input[0]), stretches(node, graph.constant)
    if parts is None or shape is None or len(shape) != chosen.ndim:
        return None
    whole = np.zeros([dim if isinstance(dim, int) else chosen.shape[i] for i, dim in enumerate(shape)], bool)
    places = [slice(None)] * whole.ndim
    for part in parts:
        if not isinstance(shape[part.axis], int):
            return None
        places[part.axis] = part.of(whole.shape[part.axis])
    if whole[tuple(places)].shape != chosen.shape:
        return None
    whole[tuple(places)] = chosen
    return node.input[0], whole


def beside(graph: Graph, node: onnx.NodeProto, chosen: Mask, _: int) -> tuple[str, Mask] | None:
    """Element by element with a value that no image moves: strides of boxes, anchors."""
    moved = [name for name in node.input if depends_on_input(graph, name)]
    if len(moved) != 1 or sizes(graph, moved[0], chosen) != chosen.shape:
        return None
    return moved[0], chosen


def sizes(graph: Graph, name: str, chosen: Mask) -> tuple[int, ...] | None:
    """A value's shape, its one unknown size told by the number of elements; None where more are unknown."""
    shape = graph.shape(name)
    if shape is None:
        return None
    known: Any = [size if isinstance(size, int) else -1 for size in shape]
    return tuple(known) if known.count(-1) == 0 else filled(known, chosen.size)


def filled(known: list[int], count: int) -> tuple[int, ...] | None:
    """A shape with its one unknown size worked out."""
    rest = int(np.prod([size for size in known if size != -1]))
    if known.count(-1) != 1 or rest == 0 or count % rest:
        return None
    return tuple(count // rest if size == -1 else size for size in known)


WAYS_BACK = {
    **dict.fromkeys(ELEMENTWISE, same_place), **dict.fromkeys(RESHAPING, reshaped), "Transpose": transposed,
    **dict.fromkeys(JOINING, joined), "Split": parted, "Slice": cut, "Softmax": along_axis, "LogSoftmax": along_axis,
    **dict.fromkeys(["Add", "Sub", "Mul", "Div"], beside),
}  # fmt: skip
