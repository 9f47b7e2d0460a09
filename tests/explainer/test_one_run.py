"""A gradient at the image takes one run where the class, or that it is the highest, is known beforehand."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

import onnxcam
from onnxcam.errors import InputError, TargetError
from onnxcam.explainer import Explainer
from onnxcam.runtime import Session
from tests.explainer.test_means import MODELS
from tests.nets import net, normal

X = normal(3, 3, 6, 8) + 3 * normal(3, 3, 1, 1, seed=2)
ROUTES = {
    "nobody says": None, "an index": 3, "an index as text": " 3 ", "NumPy's": np.int8(3), "several": [None, 3],
    "the best": "top:1", "a negation": "not 3",
    "with a separator": "\x1c3",
}  # fmt: skip
METHODS = ["saliency", "inputxgradient", "guidedbackprop"]
ONE_RUN = {"nobody says", "an index", "an index as text", "NumPy's", "with a separator"}


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[Session]:
    """The sessions that ran, in order, those aside that work out constants."""
    found: list[Session] = []
    genuine = Session.run

    def counted(self: Session, *given: Any) -> dict[str, Any]:
        if self.inputs:
            found.append(self)
        return genuine(self, *given)

    monkeypatch.setattr(Session, "run", counted)
    return found


@pytest.mark.parametrize("route", ROUTES)
@pytest.mark.parametrize("method", METHODS)
def test_it_takes_one_run_of_one_session_or_two_of_two(runs: list[Session], method: str, route: str) -> None:
    Explainer(MODELS["class maps"])(X[0], target=ROUTES[route], method=method)
    assert len(set(map(id, runs))) == (1 if route in ONE_RUN else 2)
    assert (len(runs) == 1) == (route in ONE_RUN)


@pytest.mark.parametrize("method", METHODS)
def test_the_maps_are_those_of_two_runs(method: str) -> None:
    explainer = Explainer(MODELS["class maps"])
    top = [e.target.index for e in explainer(X, method=method)]
    apart = 0.0
    assert len(set(top)) > 1
    for wanted in (None, 0, 4):
        classes = top if wanted is None else [wanted] * len(X)
        found = [explainer(X, target=wanted, method=method), [explainer(x, target=wanted, method=method) for x in X]]
        for each in found:
            for e, x, which in zip(each, X, classes, strict=True):
                both = explainer(x, target=[which, (which + 1) % 5], method=method)
                np.testing.assert_allclose(e.map, both[0].map, rtol=1e-5, atol=1e-7)
                assert e.target == both[0].target
                apart = max(apart, float(np.abs(both[0].map - both[1].map).max()))
    assert apart > 0.1


@pytest.mark.parametrize("target", [5, -1, "99", 10**17])
def test_a_class_that_there_is_none_of_is_refused_as_ever(target: Any) -> None:
    with pytest.raises(TargetError, match=r"out of range: the model has classes 0 to 4"):
        Explainer(MODELS["class maps"])(X[0], target=target, method="saliency")


def test_scores_that_are_not_finite_are_told_as_ever() -> None:
    with pytest.raises(InputError, match="not finite"):
        Explainer(MODELS["class maps"])(np.full((3, 6, 8), np.nan, np.float32), method="saliency")


def test_an_exported_file_takes_one_run_too(tmp_path: Path, runs: list[Session]) -> None:
    path = onnxcam.export(MODELS["class maps"], tmp_path / "exported.onnx")
    explainer, original = Explainer(path), Explainer(MODELS["class maps"])
    runs.clear()
    found = [explainer(X[0], target=target) for target in (None, 3)]
    assert len(runs) == 2
    for e, target in zip(found, (None, 3), strict=True):
        np.testing.assert_allclose(e.map, original(X[0], target=target).map, rtol=1e-5, atol=1e-7)
    with pytest.raises(TargetError, match="out of range"):
        explainer(X[0], target=5)


def test_scores_with_axes_of_one_behind_the_classes() -> None:
    text = """(float[N, 3, 6, 8] x) => (float[N, 2, 1, 1] y) { c = Conv<pads = [1, 1, 1, 1]>(x, w) a = Relu(c)
        m = Conv(a, maps) r = Relu(m) y = GlobalAveragePool(r) }"""
    explainer = Explainer(net(text, {"w": normal(4, 3, 3, 3), "maps": normal(2, 4, 1, 1)}))
    for e, x in zip(explainer(X, method="saliency"), X, strict=True):
        both = explainer(x, target=[0, 1], method="saliency")
        np.testing.assert_allclose(e.map, both[e.target.index or 0].map, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("tail", ["y = Add(f, large)", "z = Add(f, large) y = Softmax(z)", "y = Gemm(f, eye, large)"])
def test_scores_that_float16_makes_equal(tail: str, tmp_path: Path) -> None:
    """ONNX Runtime tells them apart inside: the class that is named is the class that is explained."""
    text = f"""(float16[N, 3, 6, 8] x) => (float16[N, 40] y) {{ c = Conv<pads = [1, 1, 1, 1]>(x, w) a = Relu(c)
        m = Conv(a, maps) r = Relu(m) p = GlobalAveragePool(r) f = Flatten(p) {tail} }}"""
    weights = {"w": normal(4, 3, 3, 3), "maps": normal(40, 4, 1, 1), "large": np.full(40, 1500), "eye": np.eye(40)}
    model = net(text, {name: weight.astype(np.float16) for name, weight in weights.items()})
    explainer, exported = Explainer(model), Explainer(onnxcam.export(model, tmp_path / "exported.onnx"))
    ties = 0
    for x in normal(30, 3, 6, 8).astype(np.float16):
        for method, found in (("saliency", explainer(x, method="saliency")), ("gradcam", exported(x))):
            which = found.target.index
            ties += int((found.scores == found.scores.max()).sum() > 1)
            expected = explainer(x, target=[which, (which + 1) % 40], method=method)[0]
            np.testing.assert_allclose(found.map, expected.map, rtol=1e-2, atol=1e-3)
    assert ties
