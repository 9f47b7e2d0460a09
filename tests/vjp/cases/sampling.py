"""Sampling at computed positions: every mode, padding and alignment, in two and three dimensions."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np

from tests.vjp.case import Arg, Array, Case, Dim, case, fed, ints, normal


def keys(distance: Array) -> Array:
    """Keys' cubic convolution with a = -0.75."""
    d, a = np.abs(distance), -0.75
    near, far = (a + 2) * d**3 - (a + 3) * d**2 + 1, a * d**3 - 5 * a * d**2 + 8 * a * d - 4 * a
    return np.where(d <= 1, near, np.where(d < 2, far, 0))


def hat(distance: Array) -> Array:
    return np.maximum(0, 1 - np.abs(distance))


def fold(i: int, size: int, padding: str, aligned: bool) -> int | None:
    """The pixel that stands for pixel i; None: a zero."""
    if 0 <= i < size:
        return i
    if padding == "zeros":
        return None
    if padding == "border":
        return min(max(i, 0), size - 1)
    while not 0 <= i < size:  # mirror on the nearer end
        end = 0 if i < 0 else size - 1
        i = 2 * end - i if aligned else 2 * end - i + (-1 if i < 0 else 1)
        if aligned and size == 1:
            return 0
    return i


def axis_matrix(position: Array, size: int, mode: str, padding: str, aligned: bool) -> Array:
    """(samples, size): how much every sample reads of every pixel along one axis."""
    matrix = np.zeros((position.size, size))
    for m, p in enumerate(position):
        near = [int(np.rint(p))] if mode == "nearest" else range(int(np.floor(p)) - 1, int(np.floor(p)) + 3)
        for i in near:
            weight = 1.0 if mode == "nearest" else float((keys if mode == "cubic" else hat)(np.array(p - i)))
            pixel = fold(i, size, padding, aligned)
            if pixel is not None:
                matrix[m, pixel] += weight
    return matrix


def sampled(x: Array, grid: Array, attrs: dict[str, Any]) -> Array:
    """GridSample by the specification: one matrix an axis."""
    mode = {"bilinear": "linear", "bicubic": "cubic"}.get(attrs.get("mode", "linear"), attrs.get("mode", "linear"))
    aligned, rank = bool(attrs.get("align_corners")), x.ndim - 2
    y = np.zeros((*x.shape[:2], *grid.shape[1:-1]))
    for image in range(x.shape[0]):
        value = x[image][:, None]  # (C, 1, *S), then (C, P, *what is left of S)
        for i in range(rank):
            p, size = grid[image].reshape(-1, rank)[:, rank - 1 - i], x.shape[i + 2]
            p = (p + 1) / 2 * (size - 1) if aligned else ((p + 1) * size - 1) / 2
            matrix = axis_matrix(p, size, mode, attrs.get("padding_mode", "zeros"), aligned)
            value = np.einsum(
                "cps...,ps->cp...", np.broadcast_to(value, (value.shape[0], p.size, *value.shape[2:])), matrix
            )
        y[image] = value.reshape(y.shape[1:])
    return y


def grid_of(*shape: Dim, reach: float = 1.7) -> Arg:
    """Points inside and outside the image, none on a boundary between two pixels (of up to 8) or half way."""

    def draw(rng: np.random.Generator, size: tuple[int, ...]) -> Array:
        return np.round(rng.uniform(-reach, reach, size) * 64) / 64 + 0.00371

    return Arg(shape, draw)


def grid_sample(*args: Arg, opset: int = 20, **attrs: Any) -> Case:
    return case("GridSample", *args, truth=lambda x, grid: sampled(x, grid, attrs), opset=opset, **attrs)


def affine_grid(*args: Arg, **attrs: Any) -> Case:
    def grid(theta: Array, shape: Array) -> Array:
        aligned, sizes = attrs.get("align_corners", 0), shape[2:][::-1]
        axes = [np.linspace(-1, 1, s) if aligned else (2 * np.arange(s) + 1) / s - 1 for s in sizes]
        points = np.stack(np.meshgrid(*axes, indexing="ij"), -1).T  # x varies fastest, and comes first
        points = np.moveaxis(np.concatenate([points, np.ones_like(points[:1])]), 0, -1)
        return np.einsum("nij,...j->n...i", theta, points)

    return case("AffineGrid", *args, truth=grid, opset=20, **attrs)


PADDINGS, ALIGNMENTS = ("zeros", "border", "reflection"), (0, 1)

CASES = [
    *(
        grid_sample(normal("N", 2, 4, 5), grid_of("N", 3, 2, 2), mode=mode, padding_mode=padding, align_corners=aligned)
        for mode, padding, aligned in product(("linear", "nearest", "cubic"), PADDINGS, ALIGNMENTS)
    ),
    *(
        grid_sample(
            normal(1, 2, 3, 4, 3), grid_of(1, 2, 1, 3, 3), mode=mode, padding_mode=padding, align_corners=aligned
        )
        for mode, padding, aligned in product(("linear", "nearest"), PADDINGS, ALIGNMENTS)
    ),
    grid_sample(normal("N", 2, 7, 8), grid_of("N", 3, 2, 2)),  # large enough for a scatter
    grid_sample(normal("N", "C", "H", "W"), grid_of("N", "L", "M", 2)),
    grid_sample(normal("N", "C", "H", "W"), grid_of("N", "L", "M", 2), mode="cubic", padding_mode="reflection"),
    grid_sample(normal(1, 2, "D", "H", "W"), grid_of(1, 2, "M", 2, 3), padding_mode="border"),
    grid_sample(normal(2, 1, 3, 1), grid_of(2, 2, 2, 2), padding_mode="reflection", align_corners=1),
    grid_sample(normal("N", 2, 4, 5), fed(grid_of("N", 3, 2, 2))),
    grid_sample(fed(normal("N", 2, 4, 5)), grid_of("N", 3, 2, 2)),
    grid_sample(normal("N", 2, 4, 5), grid_of("N", 3, 2, 2), opset=16),
    grid_sample(normal("N", 2, 4, 5), grid_of("N", 3, 2, 2), opset=16, mode="bicubic", padding_mode="border"),
    affine_grid(normal(2, 2, 3), ints(2, 3, 4, 5)),
    affine_grid(normal(3, 2, 3), ints(3, 1, 4, 5), align_corners=1),
    affine_grid(normal(1, 3, 4), fed(ints(1, 2, 3, 2, 4))),
    affine_grid(normal(1, 3, 4), ints(1, 2, 3, 2, 4), align_corners=1),
]
