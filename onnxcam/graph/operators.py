"""Operators with weights, by what they do."""

from __future__ import annotations

CONVOLUTIONS = frozenset({"Conv", "ConvInteger", "DeformConv", "FusedConv", "QLinearConv"})
PRODUCTS = frozenset({
    "MatMul", "Gemm", "FusedMatMul", "FusedGemm", "MatMulInteger", "MatMulIntegerToFloat", "DynamicQuantizeMatMul",
    "MatMulNBits", "QLinearMatMul", "QGemm",
})  # fmt: skip
ATTENTION = frozenset({"Attention", "MultiHeadAttention", "QAttention"})
RECURRENT = frozenset({"LSTM", "DynamicQuantizeLSTM", "GRU", "RNN"})
WEIGHTED = CONVOLUTIONS | PRODUCTS | ATTENTION | RECURRENT | {"ConvTranspose", "Einsum"}
