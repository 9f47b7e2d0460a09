"""The head of one class: only that class's row of the last weights.

A one-hot cotangent is nearly all zeros. Instead of making it dense, the head is rewritten before it is differentiated:
the choice of the class moves up from the score, through whatever treats classes apart, to the weights that make them,
and there it is Gather(W, class). What remains computes one number per row. The numeric gradient runs on the same graph.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnxcam.graph import MICROSOFT, Graph, attributes, has_one_scale, optional, pruned, reduced_axes
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.settling import extended
from onnxcam.vjp.sweep import operator_name

CLASS = "onnxcam/class"
HALF_BYTES = (TensorProto.INT4, TensorProto.UINT4)  # which ONNX Runtime's Gather does not take


def choose_class(graph: Graph, score: str, axis: int, *, keep: str = "") -> tuple[Graph, str]:
    """A graph with an int64 input CLASS [rows] and a value holding score[row, ..., class, ...], size 1 along `axis`.

    The graph's first axis is rows; the second result is the value's name. It still depends on all of the value `keep`:
    the choice is made downstream of it. What it does not take is left out.
    """
    g = Emitter(graph)
    one = Chooser(g, keep).pick(score, axis)
    proto = extended(g, [one])
    proto.graph.input.append(helper.make_tensor_value_info(CLASS, TensorProto.INT64, [graph_rows(graph)]))
    del proto.graph.output[:]
    proto.graph.output.append(helper.make_tensor_value_info(one, graph.type(score).elem_type, None))
    return Graph(graph.model, pruned(proto, [one, keep]), whole=graph.whole), one


def graph_rows(graph: Graph) -> int | str | None:
    """The symbol of a head's first axis."""
    shape = graph.shape(graph.inputs[0])
    return shape[0] if shape else None


DEEPEST = 100  # operators that a choice moves up through; above, it is made right there


class Chooser:
    """Moves the choice of a class up through a graph, one operator at a time."""

    def __init__(self, g: Emitter, keep: str) -> None:
        self.g, self.graph, self.keep = g, g.graph, keep
        self._depth = 0
        self._found: dict[tuple[str, int], str] = {}

    def pick(self, name: str, axis: int) -> str:
        """The chosen class of a value, size 1 along the classes' axis."""
        if (name, axis) not in self._found:
            self._depth += 1
            self._found[name, axis] = self._picked(name, axis) if self._depth < DEEPEST else self.gathered(name, axis)
            self._depth -= 1
        return self._found[name, axis]

    def _picked(self, name: str, axis: int) -> str:
        node = None if name == self.keep else self.graph.maker(name)
        step = STEPS.get(operator_name(node)) if node is not None else None
        found = step(self, node, axis) if step is not None and node is not None else None
        return found if found is not None else self.gathered(name, axis)

    def gathered(self, name: str, axis: int) -> str:
        """The choice made right here: row by row out of the dense value."""
        rank = self.graph.rank(name) or 2
        index = self.g.op("Reshape", CLASS, self.g.ints(-1, *[1] * (rank - 1)))
        shape = self.g.op("Shape", name)
        parts = [self.g.op("Slice", shape, self.g.ints(0), self.g.ints(axis)), self.g.ints(1)]
        if axis + 1 < rank:
            parts.append(self.g.op("Slice", shape, self.g.ints(axis + 1), self.g.ints(rank)))
        index = self.g.op("Expand", index, self.g.op("Concat", *parts, axis=0))
        return self.g.op("GatherElements", name, index, axis=axis)

    def of_constant(self, name: str, axis: int, rank: int) -> str | None:
        """A constant operand of an element-wise node, at the class: broadcast along the classes, or gathered."""
        own = self.graph.rank(name)
        if own is None:
            return None
        at = axis - (rank - own)  # the classes' axis within the constant
        if at < 0 or self.g.size(name, at) == 1:
            return name
        others = [self.g.size(name, i) for i in range(own) if i != at]
        if any(size != 1 for size in others):
            return None
        return self.elements(name, rank)

    def elements(self, vector: str, rank: int) -> str:
        """The classes' elements of a constant of one number a class: [rows, 1, ..., 1].

        The constant is brought into that shape, once for all runs, and not what is gathered from it.
        """
        column = self.g.op("Reshape", vector, self.g.ints(-1, *[1] * (rank - 1)))
        return self.g.op("Gather", column, CLASS, axis=0)

    def weight_row(self, weight: str, axis: int, shape: Sequence[int] = ()) -> str:
        """The classes' part of a constant along an axis, rows in front; of the constant in another shape where given.

        A quantized one is chosen from as it is stored, where that can be: then the row is dequantized, not the whole.
        """
        stored, scales, per = weight, [], None
        node = self.graph.maker(weight)
        if node is not None and node.op_type == "DequantizeLinear" and self._is_gathered(node):
            per = None if has_one_scale(self.graph, node) else attributes(node).get("axis", 1)
            if per in (None, axis):
                stored, scales = node.input[0], node.input[1:]
        row = self.g.op(
            "Gather", self.g.op("Reshape", stored, self.g.ints(*shape)) if shape else stored, CLASS, axis=axis
        )
        if scales:
            each = scales if per is None else [self.g.op("Gather", scale, CLASS) for scale in scales]
            row = self.g.op("DequantizeLinear", row, *each, axis=per)
        return row if axis == 0 else self.g.op("Transpose", row, perm=[1, 0])

    def _is_gathered(self, node: onnx.NodeProto) -> bool:
        """Whether what a DequantizeLinear reads can be chosen from: one scale a number, no two numbers in a byte."""
        return not attributes(node).get("block_size") and self.graph.type(node.input[0]).elem_type not in HALF_BYTES

    def dot(self, x: str, row: str, rank: int) -> str:
        """Each row of `x` [rows, 1, ..., width] times its own weights [rows, width]: [rows, 1, ..., 1]."""
        flat, column = self.g.op("Reshape", x, self.g.ints(0, 1, -1)), self.g.op("Unsqueeze", row, self.g.ints(2))
        y = self.g.op("MatMul", flat, column)
        return self.g.op("Reshape", y, self.g.ints(-1, *[1] * (rank - 1)))

    def scalar(self, value: float, like: str) -> str:
        """A constant in the type of a value."""
        return self.g.const(np.array(value, onnx.helper.tensor_dtype_to_np_dtype(self.graph.type(like).elem_type)))


def one_input(c: Chooser, node: onnx.NodeProto, axis: int) -> str:
    """Element-wise in one value: choose, then apply."""
    x = c.pick(node.input[0], axis)
    return str(c.g.op(node.op_type, x, *node.input[1:], **attributes(node)))


def quantizer(c: Chooser, node: onnx.NodeProto, axis: int) -> str | None:
    """To integers, or back, by one scale for all: choose, then do the same."""
    return one_input(c, node, axis) if has_one_scale(c.graph, node) else None


def elementwise(c: Chooser, node: onnx.NodeProto, axis: int) -> str | None:
    """Add, Mul and the like: choose in both operands; a constant is gathered along the classes."""
    name, picked = node.output[0], []
    rank = c.graph.rank(name)
    for value in node.input:
        if value in c.graph.fixed:
            one = c.of_constant(value, axis, rank or 0)
        elif c.graph.rank(value) == rank and c.graph.shape(value) == c.graph.shape(name):
            one = c.pick(value, axis)
        else:
            one = None
        if one is None:
            return None
        picked.append(one)
    return c.g.op(node.op_type, *picked)


def reshaped(c: Chooser, node: onnx.NodeProto, axis: int) -> str | None:
    """Reshape, Flatten, Squeeze, Unsqueeze where rows and classes stay and all else has size 1."""
    before, after = c.graph.shape(node.input[0]), c.graph.shape(node.output[0])
    if before is None or after is None or len(before) < 2 or axis == 0:
        return None
    wide = [i for i in range(1, len(before)) if before[i] != 1]
    if len(wide) != 1 or any(after[i] != 1 for i in range(1, len(after)) if i != axis):
        return None
    if before[wide[0]] != after[axis] or not isinstance(after[axis], int):
        return None
    x = c.pick(node.input[0], wide[0])
    return c.g.op("Reshape", x, c.g.ints(-1, *[1] * (len(after) - 1)))


def first_ones(c: Chooser, node: onnx.NodeProto, axis: int) -> str | None:
    """A Slice that leaves the first classes, as where channels were filled up: each is where it was."""
    rank, (start, _, along, step) = c.graph.rank(node.input[0]), (optional(node, i) for i in range(1, 5))
    if not along or rank is None or c.graph.number(start) != 0 or (step and c.graph.number(step) != 1):
        return None
    return c.pick(node.input[0], axis) if c.graph.number(along) in (axis, axis - rank) else None


def transposed(c: Chooser, node: onnx.NodeProto, axis: int) -> str | None:
    """Where rows stay in front."""
    perm = attributes(node).get("perm")
    return c.g.op("Transpose", c.pick(node.input[0], perm[axis]), perm=perm) if perm and perm[0] == 0 else None


def gemm(c: Chooser, node: onnx.NodeProto, axis: int) -> str | None:
    """h W + b: the row of W and the element of b, multiplied and summed."""
    attrs = attributes(node)
    if axis != 1 or attrs.get("transA", 0) or node.input[1] not in c.graph.fixed:
        return None
    bias = optional(node, 2)
    if bias and bias not in c.graph.fixed:
        return None
    row = c.weight_row(node.input[1], 0 if attrs.get("transB", 0) else 1)
    y = c.dot(node.input[0], row, 2)
    if (alpha := attrs.get("alpha", 1.0)) != 1:
        y = c.g.op("Mul", y, c.scalar(alpha, node.output[0]))
    if bias:
        b = c.of_constant(bias, 1, 2)
        if b is None:
            return None
        y = c.g.op(
            "Add", y, b if attrs.get("beta", 1.0) == 1 else c.g.op("Mul", b, c.scalar(attrs["beta"], node.output[0]))
        )
    return y


def matmul(c: Chooser, node: onnx.NodeProto, axis: int) -> str | None:
    """h W: the column of W, multiplied and summed."""
    rank = c.graph.rank(node.output[0])
    if node.input[1] not in c.graph.fixed or c.graph.rank(node.input[1]) != 2 or rank is None or axis != rank - 1:
        return None
    shape = c.graph.shape(node.input[0])
    if rank < 2 or shape is None or len(shape) != rank or any(size != 1 for size in shape[1:-1]):
        return None
    return c.dot(node.input[0], c.weight_row(node.input[1], 1), rank)


def conv(c: Chooser, node: onnx.NodeProto, axis: int) -> str | None:
    """A 1x1 convolution over class maps: the class's kernel, multiplied and summed over channels."""
    x, weight, bias = node.input[0], node.input[1], optional(node, 2)
    if axis != 1 or not is_pointwise(c, node, weight) or (bias and bias not in c.graph.fixed):
        return None
    y = class_map(c, x, c.weight_row(weight, 0, shape=(0, 1, -1)), like=x)
    return c.g.op("Add", y, c.elements(bias, c.graph.rank(x) or 0)) if bias else y


def qlinear_conv(c: Chooser, node: onnx.NodeProto, axis: int) -> str | None:
    """The same of integers, by what they stand for; the bias is in steps of both scales."""
    x, step, _, weight, steps, zeros, out, _ = node.input[:8]
    bias, single = optional(node, 8), c.graph.is_single
    rank = c.graph.rank(x) or 0
    if axis != 1 or not is_pointwise(c, node, weight) or not single(step) or not single(out):
        return None
    if bias and bias not in c.graph.fixed:
        return None
    own = [name if single(name) else c.g.op("Gather", name, CLASS) for name in (steps, zeros)]
    row = c.g.op("Gather", c.g.op("Reshape", weight, c.g.ints(0, 1, -1)), CLASS, axis=0)
    row = c.g.op("DequantizeLinear", row, *own, axis=None if single(steps) else 0)
    y = class_map(c, c.g.op("DequantizeLinear", *node.input[:3]), row, like=x)
    if bias:
        both = c.g.op("Mul", step, c.g.op("Reshape", own[0], c.g.ints(-1, *[1] * (rank - 1))))
        y = c.g.op("Add", y, c.g.op("Mul", c.g.cast(c.elements(bias, rank), TensorProto.FLOAT), both))
    return c.g.op("QuantizeLinear", y, *node.input[6:8])


def is_pointwise(c: Chooser, node: onnx.NodeProto, weight: str) -> bool:
    """Whether a convolution, by a constant, treats each position apart."""
    attrs, shape = attributes(node), c.graph.shape(weight)
    if attrs.get("group", 1) != 1 or weight not in c.graph.fixed or shape is None:
        return False
    moved = any(attrs.get("pads", [])) or any(stride != 1 for stride in attrs.get("strides", []))
    return not moved and all(size == 1 for size in shape[2:])


def class_map(c: Chooser, x: str, row: str, *, like: str) -> str:
    """Each row's class at each position of x, by weights [rows, 1, channels]; `like`: a value of the shape of x."""
    y = c.g.op("MatMul", row, c.g.op("Reshape", x, c.g.ints(0, 0, -1)))
    return c.g.op("Reshape", y, c.g.dims(like, -1, 1, *((i, 1) for i in range(2, c.graph.rank(like) or 0))))


def pooled(c: Chooser, node: onnx.NodeProto, axis: int) -> str | None:
    """Pools and means over positions leave classes apart."""
    return one_input(c, node, axis) if axis == 1 else None


def qlinear_pooled(c: Chooser, node: onnx.NodeProto, axis: int) -> str | None:
    """The same of integers."""
    if axis != 1 or attributes(node).get("channels_last", 0) or not all(map(c.graph.is_single, node.input[1:])):
        return None
    x = c.g.op("DequantizeLinear", c.pick(node.input[0], axis), *node.input[1:3])
    return c.g.op("QuantizeLinear", c.g.op("GlobalAveragePool", x), *node.input[3:5])


def reduced(c: Chooser, node: onnx.NodeProto, axis: int) -> str | None:
    """A reduction over other axes."""
    gone, before = reduced_axes(c.graph, node), axis
    if not gone or 0 in gone:
        return None
    if not attributes(node).get("keepdims", 1):
        before = [i for i in range(c.graph.rank(node.input[0]) or 0) if i not in gone][axis]
    return None if before in gone else one_input(c, node, before)


STEPS: dict[str, Callable[[Chooser, onnx.NodeProto, int], str | None]] = {
    **dict.fromkeys(["Identity", "Relu", "LeakyRelu", "Neg", "Sigmoid", "Tanh", "Cast", "Clip", "Exp"], one_input),
    **dict.fromkeys(["QuantizeLinear", "DequantizeLinear"], quantizer),
    **dict.fromkeys(["Add", "Sub", "Mul", "Div"], elementwise),
    **dict.fromkeys(["Reshape", "Flatten", "Squeeze", "Unsqueeze"], reshaped),
    **dict.fromkeys(["GlobalAveragePool", "GlobalMaxPool", "AveragePool", "MaxPool"], pooled),
    **dict.fromkeys(["ReduceMean", "ReduceSum", "ReduceMax"], reduced),
    "Slice": first_ones, "Transpose": transposed,
    "Gemm": gemm, "MatMul": matmul, "Conv": conv, "QLinearConv": qlinear_conv,
    f"{MICROSOFT}.QLinearGlobalAveragePool": qlinear_pooled,
}  # fmt: skip
