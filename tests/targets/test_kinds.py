"""The kinds of target: their value, and how it changes with the scores."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcam.errors import TargetError
from onnxcam.targets import (
    ClassTarget,
    DifferenceTarget,
    ElementTarget,
    NegatedTarget,
    ProductTarget,
    Target,
    WeightedTarget,
)

SCORES = np.array([0.5, 2.0, -1.0], np.float32)
KINDS: list[tuple[Target, float, list[float], int | None, str]] = [
    (ClassTarget(1), 2.0, [0, 1, 0], 1, "class 1"),
    (ClassTarget(1, "dog"), 2.0, [0, 1, 0], 1, "dog"),
    (DifferenceTarget(1, 2), 3.0, [0, 1, -1], None, "class 1 and not 2"),
    (NegatedTarget(1), -2.0, [0, -1, 0], None, "not class 1"),
    (DifferenceTarget(0, 0), 0.0, [0, 0, 0], None, "class 0 and not 0"),
    (WeightedTarget((1, 0.5, 2)), -0.5, [1, 0.5, 2], None, "weighted classes"),
    (WeightedTarget((1, 1, 0), "animals"), 2.5, [1, 1, 0], None, "animals"),
]


@pytest.mark.parametrize(("target", "value", "cotangent", "index", "name"), KINDS)
def test_kind(target: Target, value: float, cotangent: list[float], index: int | None, name: str) -> None:
    assert (target.value(SCORES), target.index, target.name) == (value, index, name)
    found = target.cotangent(SCORES)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, cotangent)


@pytest.mark.parametrize("target", [row[0] for row in KINDS])
def test_the_cotangent_is_the_derivative_of_the_value(target: Target) -> None:
    scores = SCORES.astype(np.float64)
    steps = 1e-4 * np.eye(3)
    differences = [(target.value(scores + step) - target.value(scores - step)) / 2e-4 for step in steps]
    np.testing.assert_allclose(target.cotangent(scores), differences, atol=1e-6)


def test_targets_are_values() -> None:
    assert ClassTarget(1) == ClassTarget(1)
    assert len({DifferenceTarget(1, 2), DifferenceTarget(1, 2), DifferenceTarget(2, 1)}) == 2


def test_what_is_made_of_targets_reads_the_output_that_they_read() -> None:
    one, other, score = ElementTarget("0", "aux"), ElementTarget("1", "aux"), ElementTarget("0")
    assert NegatedTarget(one).output == DifferenceTarget(one, 1).output == DifferenceTarget(one, other).output == "aux"
    assert DifferenceTarget(score, 1).output is None
    with pytest.raises(TargetError, match="reads two outputs, 'aux' and 'main': a difference is of one"):
        _ = DifferenceTarget(one, ElementTarget("0", "main")).output


def test_what_two_values_are_is_what_their_difference_is() -> None:
    confidence = ProductTarget(((0,), (1,)), "both")
    assert DifferenceTarget(confidence, confidence).unit == "confidence"
    assert DifferenceTarget(confidence, 1).unit is None
