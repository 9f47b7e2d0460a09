"""Sequences and optional values that only carry tensors: what is taken out of them is what was put in."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from itertools import count
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from onnxcam.graph.index import Graph
from onnxcam.graph.nodes import attributes, optional, with_nodes

MOST_HELD = 4096  # tensors in one container that are followed, and parts of what is split in a model
Nodes = list[onnx.NodeProto] | None


def without_containers(graph: Graph) -> onnx.ModelProto | None:
    """The model with tensors read directly where it is known which one a container gives; None where that is nowhere.

    Containers of unknown length or of more than MOST_HELD tensors, and positions that are computed, stay as they are.
    """
    unpacking, nodes, changed = Unpacking(graph), list[onnx.NodeProto](), False
    for node in graph.nodes:
        unpack = None if node.domain else UNPACKING.get(node.op_type)
        instead = unpack(unpacking, node) if unpack else None
        changed |= instead is not None
        nodes += [node] if instead is None else instead
    return with_nodes(graph.proto, nodes, unpacking.initializers) if changed else None


@dataclass
class Unpacking:
    """What is known on the way through a graph.

    Attributes:
        sequences: the tensors in every sequence whose content is known.
        optionals: what every optional value holds of which that is known; "" for nothing.
        pending: writes the nodes that make a tensor which no node of the model makes; called when somebody reads it.
        initializers: constants that were made.
        parts: how many pending tensors there were in all.
        numbers: for each hint of a name, those that were not tried yet.
    """

    graph: Graph
    sequences: dict[str, list[str]] = field(default_factory=dict)
    optionals: dict[str, str] = field(default_factory=dict)
    pending: dict[str, Callable[[], list[onnx.NodeProto]]] = field(default_factory=dict)
    initializers: list[onnx.TensorProto] = field(default_factory=list)
    parts: int = 0
    numbers: dict[str, Iterator[int]] = field(default_factory=dict)

    def content(self, name: str) -> str | None:
        """What an optional value holds, "" for nothing, itself where it is none; None where that is not known."""
        return name if self.graph.type(name).elem_type or name in self.sequences else self.optionals.get(name)

    def making(self, names: list[str]) -> list[onnx.NodeProto]:
        """The nodes that make some tensors, where they are not there yet."""
        return [node for name in names if name in self.pending for node in self.pending.pop(name)()]

    def position(self, node: onnx.NodeProto, i: int, default: int) -> int | None:
        """A position that a node is given as its input i; None where it is computed."""
        if not (name := optional(node, i)):
            return default
        number = self.graph.number(name)
        return None if number is None else int(number)

    def fresh(self, hint: str) -> str:
        """A free name."""
        names = (f"{hint}_{i}" for i in self.numbers.setdefault(hint, count()))
        return next(name for name in names if name not in self.graph.names)

    def initializer(self, value: npt.NDArray[Any], hint: str) -> str:
        """A constant under a free name."""
        name = self.fresh(hint)
        self.initializers.append(numpy_helper.from_array(value, name))
        return name

    def instead(self, node: onnx.NodeProto, value: npt.NDArray[Any]) -> list[onnx.NodeProto]:
        """A constant in the place of a node."""
        return [helper.make_node("Identity", [self.initializer(value, node.output[0])], node.output, name=node.name)]


def construct(u: Unpacking, node: onnx.NodeProto) -> Nodes:
    """SequenceConstruct, SequenceEmpty: the inputs."""
    u.sequences[node.output[0]] = list(node.input)
    return None


def wrapped(u: Unpacking, node: onnx.NodeProto) -> Nodes:
    """Optional: the input, if there is one."""
    u.optionals[node.output[0]] = optional(node, 0)
    return None


def insert(u: Unpacking, node: onnx.NodeProto) -> Nodes:
    """SequenceInsert: at a position, or at the end."""
    items = u.sequences.get(node.input[0])
    at = u.position(node, 2, len(items or ()))
    if items is not None and len(items) < MOST_HELD and at is not None and -len(items) <= at <= len(items):
        at = at + len(items) if at < 0 else at
        u.sequences[node.output[0]] = [*items[:at], node.input[1], *items[at:]]
    return None


def erase(u: Unpacking, node: onnx.NodeProto) -> Nodes:
    """SequenceErase: at a position, or the last."""
    items, at = u.sequences.get(node.input[0]), u.position(node, 1, -1)
    if items is not None and at is not None and -len(items) <= at < len(items):
        u.sequences[node.output[0]] = [item for i, item in enumerate(items) if i != at % len(items)]
    return None


def item(u: Unpacking, node: onnx.NodeProto) -> Nodes:
    """SequenceAt: the tensor itself."""
    items, at = u.sequences.get(node.input[0]), u.position(node, 1, 0)
    if items is None or at is None or not -len(items) <= at < len(items):
        return None
    source = items[at]
    return [*u.making([source]), helper.make_node("Identity", [source], node.output, name=node.name)]


def concatenated(u: Unpacking, node: onnx.NodeProto) -> Nodes:
    """ConcatFromSequence: Concat, of tensors that get one more axis where it says so."""
    items, attrs = u.sequences.get(node.input[0]), attributes(node)
    if not items:
        return None
    before = u.making(items)
    if attrs.get("new_axis", 0):
        axis = u.initializer(np.array([attrs["axis"]]), node.output[0])
        wide = [u.fresh(node.output[0]) for _ in items]
        before += [helper.make_node("Unsqueeze", [x, axis], [y], name=y) for x, y in zip(items, wide, strict=True)]
        items = wide
    return [*before, helper.make_node("Concat", items, node.output, name=node.name, axis=attrs["axis"])]


def split(u: Unpacking, node: onnx.NodeProto) -> Nodes:
    """SplitToSequence: slices along an axis, which they may lose where all are one thick."""
    attrs, shape = attributes(node), u.graph.shape(node.input[0])
    given = optional(node, 1)
    sizes = u.graph.constant(given) if given else np.array(1)
    if sizes is None or not shape or sizes.ndim > 1 or (sizes < 0).any():
        return None
    axis = attrs.get("axis", 0) % len(shape)
    whole = shape[axis]
    if sizes.ndim == 0:
        if not isinstance(whole, int) or int(sizes) < 1 or whole > MOST_HELD * int(sizes):
            return None
        sizes = np.array([min(int(sizes), whole - i) for i in range(0, whole, int(sizes))])
    u.parts += sizes.size
    if u.parts > MOST_HELD:
        return None
    flat = not given and not attrs.get("keepdims", 1)
    names = [u.fresh(node.output[0]) for _ in sizes]
    for name, end, size in zip(names, np.cumsum(sizes), sizes, strict=True):
        u.pending[name] = partial(part, u, node, name, axis, end - size, end, flat=flat)
    u.sequences[node.output[0]] = names
    return None


def part(
    u: Unpacking, node: onnx.NodeProto, name: str, axis: int, start: int, end: int, *, flat: bool
) -> list[onnx.NodeProto]:
    """A slice of what a node splits, without that axis if it is `flat`."""
    limits = [u.initializer(np.array([at]), node.output[0]) for at in (start, end, axis)]
    sliced = u.fresh(node.output[0]) if flat else name
    made = [helper.make_node("Slice", [node.input[0], *limits], [sliced], name=sliced)]
    return [*made, helper.make_node("Squeeze", [sliced, limits[2]], [name], name=name)] if flat else made


def length(u: Unpacking, node: onnx.NodeProto) -> Nodes:
    """SequenceLength: a constant."""
    items = u.sequences.get(node.input[0])
    return None if items is None else u.instead(node, np.array(len(items)))


def has_element(u: Unpacking, node: onnx.NodeProto) -> Nodes:
    """OptionalHasElement: a constant."""
    held = u.content(name) if (name := optional(node, 0)) else ""
    return None if held is None else u.instead(node, np.array(bool(held)))


def element(u: Unpacking, node: onnx.NodeProto) -> Nodes:
    """OptionalGetElement: what was put in."""
    held = u.content(node.input[0])
    if not held:
        return None
    if held in u.sequences:
        u.sequences[node.output[0]] = u.sequences[held]
    return [helper.make_node("Identity", [held], node.output, name=node.name)]


def same(u: Unpacking, node: onnx.NodeProto) -> Nodes:
    """Identity of a container."""
    source, copy = node.input[0], node.output[0]
    if source in u.sequences:
        u.sequences[copy] = u.sequences[source]
    if source in u.optionals:
        u.optionals[copy] = u.optionals[source]
    return None


UNPACKING: dict[str, Callable[[Unpacking, onnx.NodeProto], Nodes]] = {
    **dict.fromkeys(["SequenceConstruct", "SequenceEmpty"], construct),
    "SequenceInsert": insert, "SequenceErase": erase, "SequenceAt": item, "ConcatFromSequence": concatenated,
    "SplitToSequence": split, "SequenceLength": length, "Optional": wrapped, "OptionalHasElement": has_element,
    "OptionalGetElement": element, "Identity": same,
}  # fmt: skip
