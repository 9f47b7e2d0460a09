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
from onnxcam.graph.nodes import attributes, with_nodes
from onnxcam.graph.sizing import POOLS, Question, doubtful, reach_and_strides, same_in_front, same_padding
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
    pads = explicit_pads(attrs, question, right) if node.op_type in POOLS else None
    if pads is None:
        return []
    kept = {name: value for name, value in attrs.items() if name not in ("auto_pad", "ceil_mode", "pads")}
    return [helper.make_node(node.op_type, node.input, node.output, name=node.name, pads=pads, **kept)]


def explicit_pads(attrs: Mapping[str, Any], question: Question, right: Sizes) -> list[int] | None:
    """All begins, then all ends, of windows that end where the last one does.

    None: an average would count them; ONNX Runtime takes none as long as the window, and pads SAME by negative numbers
    where windows lie far apart, which no attribute says.
    """
    if attrs.get("count_include_pad", 0):
        return None
    space, kernel = len(question.axes), attrs["kernel_shape"]
    reach, strides = reach_and_strides(attrs, kernel)
    begins, auto = (attrs.get("pads") or [0] * space)[:space], attrs.get("auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        totals = same_padding(question.sizes, strides, kernel)
        if min(totals) < 0:
            return None
        begins = same_in_front(auto, totals)
    starts = [size + begin - r for size, begin, r in zip(question.sizes, begins, reach, strict=True)]
    ends = [max(s * (made - 1) - start, 0) for s, made, start in zip(strides, right, starts, strict=True)]
    counts = [(start + end) // s + 1 for start, end, s in zip(starts, ends, strides, strict=True)]
    short = all(max(begin, end) < k for begin, end, k in zip(begins, ends, kernel, strict=True))
    return [*begins, *ends] if short and counts == list(right) else None


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


def fresh(graph: Graph, name: str) -> Iterator[str]:
    """Names for what is made on the way to a value, none of which is taken."""
    return (made for i in count() if (made := f"onnxcam/{name}/{i}") not in graph.names)
