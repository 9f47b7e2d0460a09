"""Targets in scores of any shape: their value by hand, and their cotangent by differences."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcam.errors import TargetError
from onnxcam.targets import (
    DifferenceTarget,
    ElementTarget,
    NegatedTarget,
    ProductTarget,
    RegionTarget,
    SimilarityTarget,
    Target,
    TokensTarget,
)
from onnxcam.targets.selections import parse_index
from tests.nets import Array, normal

GRID = np.arange(24, dtype=np.float64).reshape(2, 3, 4) / 8  # (classes, h, w)
CORNER = np.zeros((3, 4), bool)
CORNER[:2, :2] = True
STEPS = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])) + 3  # logits of two steps of three tokens
ROW = np.array([3.0, 4.0])

KINDS: list[tuple[Target, Array, float, str, str | None]] = [
    (ElementTarget("1,2,3", "boxes"), GRID, 23 / 8, "boxes[1,2,3]", None),
    (ElementTarget("-1,-1,-1"), GRID, 23 / 8, "score[-1,-1,-1]", None),
    (ElementTarget("0,1,:"), GRID, (4 + 5 + 6 + 7) / 8, "score[0,1,:]", None),
    (ElementTarget("0, 0:2, ::3"), GRID, (0 + 3 + 4 + 7) / 8, "score[0, 0:2, ::3]", None),
    (ElementTarget("...,0"), GRID, (0 + 4 + 8 + 12 + 16 + 20) / 8, "score[...,0]", None),
    (ElementTarget("0"), GRID, sum(range(12)) / 8, "score[0]", None),
    (RegionTarget(1, CORNER, "the corner", "dog"), GRID, (12 + 13 + 16 + 17) / 8, "dog over the corner", "sum"),
    (RegionTarget(1, CORNER, axis=2), GRID.transpose(1, 2, 0), (12 + 13 + 16 + 17) / 8, "class 1 over a region", "sum"),
    (RegionTarget(None, CORNER), GRID[0], (0 + 1 + 4 + 5) / 8, "the map over a region", "sum"),
    (ProductTarget(((0, 1, 0), (1, 0, 0)), "a box"), GRID, 0.5 * 1.5, "a box", "confidence"),
    (ProductTarget(((0, 1, 0),), "a box"), GRID, 0.5, "a box", None),
    (TokensTarget((0, 1), (0, 2), "words"), STEPS, np.log(0.5 * 0.7), "words", "log-probability"),
    (TokensTarget((1,), (1,)), STEPS, np.log(0.2), "tokens", "log-probability"),
    (TokensTarget((1,), (1,), axis=0), STEPS.T, np.log(0.2), "tokens", "log-probability"),
    (SimilarityTarget(np.array([4.0, 3.0])), ROW, 24 / 25, "similarity", "cosine"),
    (SimilarityTarget(np.array([8.0, 6.0]), "to b", cosine=False), ROW, 48, "to b", "dot product"),
    (NegatedTarget(ElementTarget("1")), ROW, -4, "not score[1]", None),
    (DifferenceTarget(ElementTarget("0"), ElementTarget("1")), ROW, -1, "score[0] and not score[1]", None),
]


@pytest.mark.parametrize(("target", "scores", "value", "name", "unit"), KINDS)
def test_kind(target: Target, scores: Array, value: float, name: str, unit: str | None) -> None:
    assert target.value(scores) == pytest.approx(value, abs=1e-12)
    assert (target.name, target.unit, target.index) == (name, unit, None)


@pytest.mark.parametrize(("target", "scores"), [row[:2] for row in KINDS])
def test_the_cotangent_is_the_derivative_of_the_value(target: Target, scores: Array) -> None:
    found = target.cotangent(scores)
    assert found.shape == scores.shape
    for at in np.ndindex(scores.shape):
        up, down = scores.copy(), scores.copy()
        up[at] += 1e-5
        down[at] -= 1e-5
        assert found[at] == pytest.approx((target.value(up) - target.value(down)) / 2e-5, abs=1e-8)
    assert target.cotangent(scores.astype(np.float32)).dtype == np.float32


def test_probabilities_are_taken_as_they_are() -> None:
    """Where every step sums to 1 there is no second softmax: d log p / d p = 1 / p."""
    steps = np.array([[0.5, 0.25, 0.25], [0.1, 0.2, 0.7]])
    target = TokensTarget((0, 1), (0, 2))
    assert target.value(steps) == pytest.approx(np.log(0.35))
    np.testing.assert_allclose(target.cotangent(steps), [[2, 0, 0], [0, 0, 1 / 0.7]])


@pytest.mark.parametrize(
    ("target", "scores", "says"),
    [
        (ElementTarget("2,0,0", "boxes"), GRID, r"the index \[2,0,0\] does not fit 'boxes', which holds 2 x 3 x 4"),
        (ElementTarget("0,0,0,0"), GRID, r"does not fit the score, .* \(the axis of images is not indexed\)"),
        (ElementTarget("0,3:"), GRID, "selects nothing of the score"),
        (RegionTarget(2, CORNER), GRID, "target 2 is out of range: the model has classes 0 to 1"),
        (RegionTarget(0, CORNER[:2]), GRID, r"the region has \(2, 4\) positions, the scores \(3, 4\)"),
        (TokensTarget((2,), (0,)), STEPS, "step 2 is out of range: the model has steps 0 to 1"),
        (TokensTarget((0,), (3,)), STEPS, "token 3 is out of range: the model has tokens 0 to 2"),
        (TokensTarget((0,), (0,)), GRID, r"explained in scores \(steps, tokens\), these have shape \[2, 3, 4\]"),
        (SimilarityTarget(np.ones(3)), ROW, r"an embedding of shape \[2\] has no likeness to one of \[3\]"),
        (SimilarityTarget(np.zeros(2)), ROW, "an embedding is zero"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused_in_one_line(target: Target, scores: Array, says: str) -> None:
    with pytest.raises(TargetError, match=says) as caught:
        target.cotangent(scores)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("text", ["", "a", "1,,2", "1:2:3:4", "...,...", "1 2", "1.5", "9" * 40])
def test_what_is_no_index(text: str) -> None:
    with pytest.raises(TargetError, match="is no index: numbers and slices with commas between"):
        parse_index(text)


@pytest.mark.parametrize("text", ["1", "-2,:", "::2, 3", "...", "1:,:-1"])
def test_an_index_means_what_numpy_means(text: str) -> None:
    array = normal(5, 6)
    np.testing.assert_array_equal(array[parse_index(text)], eval(f"array[{text}]", {"array": array}))
