"""Arguments of a wrong type: one line for each, of the package's own errors."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam import OnnxCamError, TargetError
from onnxcam.exporting import split
from onnxcam.targets import ClassTarget, DifferenceTarget, WeightedTarget

SAMPLES = Path(__file__).resolve().parents[1] / "sample_models"
TINY, BLOBS = SAMPLES / "tiny_cnn.onnx", SAMPLES / "blobs.png"
WRONG: dict[str, tuple[Callable[..., Any], dict[str, list[Any]]]] = {
    "Explainer": (
        lambda **a: onnxcam.Explainer(**{"model": TINY} | a),
        {
            "model": [None, 3, ["a.onnx"], TINY.open],
            "provider": [None, 3, ["cpu"]],
            "preprocess": [3, ["imagenet"], b"imagenet", True],
            "labels": [7, b"abc", {0: "a"}, ["a", None, "c"], [1, 2, 3]],
            "score": [0, b"logits", ["logits"]],
            "feeds": [3, ["x"], {1: 2}, b"x"],
            "threads": [-1, 1.5, None, "2", True],
            "max_pixels": [0, -5, 1e6, "10"],
        },
    ),
    "explain": (
        lambda **a: onnxcam.explain(**{"model": TINY, "image": BLOBS} | a),
        {
            "image": [None, 3, {}, [None], [[BLOBS]], [], object(), np.array("a"), np.zeros((3, 32, 32), object)],
            "target": [1.5, True, np.float32(1), {1}, b"red", [1.5], [[0]], object(), ClassTarget],
            "method": [None, 3, ["gradcam"]],
            "layer": [3, ["excess"], b"excess", True],
            "gradient": [None, 3, True, ["auto"]],
        },
    ),
    "check": (
        lambda **a: onnxcam.check(**{"model": TINY, "image": BLOBS} | a),
        {
            "model": [None, 3],
            "image": [3, {}, [BLOBS]],
            "provider": [None],
            "score": [3],
            "layer": [3],
            "preprocess": [3],
        },
    ),
    "export": (
        lambda **a: onnxcam.export(**{"model": TINY, "out": "never.onnx"} | a),
        {"model": [None], "out": [None, 3], "layer": [3], "score": [3], "preprocess": [3], "labels": [7, [1]]},
    ),
    "split": (
        lambda **a: split(**{"model": TINY, "folder": "never"} | a),
        {"model": [None], "folder": [None, 3], "layer": [3], "score": [3]},
    ),
    "list_layers": (lambda **a: onnxcam.list_layers(**{"model": TINY} | a), {"model": [None, 3, {}], "score": [3]}),
    "differentiate": (
        lambda **a: onnxcam.differentiate(**{"model": TINY, "of": "logits", "wrt": "image"} | a),
        {
            "model": [None, 3],
            "of": [None, 3, ["logits"]],
            "wrt": [None, 3, [], [None], {"image": 1}],
            "rules": [None, "guided", {}],
        },
    ),
}  # fmt: skip
CASES = [(call, name, value) for call, (_, wrong) in WRONG.items() for name in wrong for value in wrong[name]]


@pytest.mark.parametrize(
    ("call", "name", "value"), CASES, ids=lambda value: value if isinstance(value, str) else type(value).__name__
)
def test_an_argument_of_a_wrong_type_is_refused_in_one_line(
    call: str, name: str, value: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OnnxCamError) as caught:
        WRONG[call][0](**{name: value})
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "value", [np.int64(2), np.uint8(2), 2, "2", " 2", "blue", ClassTarget(2), ClassTarget(np.int8(2))]
)
def test_a_class_in_every_spelling(value: Any) -> None:
    assert onnxcam.explain(TINY, BLOBS, target=value).target.index == 2


@pytest.mark.parametrize(
    "target",
    [ClassTarget(1.5), ClassTarget("red"), ClassTarget(True), DifferenceTarget("red", "blue"), DifferenceTarget(0, 0.5),
     WeightedTarget(None), WeightedTarget(("a", "b", "c")), WeightedTarget((1.0, 2.0))],  # type: ignore[arg-type]
    ids=repr,
)  # fmt: skip
def test_targets_made_of_wrong_things(target: Any) -> None:
    with pytest.raises(TargetError):
        onnxcam.explain(TINY, BLOBS, target=target)


def test_a_target_of_ones_own_may_give_a_list() -> None:
    class Sum(onnxcam.Target):
        name = "sum"

        def value(self, scores: Any) -> float:
            return float(scores.sum())

        def cotangent(self, scores: Any) -> Any:
            return [1.0] * len(scores)

    e = onnxcam.explain(TINY, BLOBS, target=Sum())
    parts = onnxcam.explain(TINY, BLOBS, target=[0, 1, 2])
    np.testing.assert_allclose(e.map, sum(part.map for part in parts), atol=1e-6)


@pytest.mark.parametrize("arguments", [{"path": None}, {"path": 3}, {"path": "a.png", "colormap": 3}])
def test_saving(arguments: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    e = onnxcam.explain(TINY, BLOBS)
    with pytest.raises(OnnxCamError):
        e.save(**arguments)
    with pytest.raises(OnnxCamError):
        e.probability_of("red")
    assert list(tmp_path.iterdir()) == []


ODD: dict[str, list[Any]] = {
    "preprocess": ["a" * 5000, "a\0b", {"channels": "RGB", "scale": 1, "mean": [10**5000] * 3}],
    "labels": ["a\0b", "\ud800.txt", "a" * 5000],
    "threads": [2**70, 10**5000, 5000],
}


@pytest.mark.parametrize(("name", "which"), [(name, which) for name in ODD for which in range(len(ODD[name]))])
def test_values_that_nobody_means(name: str, which: int) -> None:
    with pytest.raises(OnnxCamError) as caught:
        onnxcam.explain(TINY, BLOBS, **{name: ODD[name][which]})
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("target", [10**5000, -(10**5000)], ids=["many digits", "as many below zero"])
def test_a_target_of_many_digits(target: int) -> None:
    with pytest.raises(TargetError, match="a number of very many digits is out of range"):
        onnxcam.explain(TINY, BLOBS, target=target)


def test_what_is_said() -> None:
    with pytest.raises(OnnxCamError, match=r"^threads should be an integer from 0 to 4096, not -1$"):
        onnxcam.Explainer(TINY, threads=-1)
    with pytest.raises(OnnxCamError, match=r"^layer should be a text, or None, not 3$"):
        onnxcam.explain(TINY, BLOBS, layer=3)
    with pytest.raises(OnnxCamError, match=r"^labels should be a file, or a list of texts, or None, not dict$"):
        onnxcam.Explainer(TINY, labels={0: "a"})  # type: ignore[arg-type]
