"""What a user says, and which class is meant."""

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
    Reading,
    Spec,
    Target,
    WeightedTarget,
    best,
    resolve,
)
from tests.nets import Array

SCORES = np.array([0.5, 2.0, -1.0, 2.0, 0.0], np.float32)
LABELS = ["tabby", "Crane", "7", "crane", " tiger cat"]
READING = Reading(SCORES, labels=LABELS)


def indices(spec: Spec | None, labels: list[str] | None = LABELS) -> list[int | None]:
    return [target.index for target in resolve(spec, Reading(SCORES, labels=labels))]


@pytest.mark.parametrize(
    ("spec", "expected"),
    [
        (None, [1]),  # the first of equals
        (3, [3]),
        (np.int64(3), [3]),
        ("3", [3]),
        (" +3 ", [3]),
        ("tabby", [0]),
        ("TABBY", [0]),
        ("  Tabby ", [0]),
        ("tiger cat", [4]),
        ("label:tabby", [0]),
        ("label:7", [2]),  # a label that is a number
        ("Crane", [1]),  # spelled exactly, though another differs in case alone
        ("crane", [3]),
        ("top:1", [1]),
        (" top:3 ", [1, 3, 0]),  # ties: the lowest index first
        ("top:1000", [1, 3, 0, 4, 2]),
        (ClassTarget(2), [2]),
        (DifferenceTarget(1, 2), [None]),
    ],
)
def test_resolved(spec: Spec | None, expected: list[int | None]) -> None:
    assert indices(spec) == expected


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        (5, "target 5 is out of range: the model has classes 0 to 4"),
        (-1, "target -1 is out of range"),
        ("-1", "target -1 is out of range"),
        ("999999999999999999", "out of range"),
        ("CRANE", r"several classes are called 'CRANE' \(1, 3\): give the index"),
        ("tiger", "no class is called 'tiger'; did you mean"),
        ("", "no class is called ''"),
        ("label:3", "no class is called '3'"),
        ("top:0", "'top:0' should be top:K with K from 1 to 1000"),
        ("top:1001", "'top:1001' should be top:K"),
        ("top:", "'top:' should be top:K"),
        ("top:three", "'top:three' should be top:K"),
        (1.0, "a target is an index, a label, 'top:k' or a Target, not float"),
        (True, "not bool"),
        ([1], "not list"),
        (ClassTarget(5), "target 5 is out of range"),
        (ClassTarget(-1), "target -1 is out of range"),
        (ClassTarget(9, "ten"), "target 9 is out of range"),
        (DifferenceTarget(0, 5), "target 5 is out of range"),
        (DifferenceTarget(-1, 0), "target -1 is out of range"),
        (ElementTarget(3), r"ElementTarget does not fit scores of shape \[5\]"),  # type: ignore[arg-type]
        (NegatedTarget(7), "target 7 is out of range"),
        (ProductTarget(((9,),), "t"), r"ProductTarget does not fit scores of shape \[5\]: index 9 is out of bounds"),
        (WeightedTarget((1, 2)), "the target weighs 2 classes, the model has 5"),
        (WeightedTarget((1, 2, 3, 4, float("nan"))), "a finite number for each of the model's 5 classes"),
    ],
)
def test_refused_in_one_line(spec: Spec, says: str) -> None:
    with pytest.raises(TargetError, match=says) as caught:
        resolve(spec, READING)
    assert "\n" not in str(caught.value)


def test_without_labels_a_name_is_refused_and_an_index_is_not() -> None:
    assert indices(3, None) == [3]
    with pytest.raises(TargetError, match="the target 'tabby' is a label, but there are no labels: give --labels FILE"):
        resolve("tabby", Reading(SCORES))


def test_targets_bear_their_labels() -> None:
    assert [target.name for target in resolve("top:2", READING)] == ["Crane", "crane"]
    assert resolve(0, Reading(SCORES))[0].name == "class 0"
    assert resolve(ClassTarget(0), READING)[0].name == "tabby"
    assert resolve(ClassTarget(0, "mine"), READING)[0].name == "mine"
    assert (
        resolve(4, Reading(SCORES, labels=["one"]))[0].name == "class 4"
    )  # a file with fewer labels is refused elsewhere


def test_many_equal_labels_are_not_all_listed() -> None:
    with pytest.raises(TargetError, match=r"\(0, 1, 2, 3, 4, 5, 6, 7, 8, 9\)"):
        resolve("a", Reading(np.zeros(40, np.float32), labels=["a"] * 40))


def test_best_is_stable() -> None:
    assert best(np.array([1.0, 3.0, 3.0, 1.0]), 3) == [1, 2, 0]


class Entropy(Target):
    """A user's own functional."""

    def __init__(self, length: int) -> None:
        self.length = length

    @property
    def name(self) -> str:
        return "entropy"

    def value(self, scores: Array) -> float:
        return float(scores.sum())

    def cotangent(self, scores: Array) -> Array:
        return np.ones(self.length, scores.dtype)


def test_a_users_own_target() -> None:
    assert resolve(own := Entropy(5), READING) == [own]
    with pytest.raises(TargetError, match=r"the target 'entropy' has a cotangent of shape \(4,\)"):
        resolve(Entropy(4), READING)
