"""The graphs that explanations run: gradients of a head and of the whole model, and a head's way forward."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper

from onnxcam.graph import (
    INTEGERS,
    QUANTIZERS,
    SWAP,
    Graph,
    Head,
    as_deployed,
    declared,
    free_taps,
    images_second,
    pruned,
    reads,
    rounded,
    scaling,
    sources,
    unquantized,
    widened,
    with_told_sizes,
)
from onnxcam.rounding import CANCELLED
from onnxcam.runtime import HIGHEST
from onnxcam.vjp.differentiate import as_cotangent, typed
from onnxcam.vjp.emitter import Emitter, cotangent_type, numpy_type
from onnxcam.vjp.narrowing import narrowed
from onnxcam.vjp.registry import STANDARD, Node, RuleSet
from onnxcam.vjp.rows import CLASS, choose_class
from onnxcam.vjp.rules.quantization import unscaled
from onnxcam.vjp.settling import extended
from onnxcam.vjp.sign import never_negative
from onnxcam.vjp.sweep import reverse

ROUNDING = QUANTIZERS | {"Round", "Floor", "Ceil"}
GRADIENT = "onnxcam/gradient"
SEED = "onnxcam/seed"


@dataclass(frozen=True)
class RowGraph:
    """A graph to run with a row per target: a way back to a layer or image, or a head's way forward to scores.

    Attributes:
        proto: the model; large weights are references.
        output: name of what it gives: a gradient, or scores.
    """

    proto: onnx.ModelProto
    output: str

    @cached_property
    def inputs(self) -> list[str]:
        """Names of what it reads."""
        return [value.name for value in self.proto.graph.input]

    @property
    def outputs(self) -> list[str]:
        """Names of all that it gives."""
        return [value.name for value in self.proto.graph.output]


def rounding(head: Head) -> str:
    """The first node that rounds what depends on the layer, and over which differences say nothing; empty: none."""
    graph, moving = head.graph, {head.layer, *head.extra}
    for i, node in enumerate(graph.nodes):
        if node.op_type in ("Shape", "Size") or moving.isdisjoint(reads(node)):
            continue
        moving |= set(node.output)
        whole = node.op_type == "Cast" and graph.type(node.output[0]).elem_type in INTEGERS | {TensorProto.INT64}
        if (whole or node.op_type in ROUNDING) and graph.is_float(node.input[0]):
            return graph.describe(i)
    return ""


def class_score(head: Head, axis: int) -> RowGraph:
    """The head's forward pass for one class a row, for differences: inputs the layer, CLASS and what else it reads.

    What is float16 is float32 here, as in `all_scores`: its roundings are larger than what small steps change.
    """
    graph, one = choose_class(head.graph, head.score, axis)
    proto = onnx.ModelProto()
    proto.CopyFrom(graph.proto)
    return RowGraph(widened(as_deployed(graph, proto)), one)


def all_scores(head: Head) -> RowGraph:
    """The head's forward pass to every score: inputs the layer and what else it reads."""
    proto = onnx.ModelProto()
    proto.CopyFrom(head.graph.proto)
    return RowGraph(widened(as_deployed(head.graph, pruned(proto, [head.score]))), head.score)


def class_gradient(
    head: Head,
    axis: int,
    *,
    wrt: str | None = None,
    mean: Sequence[int] = (),
    taps: Collection[str] | None = None,
) -> RowGraph:
    """d score[class] / d layer (or `wrt`), a row per target; the class is the int64 input CLASS [rows].

    What the backward pass reads of the primal head is an input too where it is in `taps` (None: what a run of the model
    gives out for nothing); the rest is made again. Of the gradient only the mean over the axes `mean` is given out.
    """
    wrt = wrt or head.layer
    small = narrowed(head.graph, head.score, wrt)
    graph, one = choose_class(small, head.score, axis, keep=wrt)
    g = Emitter(graph, rounded(small, head.score) | rounded(graph, one))
    ct = sweep(g, one, ones(g, one), wrt)
    proto = appended(g, averaged(g, ct, mean, wrt) if mean else ct, wrt, [])
    if mean:
        proto.graph.output[-1].type.tensor_type.ClearField("shape")
    return RowGraph(pruned(proto, [GRADIENT], offered(head, wrt, taps)), GRADIENT)


def offered(head: Head, wrt: str, taps: Collection[str] | None) -> list[onnx.ValueInfoProto]:
    """Inputs that take the place of what the backward pass reads of the primal head: see `class_gradient`."""
    free = sorted(free_taps(head.graph) - {wrt})
    return [declared(head.graph, name) for name in free if taps is None or name in taps]


def averaged(g: Emitter, ct: str, axes: Sequence[int], wrt: str) -> str:
    """The mean of a cotangent over axes, which stay with size 1; where means are but rounding, see `unless_cancelled`.

    Where they are the columns of a matrix product, those of its right factor are averaged before it: a pointwise
    convolution before the score gives the layer's whole gradient out for nothing else.
    """
    node, kind = g.made(ct), numpy_type(g.graph.type(wrt).elem_type)
    product = g.made(node.input[0]) if node is not None and node.op_type == "Reshape" else None
    right = g.made(product.input[1]) if product is not None and product.op_type == "MatMul" else None
    if node is not None and product is not None and right is not None and right.op_type == "Reshape":
        shape, columns = g.constant(node.input[1]), g.constant(right.input[1])
        if shape is not None and columns is not None and are_columns(axes, shape.tolist(), columns.tolist()):
            last, small = [len(columns) - 1], [1 if axis in axes else int(size) for axis, size in enumerate(shape)]
            factors = (product.input[0], product.input[1]), tuple(g.op("Abs", name) for name in product.input)
            mean, terms = (
                g.op("Reshape", g.op("MatMul", left, g.reduce("ReduceMean", one, last)), g.ints(*small))
                for left, one in factors
            )
            one_term = columns[-2] == 1 and never_negative(g, product.input[1])
            return mean if one_term else unless_cancelled(g, mean, terms, len(small), kind)
    mean, terms = (g.reduce("ReduceMean", one, axes) for one in (ct, g.op("Abs", ct)))
    return mean if never_negative(g, ct) else unless_cancelled(g, mean, terms, g.graph.rank(wrt) or 0, kind)


def unless_cancelled(g: Emitter, sums: str, terms: str, rank: int, kind: type[np.floating[Any]]) -> str:
    """Sums (N, ...), those of a row as zeros where each is but the rounding of its terms, as before a normalization.

    `terms`: the sums of the terms' magnitudes, or more. As in `methods`; what is not a number stays so.
    """
    excess = g.op("Sub", g.op("Abs", sums), g.op("Mul", terms, g.const(CANCELLED, kind)))
    largest = g.reduce("ReduceMax", excess, list(range(1, rank)))
    some = g.op("Cast", g.op("Greater", largest, g.const(0, kind)), to=helper.np_dtype_to_tensor_dtype(np.dtype(kind)))
    return g.op("Mul", sums, some)


def are_columns(axes: Sequence[int], shape: list[int], right: list[int]) -> bool:
    """Whether axes of `shape` are the columns of a product with a right factor [..., rows, columns] in that shape."""
    last = list(range(len(shape) - len(axes), len(shape)))
    return (
        len(right) > 1 and list(axes) == last and min(shape[last[0] :]) > 0 and math.prod(shape[last[0] :]) == right[-1]
    )


def ones(g: Emitter, one: str) -> str:
    """The cotangent of one score a row, from the number of rows where that is all its shape takes."""
    shape = g.graph.shape(one)
    each = g.const(1, numpy_type(g.graph.type(one).elem_type))
    if shape is None or any(size != 1 for size in shape[1:]):
        return g.op("Expand", each, g.op("Shape", one))
    return g.op("Reshape", g.op("Expand", each, g.op("Shape", CLASS)), g.ints(-1, *[1] * (len(shape) - 1)))


def seeded_gradient(head: Head, *, wrt: str | None = None, taps: Collection[str] | None = None) -> RowGraph:
    """d <SEED, score> / d layer (or `wrt`), a row per target; SEED has the score's shape.

    `taps` as in `class_gradient`.
    """
    wrt = wrt or head.layer
    graph = narrowed(head.graph, head.score, wrt)
    g = Emitter(graph, rounded(graph, head.score))
    ct = sweep(g, head.score, as_cotangent(g, SEED, head.score), wrt)
    seed = typed(head.graph, head.score, rename=SEED)
    return RowGraph(pruned(appended(g, ct, wrt, [seed]), [GRADIENT], offered(head, wrt, taps)), GRADIENT)


def whole_seeded_gradient(graph: Graph, score: str, wrt: str, *, rules: RuleSet = STANDARD) -> RowGraph:
    """Forward and backward in one graph: d <SEED, score> / d wrt, after the original outputs."""
    g = Emitter(graph, rounded(graph, score))
    ct = sweep(g, unquantized(graph, score), as_cotangent(g, SEED, score), wrt, rules)
    return RowGraph(appended(g, ct, wrt, [typed(graph, score, rename=SEED)]), GRADIENT)


def whole_class_gradient(
    graph: Graph, score: str, axis: int | None, wrt: str, *, rules: RuleSet = STANDARD
) -> RowGraph:
    """Forward and backward in one graph: d score[class] / d wrt, after the original outputs.

    The class of each row is the int64 input CLASS [rows, or 1 for all], or HIGHEST. `axis`: of the classes; None: each
    row is one number, of class 0.
    """
    g = Emitter(graph, rounded(graph, score))
    ct = sweep(g, unquantized(graph, score), chosen(g, score, axis), wrt, rules)
    classes = helper.make_tensor_value_info(CLASS, TensorProto.INT64, ["onnxcam/targets"])
    return RowGraph(appended(g, ct, wrt, [classes]), GRADIENT)


def chosen(g: Emitter, score: str, axis: int | None) -> str:
    """One-hot cotangents of the score for the classes in CLASS; `axis` as in `whole_class_gradient`.

    A class that there is none of fails in Gather, or gives NaN where Gather takes it: not zeros.
    """
    if axis is None:
        there = g.op("Or", *(g.op("Equal", CLASS, g.const(which, np.int64)) for which in (HIGHEST, 0)))
        number = numpy_type(cotangent_type(g.graph.type(score).elem_type))
        return g.op("Expand", g.op("Where", there, g.const(1, number), g.const(np.nan, number)), g.op("Shape", score))
    rank = g.graph.rank(score) or 2
    asked = g.op("Reshape", CLASS, g.ints(-1, *[1] * (rank - 1)))
    top = g.op("Equal", asked, g.const(HIGHEST, np.int64))
    index = g.op("Where", top, g.op("ArgMax", score, axis=axis, keepdims=1), asked)
    classes = g.op("Squeeze", g.op("Slice", g.op("Shape", score), g.ints(axis), g.ints(axis + 1)), g.ints(0))
    steps = g.arange(classes)
    along = g.op("Reshape", steps, g.ints(*[-1 if i == axis else 1 for i in range(rank)]))
    there = g.op("Equal", g.op("Gather", steps, index), index)
    kind = cotangent_type(g.graph.type(score).elem_type)
    nan = g.const(np.nan, numpy_type(kind))
    return g.op("Where", there, g.cast(g.op("Equal", along, index), kind), nan)


def sweep(g: Emitter, of: str, start: str, wrt: str, rules: RuleSet = STANDARD) -> str:
    """The cotangent of one value; zeros where `of` does not depend on it.

    Integers are what they stand for. Where some stand for the value, all that reads these reads it.
    """
    if (second := images_second(g.graph, wrt)) is not None:
        return g.op("Transpose", sweep(g, of, start, second, rules), perm=SWAP)
    made = wrt in g.graph.producer and not g.graph.is_float(wrt)  # an image of integers is what it is
    integers = [wrt] if made else sources(g.graph, wrt)
    found = reverse(g, {of: start}, integers or [wrt], rules)
    parts = [ct for ct in found.values() if ct is not None]
    if not parts:
        return g.zeros_like(wrt, cotangent_type(g.graph.type(wrt).elem_type))
    if not integers:
        return parts[0]
    maker = g.graph.nodes[g.graph.producer[wrt]]
    reading = helper.make_node("DequantizeLinear", [integers[0], *filter(None, scaling(maker))], [wrt])
    if maker.op_type in ("QuantizeLinear", "DequantizeLinear"):
        reading.attribute.extend(attribute for attribute in maker.attribute if attribute.name == "axis")
    return g.add([unscaled(g, Node(g, reading, frozenset(), rules), ct) for ct in parts])


def appended(g: Emitter, ct: str, wrt: str, inputs: Sequence[onnx.ValueInfoProto]) -> onnx.ModelProto:
    """The primal graph, what was emitted, and one more output, GRADIENT, in the shape of `wrt`."""
    g.nodes.append(helper.make_node("Identity", [ct], [GRADIENT], name=g.fresh("gradient")))
    proto = extended(g, [GRADIENT])
    proto.graph.input.extend(inputs)
    kind = cotangent_type(g.graph.type(wrt).elem_type)
    proto.graph.output.append(typed(g.graph, wrt, rename=GRADIENT, elem_type=kind))
    return with_told_sizes(g.graph, as_deployed(g.graph, proto, kept=[wrt]))
