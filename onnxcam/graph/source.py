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
from onnxcam.graph.operators import reduced_axes
from onnxcam.graph.paths import depends_on_input
from onnxcam.graph.slicing import stretches
from onnxcam.graph.types import Shape

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


def source_of(graph: Graph, name: str, chosen: Mask, known: Known | None = None) -> str:
    """The value nearest to the image that still holds all the chosen elements of `name`.

    A detector joins the outputs of its heads, a head those of its branches. Steps that only rearrange, join or squash
    are followed back for as long as one value holds everything chosen.

    Args:
        chosen: bool, of the value's own shape.
        known: what the model worked out, see `indices_of`. Where it counts what it found, only the beginning is held.
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
    if node.op_type in PICKED:
        name = picked_by(node)
        value = known[name] if name in known else graph.constant(name)
        return None if value is None else PICKED[node.op_type](graph, node, chosen, value)
    return WAYS_BACK[node.op_type](graph, node, chosen, output) if node.op_type in WAYS_BACK else None


def indices_of(graph: Graph, score: str, *, alone: bool = False) -> dict[str, bool]:
    """Values that an image decides, by which the elements of a score were picked: the indices of its surest boxes.

    And whether each has a row for each image, as the score has; `alone`: others too, of a model of one image.
    """
    waiting, seen, found = [score], {score}, dict[str, bool]()
    rows = (graph.shape(score) or (None,))[0]
    while waiting:
        node = graph.maker(waiting.pop())
        if node is None or node.domain != "" or node.op_type not in PICKED.keys() | WAYS_BACK.keys():
            continue
        name = picked_by(node) if node.op_type in PICKED else ""
        if name and name not in graph.fixed:
            has_rows = rows is not None and (graph.shape(name) or (None,))[0] == rows and node.op_type != "Pad"
            found |= {name: has_rows} if has_rows or alone else {}
        before = [name for name in node.input if graph.is_real(name) and name not in seen | graph.fixed]
        seen.update(before)
        waiting += before
    return found


def picked_by(node: onnx.NodeProto) -> str:
    """The value by which a node of PICKED takes elements: indices, or the widths of padding."""
    return str(node.output[1] if node.op_type == "TopK" else node.input[1])


def picked(graph: Graph, node: onnx.NodeProto, chosen: Mask, indices: npt.NDArray[Any]) -> tuple[str, Mask] | None:
    """The elements that were picked along an axis, among all."""
    shape = graph.shape(node.input[0])
    if shape is None:
        return None
    axis = int(attributes(node).get("axis", -1 if node.op_type == "TopK" else 0)) % len(shape)
    spread = indices.ndim if node.op_type == "Gather" else 1  # axes that stand for the one of what is picked from
    at = np.nonzero(chosen)
    if node.op_type != "Gather" and indices.shape != chosen.shape:
        return None
    along = indices[at[axis : axis + spread] if node.op_type == "Gather" else at]
    outside = (*chosen.shape[:axis], None, *chosen.shape[axis + spread :])
    return placed(node.input[0], shape, outside, (*at[:axis], along, *at[axis + spread :]))


def picked_anywhere(
    graph: Graph, node: onnx.NodeProto, chosen: Mask, indices: npt.NDArray[Any]
) -> tuple[str, Mask] | None:
    """The elements, or slices of elements, that GatherND picked."""
    shape, depth, spread = graph.shape(node.input[0]), indices.shape[-1], indices.ndim - 1
    if shape is None or attributes(node).get("batch_dims", 0) or chosen.ndim != spread + len(shape) - depth:
        return None
    at = np.nonzero(chosen)
    outside = (*[None] * depth, *chosen.shape[spread:])
    return placed(node.input[0], shape, outside, (*indices[at[:spread]].T, *at[spread:]))


def placed(
    name: str, shape: Shape, outside: Sequence[int | None], at: Sequence[npt.NDArray[np.intp]]
) -> tuple[str, Mask] | None:
    """A value, chosen at some places.

    The first axis of several elements may be of unknown length: it is as long as these places need, for nothing comes
    behind them. Another one would put what follows elsewhere.

    Args:
        outside: the sizes of what was chosen; None along the axes that were picked from.
    """
    lengths = list[int]()
    for known, other, line in zip(shape, outside, at, strict=True):
        size = known if isinstance(known, int) else other
        if size is None and (line.min() < 0 or max(lengths, default=1) > 1):
            return None
        lengths.append(int(line.max()) + 1 if size is None else size)
    found = np.zeros(lengths, bool)
    found[tuple(at)] = True
    return name, found


def unpadded(graph: Graph, node: onnx.NodeProto, chosen: Mask, pads: npt.NDArray[Any]) -> tuple[str, Mask] | None:
    """What lies inside of padding; None where some of the chosen is that."""
    if (len(node.input) > 3 and node.input[3]) or len(pads) != 2 * chosen.ndim or (pads < 0).any():
        return None
    before, behind = pads[: chosen.ndim], pads[chosen.ndim :]
    sizes = zip(before, behind, chosen.shape, strict=True)
    inside = chosen[tuple(slice(int(low), size - int(high)) for low, high, size in sizes)]
    return (node.input[0], inside) if inside.sum() == chosen.sum() else None


PICKED = {
    **dict.fromkeys(["Gather", "GatherElements", "TopK"], picked), "GatherND": picked_anywhere, "Pad": unpadded,
}  # fmt: skip


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


def updated(graph: Graph, node: onnx.NodeProto, chosen: Mask, _: int) -> tuple[str, Mask] | None:
    """What a ScatterND puts in at fixed places; None where some of the chosen is what was there before."""
    places = graph.constant(node.input[1])
    if places is None or attributes(node).get("reduction", "none") != "none":
        return None
    if places.shape[-1] > chosen.ndim or (places >= chosen.shape[: places.shape[-1]]).any():
        return None
    taken = chosen[tuple(np.moveaxis(places, -1, 0))]
    return (node.input[2], taken) if taken.sum() == chosen.sum() else None


def highest(graph: Graph, node: onnx.NodeProto, chosen: Mask, _: int) -> tuple[str, Mask] | None:
    """All of which a ReduceMax takes the highest."""
    axes, shape = reduced_axes(graph, node), graph.shape(node.input[0])
    if axes is None or shape is None:
        return None
    if not attributes(node).get("keepdims", 1):
        chosen = np.expand_dims(chosen, tuple(axes))
    whole = [n if isinstance(n, int) else m for n, m in zip(shape, chosen.shape, strict=True)]
    return node.input[0], np.broadcast_to(chosen, whole)


def sizes(graph: Graph, name: str, chosen: Mask) -> tuple[int, ...] | None:
    """A value's shape, its one unknown size told by the number of elements; None where more are unknown."""
    shape = graph.shape(name)
    if shape is None:
        return None
    known: Any = [size if isinstance(size, int) else -1 for size in shape]
    return tuple(known) if known.count(-1) == 0 else filled(known, chosen.size)


def filled(known: list[int], count: int) -> tuple[int, ...] | None:
    """A shape with its one unknown size worked out: that of its first axis of several, see `placed`."""
    if -1 in known and max(known[: known.index(-1)], default=1) > 1:
        return None
    rest = int(np.prod([size for size in known if size != -1]))
    if known.count(-1) != 1 or rest == 0 or count % rest:
        return None
    return tuple(count // rest if size == -1 else size for size in known)


WAYS_BACK = {
    **dict.fromkeys(ELEMENTWISE, same_place), **dict.fromkeys(RESHAPING, reshaped), "Transpose": transposed,
    **dict.fromkeys(JOINING, joined), "Split": parted, "Slice": cut, "Softmax": along_axis, "LogSoftmax": along_axis,
    **dict.fromkeys(["Add", "Sub", "Mul", "Div"], beside), "ScatterND": updated, "ReduceMax": highest,
}  # fmt: skip
