"""What the numbers of a score are: read off the nodes that make it, never off its values."""

from __future__ import annotations

import onnx

from onnxcam.graph.index import Graph
from onnxcam.graph.operators import CONVOLUTIONS, PRODUCTS
from onnxcam.graph.squashing import squashed

KEEPING = frozenset({
    "Identity", "Cast", "CastLike", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose", "Dropout",
    "QuantizeLinear", "DequantizeLinear",
})  # fmt: skip  # all elements, each with its value
CHOOSING = frozenset({"Slice", "Split", "Gather", "TopK"})  # some elements, each with its value
BEHIND = frozenset({"GlobalAveragePool", "AveragePool", "ReduceMean", "QLinearGlobalAveragePool", "Relu"})
SUMS = frozenset({"Add", "Sub"})
LENGTHENING = KEEPING | {"Sqrt", "Reciprocal", "Add", "Max", "Min", "Clip", "Expand"}  # of a length, before it divides


def is_probability(graph: Graph, name: str) -> bool:
    """Whether every element of a value is what a softmax or a sigmoid gave out, unchanged."""
    while graph.is_real(name) and (node := graph.maker(name)) is not None:
        if node.op_type not in KEEPING | CHOOSING:
            return node.op_type != "LogSoftmax" and squashed(graph, node) is not None
        name = node.input[0]
    return False


def is_product(graph: Graph, name: str) -> bool:
    """Whether a value is a matrix product or convolution of features, or a sum, a scaling or a mean of such.

    That is what a classifier's last layer leaves when it was exported without its softmax. A product of probabilities
    (attention, a permutation as a matrix) is none; a Relu behind it (SqueezeNet) does not count.
    """
    waiting, seen = [name], {name}
    while waiting:
        node = graph.maker(waiting.pop())
        if node is None or any(is_probability(graph, read) for read in node.input):
            return False
        if node.op_type not in CONVOLUTIONS | PRODUCTS:
            terms = set(added(graph, node))
            if not terms:
                return False
            waiting += terms - seen
            seen |= terms
    return True


def added(graph: Graph, node: onnx.NodeProto) -> list[str]:
    """What a node adds up, its scaling and its moving aside; empty for one that does anything else."""
    if node.op_type in KEEPING | BEHIND:
        return [node.input[0]]
    terms = [read for read in node.input if not is_factor(graph, read)]
    one = len(terms) == 1 and (node.op_type == "Mul" or (node.op_type == "Div" and terms[0] == node.input[0]))
    return terms if one or node.op_type in SUMS else []


def first_holder(graph: Graph, name: str) -> str:
    """The value nearest to the image that holds the same elements: two outputs of it are one score."""
    while (node := graph.maker(name)) is not None and node.op_type in KEEPING:
        name = node.input[0]
    return name


def has_unit_length(graph: Graph, name: str) -> bool:
    """Whether a value is divided by its own length, as embeddings are."""
    node = graph.maker(first_holder(graph, name))
    if node is None or node.op_type not in ("Div", "Mul"):
        return node is not None and node.op_type == "LpNormalization"
    pairs = [tuple(node.input[:2])] if node.op_type == "Div" else [tuple(node.input[:2]), tuple(node.input[1::-1])]
    return any(is_length(graph, by, of=whole, inverse=node.op_type == "Mul") for whole, by in pairs)


def is_length(graph: Graph, name: str, *, of: str, inverse: bool) -> bool:
    """Whether a value is the root of another's sum of squares (or one over it), kept from zero perhaps."""
    inverted = rooted = False
    while (node := graph.maker(name)) is not None and (node.op_type in LENGTHENING or is_root(graph, node)):
        inverted, rooted = inverted or node.op_type == "Reciprocal", rooted or is_root(graph, node)
        moved = [read for read in node.input if not is_factor(graph, read)]
        name = moved[0] if node.op_type in ("Add", "Max", "Min") and len(moved) == 1 else node.input[0]
    if node is None or inverted != inverse:
        return False
    if node.op_type == "ReduceSum":
        square = graph.maker(node.input[0])
        power = None if square is None else graph.constant(square.input[-1])
        twice = square is not None and square.op_type == "Mul" and square.input[0] == square.input[1]
        squared = square is not None and square.op_type == "Pow" and power is not None and bool((power == 2).all())
        return rooted and square is not None and (twice or squared) and square.input[0] == of
    return (node.op_type == "ReduceL2" or (node.op_type == "ReduceSumSquare" and rooted)) and node.input[0] == of


def is_root(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node takes the square root, as a power too (CLIP)."""
    return node.op_type == "Sqrt" or (node.op_type == "Pow" and graph.number(node.input[1]) == 1 / 2)


def is_factor(graph: Graph, name: str) -> bool:
    """Whether a value is the same for every image, or a single number (the scale of integers, a temperature).

    One of each row, [N, 1], is none, and so neither where the batch is 1.
    """
    return name in graph.fixed or (graph.is_single(name) and graph.rank(name) in (0, 1))
