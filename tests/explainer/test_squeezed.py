"""Models that drop the axes of a pooled grid by a Squeeze that names none: of one image that of the batch goes too."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.explainer import Explainer
from tests.nets import net, normal

WEIGHTS = {"k": normal(4, 3, 3, 3), "w": normal(4, 5), "b": normal(5)}
X = normal(3, 3, 6, 8)
TAILS = {
    "linear": "y = MatMul(s, w)",
    "with a bias": "m = MatMul(s, w) y = Add(m, b)",
    "behind a tanh": "t = Tanh(s) m = MatMul(t, w) y = Add(m, b)",
    "a softmax": "m = MatMul(s, w) z = Add(m, b) y = Softmax(z)",
    "back in a row": "m = MatMul(s, w) y = Reshape(m, row)",
}


def classifier(batch: str, squeeze: str, tail: str, out: str) -> onnx.ModelProto:
    text = f"""(float[{batch}, 3, 6, 8] x) => (float[{out}] y) {{ c = Conv<pads = [1, 1, 1, 1]>(x, k) a = Relu(c)
        p = GlobalAveragePool(a) s = {squeeze}(p) {tail} }}"""
    return net(text, {**WEIGHTS, "row": np.array([-1, 5])})


METHODS = ["gradcam", "hirescam", "saliency"]
LINEAR = [(tail, "cam") for tail in TAILS if "Tanh" not in TAILS[tail]]


@pytest.mark.parametrize("batch", ["1", "N"])
@pytest.mark.parametrize(("tail", "method"), [*product(TAILS, METHODS), *LINEAR])
def test_the_map_is_that_of_the_same_model_with_rows(tail: str, batch: str, method: str) -> None:
    out = f"{batch}, 5" if batch == "N" or tail == "back in a row" else "5"
    found = Explainer(classifier(batch, "Squeeze", TAILS[tail], out))
    expected = Explainer(classifier("N", "Flatten", TAILS[tail], "N, 5"))
    assert found.subject.score.squash == expected.subject.score.squash
    for x in X:
        for target in (None, 1):
            one, other = (e(x, target=target, method=method) for e in (found, expected))
            assert one.target == other.target
            np.testing.assert_allclose(one.scores, other.scores, rtol=1e-5)
            np.testing.assert_allclose(one.map, other.map, rtol=1e-4, atol=1e-6)
    both = found(X[0], target=[0, 4], method=method)
    for e, target in zip(both, (0, 4), strict=True):
        np.testing.assert_allclose(e.map, expected(X[0], target=target, method=method).map, rtol=1e-4, atol=1e-6)
    assert np.abs(both[0].map - both[1].map).max() > 0


def test_several_images_are_explained_one_by_one() -> None:
    found, expected = (
        Explainer(classifier("N", squeeze, TAILS["with a bias"], "N, 5")) for squeeze in ("Squeeze", "Flatten")
    )
    for one, other in zip(found(X), expected(X), strict=True):
        np.testing.assert_allclose(one.map, other.map, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("batch", ["1", "N"])
def test_checked_and_exported(batch: str, tmp_path: Path) -> None:
    model = classifier(batch, "Squeeze", TAILS["with a bias"], "N, 5" if batch == "N" else "5")
    assert all(row.ok and not row.skipped for row in onnxcam.check(model))
    exported = Explainer(onnxcam.export(model, tmp_path / "exported.onnx"))
    np.testing.assert_allclose(exported(X[0]).map, Explainer(model)(X[0]).map, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("batch", ["2", "N"])
def test_one_number_for_each_of_several_images_is_no_row_of_classes(batch: str) -> None:
    text = """(float[{0}, 3, 6, 8] x) => (float[{0}] y) {{ c = Conv<pads = [1, 1, 1, 1]>(x, k) a = Relu(c)
        p = GlobalAveragePool(a) f = Flatten(p) m = MatMul(f, column) y = Squeeze(m, last) }}"""
    weights = {**WEIGHTS, "column": normal(4, 1, seed=7), "last": np.array([1])}
    found, alone = (Explainer(net(text.format(size), weights)) for size in (batch, "1"))
    for x in X:
        one, other = found(x), alone(x)
        assert one.scores.shape == (1,)
        np.testing.assert_allclose(one.map, other.map, rtol=1e-5, atol=1e-7)
