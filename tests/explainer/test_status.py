"""Whether a result can be trusted: ok, blank, saturated, not-finite; and scores that are not finite are refused."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx
import pytest

from onnxcam import Explainer, ModelError
from onnxcam.methods import list_methods
from onnxcam.targets import WeightedTarget
from tests.nets import Array, as_array, net, normal

METHODS = [method.name for method in list_methods()]
LAYER = [method.name for method in list_methods() if method.level == "layer"]
WEIGHTS: dict[str, Array] = {
    "stem": normal(4, 3, 3, 3),
    "w": normal(5, 4),
    "b": normal(5),
    "one": np.array(1, np.float32),
    "half": np.array(0.5, np.float32),
    "axis": np.array([1]),
}
STEM = "c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c) "
POOL = "p = GlobalAveragePool(a) f = Flatten(p) "
LINEAR = STEM + POOL + "y = Gemm<transB = 1>(f, w, b)"
X = normal(3, 6, 6)


def model(body: str, output: str = "y", **weights: Array) -> onnx.ModelProto:
    return net(f"(float[N, 3, 6, 6] x) => (float[N, 5] {output}) {{ {body} }}", WEIGHTS | weights)


@pytest.mark.parametrize("method", METHODS)
def test_ok(method: str) -> None:
    """Every class has some positions that speak for it, by the method's own account, or the others do."""
    found = Explainer(model(LINEAR))(X, target=range(5), method=method)
    assert {e.status for e in found} <= {"ok", "blank"}
    assert any(e.status == "ok" for e in found)
    assert all((e.status == "blank") == (not e.method.signed and e.map.max() <= 0) for e in found)


@pytest.mark.parametrize("method", METHODS)
def test_a_head_of_zeros_leaves_every_map_blank(method: str) -> None:
    e = Explainer(model(LINEAR, w=np.zeros((5, 4), np.float32)))(X, method=method)
    assert e.status == "blank"
    assert not e.map.any()
    assert not e.heatmap.any()
    assert e.boxes() == []
    assert "status: blank" in e.legend()
    assert e.picture().size[0] > 0


@pytest.mark.parametrize("method", LAYER)
def test_a_map_that_is_the_same_everywhere_is_blank(method: str) -> None:
    """A grey picture, and a kernel of one pixel; of numbers that float32 adds up exactly."""
    body = LINEAR.replace("<pads = [1, 1, 1, 1]>", "")
    flat = model(body, stem=np.full((4, 3, 1, 1), 0.25, np.float32), w=np.full((5, 4), 0.5, np.float32))
    e = Explainer(flat)(np.ones((3, 6, 6)), method=method)
    assert e.status == "blank"
    assert np.ptp(e.map) == 0
    assert e.map.max() > 0 or method == "counterfactual"


def test_nothing_for_the_class_is_blank_and_its_counterfactual_is_not() -> None:
    explainer = Explainer(model(LINEAR, w=-np.abs(normal(5, 4))))
    e, counter = (explainer(X, method=method) for method in ("gradcam", "counterfactual"))
    assert (e.status, counter.status) == ("blank", "ok")
    assert e.map.min() < 0
    assert not e.heatmap.any()


def test_a_target_of_nothing_is_blank() -> None:
    assert Explainer(model(LINEAR))(X, target=WeightedTarget((0, 0, 0, 0, 0))).status == "blank"


# -- saturated --------------------------------------------------------------------------------------

ROW = LINEAR + " q = Softmax(y)"


def test_only_a_probability_and_that_at_its_end_is_saturated() -> None:
    lead = np.array([16, 0, 0, 0, 0], np.float32)  # 4 exp(-16) = 4.5e-7
    explainer = Explainer(model(ROW, "q", w=normal(5, 4) / 100, b=lead), score="q")
    first, second = explainer(X, target=[0, 1])
    assert (first.score_name, first.score_kind, first.status) == ("q", "probability", "saturated")
    assert first.score == pytest.approx(1, abs=1e-6)
    assert (second.score_kind, second.status) == ("probability", "saturated")
    assert second.score == pytest.approx(0, abs=1e-6)
    assert "status: saturated" in first.legend()


def test_where_its_gradient_is_gone_altogether_it_still_is() -> None:
    e = Explainer(model(ROW, "q", b=np.array([200, 0, 0, 0, 0], np.float32)), score="q")(X, target=0)
    assert (e.score, e.status) == (1, "saturated")


def test_a_probability_within_bounds_is_not() -> None:
    e = Explainer(model(ROW, "q"), score="q")(X, target="top:1")[0]
    assert (e.score_kind, e.status) == ("probability", "ok")
    assert 1e-6 < e.score < 1 - 1e-6


def test_averaged_probabilities_that_are_certain_are_saturated() -> None:
    body = LINEAR + " s = Softmax(y) t = Softmax(y) two = Add(s, t) q = Mul(two, half)"
    e = Explainer(model(body, "q", half=np.array(0.5, np.float32), b=np.array([200, 0, 0, 0, 0], np.float32)))(
        X, target=0
    )
    assert (e.score, e.score_kind, e.status) == (1, "output", "saturated")


@pytest.mark.parametrize("value", [0, 1])
def test_a_number_that_is_no_probability_is_not_saturated_there(value: float) -> None:
    explainer = Explainer(model(LINEAR + " q = Sub(y, aside)", "q", aside=np.zeros(5, np.float32)))
    aside = explainer(X, target=2).scores - np.float32(value)
    e = Explainer(model(LINEAR + " q = Sub(y, aside)", "q", aside=aside), score="q")(X, target=2)
    assert e.score == pytest.approx(value, abs=1e-6)
    assert (e.score_kind, e.status) == ("output", "ok")


def test_behind_a_softmax_that_is_seen_the_logit_is_explained() -> None:
    e = Explainer(model(LINEAR + " q = Softmax(y)", "q", b=np.array([40, 0, 0, 0, 0], np.float32)))(X, target=0)
    assert (e.score_name, e.score_kind, e.status) == ("y", "logit", "ok")
    assert e.probability == pytest.approx(1, abs=1e-6)


def test_the_probability_may_be_asked_for() -> None:
    proto = model(LINEAR + " q = Softmax(y)", "q", b=np.array([40, 0, 0, 0, 0], np.float32))
    e = Explainer(proto, score="q")(X, target=0)
    assert (e.score_name, e.score_kind) == ("q", "probability")
    assert (e.score, e.probability, e.status) == (1, 1, "saturated")
    assert np.abs(e.map).max() < 1e-12


@pytest.mark.parametrize("bias", [30, 0, -200])
def test_a_sigmoid_that_is_named_is_the_probability(bias: float) -> None:
    proto = model(LINEAR + " q = Sigmoid(y)", "q", w=normal(5, 4) / 100, b=np.full(5, bias, np.float32))
    e = Explainer(proto, score="q")(X, target=3)
    assert (e.score_kind, e.probability) == ("probability", e.score)
    assert e.probability == pytest.approx(1 / (1 + np.exp(-float(bias))), abs=0.03)
    assert (e.status == "saturated") == bool(bias)


TAILS = [
    "s = Softmax(y) q = Mul(s, half)",
    "s = Sigmoid(y) q = Mul(s, hundred)",
    "s = Sigmoid(y) t = Softmax(y) q = Mul(s, t)",
    "s = Sigmoid(y) g = Greater(s, half) q = Cast<to = 1>(g)",
    "q = Tanh(y)",
]


@pytest.mark.parametrize("tail", TAILS)
def test_numbers_of_another_kind_have_no_probability(tail: str) -> None:
    """As percentages they would be a softmax of percentages, of products, of decisions."""
    e = Explainer(model(f"{LINEAR} {tail}", "q", hundred=np.array(100, np.float32)))(X, target=1)
    assert (e.score_name, e.score_kind, e.probability, e.probability_of(2)) == ("q", "output", None, None)
    assert not any("probability" in line or "softmax" in line for line in e.legend())


def test_what_is_left_of_a_softmax_is_the_probability_still() -> None:
    """The background cut off: 1 and 2 of five classes keep what the softmax of all five gave them."""
    ends = {"from": np.array([1]), "to": np.array([5])}
    proto = model(f"{LINEAR} s = Softmax(y) q = Slice(s, from, to, from)", "q", **ends)
    e = Explainer(proto)(X, target=1)
    assert (e.score_kind, e.probability) == ("probability", e.score)
    logits = Explainer(model(LINEAR))(X, target=0).scores.astype(np.float64)
    assert e.probability == pytest.approx(softmax(logits)[2], rel=1e-5)


def test_raw_outputs_have_their_softmax_as_a_guess() -> None:
    e = Explainer(model(LINEAR))(X, target=1)
    p = softmax(e.scores.astype(np.float64))[1]
    assert (e.score_kind, e.scored.guess) == ("logit", True)
    assert e.probability == pytest.approx(p, rel=1e-5)
    assert f"softmax {p:.3f}" in e.legend()
    named = Explainer(model(LINEAR), score="y")(X, target=1)
    assert (named.score_kind, named.probability) == ("output", None)


def softmax(scores: Array) -> Array:
    return as_array(np.exp(scores) / np.exp(scores).sum())


def sigmoid(scores: Array) -> Array:
    return as_array(1 / (1 + np.exp(-scores)))


@pytest.mark.parametrize(
    ("tail", "outputs", "probabilities"),
    [
        ("q = Softmax(y)", "q", softmax),
        ("q = LogSoftmax(y)", "q", softmax),
        ("q = Sigmoid(y)", "q", sigmoid),
        ("q = Identity(y)", "q", softmax),  # taken for logits
        ("e = Exp(y) t = ReduceSum<keepdims = 1>(e, axis) q = Div(e, t)", "q", softmax),
        ("q = Sigmoid(y)", "q, float[N, 5] y", sigmoid),
        ("q = Sigmoid(y)", "y, float[N, 5] q", sigmoid),
    ],
)
def test_what_the_scores_are(tail: str, outputs: str, probabilities: Callable[[Array], Array]) -> None:
    for e in Explainer(model(f"{LINEAR} {tail}", outputs))(X, target=range(5)):
        assert e.score_kind == "logit"
        assert e.probability == pytest.approx(probabilities(e.scores.astype(np.float64))[e.target.index], rel=1e-5)


# -- not finite -------------------------------------------------------------------------------------


def test_a_map_that_is_not_finite_is_named() -> None:
    """The square root's slope at zero: the score is 0, its gradient is not finite."""
    body = STEM + POOL + "z = Sub(f, f) s = Sqrt(z) y = Gemm<transB = 1>(s, w, b)"
    e = Explainer(model(body))(X, layer="a", target=1)
    assert e.score == pytest.approx(float(WEIGHTS["b"][1]))
    assert e.status == "not-finite"
    assert not e.heatmap.any()
    assert e.boxes() == []
    assert "status: not-finite" in e.legend()


@pytest.mark.parametrize("kind", ["float", "float16"])
@pytest.mark.parametrize("value", [np.inf, -np.inf, np.nan])
@pytest.mark.parametrize("method", ["gradcam", "cam", "saliency"])
def test_scores_that_are_not_finite_are_refused(kind: str, value: float, method: str) -> None:
    weights = {**WEIGHTS, "b": np.array([0, value, -value, 0, 0])}
    cast = {"float": np.float32, "float16": np.float16}[kind]
    weights = {name: array.astype(cast) if array.dtype.kind == "f" else array for name, array in weights.items()}
    explainer = Explainer(net(f"({kind}[N, 3, 6, 6] x) => ({kind}[N, 5] y) {{ {LINEAR} }}", weights))
    with pytest.raises(ModelError, match=r"^the score 'y' is not finite on this input: nothing to explain$"):
        explainer(X, target=0, method=method)


def test_large_finite_scores_are_not_refused() -> None:
    """Their sum is infinite in float16, they are not."""
    weights = {name: array.astype(np.float16) for name, array in WEIGHTS.items() if array.dtype == np.float32}
    weights["b"] = np.full(5, 6e4, np.float16)
    explainer = Explainer(net(f"(float16[N, 3, 6, 6] x) => (float16[N, 5] y) {{ {LINEAR} }}", weights))
    assert explainer(0 * X, target=0).score == 6e4


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_an_image_that_is_not_finite(value: float) -> None:
    with pytest.raises(ModelError, match="the score 'y' is not finite on this input"):
        Explainer(model(LINEAR))(np.full((3, 6, 6), value))
