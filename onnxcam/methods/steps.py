"""From a raw map to one that can be shown: relu, normalize, resize, and the verdict whether there is anything to show.

Maps are (N, *S), rows independent; not-a-number goes through every step and is named by `status`.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxcam.errors import UsageError
from onnxcam.methods.arrays import Array


def relu(maps: Array) -> Array:
    """max(x, 0): what speaks for the class.  Any shape."""
    kept: Array = np.maximum(maps, 0)
    return kept


def normalize(maps: Array, *, signed: bool = False) -> Array:
    """Divide every row by its maximum; a row with nothing in it stays zero.

    maps (N, *S).  Returns (N, *S): in 0..1 after a relu, or with `signed` in -1..1, divided by the maximum of |x|.  The
    minimum is never subtracted: that would stretch a flat map over the whole range.
    """
    kept = maps if signed else relu(maps)
    peak = np.abs(kept).max(axis=tuple(range(1, kept.ndim)), keepdims=True)
    scaled: Array = np.divide(kept, peak, out=np.zeros_like(kept), where=peak != 0)
    return scaled


def resize(maps: Array, shape: Sequence[int]) -> Array:
    """Linear interpolation along each of the last len(shape) axes (bilinear for two): to `shape`, others unchanged.

    Half-pixel centres, clamped at the edges, no antialiasing: ONNX Resize's linear mode, and torch's interpolate with
    align_corners=False.  Raises UsageError where `maps` has fewer axes or a size is below 1.
    """
    if maps.ndim < len(shape) or 0 in maps.shape or any(size < 1 for size in shape):
        raise UsageError(
            f"a map of shape {maps.shape} cannot be resized to {tuple(shape)}: give a positive size an axis"
        )
    for axis, size in enumerate(shape, start=maps.ndim - len(shape)):
        maps = _resize_axis(maps, axis, size)
    return maps


def _resize_axis(maps: Array, axis: int, size: int) -> Array:
    """Linear interpolation along one axis to `size` samples; the array itself where it has them already."""
    old = maps.shape[axis]
    if size == old:
        return maps
    at = np.clip((np.arange(size) + 0.5) * (old / size) - 0.5, 0, old - 1)
    low = at.astype(np.intp)
    high = np.minimum(low + 1, old - 1)
    share = (at - low).astype(np.result_type(maps, np.float32)).reshape(-1, *[1] * (maps.ndim - axis - 1))
    mixed: Array = maps.take(low, axis) * (1 - share) + maps.take(high, axis) * share
    return mixed


def status(raw: Array, *, signed: bool) -> str:
    """Whether one raw map says anything: "not-finite", "blank" or "ok".

    raw (*S), one row.  Blank: the same everywhere, or nothing above zero in a map whose negative part is not shown
    (`signed` false).
    """
    if not np.isfinite(raw).all():
        return "not-finite"
    low, high = raw.min(), raw.max()
    return "blank" if low == high or (high <= 0 and not signed) else "ok"
