"""What an error says to do instead is done here, and works."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxcam import Explainer, LayerError, OnnxCamError, UnsupportedOpError, check, export
from onnxcam.exporting import split
from onnxcam.vjp import GUIDED, STANDARD
from tests.nets import net, normal

STEM = "c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c) "
POOL = "p = GlobalAveragePool({}) f = Flatten(p) "
ROUNDED = "q = QuantizeLinear(f, scale, point) r = DequantizeLinear(q, scale, point) "
BODIES = {
    "blocked in the middle": STEM + "s = Elu(a) d = Conv(s, more) b = Relu(d) " + POOL.format("b") + "y = Gemm(f, w)",
    "blocked behind": STEM + POOL.format("a") + "s = Elu(f) y = Gemm(s, w)",
    "blocked behind, and rounded": STEM + POOL.format("a") + ROUNDED + "s = Elu(r) y = Gemm(s, w)",
}
WEIGHTS = {
    "stem": normal(4, 3, 3, 3), "more": normal(4, 4, 1, 1), "w": normal(4, 5), "scale": np.array(0.1, np.float32),
    "point": np.array(0, np.int8), "flat": normal(108, 5),
}  # fmt: skip
X = normal(3, 6, 6)
NUMERIC = "gradcam with --gradient numeric"
RUN = "use `onnxcam run` with gradcam and --gradient numeric"
NOTHING = ": no layer of this model has a gradient that onnxcam can work out (see `onnxcam ops`)"


@pytest.fixture(autouse=True)
def no_rule(monkeypatch: pytest.MonkeyPatch) -> None:
    """Elu has none."""
    monkeypatch.delitem(STANDARD.rules, ("", "Elu"))
    monkeypatch.delitem(GUIDED.rules, ("", "Elu"), raising=False)


def model(body: str) -> onnx.ModelProto:
    return net(f"(float[1, 3, 6, 6] x) => (float[1, 5] y) {{ {body} }}", WEIGHTS)


def advice(explainer: Explainer, **asked: str) -> str:
    """What stands behind the node's name."""
    with pytest.raises(UnsupportedOpError, match=r"^no gradient for Elu") as caught:
        explainer(X, **asked)
    return str(caught.value).partition("': ")[2]


def test_a_layer_behind_and_differences() -> None:
    explainer = Explainer(model(BODIES["blocked in the middle"]))
    assert advice(explainer, layer="a") == "choose --layer 'b', or choose --gradient numeric"
    assert explainer(X, layer="b").status == "ok"
    assert explainer(X, layer="a", gradient="numeric").gradient == "numeric"
    assert advice(explainer, layer="a", method="hirescam") == f"choose --layer 'b', or {RUN}"
    assert explainer(X, layer="b", method="hirescam").status == "ok"


@pytest.mark.parametrize("method", ["saliency", "guidedgradcam", "guidedbackprop"])
def test_a_layer_where_the_image_cannot_be_had(method: str) -> None:
    """Not another method of the image, which needs the same rule."""
    explainer = Explainer(model(BODIES["blocked in the middle"]))
    assert advice(explainer, method=method) == "use a method of a layer, such as gradcam"
    assert explainer(X).status == "ok"


def test_differences_alone() -> None:
    explainer = Explainer(model(BODIES["blocked behind"]))
    assert advice(explainer) == "choose --gradient numeric"
    assert advice(explainer, method="saliency") == f"use a method of a layer: {NUMERIC}"
    assert explainer(X, gradient="numeric").gradient == "numeric"


def test_nothing_works_and_nothing_is_promised() -> None:
    explainer = Explainer(model(BODIES["blocked behind, and rounded"]))
    nothing = "no layer of this model has a gradient that onnxcam can work out (see `onnxcam ops`)"
    assert advice(explainer) == nothing
    with pytest.raises(
        OnnxCamError, match=r"^no numeric gradient over QuantizeLinear 'node\d', which rounds: no layer"
    ):
        explainer(X, gradient="numeric")


def test_check_export_and_split_say_the_same() -> None:
    proto = model(BODIES["blocked in the middle"])
    for call in (
        lambda: check(proto, X, layer="a"), lambda: export(proto, "never.onnx", layer="a"),
        lambda: split(proto, "never", layer="a"),
    ):  # fmt: skip
        with pytest.raises(UnsupportedOpError, match=rf": choose --layer 'b', or {RUN}$"):
            call()


@pytest.mark.parametrize("blocked", [False, True])
def test_where_there_is_no_layer_saliency_is_named_only_if_it_can_be_had(blocked: bool) -> None:
    body = "s = Elu(x) z = Flatten(s)" if blocked else "z = Flatten(x)"
    explainer = Explainer(model(f"{body} y = Gemm(z, flat)"))
    with pytest.raises(LayerError, match=r"has no layer with a grid of positions") as caught:
        explainer(X)
    assert "score (positions cannot be followed through Flatten 'node" in str(caught.value)
    assert str(caught.value).endswith(NOTHING if blocked else ": use an input-level method (saliency)")
    if not blocked:
        assert explainer(X, method="saliency").status == "ok"
