"""The routes of the gradient: symbolic, by differences, and when the one stands in for the other."""

from __future__ import annotations

import re

import numpy as np
import onnx
import pytest

from onnxcam import Explainer, UnsupportedOpError, UsageError, VerificationError, list_methods
from onnxcam.explainer import sessions
from onnxcam.targets import DifferenceTarget
from onnxcam.vjp import STANDARD
from tests.nets import Array, net, normal

GRID = np.stack(np.meshgrid(np.linspace(-1, 1, 6), np.linspace(-1, 1, 6)), axis=-1)[None]  # each point itself
FLOATS: dict[str, Array] = {
    "stem": normal(4, 3, 3, 3),
    "w": normal(5, 4),
    "b": normal(5),
    "w1": normal(7, 4),
    "b1": normal(7),
    "w2": normal(5, 7),
    "flat": normal(5, 144),
    "scale": np.array(2, np.float32),
    "zero": np.array(0, np.float32),
    "grid": GRID.astype(np.float32),
}
WEIGHTS: dict[str, Array] = {**FLOATS, "point": np.array(0, np.int8)}
POOL = "p = GlobalAveragePool(a) f = Flatten(p) "
LINEAR = "y = Gemm<transB = 1>({}, w, b)"
HEADS = {
    "linear": POOL + LINEAR.format("f"),
    "flattened": "f = Flatten(a) y = Gemm<transB = 1>(f, flat, b)",
    "Tanh": POOL + "h = Gemm<transB = 1>(f, w1, b1) r = Tanh(h) y = Gemm<transB = 1>(r, w2, b)",
    "Relu": POOL + "h = Gemm<transB = 1>(f, w1, b1) r = Relu(h) y = Gemm<transB = 1>(r, w2, b)",
    "Gelu by Erf": POOL + "e = Erf(f) g = Mul(e, f) " + LINEAR.format("g"),
    "convolution": "k = Conv(a, stem4) r = Sigmoid(k) p = GlobalAveragePool(r) f = Flatten(p) " + LINEAR.format("f"),
    "If": (
        POOL + "m = ReduceMax<keepdims = 0>(f) t = Greater(m, zero) z = If(t)<"
        "then_branch = then () => (float[N, 5] yt) { yt = Gemm<transB = 1>(f, w, b) }, "
        "else_branch = other () => (float[N, 5] yo) { yo = Gemm<transB = 1>(f, w) }> y = Identity(z)"
    ),
}
WEIGHTS["stem4"] = normal(4, 4, 3, 3)
NO_RULE = {
    "GridSample": "s = GridSample<align_corners = 1>(a, grid) " + POOL.replace("(a)", "(s)") + LINEAR.format("f"),
}
ROUNDS = {
    "Round": POOL + "r = Round(f) " + LINEAR.format("r"),
    "Floor": POOL + "r = Floor(f) " + LINEAR.format("r"),
    "QuantizeLinear": POOL
    + "q = QuantizeLinear(f, scale, point) d = DequantizeLinear(q, scale, point) "
    + LINEAR.format("d"),
    "Cast": POOL + "i = Cast<to = 6>(f) d = Cast<to = 1>(i) " + LINEAR.format("d"),
}
X = normal(3, 3, 6, 6)


@pytest.fixture(autouse=True)
def no_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """GridSample stands for the operators that have none."""
    monkeypatch.delitem(STANDARD.rules, ("", "GridSample"))


def model(head: str, kind: str = "float") -> onnx.ModelProto:
    body = (HEADS | NO_RULE | ROUNDS)[head]
    stem = "c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c)"
    weights = WEIGHTS
    if kind == "float16":
        weights = {name: w.astype(np.float16) if w.dtype == np.float32 else w for name, w in WEIGHTS.items()}
    return net(f"({kind}[N, 3, 6, 6] x) => ({kind}[N, 5] y) {{ {stem} {body.replace('(float', f'({kind}')} }}", weights)


def cosine(one: Array, other: Array) -> float:
    return float(np.vdot(one, other) / (np.linalg.norm(one) * np.linalg.norm(other)))


@pytest.mark.parametrize("method", ["gradcam", "counterfactual"])
@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("kind", ["float", "float16"])
def test_differences_and_rules_agree(kind: str, head: str, method: str) -> None:
    """Within 1 % of the largest value, cosine over .999, for every class of every row."""
    explainer = Explainer(model(head, kind))
    by_rule, by_difference = (
        explainer(X.astype(explainer.subject.image.dtype), target=range(5), method=method, layer="a", gradient=gradient)
        for gradient in ("symbolic", "numeric")
    )
    for row, other in zip(by_rule, by_difference, strict=True):
        for one, e in zip(row, other, strict=True):
            assert (one.gradient, e.gradient) == ("symbolic", "numeric")
            assert cosine(one.map, e.map) > 0.999
            assert np.abs(one.map - e.map).max() < 0.01 * np.abs(one.map).max()


def test_differences_give_cam_its_weights_too() -> None:
    explainer = Explainer(model("linear"))
    one, e = (explainer(X[0], method="cam", gradient=gradient) for gradient in ("symbolic", "numeric"))
    assert e.gradient == "numeric"
    assert np.abs(one.map - e.map).max() < 0.01 * np.abs(one.map).max()


def test_auto_takes_the_rules_where_there_are_all() -> None:
    assert Explainer(model("linear"))(X[0], gradient="auto").gradient == "symbolic"


@pytest.mark.parametrize("op", NO_RULE)
def test_auto_takes_differences_where_a_rule_is_missing_and_says_so(op: str) -> None:
    """Both heads here compute what the linear one does."""
    explainer, plain = Explainer(model(op)), Explainer(model("linear"))
    for method in ("gradcam", "counterfactual"):
        found = explainer(X, target=[0, 3], layer="a", gradient="auto", method=method)
        for row, other in zip(found, plain(X, target=[0, 3], method=method), strict=True):
            for e, one in zip(row, other, strict=True):
                assert e.gradient == "numeric"
                assert "numeric gradient" in e.legend()
                assert cosine(e.map, one.map) > 0.999
                assert np.abs(e.map - one.map).max() < 0.01 * np.abs(one.map).max()


def test_a_missing_rule_is_found_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    build = sessions.class_gradient
    monkeypatch.setattr(sessions, "class_gradient", lambda *given, **more: asked.append(1) or build(*given, **more))
    explainer = Explainer(model(next(iter(NO_RULE))))
    for _ in range(3):
        assert explainer(X[0], layer="a", gradient="auto").gradient == "numeric"
    assert len(asked) == 1


@pytest.mark.parametrize("op", NO_RULE)
@pytest.mark.parametrize(
    ("method", "gradient"), [("gradcam", "symbolic"), ("hirescam", "auto"), ("guidedgradcam", "auto")]
)
def test_a_missing_rule_is_said_in_one_line(op: str, method: str, gradient: str) -> None:
    """Not to be had by differences: whatever needs more than the gradient's mean."""
    with pytest.raises(
        UnsupportedOpError,
        match=rf"^no gradient for {op} \(opset 17\) at node 'node\d': (choose|use `onnxcam run` with gradcam)",
    ) as caught:
        Explainer(model(op))(X[0], layer="a", method=method, gradient=gradient)
    assert "\n" not in str(caught.value)
    assert caught.value.op == op


@pytest.mark.parametrize("method", [method.name for method in list_methods() if not method.mean_only])
def test_a_numeric_gradient_is_a_mean_and_no_more(method: str) -> None:
    says = f"{method} needs the gradient itself: a numeric one gives only its mean over positions (try gradcam)"
    with pytest.raises(UsageError, match=f"^{re.escape(says)}$"):
        Explainer(model("linear"))(X[0], method=method, gradient="numeric")


@pytest.mark.parametrize("op", ROUNDS)
def test_there_are_no_differences_across_rounding(op: str) -> None:
    """A step of the staircase would look like a gradient, or like none."""
    explainer = Explainer(model(op))
    with pytest.raises(VerificationError, match=rf"^no numeric gradient over {op} 'node\d', which rounds: choose"):
        explainer(X, layer="a", gradient="numeric")


def test_through_a_quantizer_the_symbolic_gradient_goes_straight() -> None:
    quantized, plain = (Explainer(model(head))(X, target=2, layer="a") for head in ("QuantizeLinear", "linear"))
    for e, one in zip(quantized, plain, strict=True):
        np.testing.assert_allclose(e.map, one.map, rtol=0, atol=1e-6)


def test_behind_round_the_gradient_is_zero_and_the_map_blank() -> None:
    assert Explainer(model("Round"))(X[0], layer="a").status == "blank"


def test_a_head_that_is_not_smooth_is_found_out_by_two_step_sizes() -> None:
    """A step hidden from the list of operators that round: the sign of a fast wave."""
    body = POOL + "m = Mul(f, fast) s = Sin(m) g = Sign(s) y = Gemm<transB = 1>(g, w, b)"
    stem = "c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c)"
    text = f"(float[N, 3, 6, 6] x) => (float[N, 5] y) {{ {stem} {body} }}"
    explainer = Explainer(net(text, {**WEIGHTS, "fast": np.array(3e4, np.float32)}))
    with pytest.raises(VerificationError, match=r"^the numeric gradient is not stable: two step sizes disagree"):
        explainer(X[0], layer="a", gradient="numeric")


def test_differences_are_of_any_target() -> None:
    explainer = Explainer(model("linear"))
    one, other = (explainer(X[0], target=DifferenceTarget(0, 1), gradient=g) for g in ("symbolic", "numeric"))
    assert other.gradient == "numeric"
    np.testing.assert_allclose(one.map, other.map, atol=1e-3 * np.abs(one.map).max())


LATE = (  # [N, 1, 1, 5], of which the graph tells the rank alone
    POOL + "g = Gemm<transB = 1>(f, w, b) s = Shape(a) n = Slice(s, i0, i1) h = Slice(s, i2, i3) one = Div(h, h) "
    "to = Concat<axis = 0>(n, one, one, all) y = Reshape(g, to)"
)


@pytest.mark.parametrize(
    ("method", "gradient"), [("gradcam", "symbolic"), ("gradcam", "numeric"), ("saliency", "symbolic")]
)
def test_a_score_whose_classes_axis_only_a_run_tells(method: str, gradient: str) -> None:
    stem = "c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c)"
    slices = {f"i{i}": np.array([i]) for i in range(4)} | {"all": np.array([-1])}
    text = f"(float[N, 3, H, W] x) => (float[n, p, q, k] y) {{ {stem} {LATE} }}"
    explainer, plain = Explainer(net(text, {**WEIGHTS, **slices}), score="y"), Explainer(model("linear"))
    assert explainer.subject.graph.shape("y")[1:] != (1, 1, 5)  # type: ignore[attr-defined]
    for which in (None, 1, 4):
        layer = None if method == "saliency" else "a"
        e = explainer(X[0], target=which, layer=layer, method=method, gradient=gradient)
        one = plain(X[0], target=which, layer=layer, method=method)
        assert e.target == one.target
        assert np.abs(e.map - one.map).max() < 0.01 * np.abs(one.map).max()


def test_an_unknown_route() -> None:
    with pytest.raises(UsageError, match=r"^unknown gradient 'fast': choose symbolic, numeric, auto$"):
        Explainer(model("linear"))(X[0], gradient="fast")
