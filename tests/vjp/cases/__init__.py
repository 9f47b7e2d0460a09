"""The table of operator cases: one row, one differentiation checked."""

from __future__ import annotations

from tests.vjp.cases import (
    activation,
    arithmetic,
    convolution,
    indexing,
    linear,
    normalization,
    pooling,
    reduction,
    resize,
    shape,
)

CASES = [
    *activation.CASES, *arithmetic.CASES, *convolution.CASES, *indexing.CASES, *linear.CASES, *normalization.CASES,
    *pooling.CASES, *reduction.CASES, *resize.CASES, *shape.CASES,
]  # fmt: skip
