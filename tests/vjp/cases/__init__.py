"""The table of operator cases: one row, one differentiation checked."""

from __future__ import annotations

from tests.vjp.cases import (
    activation,
    arithmetic,
    contrib,
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
    *activation.CASES, *arithmetic.CASES, *contrib.CASES, *convolution.CASES, *indexing.CASES, *linear.CASES,
    *normalization.CASES, *pooling.CASES, *reduction.CASES, *resize.CASES, *shape.CASES,
]  # fmt: skip
