"""Layer values as (rows, C, *grid), whatever their layout, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import LayerError
from onnxcam.runtime import Layout

Array = npt.NDArray[Any]


def grid_axes(layout: Layout) -> tuple[int, ...]:
    """The axes of a value's positions; none where a plain mean over them would take in more than the grid."""
    plain = not layout.prefix and set(layout.axes) <= set("NCDHW")
    return tuple(i for i, label in enumerate(layout.axes) if label in "DHW") if plain else ()


def to_grid(value: Array, layout: Layout) -> Array:
    """(rows, C, *grid) of a value whose axes mean `layout`; tokens before and behind the grid are left out."""
    axes = layout.axes
    order = [axes.index("N"), axes.index("C"), *(i for i, label in enumerate(axes) if label in "DHWP")]
    rest = [i for i in range(len(axes)) if i not in order]
    moved = value.transpose(*order, *rest)
    if rest:
        moved = moved.reshape(moved.shape[: len(order)])
    if "P" not in axes:
        return moved
    grid = layout.grid or ()
    count = int(np.prod(grid))
    if layout.prefix + count > moved.shape[2]:
        raise LayerError(f"the layer holds {moved.shape[2]} tokens, its grid {grid} needs {layout.prefix + count}")
    return moved[:, :, layout.prefix : layout.prefix + count].reshape(*moved.shape[:2], *grid)


def from_grid(grid: Array, value: Array, layout: Layout) -> Array:
    """Rows of a layer's value with their grid replaced: the inverse of `to_grid`; `value` is one row, (1, ...)."""
    rows = np.repeat(value, len(grid), axis=0)
    axes = layout.axes
    order = [axes.index("N"), axes.index("C"), *(i for i, label in enumerate(axes) if label in "DHWP")]
    moved = rows.transpose(*order, *(i for i in range(len(axes)) if i not in order))
    if "P" in axes:
        count = int(np.prod(layout.grid or ()))
        moved[:, :, layout.prefix : layout.prefix + count] = grid.reshape(*grid.shape[:2], count)
    else:
        moved[...] = grid.reshape(moved.shape)
    return rows
