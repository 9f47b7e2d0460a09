"""The gradient without rules: directional derivatives of a head, enough for what needs only its mean over positions.

The mean over positions of d y / d A_k is d y / d e, where e is added to every position of channel k, over Z.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import VerificationError

Array = npt.NDArray[Any]
STEPS = (1e-2, 2.5e-3)  # of each channel's spread: two, to be held against each other
HALF_STEPS = (8e-2, 2e-2)  # in float16, whose rounding would drown the others
AGREEMENT = 0.99  # cosine of the two gradients


def mean_gradient(score: Callable[[Array], Array], activations: Array, channel: int) -> Array:
    """Mean over positions of d score / d activations, (C,) float32, for one row.

    Args:
        score: activations (rows, ...) to scores (rows,).
        activations: one row, without its batch axis; `channel` is its axis of channels.

    Raises:
        VerificationError: two step sizes disagree: the head is not smooth here (a quantizer, a rounding).
    """
    count = activations.shape[channel]
    positions = activations.size // count
    spread = np.moveaxis(activations, channel, 0).reshape(count, -1).astype(np.float64).std(axis=1)
    scale = np.maximum(spread, max(float(spread.mean()), 1e-6))
    steps = HALF_STEPS if activations.dtype == np.float16 else STEPS
    coarse, fine = (differences(score, activations, channel, step * scale) / positions for step in steps)
    norm = float(np.linalg.norm(coarse) * np.linalg.norm(fine))
    if norm == 0:
        if np.any(coarse) or np.any(fine):
            raise VerificationError(
                "the numeric gradient is not stable: two step sizes disagree; the head is not smooth here"
            )
        return np.asarray(fine, np.float32)
    if not float(coarse @ fine) / norm >= AGREEMENT:
        raise VerificationError(
            "the numeric gradient is not stable: two step sizes disagree "
            f"(cosine {float(coarse @ fine) / norm:.2f}); the head is not smooth here (is it quantized?)"
        )
    return np.asarray(fine, np.float32)


def differences(score: Callable[[Array], Array], activations: Array, channel: int, steps: Array) -> Array:
    """Central differences of the score as each channel as a whole moves by its step, (C,) float64."""
    count = activations.shape[channel]
    rows = np.repeat(activations[None], 2 * count, axis=0)
    slots = np.moveaxis(rows, channel + 1, 1)
    for k in range(count):
        slots[2 * k, k] += steps[k]
        slots[2 * k + 1, k] -= steps[k]
    values = score(rows).astype(np.float64)
    return np.asarray((values[0::2] - values[1::2]) / (2 * steps))
