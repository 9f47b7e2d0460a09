"""What is explained: the score behind what a model gives out."""

from __future__ import annotations

from collections.abc import Sequence

import onnx

from onnxcam.errors import LayerError, ModelError, did_you_mean
from onnxcam.graph.index import Graph
from onnxcam.graph.quantized import dequantized
from onnxcam.graph.types import shown
from onnxcam.runtime.manifest import Score

PASSING = frozenset(
    [
        "Identity",
        "Cast",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Transpose",
        "Dropout",
        "ArgMax",
        "TopK",
        "ZipMap",
        "QuantizeLinear",
        "DequantizeLinear",
        "ArrayFeatureExtractor",
        "Normalizer",
        "CastLike",
    ]
)  # between the score and what the model gives out
SQUASHING = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}

QUANTIZED = {"QLinearSoftmax": "softmax", "QLinearSigmoid": "sigmoid"}


def find_score(graph: Graph, named: str | None = None) -> Score:
    """The score a caller named (a value or an output), or the one that the graph suggests.

    Raises:
        LayerError: no value of that name. ModelError: no output, or several, look like class scores.
    """
    if named is not None:
        if named not in graph:
            raise LayerError(
                f"the model has no value '{named}' to explain{did_you_mean(named, [*graph.outputs, *graph.producer])}"
            )
        named = dequantized(graph, named) or named
        if not graph.is_float(named):
            raise LayerError(f"the value '{named}' is not floating point: it cannot be explained")
        readers = [graph.nodes[i] for i in graph.consumers.get(named, []) if graph.nodes[i].op_type in SQUASHING]
        squash = SQUASHING[readers[0].op_type] if readers else ""
        return Score(named, "logit" if squash else "output", squash, named)
    traced = [score for name in graph.outputs if (score := trace(graph, name)) is not None]
    classes = [score for score in traced if class_axis(graph.shape(score.name)) is not None]
    distinct = {score.name: score for score in sorted(classes, key=lambda score: bool(score.squash))}
    if len(distinct) != 1:
        what = ", ".join(f"'{name}' {shown(graph.shape(name))}" for name in graph.outputs[:8])
        if distinct:
            raise ModelError(
                f"{graph.model.name} has several outputs that could be class scores: choose with --score ({what})"
            )
        raise ModelError(f"{graph.model.name} has no output of class scores, shape [N, classes] (its outputs: {what})")
    return next(iter(distinct.values()))


def trace(graph: Graph, output: str) -> Score | None:
    """From an output back to the score behind it; None when there is no float tensor on the way."""
    name, best = output, None
    while True:
        if best is None and graph.is_float(name):
            best = name
        node = graph.nodes[graph.producer[name]] if name in graph.producer else None
        if node is None or not node.input:
            break
        if (squash := QUANTIZED.get(node.op_type)) and (score := dequantized(graph, node.input[0])) is not None:
            return Score(score, "logit", squash, output)
        if node.op_type in SQUASHING and name != node.input[0]:
            score = node.input[0]
            return Score(score, "logit", SQUASHING[node.op_type], output)
        if (score := before_spelled_softmax(graph, node)) is not None:
            return Score(score, "logit", "softmax", output)
        if node.op_type not in PASSING:
            break
        name = node.input[0]
    return Score(best, "output", "", output) if best is not None else None


def before_spelled_softmax(graph: Graph, node: onnx.NodeProto) -> str | None:
    """The input of a softmax written as Exp, ReduceSum and Div, the maximum taken off or not."""
    if node.op_type != "Div":
        return None
    top, bottom = (graph.nodes[graph.producer[name]] if name in graph.producer else None for name in node.input)
    if top is None or bottom is None or top.op_type != "Exp" or bottom.op_type != "ReduceSum":
        return None
    if bottom.input[0] != node.input[0]:
        return None
    inner = graph.nodes[graph.producer[top.input[0]]] if top.input[0] in graph.producer else None
    if inner is not None and inner.op_type == "Sub":
        largest = graph.nodes[graph.producer[inner.input[1]]] if inner.input[1] in graph.producer else None
        if largest is not None and largest.op_type == "ReduceMax" and largest.input[0] == inner.input[0]:
            return str(inner.input[0])
    return str(top.input[0])


def class_axis(shape: Sequence[int | str | None] | None) -> int | None:
    """The classes' axis of a score shaped [N, K], [N, K, 1, 1], [N, 1, K] or [K]; None for anything else."""
    if shape is None or not shape:
        return None
    if len(shape) == 1:
        return 0
    wide = [axis for axis in range(1, len(shape)) if shape[axis] != 1]
    if len(wide) > 1:
        return None
    return wide[0] if wide else 1
