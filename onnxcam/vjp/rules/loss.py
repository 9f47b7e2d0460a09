"""Losses of classifications: log-probabilities (N, C, *S) against labels (N, *S), each with a weight or none."""

from __future__ import annotations

from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import Cotangent, Cotangents, Node, rule
from onnxcam.vjp.rules.indexing import as_int64


@rule("NegativeLogLikelihoodLoss", versions=(13, 22), only=[0, 2])
def negative_log_likelihood(g: Emitter, n: Node, ct: str) -> Cotangents:
    """y = -w[label] x[label], reduced;  dx = -w ct there, d w = -x ct; a mean also divides by the sum of the w."""
    dx, dw = picked(g, n, ct, n.x())
    return [dx, None, dw]


@rule("SoftmaxCrossEntropyLoss", versions=(13,), only=[0, 2])
def softmax_cross_entropy(g: Emitter, n: Node, ct: Cotangent, ct_log: Cotangent = None) -> Cotangents:
    """y = NegativeLogLikelihoodLoss(LogSoftmax x);  dx = d log - softmax x sum d log."""
    log = g.op("LogSoftmax", n.x(), axis=1)
    d_log, dw = picked(g, n, ct, log) if ct else (None, None)
    whole = g.add([part for part in (d_log, ct_log) if part])
    total = g.reduce("ReduceSum", whole, [1])
    return [g.op("Sub", whole, g.op("Mul", g.op("Exp", log), total)), None, dw]


def picked(g: Emitter, n: Node, ct: str, x: str) -> tuple[str, Cotangent]:
    """The cotangents of the log-probabilities x and, if asked for, of the weights of the classes."""
    label, weight = labels(g, n)
    column = g.op("Unsqueeze", label, g.ints(1))
    loss = g.op("Neg", g.op("Squeeze", g.op("GatherElements", x, column, axis=1), g.ints(1)))
    share, d_weight = ct, g.op("Mul", ct, loss)
    if n.attr("reduction", "mean") == "mean":
        total = g.op("ReduceSum", weight, keepdims=0)
        share = g.op("Div", ct, total)
        mean = g.op("Div", g.op("ReduceSum", g.op("Mul", weight, loss), keepdims=0), total)
        d_weight = g.op("Mul", share, g.op("Sub", loss, mean))
    there = g.op("Unsqueeze", g.op("Neg", g.op("Mul", weight, share)), g.ints(1))
    dx = g.op("ScatterElements", g.op("Expand", n.array(0), g.op("Shape", x)), column, there, axis=1)
    if not n.wants(2):
        return dx, None
    counted = g.op("Where", kept(g, n), d_weight, n.array(0))
    flat, classes = g.ints(-1), g.op("Expand", n.array(0), g.op("Shape", n.input[2]))
    parts = g.op("Reshape", label, flat), g.op("Reshape", counted, flat)
    return dx, g.op("ScatterElements", classes, *parts, axis=0, reduction="add")


def labels(g: Emitter, n: Node) -> tuple[str, str]:
    """The labels and their weights; of those that are ignored, and may be no class at all, 0 and 0."""
    label = g.op("Where", kept(g, n), as_int64(g, n.input[1]), g.ints(0))
    weight = g.op("Gather", n.x(2), label) if n.has(2) else n.array(1)
    return label, g.op("Where", kept(g, n), weight, n.array(0))


def kept(g: Emitter, n: Node) -> str:
    """Which labels count, in their shape."""
    label, ignored = as_int64(g, n.input[1]), n.attr("ignore_index")
    if ignored is None:
        return g.op("Equal", label, label)
    return g.op("Not", g.op("Equal", label, g.ints(ignored)))
