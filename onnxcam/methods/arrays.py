"""What the methods have in common: the type of an array, its mean, what is rounding, and a check of shapes."""

from __future__ import annotations

from typing import Any, TypeAlias

import numpy as np
import numpy.typing as npt

from onnxcam.errors import UsageError
from onnxcam.rounding import CANCELLED

Array: TypeAlias = npt.NDArray[Any]


def positions(array: Array) -> tuple[int, ...]:
    """The spatial axes of an array (N, C, *S)."""
    return tuple(range(2, array.ndim))


def spatial_mean(array: Array) -> Array:
    """The mean over positions, (N, C).

    Not as a matrix product: BLAS would hand that of a large layer to threads, whose start takes longer than the sum.
    """
    flat = array.reshape(*array.shape[:2], -1)
    return flat[..., 0] if flat.shape[2] == 1 else np.asarray(flat.mean(axis=2))


def unless_cancelled(sums: Array, terms: Array) -> Array:
    """Sums (N, ...), those of a row as zeros where each is but the rounding of its terms.

    `terms`: the sums of the terms' magnitudes.
    """
    rounding = np.abs(sums) <= CANCELLED * terms
    return np.where(rounding.all(axis=tuple(range(1, sums.ndim)), keepdims=True), sums * 0, sums)


def require_same_shape(**arrays: Array) -> None:
    """Raise UsageError unless all have one shape: NumPy would broadcast a channel axis of 1 into a plausible map."""
    if len({array.shape for array in arrays.values()}) > 1:
        shapes = " and ".join(f"{name} {array.shape}" for name, array in arrays.items())
        raise UsageError(f"{shapes} must have the same shape: give both as (N, C, *positions) of one value")
