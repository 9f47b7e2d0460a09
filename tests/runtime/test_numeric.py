"""The gradient by differences: right where the head is smooth, refused where it is not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from onnxcam.errors import VerificationError
from onnxcam.runtime import distance_from_differences, mean_gradient, numeric
from onnxcam.runtime.numeric import TOGETHER
from tests.nets import normal

Array = npt.NDArray[Any]
W = normal(6, 5, 4, seed=1).astype(np.float64)
A = normal(6, 5, 4)


def smooth(a: Array) -> Array:
    """tanh(<W, a> / 10) + mean(a)^2 of every row."""
    a = a.astype(np.float64)
    return np.asarray(np.tanh((W * a).sum(axis=(1, 2, 3)) / 10) + a.mean(axis=(1, 2, 3)) ** 2, np.float32)


def gradient(a: Array) -> Array:
    a = a.astype(np.float64)
    slope = (1 - np.tanh((W * a).sum() / 10) ** 2) / 10
    return np.asarray(slope * W + 2 * a.mean() / a.size)


def analytic(a: Array) -> Array:
    return np.asarray(gradient(a).mean(axis=(1, 2)))


def linear(a: Array) -> Array:
    return np.asarray((W * a.astype(np.float64)).sum(axis=(1, 2, 3)), np.float32)


def assert_near(found: Array, expected: Array, tolerance: float = 1e-3) -> None:
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, rtol=0, atol=tolerance * np.abs(expected).max())


def test_the_mean_gradient_of_a_smooth_head() -> None:
    assert_near(mean_gradient(smooth, A), analytic(A))


def test_a_linear_head_by_hand() -> None:
    a = np.array([[[1, 2], [3, 4]], [[0, 1], [0, 1]]], np.float32)
    found = mean_gradient(lambda rows: 3 * rows[:, 0].sum(axis=(1, 2)) - 8 * rows[:, 1, 0, 0], a)
    assert_near(found, np.array([3, -2]))


def test_tokens_have_one_axis_of_positions() -> None:
    tokens = A.reshape(6, 20)
    assert_near(mean_gradient(lambda rows: smooth(rows.reshape(-1, 6, 5, 4)), tokens), analytic(A))


def test_a_kink_that_is_not_met_does_no_harm() -> None:
    found = mean_gradient(lambda rows: linear(np.maximum(rows, 0)), A)
    assert_near(found, (W * (A > 0)).mean(axis=(1, 2)))


@pytest.mark.parametrize("size", [1e-6, 1e4])
def test_it_does_not_know_the_unit(size: float) -> None:
    found = mean_gradient(lambda rows: smooth(rows / np.float32(size)), (A * size).astype(np.float32))
    assert_near(found, analytic(A) / size)


@pytest.mark.parametrize("value", [0.3, 5.0, -40.0])
def test_a_flat_image_has_a_gradient(value: float) -> None:
    """Activations without any spread: a step measured by it would be lost in their rounding."""
    flat = np.full_like(A, value)
    assert_near(mean_gradient(lambda rows: smooth(rows - np.float32(value) + A[None]), flat), analytic(A), 5e-3)
    assert_near(mean_gradient(linear, flat), W.mean(axis=(1, 2)), 5e-3)


def test_a_small_spread_about_a_large_mean() -> None:
    far = (A * 1e-3 + 1000).astype(np.float32)
    assert_near(mean_gradient(linear, far), W.mean(axis=(1, 2)), 5e-3)


def test_activations_that_are_all_zero() -> None:
    assert_near(mean_gradient(lambda rows: linear(rows) + 7, np.zeros_like(A)), W.mean(axis=(1, 2)), 5e-3)


def test_a_channel_that_is_zero_is_moved_all_the_same() -> None:
    a = A.copy()
    a[2] = 0
    assert_near(mean_gradient(smooth, a), analytic(a))


def test_float16_takes_larger_steps() -> None:
    found = mean_gradient(lambda rows: linear(rows), A.astype(np.float16))
    assert_near(found, W.mean(axis=(1, 2)), 2e-2)


def test_next_to_the_end_of_a_probability_steps_are_larger(monkeypatch: pytest.MonkeyPatch) -> None:
    """1 - 3e-4 f: float32 tells 5,000 values of it apart."""

    def near_one(rows: Array) -> Array:
        return np.asarray(1 - 3e-4 * smooth(rows).astype(np.float64), np.float32)

    assert_near(mean_gradient(near_one, A), -3e-4 * analytic(A), 5e-2)
    monkeypatch.setattr(numeric, "RESOLVED", 0)
    with pytest.raises(VerificationError, match="two step sizes disagree"):
        mean_gradient(near_one, A)


def test_a_step_counts_as_far_as_rounding_lets_it_go() -> None:
    flat = np.full_like(A, 5, np.float16)
    assert_near(mean_gradient(linear, flat), W.mean(axis=(1, 2)), 1e-4)


def test_a_head_that_does_not_move_has_a_gradient_of_zero() -> None:
    np.testing.assert_array_equal(mean_gradient(lambda rows: np.ones(len(rows), np.float32), A), np.zeros(6))


def test_many_channels_are_moved_in_portions() -> None:
    sizes = []
    weights = normal(100, seed=3)

    def score(rows: Array) -> Array:
        sizes.append(len(rows))
        found: Array = rows.sum(axis=(2, 3)) @ weights
        return found

    assert_near(mean_gradient(score, normal(100, 3, 3)), weights, 5e-3)
    portions = [2 * TOGETHER] * 3 + [8]
    assert sizes == [*portions, 1, *portions]


def rounded(step: float) -> Callable[[Array], Array]:
    """A linear head whose score is rounded to multiples of `step`."""
    return lambda rows: np.asarray(np.round(linear(rows) / step) * step, np.float32)


@pytest.mark.parametrize("step", [0.01, 0.05, 0.1, 0.3])
def test_a_staircase_is_refused(step: float) -> None:
    with pytest.raises(VerificationError, match=r"two step sizes disagree \(cosine .*not smooth") as caught:
        mean_gradient(rounded(step), A)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("scale", [0.01, 0.05, 0.1, 0.5])
def test_quantized_activations_are_refused(scale: float) -> None:
    with pytest.raises(VerificationError, match="is it quantized"):
        mean_gradient(lambda rows: linear(np.round(rows / scale) * scale), A)


def test_one_channel_cannot_agree_by_direction_alone() -> None:
    """Its cosine is 1 whatever the lengths: a single step of the staircase inside both differences."""
    a = np.zeros((1, 2, 2), np.float32) + np.float32(0.1)

    def step(rows: Array) -> Array:
        return np.asarray(rows.mean(axis=(1, 2, 3)) > 0.1, np.float32)

    with pytest.raises(VerificationError, match=r"cosine 1\.00, lengths"):
        mean_gradient(step, a)


def test_scores_that_are_not_finite_are_refused() -> None:
    with pytest.raises(VerificationError):
        mean_gradient(lambda rows: np.full(len(rows), np.nan, np.float32), A)


# -- a gradient held against differences along directions ---------------------------------------------


def test_the_right_gradient_is_not_apart() -> None:
    apart, settled = distance_from_differences(smooth, A, gradient(A))
    assert settled == 7
    assert apart < 1e-3


@pytest.mark.parametrize(("channel", "factor"), [(0, 1.5), (3, 0), (5, -1)])
def test_one_wrong_channel_is_seen(channel: int, factor: float) -> None:
    wrong = gradient(A)
    wrong[channel] *= factor
    assert distance_from_differences(smooth, A, wrong)[0] > 0.05


def test_positions_in_another_order_are_seen() -> None:
    """Every channel's mean is right, and so is Grad-CAM; a method that reads positions is not."""
    assert distance_from_differences(smooth, A, np.roll(gradient(A), 1, axis=2))[0] > 0.2


def test_a_channel_that_a_gradient_leaves_out_is_seen() -> None:
    """Along such a gradient itself everything agrees; the random directions tell."""
    wrong = np.where(np.arange(6)[:, None, None] == 2, W, 0)
    apart, settled = distance_from_differences(linear, A, wrong)
    assert settled == 7
    assert apart > 0.3


def test_kinks_all_over_do_no_harm() -> None:
    """Of 120 rectified elements many are within a step of their kink."""
    apart, settled = distance_from_differences(lambda rows: linear(np.maximum(rows, 0)), A, W * (A > 0))
    assert settled >= 4
    assert apart < 0.03


def test_right_at_a_kink_there_is_nothing_to_hold_a_gradient_against() -> None:
    """Rectifiers, each at its own kink: both sides count in a difference, the rule takes one."""
    assert distance_from_differences(lambda rows: linear(np.maximum(rows, A)), A, W)[1] == 0


WEIGHTS = np.array([1, -2, 1.5, 1, -1, 2], np.float32)


def maxima(a: Array) -> Array:
    """A weighted sum of the channels' maxima."""
    return np.asarray(a.max(axis=(2, 3)) @ WEIGHTS, np.float32)


def of_maxima(a: Array) -> Array:
    """Its gradient."""
    return np.where(a == a.max(axis=(1, 2), keepdims=True), WEIGHTS[:, None, None], 0)


def split(a: Array, channel: int, gap: float) -> None:
    """Move the second best value of a channel to so far below the best, in place."""
    values = a.reshape(6, -1)[channel]
    first, second = np.argsort(values)[-1:-3:-1]
    values[second] = values[first] - np.float32(gap)


@pytest.mark.parametrize("gap", [1e-2, 1e-3, 2e-4, 3.5e-5, 2e-5, 1e-6])
@pytest.mark.parametrize("channel", [1, 5])
def test_next_to_a_tie_what_is_right_passes_and_what_is_wrong_does_not(gap: float, channel: int) -> None:
    """Steps that are larger than the gap see two maxima at once, and half of each in their difference."""
    tied = A.copy()
    split(tied, channel, gap)
    right = of_maxima(tied)
    apart, settled = distance_from_differences(maxima, tied, right)
    assert apart < 0.05
    assert settled >= 4
    for wrong in (right * 1.2, -right, np.roll(right, 1, axis=2), of_maxima(tied)[::-1]):
        assert distance_from_differences(maxima, tied, wrong)[0] > 0.1


@pytest.mark.parametrize("gap", [1e-3, 5e-4, 2e-4])
@pytest.mark.parametrize("channels", [(1, 5, 0, 4), range(6)], ids=["four ties", "six ties"])
def test_kinks_that_cancel_are_seen_by_smaller_steps(gap: float, channels: Sequence[int]) -> None:
    """They bend the score both ways, so that little of a bend is left, and the slope is off by all of them."""
    tied = A.copy()
    for channel in channels:
        split(tied, channel, gap)
    apart, settled = distance_from_differences(maxima, tied, of_maxima(tied))
    assert apart < 0.05
    assert settled >= 4


def test_zeros_stay_where_they_are() -> None:
    """Zeros behind a Relu, before another, or the ties of a pool: half of the elements."""
    rectified = np.maximum(A, 0)
    right = W * (rectified > 0)
    apart, settled = distance_from_differences(lambda rows: linear(np.maximum(rows, 0)), rectified, right)
    assert (apart < 1e-3, settled) == (True, 7)
    assert distance_from_differences(linear, rectified, W * 1.1)[0] > 0.05
    for few in (np.zeros_like(A), np.where(np.arange(A.size).reshape(A.shape) == 7, A, 0)):  # too few to go by
        assert distance_from_differences(linear, few, W) == (pytest.approx(0, abs=1e-3), 7)
        assert distance_from_differences(linear, few, np.where(few, W, -W))[0] > 0.5


@pytest.mark.parametrize("sign", [1, -1])
def test_bounds_stay_where_they_are(sign: int) -> None:
    """What a Relu left, normalized since: ties for a pool behind, of which the rule takes one and a difference half."""
    bound = np.arange(6, dtype=np.float32)[:, None, None] / 4 - 1
    normalized = sign * (np.maximum(A, 0) + bound)

    def pooled(rows: Array) -> Array:
        pairs = rows.reshape(len(rows), 6, 5, 2, 2)
        return linear(np.repeat(sign * np.max(sign * pairs, axis=4), 2, axis=3))

    pairs = normalized.reshape(6, 5, 2, 2) * sign
    first = np.arange(2) == pairs.argmax(axis=3)[..., None]
    right = (first * W.reshape(6, 5, 2, 2).sum(axis=3, keepdims=True)).reshape(W.shape)
    apart, settled = distance_from_differences(pooled, normalized, right)
    assert (apart < 0.05, settled >= 5) == (True, True)


def test_a_score_far_off_drowns_its_differences() -> None:
    def drowned(a: Array) -> Array:
        return np.asarray(1e8 + linear(a), np.float32)

    assert distance_from_differences(drowned, A, W)[1] == 0


def test_a_probability_that_is_next_to_nothing_has_a_derivative() -> None:
    def tiny(a: Array) -> Array:
        return np.asarray(1 / (1 + np.exp(13 - linear(a).astype(np.float64) / 10)), np.float32)

    value = float(tiny(A[None])[0])
    apart, settled = distance_from_differences(tiny, A, W / 10 * value * (1 - value))
    assert settled == 7
    assert apart < 1e-2


def test_a_staircase_is_none() -> None:
    apart, _ = distance_from_differences(lambda rows: np.floor(4 * linear(rows)) / 4, A, W)
    assert apart > 0.5


def test_values_outside_the_domain_do_not_settle() -> None:
    def rooted(a: Array) -> Array:
        with np.errstate(invalid="ignore"):
            return np.sqrt(linear(a - A[None]))

    assert distance_from_differences(rooted, A, W)[1] == 0
