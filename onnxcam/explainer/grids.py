"""Layer values as (rows, C, *grid), whatever their layout, and back."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import LayerError
from onnxcam.runtime import Layout

Array = npt.NDArray[Any]


def grid_axes(layout: Layout) -> tuple[int, ...]:
    """The axes of a value's positions; none where a plain mean over them would take in more than the grid."""
    return () if layout.prefix else spatial_axes(layout.axes)


@cache
def spatial_axes(axes: str) -> tuple[int, ...]:
    """Where D, H and W are; nowhere unless all other axes are rows and channels."""
    return tuple(i for i, label in enumerate(axes) if label in "DHW") if set(axes) <= set("NCDHW") else ()


@cache
def channels_first_order(axes: str) -> tuple[tuple[int, ...], int]:
    """The axes in the order rows, channels, positions or space, others last; and how many others there are."""
    known = [axes.index(label) for label in "NCDHWP" if label in axes]
    others = [axis for axis, label in enumerate(axes) if label == "?"]
    return (*known, *others), len(others)


def to_grid(value: Array, layout: Layout) -> Array:
    """(rows, C, *grid) of a value whose axes mean `layout`, the grid as it lies on the image: depth, height, width.

    Tokens before and behind the grid are left out.
    """
    moved = channels_first(value, layout)
    if layout.grid is not None:
        count = int(np.prod(layout.grid))
        if layout.prefix + count > moved.shape[2]:
            raise LayerError(
                f"the layer holds {moved.shape[2]} tokens, its grid {layout.grid} needs {layout.prefix + count}"
            )
        moved = moved[:, :, layout.prefix : layout.prefix + count].reshape(*moved.shape[:2], *layout.grid)
    return turned(moved, layout)


def from_grid(grid: Array, value: Array, layout: Layout) -> Array:
    """Rows of a layer's value with their grid replaced: the inverse of `to_grid`; `value` is one row, (1, ...)."""
    rows = np.repeat(value, len(grid), axis=0)
    moved, grid = channels_first(rows, layout), turned(grid, layout)
    if layout.grid is not None:
        count = int(np.prod(layout.grid))
        moved[:, :, layout.prefix : layout.prefix + count] = grid.reshape(*grid.shape[:2], count)
    else:
        moved[...] = grid
    return rows


def channels_first(value: Array, layout: Layout) -> Array:
    """A view (rows, C, positions) or (rows, C, depth, height, width), as far as the layout has them."""
    order, others = channels_first_order(layout.axes)
    moved = value.transpose(order)
    for _ in range(others):
        moved = moved[..., 0]
    return moved


def turned(grid: Array, layout: Layout) -> Array:
    """A view in which axes that run backwards over the image are turned round; its own inverse."""
    if layout.window is None:
        return grid
    backwards = tuple(axis for axis, (start, end) in enumerate(layout.window, start=2) if start > end)
    return np.flip(grid, backwards) if backwards else grid
