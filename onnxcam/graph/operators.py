"""Operators by what they do, and along what."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx

from onnxcam.graph.index import Graph
from onnxcam.graph.nodes import attributes, optional

CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "DeformConv", "FusedConv", "QLinearConv"})
PRODUCTS = frozenset({
    "MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
    "MatMulNBits", "QLinearMatMul", "QGemm",
})  # fmt: skip
ATTENTION = frozenset({"Attention", "MultiHeadAttention", "QAttention"})
RECURRENT = frozenset({"LSTM", "DynamicQuantizeLSTM", "GRU", "RNN"})
LEARNT = frozenset({
    "LinearClassifier", "LinearRegressor", "SVMClassifier", "SVMRegressor",
    "TreeEnsemble", "TreeEnsembleClassifier", "TreeEnsembleRegressor",
})  # of ONNX-ML, with weights in their attributes  # fmt: skip
WEIGHTED = CONVOLUTIONS | PRODUCTS | ATTENTION | RECURRENT | LEARNT | {"ConvTranspose", "Einsum"}


def reduced_axes(graph: Graph, node: onnx.NodeProto) -> list[int] | None:
    """The axes that a reduction goes along, in order; None where these, or how many there are, is not known."""
    rank, attrs = graph.rank(node.input[0]), attributes(node)
    axes: Any = [attrs.get("axis", 0)] if node.op_type in ("ArgMax", "ArgMin") else attrs.get("axes", [])
    if given := optional(node, 1):
        axes = graph.constant(given)
    if rank is None or axes is None:
        return None
    if not np.size(axes) and not attrs.get("noop_with_empty_axes"):
        return list(range(rank))
    return sorted({int(axis) % max(rank, 1) for axis in np.ravel(axes)})


def operand_order(attrs: Mapping[str, Any], side: str, rank: int) -> list[int]:
    """How a product of matrices turns its operand A or B first (Transpose's perm).

    Its first axis goes before its last (transBatch), then its last two are swapped (trans).
    """
    order = list(range(rank))
    if rank < 2:
        return order
    if attrs.get(f"transBatch{side}"):
        order = [*order[1:-1], 0, order[-1]]
    if attrs.get(f"trans{side}"):
        order[-2:] = order[:-3:-1]
    return order


def has_one_scale(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a QuantizeLinear or DequantizeLinear takes all elements by one scale and one zero point."""
    return all(map(graph.is_single, filter(None, node.input[1:])))
