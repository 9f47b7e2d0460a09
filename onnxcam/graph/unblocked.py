"""Graphs that ONNX Runtime rewrote for one kind of CPU, written back.

Saved after all its optimizations, a model computes in blocks of channels: (N, C / B, H, W, B) under shapes that say
(N, C, H, W), with weights put in the same order. B is the machine's. What computes the same without blocks stands for
it here, the channels filled up to whole blocks as they are there; a session puts all of it in blocks again.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxcam.errors import ModelError
from onnxcam.graph.blocked import NCHWC
from onnxcam.graph.index import Graph
from onnxcam.graph.integers import MICROSOFT
from onnxcam.graph.load import Model
from onnxcam.graph.nodes import attributes, copied, reads, replace_nodes
from onnxcam.graph.types import Shape
from onnxcam.graph.upgrade_patch import Facts

Nodes = Iterator[onnx.NodeProto]
ALIKE = frozenset({  # they treat every element alike
    "Add", "Mul", "Sub", "Div", "Sum", "Max", "Min", "Relu", "LeakyRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh",
    "Clip", "Elu", "Selu", "Celu", "Softplus", "Softsign", "Mish", "Erf", "Abs", "Neg", "Exp", "Sqrt", "Gelu",
    "QuickGelu", "FastGelu", "Identity",
})  # fmt: skip
TO_FRONT, TO_BACK = [0, 3, 1, 2], [0, 2, 3, 1]  # the channels


class UnknownError(Exception):
    """Something about a graph of blocks that it does not say, or that nobody foresaw."""


def unblocked(model: Model, proto: onnx.ModelProto) -> onnx.ModelProto:
    """A normalized graph without blocks; as it is where it has none, or does not say all that is needed."""
    if not any(node.domain == NCHWC for node in proto.graph.node):
        return proto
    try:
        sketch = Unblocking(model, proto, None).whole()
        return Unblocking(model, proto, Graph(model, sketch).shape).whole()
    except UnknownError:
        return proto


class Unblocking:
    """The nodes that stand for nodes of blocks.

    Attributes:
        shapes: of the plain values; None for a sketch, which fills nothing up and leaves weights as they are: that
            changes no other shape.
        plain: the value that stands for one in blocks. No name is used again: the model as given has those.
        channels: how many a value in blocks has, filled up; 0 in a sketch, where that is not known.
        weights: new ones, by name.
    """

    def __init__(self, model: Model, proto: onnx.ModelProto, shapes: Callable[[str], Shape | None] | None) -> None:
        self.model, self.proto, self.shapes = model, proto, shapes
        self.facts, self.block = Facts(proto), block_size()
        self.tensors = {tensor.name: tensor for tensor in proto.graph.initializer}
        self.plain: dict[str, str] = {}
        self.channels: dict[str, int] = {}
        self.weights: dict[str, onnx.TensorProto] = {}
        self._ordered: dict[tuple[str, bool], str] = {}
        self._shown = {
            (node.input[0], attributes(node).get("channels")): node.output[0]
            for node in reversed(proto.graph.node)
            if node.domain == NCHWC and node.op_type == "ReorderOutput" and is_formed(node)
            if not attributes(node).get("channels_last")
        }

    def whole(self) -> onnx.ModelProto:
        """The graph without blocks."""
        written = copied(self.proto)
        graph = written.graph
        replace_nodes(graph, [new for node in graph.node for new in self.instead(node)])
        if any(port.name in self.plain for port in graph.output):
            raise UnknownError
        read = {name for node in graph.node for name in reads(node)} | {port.name for port in graph.output}
        kept = [tensor for tensor in (*graph.initializer, *self.weights.values()) if tensor.name in read]
        del graph.initializer[:]
        graph.initializer.extend(kept)
        return written

    def instead(self, node: onnx.NodeProto) -> Nodes:
        """What stands for one node: itself, where it has nothing to do with blocks."""
        if node.domain == NCHWC:
            if node.op_type not in WRITTEN_BACK or not is_formed(node):
                raise UnknownError
            yield from WRITTEN_BACK[node.op_type](self, node)
        elif any(name in self.plain for name in reads(node)):
            yield from among_blocks(self, node)
        else:
            yield node

    def held(self, node: onnx.NodeProto, channels: int) -> str:
        """The name of what stands for a node's output in blocks: of what is taken out of them, where that is all."""
        (name,) = node.output
        found = self._shown.get((name, channels)) or self.facts.fresh(f"{name}_plain")
        self.plain[name], self.channels[name] = found, channels
        return found

    def filled(self, node: onnx.NodeProto) -> int:
        """How many channels the value in blocks has that a node reads first."""
        if node.input[0] not in self.channels:
            raise UnknownError
        return self.channels[node.input[0]]

    def like(self, node: onnx.NodeProto, op_type: str, channels: int, *others: str, **given: Any) -> onnx.NodeProto:
        """What stands for a node that makes one value in blocks of another, and reads `others`."""
        inputs = [self.plain.get(node.input[0], node.input[0]), *others]
        made = helper.make_node(op_type, inputs, [self.held(node, channels)], node.name, **given)
        if not given:
            made.attribute.extend(node.attribute)
        return made

    def ordered(self, weight: str, inputs: bool) -> str:
        """A weight as ONNX has it; `inputs`: of what the input channels are in blocks."""
        if weight not in self.tensors or len(self.tensors[weight].dims) != 4:
            raise UnknownError
        if self.shapes is None:
            return weight
        if (key := (weight, inputs)) not in self._ordered:
            self._ordered[key] = name = self.facts.fresh(f"{weight}_plain")
            array = in_order(self.model.array(self.tensors[weight]), self.block, inputs=inputs)
            self.weights[name] = numpy_helper.from_array(array, name)
        return self._ordered[key]

    def count(self, image: str, axis: int) -> int:
        """How many channels a plain value has, along an axis; 0 in a sketch."""
        if self.shapes is None:
            return 0
        shape = self.shapes(image)
        count = shape[axis] if shape is not None and len(shape) == 4 else None
        if not isinstance(count, int):
            raise UnknownError
        return count

    def ints(self, *values: int) -> str:
        """A constant vector."""
        name = self.facts.fresh("blocks")
        self.weights[name] = numpy_helper.from_array(np.array(values, np.int64), name)
        return name


@cache
def block_size() -> int:
    """How many channels a block has on this machine: how far apart neighbours in one channel come to lie."""
    from onnxcam.runtime import Session

    port = helper.make_tensor_value_info
    shape = [1, 64, 1, 2]
    node = helper.make_node("ReorderInput", ["x"], ["y"], domain=NCHWC)
    graph = helper.make_graph([node], "blocks", [port("x", 1, shape)], [port("y", 1, None)])
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid(NCHWC, 1)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=8)
    try:
        session = Session(model.SerializeToString())
    except ModelError as error:  # it has no such operators
        raise UnknownError from error
    x = np.zeros(shape, np.float32)
    x[0, 0, 0, 1] = 1
    return int(np.flatnonzero(session.run({"x": x})["y"].ravel())[0])


def is_formed(node: onnx.NodeProto) -> bool:
    """Whether a node of blocks has as many inputs and outputs as there are."""
    least, most = (2, 4) if node.op_type == "Conv" else (1, 1)
    return least <= len(node.input) <= most and len(node.output) == 1


# -- what stands for each operator -----------------------------------------------------------------


def reorder_input(u: Unblocking, node: onnx.NodeProto) -> Nodes:
    """The channels first, and filled up with zeros."""
    (x,), last = node.input, attributes(node).get("channels_last", 0)
    count = u.count(x, 3 if last else 1)
    missing = -count % u.block
    if last:
        x, before = u.facts.fresh(f"{x}_channels_first"), x
        yield helper.make_node("Transpose", [before], [x], perm=TO_FRONT)
    y = u.held(node, count + missing)
    if missing:
        yield helper.make_node("Pad", [x, u.ints(0, 0, 0, 0, 0, missing, 0, 0)], [y])
    else:
        yield helper.make_node("Identity", [x], [y])


def reorder_output(u: Unblocking, node: onnx.NodeProto) -> Nodes:
    """What was filled up taken off, and the channels where they belong."""
    (x,), (y,), attrs = node.input, node.output, attributes(node)
    last, count, filled = attrs.get("channels_last", 0), attrs.get("channels"), u.filled(node)
    if not isinstance(count, int):
        raise UnknownError
    if (held := u.plain[x]) == y:
        return
    if count != filled:
        held, before = u.facts.fresh(f"{y}_channels_first") if last else y, held
        yield helper.make_node("Slice", [before, u.ints(0), u.ints(count), u.ints(1)], [held])
    if last:
        yield helper.make_node("Transpose", [held], [y], perm=TO_BACK)
    elif held != y:
        yield helper.make_node("Identity", [held], [y])


def conv(u: Unblocking, node: onnx.NodeProto) -> Nodes:
    """A FusedConv, or just a Conv."""
    x, weight, *others = node.input
    plain = u.ordered(weight, x in u.plain)
    inputs = [plain, *(u.plain.get(name, name) for name in others)]
    made = u.like(node, "FusedConv", u.tensors[weight].dims[0], *inputs)
    if len(others) < 2 and not attributes(node).get("activation"):
        made.op_type = "Conv"
    else:
        made.domain = MICROSOFT
    yield made


def in_order(weight: npt.NDArray[Any], block: int, *, inputs: bool) -> npt.NDArray[Any]:
    """A weight out of blocks of its output channels and, where it has so many, those of `inputs`."""
    count, each, *kernel = weight.shape
    if count % block:
        raise UnknownError
    if inputs and each % block == 0:
        parted = weight.reshape(count // block, each // block, *kernel, block, block).transpose(0, 5, 1, 4, 2, 3)
    else:
        parted = weight.reshape(count // block, each, *kernel, block).transpose(0, 4, 1, 2, 3)
    return np.ascontiguousarray(parted).reshape(weight.shape)


def pool(u: Unblocking, node: onnx.NodeProto) -> Nodes:
    """The pool of that name."""
    yield u.like(node, node.op_type, u.filled(node))


def upsample(u: Unblocking, node: onnx.NodeProto) -> Nodes:
    """A Resize by whole factors; of the nearest pixels each is repeated."""
    attrs, scales = attributes(node), u.facts.fresh("scales")
    factors = attrs.get("scales")
    if not isinstance(factors, list) or len(factors) != 4:
        raise UnknownError
    u.weights[scales] = helper.make_tensor(scales, TensorProto.FLOAT, [4], factors)
    mode = attrs.get("mode", "nearest")
    convention = "asymmetric" if mode == "nearest" else attrs.get("coordinate_transformation_mode", "half_pixel")
    yield u.like(
        node, "Resize", u.filled(node), "", scales,
        mode=mode, coordinate_transformation_mode=convention, nearest_mode="floor",
    )  # fmt: skip


def among_blocks(u: Unblocking, node: onnx.NodeProto) -> Nodes:
    """What stands for an operator of another domain that reads blocks: the same, but for views of them."""
    if node.op_type == "Reshape":  # to (N, C / B, H, W, B), where a number for each channel can be added, and back
        target = u.tensors.get(node.input[1])
        if target is None or u.model.array(target).tolist() not in ([0, -1, 0, 0, u.block], [0, -1, 0, 0]):
            raise UnknownError
        filled = u.filled(node)
        yield helper.make_node("Identity", [u.plain[node.input[0]]], [u.held(node, filled)])
        return
    joins = node.op_type == "Concat" and attributes(node)["axis"] == 1
    others = [u.tensors.get(name) for name in reads(node) if name not in u.plain]
    numbers = [tensor for tensor in others if tensor is not None and math.prod(tensor.dims) == 1 and not joins]
    if not (joins or node.op_type in ALIKE) or len(numbers) < len(others) or len(node.output) != 1:
        raise UnknownError
    channels = [u.channels[name] for name in node.input if name in u.channels]
    made = copied(node)
    made.input[:] = [u.plain.get(name, name) for name in node.input]
    made.output[:] = [u.held(node, sum(channels) if joins else channels[0])]
    yield made


WRITTEN_BACK: dict[str, Callable[[Unblocking, onnx.NodeProto], Nodes]] = {
    "ReorderInput": reorder_input,
    "ReorderOutput": reorder_output,
    "Conv": conv,
    "MaxPool": pool,
    "AveragePool": pool,
    "GlobalMaxPool": pool,
    "GlobalAveragePool": pool,
    "Upsample": upsample,
}
