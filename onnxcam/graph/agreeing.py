"""Pools and resizes spelled so that ONNX Runtime infers the sizes that it computes.

Where it loads a model, ONNX Runtime infers as onnx does, and floors what its kernels round up. The model itself runs
for all that, since nothing in it says otherwise. But what reads such a value beside something of the right size, as a
gradient does, is refused. The other spelling computes the very same numbers, but for a Resize whose scales are no
quotients of sizes: there a scale grows by a rounding or two.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import helper, numpy_helper

from onnxcam.graph.index import Graph, attributes
from onnxcam.graph.sizing import POOLS, Question, Sizes, doubtful

ROUNDINGS = 4


def with_agreed_sizes(graph: Graph) -> onnx.ModelProto | None:
    """The model with its misjudged nodes in the other spelling; None where there are none that have one."""
    if not any(node.domain == "" and doubtful(node) for node in graph.nodes):
        return None
    spelled = {
        i: made for i, (question, right) in graph.misjudged.items() if (made := spell(graph, i, question, right))
    }
    if not spelled:
        return None
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    del proto.graph.node[:]
    for i, node in enumerate(graph.nodes):
        proto.graph.node.extend(spelled.get(i, [node]))
    return proto


def spell(graph: Graph, i: int, question: Question, right: Sizes) -> list[onnx.NodeProto]:
    """A node as others that make the same; empty where no spelling is sure to."""
    node = graph.nodes[i]
    if node.op_type == "Resize":
        return resize(graph, i, question, right)
    pads = explicit_pads(attributes(node), question, right) if node.op_type in POOLS else None
    if pads is None:
        return []
    kept = {name: value for name, value in attributes(node).items() if name not in ("auto_pad", "ceil_mode", "pads")}
    return [helper.make_node(node.op_type, node.input, node.output, name=node.name, pads=pads, **kept)]


def explicit_pads(attrs: Mapping[str, Any], question: Question, right: Sizes) -> list[int] | None:
    """All begins, then all ends, of windows that end where the last one does; None: an average would count them."""
    if attrs.get("count_include_pad", 0):
        return None
    space, lists = len(question.axes), {name: value for name, value in attrs.items() if isinstance(value, list)}
    kernel = lists["kernel_shape"]
    strides, dilations = lists.get("strides", [1] * space), lists.get("dilations", [1] * space)
    begins, auto = lists.get("pads", [0] * space)[:space], str(attrs.get("auto_pad", "NOTSET"))
    if auto.startswith("SAME"):  # as ONNX Runtime pads: as if windows were not dilated
        sized = zip(question.sizes, strides, kernel, strict=True)
        totals = [max((-(-n // s) - 1) * s + k - n, 0) for n, s, k in sized]
        begins = [total // 2 if auto == "SAME_UPPER" else total - total // 2 for total in totals]
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)]
    starts = [n + begin - r for n, begin, r in zip(question.sizes, begins, reach, strict=True)]
    ends = [max(s * (count - 1) - start, 0) for s, count, start in zip(strides, right, starts, strict=True)]
    counts = [(start + end) // s + 1 for start, end, s in zip(starts, ends, strides, strict=True)]
    return [*begins, *ends] if counts == list(right) else None


def resize(graph: Graph, i: int, question: Question, right: Sizes) -> list[onnx.NodeProto]:
    """A Resize by sizes, where ONNX Runtime makes the same scales of them: as the quotients that these once were."""
    scales = [np.float32(new) / np.float32(old) for old, new in zip(question.sizes, right, strict=True)]
    if any(float(a) != b for a, b in zip(scales, question.scales, strict=True)):
        return larger_scales(graph, i, question, right)
    node, first = graph.nodes[i], min(question.axes)
    shape = dict(enumerate(graph.shape(node.input[0]) or ())) | dict(zip(question.axes, right, strict=True))
    tail = [shape[axis] for axis in range(first, question.rank)]
    if not all(isinstance(dim, int) for dim in tail):
        return []
    start, end, last, whole, front, sizes = (
        f"onnxcam/{node.output[0]}/{part}" for part in ("start", "end", "last", "whole", "front", "sizes")
    )
    kept = {name: value for name, value in attributes(node).items() if name != "axes"}
    return [
        *(constant(name, np.array(value, np.int64)) for name, value in ((start, [0]), (end, [first]), (last, tail))),
        helper.make_node("Shape", [node.input[0]], [whole]),
        helper.make_node("Slice", [whole, start, end], [front]),
        helper.make_node("Concat", [front, last], [sizes], axis=0),
        helper.make_node("Resize", [*node.input[:2], "", sizes], node.output, name=node.name, **kept),
    ]


def larger_scales(graph: Graph, i: int, question: Question, right: Sizes) -> list[onnx.NodeProto]:
    """A Resize by the least scales that give its sizes; of the nearest pixels none, which may be others then."""
    node = graph.nodes[i]
    grown = {
        axis: grow(scale, old, new)
        for axis, scale, old, new in zip(question.axes, question.scales, question.sizes, right, strict=True)
    }
    if attributes(node).get("mode", "nearest") == "nearest" or None in grown.values():
        return []
    axes, name = attributes(node).get("axes", range(question.rank)), f"onnxcam/{node.output[0]}/scales"
    scales = np.array([grown.get(axis % question.rank, 1) for axis in axes], np.float32)
    larger = helper.make_node("Resize", [*node.input[:2], name], node.output, name=node.name, **attributes(node))
    return [constant(name, scales), larger]


def grow(scale: float, old: int, new: int) -> float | None:
    """A scale, or one a rounding or two larger, whose product with a size is not below the other."""
    grown = np.float32(scale)
    for _ in range(ROUNDINGS):
        if int(float(grown) * old) == int(np.float32(old) * grown) == new:
            return float(grown)
        grown = np.nextafter(grown, np.float32(np.inf))
    return None


def constant(name: str, value: npt.NDArray[Any]) -> onnx.NodeProto:
    """A node that gives a value."""
    return helper.make_node("Constant", [], [name], value=numpy_helper.from_array(value))
