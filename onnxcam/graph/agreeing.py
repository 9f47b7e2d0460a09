"""Pools and resizes spelled so that ONNX Runtime infers the sizes that it computes.

Where it loads a model, ONNX Runtime infers as onnx does, and floors what its kernels round up. The model itself runs
for all that, since nothing in it says otherwise. But what reads such a value beside something of the right size, as a
gradient does, is refused. The other spelling computes the very same numbers; a node that has none stays as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import count
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxcam.graph.index import Graph
from onnxcam.graph.nodes import attributes, copied, replace_nodes, with_nodes
from onnxcam.graph.quantized import quantizer
from onnxcam.graph.sizing import (
    POOLS,
    SHAPING,
    Question,
    doubtful,
    ends,
    reach_and_strides,
    same_in_front,
    same_padding,
)
from onnxcam.graph.types import NARROW, Sizes


def with_agreed_sizes(graph: Graph) -> onnx.ModelProto | None:
    """The model with its misjudged nodes in the other spelling; None where there are none that have one."""
    if not any(node.domain == "" and doubtful(node) for node in graph.nodes):
        return None
    agreed = {i: made for i, (question, right) in graph.misjudged.items() if (made := agree(graph, i, question, right))}
    if not agreed:
        return None
    return with_nodes(graph.proto, (made for i, node in enumerate(graph.nodes) for made in agreed.get(i, [node])))


def agree(graph: Graph, i: int, question: Question, right: Sizes) -> list[onnx.NodeProto]:
    """A node as others that make the same, of sizes that ONNX Runtime infers right; empty: none are sure to."""
    node, attrs = graph.nodes[i], attributes(graph.nodes[i])
    if node.op_type == "Resize":
        return by_sizes(graph, node, question, right)
    shape = explicit(attrs, question, right) if node.op_type in POOLS else None
    if shape is None:
        return []
    kept = {name: value for name, value in attrs.items() if name not in SHAPING}
    return [helper.make_node(node.op_type, node.input, node.output, name=node.name, **kept, **shape)]


def explicit(attrs: Mapping[str, Any], question: Question, right: Sizes) -> dict[str, Any] | None:
    """`pads` and `ceil_mode` by which a pool comes to the right sizes without rounding, where that can be; else None.

    Along an axis the padding behind ends where the last window does. It stays, and the pool rounds up as before,

    - where the size is not known;
    - where that padding would be as long as a window, which ONNX Runtime does not take;
    - where the last window leaves the padding of an average that counts it: more of it would be counted.

    An average that counts padding rounds up in any case, since another kernel takes it otherwise. A pool rounds up all
    axes or none, so that another one may come to a window too many: then there are no such attributes, nor where SAME
    pads by numbers that no attribute says.
    """
    found = pads_of(attrs, question)
    if found is None:
        return None
    (begins, given), kernel = found, attrs["kernel_shape"]
    reach, strides = reach_and_strides(attrs, kernel)
    needed = [rest - begin for rest, begin in zip(ends(attrs, "", question, right), begins, strict=True)]
    counted, known = bool(attrs.get("count_include_pad", 0)), {axis - 2 for axis in question.axes}
    rounded = [
        i not in known or need >= kernel[i] or (counted and need > end)
        for i, (need, end) in enumerate(zip(needed, given, strict=True))
    ]
    behind = [end if up else max(need, 0) for need, end, up in zip(needed, given, rounded, strict=True)]
    up = (counted or any(rounded)) and bool(attrs.get("ceil_mode", 0))
    for axis, size, made in zip(question.axes, question.sizes, right, strict=True):
        i = axis - 2
        windows = windows_along(size + begins[i] + behind[i], reach[i], strides[i], up=up)
        if begins[i] >= kernel[i] or windows != made:
            return None
    return {"pads": [*begins, *behind]} | ({"ceil_mode": 1} if up else {})


def windows_along(size: int, reach: int, stride: int, *, up: bool) -> int:
    """How many windows a pool puts along an axis of a size, padding included, that it rounds up or down."""
    room = size - reach
    return (-(-room // stride) if up else room // stride) + 1


def pads_of(attrs: Mapping[str, Any], question: Question) -> tuple[list[int], list[int]] | None:
    """How far a pool pads in front and behind, each axis alone; None where that is not known, or is negative."""
    kernel, auto = attrs["kernel_shape"], attrs.get("auto_pad", "NOTSET")
    pads = attrs.get("pads") or [0] * 2 * len(kernel)
    if not auto.startswith("SAME"):
        return pads[: len(kernel)], pads[len(kernel) :]
    if len(question.sizes) < len(kernel):
        return None
    totals = same_padding(question.sizes, attrs.get("strides") or [1] * len(kernel), kernel)
    begins = same_in_front(auto, totals)
    return (begins, [total - begin for total, begin in zip(totals, begins, strict=True)]) if min(totals) >= 0 else None


def by_sizes(graph: Graph, node: onnx.NodeProto, question: Question, right: Sizes) -> list[onnx.NodeProto]:
    """A Resize by sizes, where ONNX Runtime makes the same scales of them: as the quotients that these once were."""
    scales = [float(np.float32(new) / np.float32(old)) for old, new in zip(question.sizes, right, strict=True)]
    cropped = attributes(node).get("coordinate_transformation_mode") == "tf_crop_and_resize"
    first, known = min(question.axes), dict(enumerate(graph.shape(node.input[0]) or ()))
    tail = [(known | dict(zip(question.axes, right, strict=True))).get(axis) for axis in range(first, question.rank)]
    if cropped or tuple(scales) != question.scales or not all(isinstance(size, int) for size in tail):
        return []
    names = fresh(graph, node.output[0])
    start, end, last, read, whole, front, sizes = (next(names) for _ in range(7))
    is_narrow = graph.type(node.input[0]).elem_type in NARROW  # a Shape of it would round it: see `Emitter.is_narrow`
    kept = {name: value for name, value in attributes(node).items() if name != "axes"}
    return [
        *(
            helper.make_node("Constant", [], [name], value=numpy_helper.from_array(np.array(value, np.int64)))
            for name, value in ((start, [0]), (end, [first]), (last, tail))
        ),
        *([helper.make_node("Neg", [node.input[0]], [read])] if is_narrow else []),
        helper.make_node("Shape", [read if is_narrow else node.input[0]], [whole]),
        helper.make_node("Slice", [whole, start, end], [front]),
        helper.make_node("Concat", [front, last], [sizes], axis=0),
        helper.make_node("Resize", [*node.input[:2], "", sizes], node.output, name=node.name, **kept),
    ]


def with_told_sizes(graph: Graph, proto: onnx.ModelProto) -> onnx.ModelProto:
    """In place: a graph made from `graph` such that ONNX Runtime is told the sizes that it still infers wrong.

    A Reshape that moves nothing tells them: behind the quantizer, where there is one, lest it cost the integer kernel.
    """
    told: dict[str, tuple[Question, Sizes]] = {}
    for i, found in graph.misjudged.items():
        name = graph.nodes[i].output[0]
        readers = [graph.nodes[reader] for reader in graph.consumers[name]] if quantizer(graph, name) else []
        told |= dict.fromkeys([reader.output[0] for reader in readers] or [name], found)
    if told:
        nodes = ((node, told.get(next(iter(node.output), ""))) for node in proto.graph.node)
        made = [new for node, found in nodes for new in (tell(graph, node, *found) if found else [node])]
        replace_nodes(proto.graph, made)
    return proto


def tell(graph: Graph, node: onnx.NodeProto, question: Question, right: Sizes) -> Iterator[onnx.NodeProto]:
    """A node, and what it gives out in the sizes that it has."""
    asked_for = attributes(node).get("output_shape", [])[2 - question.rank :]  # what a ConvTranspose makes of any size
    known = dict(enumerate(asked_for, start=2)) | dict(zip(question.axes, right, strict=True))
    sizes = np.array([known.get(axis, 0) for axis in range(question.rank)], np.int64)  # 0: as they are
    names = fresh(graph, node.output[0])
    shape, made = next(names), {name: next(names) for name in node.output if name}
    yield helper.make_node("Constant", [], [shape], value=numpy_helper.from_array(sizes))
    copy = copied(node)
    copy.output[:] = [made.get(name, "") for name in node.output]
    yield copy
    for name, there in made.items():
        yield helper.make_node("Reshape", [there, shape], [name], name=there)


def fresh(graph: Graph, name: str) -> Iterator[str]:
    """Names for what is made on the way to a value, none of which is taken."""
    return (made for i in count() if (made := f"onnxcam/{name}/{i}") not in graph.names)
