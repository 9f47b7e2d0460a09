"""What a softmax or a sigmoid reads: in one operator, on integers, or spelled as Exp, ReduceSum and Div."""

from __future__ import annotations

import math
from collections.abc import Callable

import onnx

from onnxcam.graph.index import Graph
from onnxcam.graph.nodes import attributes
from onnxcam.graph.operators import reduced_axes
from onnxcam.graph.quantized import dequantized
from onnxcam.graph.scoreaxes import class_axis

QUANTIZED = {"QLinearSoftmax": "softmax", "QLinearSigmoid": "sigmoid"}
SQUASHING = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid", **QUANTIZED}
NEXT_TO_NOTHING = 1e-3  # of a probability
ALL_BEHIND = 13  # the first opset whose softmax takes one axis, not all from it on


def squashed(graph: Graph, node: onnx.NodeProto) -> tuple[str, str] | None:
    """What a node squashes, and how ("softmax" or "sigmoid"), whatever it is; None where it does anything else."""
    if node.op_type in SQUASHING:
        return node.input[0], SQUASHING[node.op_type]
    source = before_spelled_softmax(graph, node)
    return None if source is None else (source, "softmax")


def squashed_score(graph: Graph, node: onnx.NodeProto) -> tuple[str, str] | None:
    """The score that a node squashes, and how; None where it weighs no classes against each other, or no floats."""
    source, squash = squashed(graph, node) or ("", "")
    if not squash or (squash == "softmax" and not along_classes(graph, node, source)):
        return None
    score = as_floats(graph, source) if node.op_type in QUANTIZED else source
    return None if score is None else (score, squash)


def as_floats(graph: Graph, integers: str) -> str | None:
    """The floats that integers stand for: what dequantizes them, or what was quantized; None where there is neither."""
    maker = graph.maker(integers)
    before = maker.input[0] if maker is not None and maker.op_type == "QuantizeLinear" else None
    return dequantized(graph, integers) or before


def squash_of(graph: Graph, score: str) -> str:
    """How a value is squashed as a score, by the first node that does; empty: by none."""
    found = filter(None, (squashed_score(graph, node) for node in graph.nodes))
    return next((squash for source, squash in found if source == score), "")


def along_classes(graph: Graph, node: onnx.NodeProto, source: str) -> bool:
    """Whether a softmax of a row of classes weighs the classes against each other, not images or single numbers."""
    shape = graph.shape(source)
    classes = class_axis(shape)
    if shape is None or classes is None:
        return True
    axes = softmax_axes(graph, node, len(shape))
    return classes in axes and all(shape[axis] == 1 for axis in axes - {classes})


def softmax_axes(graph: Graph, node: onnx.NodeProto, rank: int) -> set[int]:
    """The axes that a softmax goes along; none where they are not known."""
    if node.op_type == "Div":
        total = graph.maker(node.input[1])
        return set((total and reduced_axes(graph, total)) or ())
    attrs = attributes(node)
    axis = int(attrs.get("axis", -1)) % rank
    return set(range(axis, rank)) if attrs.get("opset", ALL_BEHIND) < ALL_BEHIND else {axis}


def before_spelled_softmax(graph: Graph, node: onnx.NodeProto) -> str | None:
    """The input of a softmax written as Exp, ReduceSum and Div, the maximum taken off or not."""
    if node.op_type != "Div":
        return None
    top, bottom = (graph.maker(name) for name in node.input)
    if top is None or bottom is None or top.op_type != "Exp" or bottom.op_type != "ReduceSum":
        return None
    if bottom.input[0] != node.input[0]:
        return None
    inner = graph.maker(top.input[0])
    if inner is not None and inner.op_type == "Sub":
        largest = graph.maker(inner.input[1])
        if largest is not None and largest.op_type == "ReduceMax" and largest.input[0] == inner.input[0]:
            return str(inner.input[0])
    return str(top.input[0])


def before_display(graph: Graph, node: onnx.NodeProto) -> str | None:
    """What a node changes for its reader alone, were it a probability; None where it does anything else.

    It is kept from 0 and 1, rounded, given in per cent or as a logarithm. (Other factors make pixels of it, or places.)
    """
    if node.op_type in ("Round", "Log"):
        return str(node.input[0])
    numbers = {i: graph.number(name) for i, name in enumerate(node.input) if name}
    if node.op_type == "Clip":
        low, high = numbers.get(1, -math.inf), numbers.get(2, math.inf)
        inside = low is not None and high is not None and low <= NEXT_TO_NOTHING and high >= 1 - NEXT_TO_NOTHING
        return str(node.input[0]) if inside else None
    known = [value for value in numbers.values() if value is not None]
    fits = DISPLAYING.get(node.op_type)
    if fits is None or len(numbers) != 2 or len(known) != 1 or (node.op_type == "Div" and numbers[1] is None):
        return None
    return str(node.input[numbers[1] is None]) if fits(known[0]) else None


def is_power_of_ten(number: float) -> bool:
    """Whether a number shifts the decimal point."""
    return 0 < number < math.inf and abs(math.log10(number) - round(math.log10(number))) < 1e-6


DISPLAYING: dict[str, Callable[[float], bool]] = {  # by which numbers
    "Add": lambda number: abs(number) <= NEXT_TO_NOTHING,
    "Max": lambda number: number <= NEXT_TO_NOTHING,
    "Min": lambda number: number >= 1 - NEXT_TO_NOTHING,
    "Mul": is_power_of_ten,
    "Div": is_power_of_ten,
}
