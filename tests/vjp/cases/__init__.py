"""The table of operator cases: one row, one differentiation checked."""

from __future__ import annotations

from tests.vjp.cases import (
    activation,
    arithmetic,
    attention,
    contrib,
    convolution,
    deformable,
    indexing,
    linear,
    loss,
    normalization,
    pooling,
    recurrent,
    reduction,
    regions,
    resize,
    sampling,
    shape,
    signal,
)

CASES = [
    *activation.CASES, *arithmetic.CASES, *attention.CASES, *contrib.CASES, *convolution.CASES, *deformable.CASES,
    *indexing.CASES, *linear.CASES, *loss.CASES, *normalization.CASES, *pooling.CASES, *recurrent.CASES,
    *reduction.CASES, *regions.CASES, *resize.CASES, *sampling.CASES, *shape.CASES, *signal.CASES,
]  # fmt: skip
