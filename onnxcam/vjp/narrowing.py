"""What a head's score reads at a few positions alone, worked out at those alone.

A vision transformer's score reads the class token. In the last block all other tokens matter as keys and values only:
what makes their queries, projections and feed-forward layers ends nowhere, and so would their cotangents, all zero. So
the Gather that takes the token moves up, before the head is differentiated, to where other tokens are read too.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import onnx

from onnxcam.graph import Graph, attributes, captures, copied, has_one_scale, reduced_axes, stretches
from onnxcam.vjp.emitter import Emitter

MOST = 0.5  # of the positions: of more it is not worth while


@dataclass(frozen=True)
class Few:
    """Some positions along one axis of a value, in order, of so many."""

    axis: int
    at: tuple[int, ...]
    size: int


Wanted = Few | None  # None: all of the value


def narrowed(graph: Graph, score: str, wrt: str) -> Graph:
    """The same head, with less work behind `wrt`; itself where all positions are read.

    What is made at a few positions alone bears another name than in the model.
    """
    wanted, parts = demands(graph, {score, wrt})
    writer = Writer(Emitter(graph), wanted)
    for node, wanted_of_inputs in zip(graph.nodes, parts, strict=True):
        writer.write(node, wanted_of_inputs)
    if not writer.few:
        return graph
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    del proto.graph.node[:]
    proto.graph.node.extend(writer.g.nodes)
    proto.graph.initializer.extend(writer.g.initializers)
    return Graph(graph.model, proto, whole=graph.whole)


def demands(graph: Graph, whole: set[str]) -> tuple[dict[str, Wanted], list[Sequence[Wanted]]]:
    """What is read of each value, all of those in `whole`; and by each node of its inputs, see `inputs_wanted`."""
    wanted: dict[str, Wanted] = dict.fromkeys(whole)
    found: list[Sequence[Wanted]] = []
    for node in reversed(graph.nodes):
        parts = inputs_wanted(graph, node, output_wanted(node, wanted))
        rest = [*node.input[len(parts) :], *captures(node)]
        for name, part in [*zip(node.input, parts, strict=False), *((name, None) for name in rest)]:
            wanted[name] = together(wanted[name], part) if name in wanted else part
        found.append(parts)
    return wanted, found[::-1]


def together(one: Wanted, other: Wanted) -> Wanted:
    """What two readers read."""
    if one is None or other is None or one.axis != other.axis:
        return None
    return if_few(one.axis, {*one.at, *other.at}, one.size)


def if_few(axis: int, at: Iterable[int], size: int) -> Wanted:
    """Positions that are worth while to be told from the others."""
    there = tuple(sorted(at))
    return Few(axis, there, size) if 0 < len(there) <= MOST * size else None


def output_wanted(node: onnx.NodeProto, wanted: dict[str, Wanted]) -> Wanted:
    """What is read of a node's only output that is read; all of them where there are several."""
    found = [wanted[name] for name in node.output if name in wanted]
    return found[0] if len(found) == 1 else None


def inputs_wanted(graph: Graph, node: onnx.NodeProto, few: Wanted) -> Sequence[Wanted]:
    """What a node reads of its inputs, in order, for what is read of its output; of those left out, all."""
    if (taken := positions_taken(graph, node)) is not None:
        return [taken]
    axes = input_axes(graph, node, few.axis) if few is not None else None
    if few is None or axes is None:
        return []
    return [None if axis is None else replace(few, axis=axis) for axis in axes]


def positions_taken(graph: Graph, node: onnx.NodeProto) -> Few | None:
    """The positions that a Gather or Slice takes out of a value; None where those are not few, or not known."""
    shape = graph.shape(node.input[0]) if node.op_type in ("Gather", "Slice") and not node.domain else None
    if shape is None:
        return None
    if node.op_type == "Gather":
        index, axis = graph.constant(node.input[1]), attributes(node).get("axis", 0) % len(shape)
        size = shape[axis]
        if index is None or index.size != 1 or not isinstance(size, int):
            return None
        return if_few(axis, [int(index.item()) % size], size)
    taken = stretches(node, graph.constant)
    if taken is None or len(taken) != 1 or taken[0].step != 1:
        return None
    axis = taken[0].axis % len(shape)
    size = shape[axis]
    return if_few(axis, range(size)[taken[0].of(size)], size) if isinstance(size, int) else None


# -- which axis of its inputs a node reads along for one of its output; None: all of an input ---------------


def input_axes(graph: Graph, node: onnx.NodeProto, axis: int) -> Sequence[int | None] | None:
    """Those of a node that treats the positions along an axis of its output apart; None where it mixes them."""
    step = STEPS.get(node.op_type)
    if step is None or node.domain or graph.drops_out(node) or graph.shape(node.output[0]) is None:
        return None
    return step(graph, node, axis)


def first_alone(graph: Graph, node: onnx.NodeProto, axis: int) -> Sequence[int | None]:
    """Elementwise in the first input."""
    return [axis]


def quantizer(graph: Graph, node: onnx.NodeProto, axis: int) -> Sequence[int | None] | None:
    """To integers, or back, by one scale for all."""
    return [axis] if has_one_scale(graph, node) else None


def broadcast(graph: Graph, node: onnx.NodeProto, axis: int) -> Sequence[int | None] | None:
    """Elementwise in all inputs."""
    rank, found = graph.rank(node.output[0]) or 0, list[int | None]()
    for name in node.input:
        shape = graph.shape(name)
        if shape is None:
            return None
        own = axis - (rank - len(shape))
        size = shape[own] if own >= 0 else 1
        if not isinstance(size, int):  # it may be 1
            return None
        found.append(own if size != 1 else None)
    return found


def product(graph: Graph, node: onnx.NodeProto, axis: int) -> Sequence[int | None] | None:
    """Rows of a matrix product are those of its left factor."""
    rank, left, right = (graph.rank(name) or 0 for name in (node.output[0], *node.input))
    return [left - 2, None] if min(left, right) >= 2 and axis == rank - 2 else None


def within(graph: Graph, node: onnx.NodeProto, axis: int) -> Sequence[int | None] | None:
    """Softmax and normalizations, along later axes. ONNX Runtime takes scales of as many axes as the input has."""
    rank = graph.rank(node.output[0]) or 0
    if graph.opset < 13 and node.op_type.endswith("Softmax"):
        return None
    return broadcast(graph, node, axis) if axis < attributes(node).get("axis", -1) % max(rank, 1) else None


def reduced(graph: Graph, node: onnx.NodeProto, axis: int) -> Sequence[int | None] | None:
    """Reductions along other axes, which stay."""
    axes = reduced_axes(graph, node)
    return [axis] if axes is not None and axis not in axes and attributes(node).get("keepdims", 1) else None


def transposed(graph: Graph, node: onnx.NodeProto, axis: int) -> Sequence[int | None] | None:
    """The axis that comes to stand there."""
    perm = attributes(node).get("perm")
    return [perm[axis]] if perm else None


def reshaped(graph: Graph, node: onnx.NodeProto, axis: int) -> Sequence[int | None] | None:
    """Reshapes that keep rows, the axis, and what is in front of it."""
    before, after = graph.shape(node.input[0]), graph.shape(node.output[0])
    if axis == 0 or not before or not after or before[0] != after[0]:
        return None
    if not all(isinstance(size, int) and size for size in (*before[1:], *after[1:])):
        return None
    in_front = math.prod(known(after[1:axis]))
    fitting = (own for own in range(1, len(before)) if before[own] == after[axis])
    return next(([own] for own in fitting if math.prod(known(before[1:own])) == in_front), None)


def known(sizes: Sequence[int | str | None]) -> list[int]:
    """Those of some sizes that are known."""
    return [size for size in sizes if isinstance(size, int)]


Step = Callable[[Graph, onnx.NodeProto, int], Sequence[int | None] | None]
RESHAPING = ("Reshape", "Flatten", "Squeeze", "Unsqueeze")
STEPS: dict[str, Step] = {
    **dict.fromkeys([
        "Identity", "Cast", "Dropout", "Relu", "LeakyRelu", "Elu", "Selu", "Celu", "Gelu", "Erf", "Sigmoid", "Tanh",
        "HardSigmoid", "HardSwish", "Swish", "Mish", "Softplus", "Softsign", "Clip", "Neg", "Abs", "Exp", "Log", "Sqrt",
        "Reciprocal", "IsNaN", "Not",
    ], first_alone),
    **dict.fromkeys(["QuantizeLinear", "DequantizeLinear"], quantizer),
    **dict.fromkeys([
        "Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Where", "Equal", "Greater", "Less",
    ], broadcast),
    **dict.fromkeys(["Softmax", "LogSoftmax", "LayerNormalization", "RMSNormalization"], within),
    **dict.fromkeys(["ReduceMean", "ReduceSum", "ReduceMax", "ReduceL2", "ReduceSumSquare"], reduced),
    **dict.fromkeys(RESHAPING, reshaped),
    "MatMul": product, "Transpose": transposed,
}  # fmt: skip


# -- writing ------------------------------------------------------------------------------------------------


class Writer:
    """Writes the nodes of a graph again, for what is wanted of their outputs.

    Attributes:
        g: where they are written, in order.
        wanted: see `demands`.
        few: names of values at a few positions, and which those are.
    """

    def __init__(self, g: Emitter, wanted: dict[str, Wanted]) -> None:
        self.g, self.wanted = g, wanted
        self.few: dict[str, tuple[str, Few]] = {}

    def write(self, node: onnx.NodeProto, parts: Sequence[Wanted]) -> None:
        """One node, as it is or at a few positions; `parts`: what it reads of its inputs."""
        here = output_wanted(node, self.wanted)
        if (taken := positions_taken(self.g.graph, node)) is not None:
            node = self._taking(node, taken) if node.input[0] in self.few else node
        elif here is not None and parts:
            node = self._at_few(node, here, parts)
        self.g.nodes.append(node)

    def _at_few(self, node: onnx.NodeProto, here: Few, parts: Sequence[Wanted]) -> onnx.NodeProto:
        """A node that makes its output at a few positions, under a new name."""
        few = copied(node)
        few.input[: len(parts)] = [self._part(name, part) for name, part in zip(node.input, parts, strict=False)]
        if node.op_type in RESHAPING:
            shape = self.g.graph.shape(node.output[0]) or ()
            sizes = [len(here.at) if axis == here.axis else size for axis, size in enumerate(shape)]
            few = onnx.helper.make_node("Reshape", [few.input[0], self.g.ints(0, *known(sizes[1:]))], node.output)
        for i, name in enumerate(node.output):
            if name in self.wanted:
                few.output[i] = self.g.fresh(node.op_type)
                self.few[name] = few.output[i], here
        return few

    def _part(self, name: str, part: Wanted) -> str:
        """What is wanted of a value, of all of it or of the few positions that there are."""
        if part is None:
            return name
        held, there = self.few.get(name, (name, None))
        at = part.at if there is None else [there.at.index(index) for index in part.at]
        return held if there == part else self.g.op("Gather", held, self.g.ints(*at), axis=part.axis)

    def _taking(self, node: onnx.NodeProto, taken: Few) -> onnx.NodeProto:
        """A Gather or Slice of a value of which only a few positions are there."""
        held, there = self.few[node.input[0]]
        at = np.array([there.at.index(index) for index in taken.at], np.int64)
        index = self.g.graph.constant(node.input[1]) if node.op_type == "Gather" else None
        at = at if index is None else at.reshape(index.shape)
        return onnx.helper.make_node("Gather", [held, self.g.const(at)], node.output, axis=there.axis)
