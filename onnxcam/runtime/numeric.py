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
COARSE_STEPS = (8e-2, 2e-2)  # where rounding would drown the others, as next to the end of a probability
RESOLVED = 64  # roundings of the score that it has to change by, lest they drown its differences
FALL = 4.0  # from one step to the next
LADDER = tuple(FALL**-k for k in range(1, 9))  # steps along a direction, of each channel's spread
SMALL = 3  # steps at the end of the ladder that are too small to see a score bend: what bends there is its rounding
SETTLED = 0.02  # by which difference quotients of neighbouring steps may differ
KINKED = 0.3  # by which the slopes on both sides may be from their mean where a direction is to tell anything
AGREEMENT = 0.99  # cosine of the two gradients
SAME_LENGTH = 0.1  # by which their lengths may differ
TOGETHER = 32  # channels in one run: rows of a large layer fill the memory
ENOUGH = 0.1  # of the elements
LEVEL = 0.1  # of a channel's size: the least that counts as its spread. A flat image has none


def mean_gradient(score: Callable[[Array], Array], activations: Array) -> Array:
    """Mean over positions of d score / d activations, (C,) float32, for one row.

    Args:
        score: activations (rows, ...) to scores (rows,).
        activations: one row, (C, ...).

    Raises:
        VerificationError: two step sizes disagree: the head is not smooth here (a quantizer, a rounding).
    """
    scale, positions = spreads(activations), activations.size // len(activations)
    steps = STEPS
    coarse = differences(score, activations, steps[0] * scale)
    if is_drowned(coarse * 2 * steps[0] * scale, score(activations[None])[0], activations.dtype):
        steps = COARSE_STEPS
        coarse = differences(score, activations, steps[0] * scale)
    coarse, fine = coarse / positions, differences(score, activations, steps[1] * scale) / positions
    lengths = float(np.linalg.norm(coarse)), float(np.linalg.norm(fine))
    if not any(lengths):
        return np.asarray(fine, np.float32)
    cosine = float(coarse @ fine) / (lengths[0] * lengths[1]) if all(lengths) else 0.0
    if not (cosine >= AGREEMENT and abs(lengths[0] - lengths[1]) <= SAME_LENGTH * max(lengths)):
        raise VerificationError(
            f"the numeric gradient is not stable: two step sizes disagree (cosine {cosine:.2f}, "
            f"lengths {lengths[0]:.2g} and {lengths[1]:.2g}); the head is not smooth here (is it quantized?)"
        )
    return np.asarray(fine, np.float32)


def distance_from_differences(
    score: Callable[[Array], Array], activations: Array, gradient: Array
) -> tuple[float, int]:
    """How far a gradient is from differences along some directions, and how many of these settled.

    The gradient's own direction, its mean's, and random ones that move every channel, or every element, up or down.
    Elements at a bound stay, see `moved`: rectifiers and pools behind have their kinks there, thousands of which may
    cancel. What is apart is counted in the larger of the two derivatives, or in what a random direction is likely to
    have. Next to a kink, as where two values of a max pool are almost equal, a step may see both sides: whatever lies
    between the two slopes may be the derivative, and where they differ much the direction tells nothing.

    Args:
        score, activations: as in `mean_gradient`.
        gradient: d score / d activations, of their shape.
    """
    rng, space = np.random.default_rng(0), tuple(range(1, activations.ndim))
    scale, claims = np.expand_dims(spreads(activations), space), gradient.astype(np.float64)
    free = moved(activations)
    slopes = claims * scale
    mean = slopes.mean(axis=space, keepdims=True)
    own = [part / (float(np.sqrt(np.mean(part**2))) or 1.0) for part in (slopes, mean)]
    signs = [rng.choice([-1.0, 1.0], size) for size in 3 * [mean.shape] + 2 * [slopes.shape]]
    worst, settled = 0.0, 0
    for direction in (*own, *signs):
        moves = direction * scale * free
        found, error, kink = derivative(score, activations, moves)
        claimed = float(np.vdot(claims, moves))
        likely = slopes if direction.size == slopes.size else mean * (slopes.size / mean.size)
        size = max(abs(claimed), abs(found), float(np.linalg.norm(likely)))
        if error <= SETTLED * size and kink <= KINKED * size:
            worst, settled = max(worst, (abs(claimed - found) - kink) / (size or 1.0)), settled + 1
    return worst, settled


def moved(activations: Array) -> npt.NDArray[np.bool_]:
    """Which elements differences move: those at no bound, where these are enough to tell anything.

    A bound is zero, and an end of its range that a channel reaches more than once: what a rectifier or a clip left,
    perhaps scaled and shifted since.
    """
    space = tuple(range(1, activations.ndim))
    found = activations != 0
    for end in (activations.min(axis=space, keepdims=True), activations.max(axis=space, keepdims=True)):
        there = activations == end
        found &= ~(there & (there.sum(axis=space, keepdims=True) > 1))
    return found if found.mean() >= ENOUGH else np.ones_like(found)


def derivative(score: Callable[[Array], Array], activations: Array, direction: Array) -> tuple[float, float, float]:
    """The derivative along a direction, of the activations' shape, its error, and how far it is from either side's.

    A large step crosses kinks, a small one drowns in rounding: of a ladder of steps the one counts whose difference
    quotient is nearest to those of the next larger and the next smaller step; how near it is is the error. A kink right
    here has no derivative, however near they are.
    """
    moves = np.stack([sign * step * direction for step in LADDER for sign in (1, -1)])
    rows = np.concatenate([activations[None], activations + moves]).astype(activations.dtype)
    middle, *values = score(rows).astype(np.float64)
    steps, up, down = np.array(LADDER), np.array(values[0::2]), np.array(values[1::2])
    with np.errstate(invalid="ignore"):  # a step may lead out of the score's domain
        slopes, bends = (up - down) / (2 * steps), up + down - 2 * middle
        apart, kinks = np.abs(np.diff(slopes)), half_kinks(bends / steps)
        rounding = max(float(np.finfo(activations.dtype).eps) * abs(middle), float(np.median(np.abs(bends[-SMALL:]))))
        if is_kinked(np.abs(bends)):
            return float(slopes[-1]), np.inf, 0.0
        near = np.maximum(apart[:-1], apart[1:]) + missed(slopes, rounding / steps)[1:-1]
        error = np.nan_to_num(near + rounding / steps[1:-1], nan=np.inf)
        best = int(np.argmin(error + np.nan_to_num(kinks, nan=np.inf)))
    return float(slopes[1 + best]), float(error[best]), float(kinks[best])


def missed(slopes: Array, noise: Array) -> Array:
    """By how much more than their noise the slopes of smaller steps differ from each: over kinks that cancel."""
    off = np.abs(np.subtract.outer(slopes, slopes)) - 2 * noise
    return np.asarray(np.triu(off).max(axis=1))


def half_kinks(jumps: Array) -> Array:
    """What is left of half the jump from the slope behind to that ahead as a step goes to 0, at all steps but the ends.

    That of a smooth score goes to 0 with the step, and so is told by the step before.
    """
    return np.asarray(np.abs(FALL * jumps[1:-1] - jumps[:-2]) / (FALL - 1) / 2)


def is_kinked(bends: Array) -> bool:
    """Whether a score bends in proportion to the step, down to the smallest: where it is smooth, to its square."""
    falls = bends[-SMALL - 1 : -1] / np.maximum(bends[-SMALL:], np.finfo(np.float64).tiny)
    return bool(np.all(bends[-SMALL:] > 0) and np.all((falls > FALL / 2) & (falls < FALL * 2)))


def is_drowned(changes: Array, score: Any, dtype: np.dtype[Any]) -> bool:
    """Whether what a score changes by is lost in its rounding, as next to the end of a probability."""
    resolution = float(np.finfo(dtype).eps) * abs(float(score))
    return float(np.sqrt(np.mean(changes**2))) < RESOLVED * resolution


def spreads(activations: Array) -> Array:
    """How far each channel may be moved to see what it does, (C,) float64, never zero."""
    values = activations.reshape(len(activations), -1).astype(np.float64)
    spread, size = values.std(axis=1), np.sqrt((values**2).mean(axis=1))
    least = max(float(spread.mean()), LEVEL * float(np.sqrt((size**2).mean()))) or 1.0
    return np.asarray(np.maximum(np.maximum(spread, LEVEL * size), least))


def differences(score: Callable[[Array], Array], activations: Array, steps: Array) -> Array:
    """Central differences of the score as each channel as a whole moves by its step, (C,) float64."""
    parts = []
    for start in range(0, len(steps), TOGETHER):
        some = steps[start : start + TOGETHER]
        rows = np.repeat(activations[None], 2 * len(some), axis=0)
        moved = np.empty(len(some))
        for i, step in enumerate(some):
            up, down = rows[2 * i, start + i], rows[2 * i + 1, start + i]
            up += step
            down -= step
            moved[i] = np.mean(up - down, dtype=np.float64)  # what rounding left of the step
        values = score(rows).astype(np.float64)
        parts.append((values[0::2] - values[1::2]) / moved)
    return np.concatenate(parts)
