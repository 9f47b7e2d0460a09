"""`check`: says yes to what is right, and no to a model that was changed or a gradient that is wrong."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnxcam import Explainer, LayerError, ModelError, TargetError, UnsupportedOpError, UsageError, check, export
from onnxcam.checking import CheckResult
from onnxcam.graph import features
from onnxcam.vjp import STANDARD
from tests.nets import Array, net, normal

SAMPLES = Path(__file__).resolve().parents[1] / "sample_models"
FLOATS: dict[str, Array] = {
    "stem": normal(4, 3, 3, 3),
    "w": normal(5, 7),
    "b": normal(5),
    "w1": normal(7, 4),
    "b1": np.abs(normal(7)),
    "first": np.array([0]),
    "scale": np.array(0.5, np.float32),
    "point": np.array(0, np.int8),
    "grid": normal(1, 6, 6, 2),
}
HALVES = {name: value.astype(np.float16) if value.dtype == np.float32 else value for name, value in FLOATS.items()}
STEM = "c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c) "
HEAD = (
    STEM + "p = GlobalAveragePool(a) f = Flatten(p) h = Gemm<transB = 1>(f, w1, b1) r = Relu(h) "
    "y = Gemm<transB = 1>(r, w, b)"
)
PLAIN = f"(float[N, 3, 6, 6] x) => (float[N, 5] q) {{ {HEAD} q = Softmax(y) }}"
GOOD = {
    "one row": PLAIN,
    "a batch of 2": PLAIN.replace("N, 3", "2, 3").replace("N, 5", "2, 5"),
    "no batch axis": PLAIN.replace("[N, 3, 6, 6] x", "[3, 6, 6] z").replace("{ ", "{ x = Unsqueeze(z, first) "),
    "any size": PLAIN.replace("6, 6", "H, W"),
    "float16": PLAIN.replace("float[", "float16["),
    "bytes": PLAIN.replace("float[N, 3, 6, 6] x", "uint8[N, 3, 6, 6] u").replace("{ ", "{ x = Cast<to = 1>(u) "),
    "several outputs": (
        PLAIN.replace(" q)", " q, float[N, 4, 6, 6] a, int64[N, 1] best)").replace(" }", " best = ArgMax(y) }")
    ),
    "a quantizer in the head": PLAIN.replace("h = ", "u = QuantizeLinear(f, scale, point) h = ")
    .replace("(f, w1", "(d, w1")
    .replace("h = ", "d = DequantizeLinear(u, scale, point) h = "),
}


MAP = ["map changes with the image", "map changes with the class"]


def model(name: str) -> onnx.ModelProto:
    return net(GOOD[name], HALVES if name == "float16" else FLOATS)


def rows(results: list[CheckResult]) -> dict[str, CheckResult]:
    return {result.name: result for result in results}


@pytest.mark.parametrize("name", GOOD)
def test_what_is_right_passes(name: str) -> None:
    results = check(model(name))
    assert [result for result in results if not result.ok] == []
    assert [result.name for result in results] == [
        *["forward: features"] * (3 if name == "several outputs" else 1),
        *["forward: with the gradient"] * (3 if name == "several outputs" else 1),
        "activations finite",
        "gradient finite",
        "gradient not all zero",
        "symbolic against numeric",
        "map changes with the image",
        "map changes with the class",
    ]


@pytest.mark.parametrize("image", ["photo", "noise"])
@pytest.mark.parametrize(("sample", "photo"), [("tiny_cnn", "blobs"), ("squeezenet11", "chelsea")])
def test_the_samples_pass(sample: str, photo: str, image: str) -> None:
    results = check(SAMPLES / f"{sample}.onnx", SAMPLES / f"{photo}.png" if image == "photo" else None)
    assert all(result.ok for result in results)
    assert not any(result.skipped for result in results)
    measured = rows(results)["symbolic against numeric"].measured
    apart, settled = re.fullmatch(r"(\S+) apart in (\d) directions", measured).groups()  # type: ignore[union-attr]
    assert float(apart) < 1e-3
    assert settled == "7"


def test_float16_is_held_against_differences_in_float32() -> None:
    row = rows(check(model("float16")))["symbolic against numeric"]
    assert row.measured.endswith("apart in 7 directions")
    assert float(row.measured.split()[0]) < 1e-3


def test_an_output_that_is_not_finite_in_the_model_either() -> None:
    text = PLAIN.replace("[N, 5] q", "[N, 5] q, float[N, 4, 6, 6] l").replace(
        "q = Softmax(y)", "q = Softmax(y) l = Log(a)"
    )
    results = [result for result in check(net(text, FLOATS)) if result.detail == "l"]
    assert [(result.ok, result.measured) for result in results] == [(True, "0.0e+00")] * 2


def test_one_target_is_checked() -> None:
    with pytest.raises(TargetError, match="'top:3' stands for 3 targets: name one to check"):
        check(model("one row"), target="top:3")


def test_over_a_quantizer_nothing_is_measured_and_that_is_said() -> None:
    row = rows(check(model("a quantizer in the head")))["symbolic against numeric"]
    assert (row.ok, row.skipped, row.measured) == (True, True, "not measured")
    assert row.detail == "QuantizeLinear 'node4' rounds: there are no differences over it"


# -- a wrong gradient is caught ---------------------------------------------------------------------

Function = Callable[..., Sequence[str | None]]


def doubled(right: Function) -> Function:
    def wrong(g: Any, node: Any, ct: str) -> Sequence[str | None]:
        return right(g, node, g.op("Add", ct, ct))

    return wrong


def negated(right: Function) -> Function:
    def wrong(g: Any, node: Any, ct: str) -> Sequence[str | None]:
        return right(g, node, g.op("Neg", ct))

    return wrong


def unmasked(right: Function) -> Function:
    def wrong(g: Any, node: Any, ct: str) -> Sequence[str | None]:
        return [ct]

    return wrong


def wrong_in_one_channel(right: Function) -> Function:
    def wrong(g: Any, node: Any, ct: str) -> Sequence[str | None]:
        factor = np.ones((1, 4, 1, 1), np.float32)
        factor[0, 0] = 3
        (dx,) = right(g, node, ct)
        return [g.op("Mul", dx, g.const(factor))]

    return wrong


@pytest.mark.parametrize(
    ("op", "sabotage", "apart"),
    [
        ("GlobalAveragePool", doubled, 0.5),
        ("GlobalAveragePool", negated, 2),
        ("GlobalAveragePool", wrong_in_one_channel, 0.1),
        ("Gemm", doubled, 0.5),
        ("MatMul", negated, 2),
        ("Relu", unmasked, 0.1),
        ("Flatten", doubled, 0.5),
    ],
)
def test_a_wrong_rule_is_caught(
    monkeypatch: pytest.MonkeyPatch, op: str, sabotage: Callable[[Function], Function], apart: float
) -> None:
    right = STANDARD.rules["", op]
    weights = {**FLOATS, "b1": normal(7)}  # some hidden units do not fire
    assert all(result.ok for result in check(net(PLAIN, weights)))
    monkeypatch.setitem(STANDARD.rules, ("", op), replace(right, function=sabotage(right.function)))
    failed = [result for result in check(net(PLAIN, weights)) if not result.ok]
    assert [result.name for result in failed] == ["symbolic against numeric"]
    assert float(failed[0].measured.split()[0]) > apart * 0.99


def test_a_gradient_that_is_not_finite_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def infinite(g: Any, node: Any, ct: str) -> list[str]:
        return [g.op("Div", g.reshape_to(ct, node.input[0]), g.const(np.zeros((), np.float32)))]

    right = STANDARD.rules["", "Flatten"]
    monkeypatch.setitem(STANDARD.rules, ("", "Flatten"), replace(right, function=infinite))
    found = rows(check(model("one row")))
    assert not found["gradient finite"].ok
    assert found["gradient finite"].measured == "144 not finite"
    assert found["symbolic against numeric"].measured == "not finite"
    assert not found["symbolic against numeric"].ok


def test_a_gradient_of_zeros_is_told() -> None:
    """No hidden unit fires: the answer is always the same, and nothing explains it."""
    dead = check(net(PLAIN, {**FLOATS, "b1": np.full(7, -1e3, np.float32)}))
    assert [result.name for result in dead if not result.ok] == ["gradient not all zero", *MAP]
    assert rows(dead)["symbolic against numeric"].skipped


def test_a_gradient_lost_on_the_way_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    def lost(g: Any, node: Any, ct: str) -> list[str]:
        return [g.op("Mul", g.reshape_to(ct, node.input[0]), g.const(np.zeros((), np.float32)))]

    monkeypatch.setitem(STANDARD.rules, ("", "Flatten"), replace(STANDARD.rules["", "Flatten"], function=lost))
    failed = [result.name for result in check(model("one row")) if not result.ok]
    assert failed == ["gradient not all zero", "symbolic against numeric", *MAP]


# -- a map that says nothing is caught ----------------------------------------------------------------


def test_a_map_that_is_the_same_for_every_class_is_caught() -> None:
    """Two classes of equal weights and other biases: one is more likely, and nothing in the image is why."""
    same = {**FLOATS, "w": np.repeat(normal(1, 7), 5, axis=0)}
    failed = [result for result in check(net(PLAIN, same)) if not result.ok]
    assert [result.name for result in failed] == ["map changes with the class"]
    assert failed[0].measured == "by 0"


def test_a_map_that_is_the_same_for_every_image_is_caught() -> None:
    """The image is multiplied by zero: activations and gradient come from the bias of the first layer."""
    blind = PLAIN.replace("c = Conv<pads = [1, 1, 1, 1]>(x, stem)", "z = Mul(x, none) c = Conv(z, stem, lift)")
    weights = {**FLOATS, "none": np.zeros((), np.float32), "lift": np.ones(4, np.float32)}
    failed = [result for result in check(net(blind, weights)) if not result.ok]
    assert [(result.name, result.measured) for result in failed] == [("map changes with the image", "by 0")]


TOP = """(float[N,3,8,8] x) => (int64[N,1] y) {
    a = Conv(x, w) r = Relu(a) m = GlobalAveragePool(r) f = Flatten(m) s = MatMul(f, v) y = ArgMax<axis=1>(s) }"""


def test_outputs_of_integers_are_compared() -> None:
    results = check(net(TOP, {"w": normal(4, 3, 3, 3), "v": normal(4, 5)}))
    forward = [result for result in results if result.name.startswith("forward")]
    assert [(row.ok, row.skipped, row.measured) for row in forward] == [(True, False, "0.0e+00")] * 2


def test_outputs_without_numbers_are_not_compared_and_that_is_said() -> None:
    model = net(TOP.replace("y = ArgMax<axis=1>(s)", "p = Softmax(s)"), {"w": normal(4, 3, 3, 3), "v": normal(4, 5)})
    domain, names = "ai.onnx.ml", ["a", "b", "c", "d", "e"]
    model.opset_import.append(onnx.helper.make_opsetid(domain, 3))
    model.graph.node.append(onnx.helper.make_node("ZipMap", ["p"], ["y"], domain=domain, classlabels_strings=names))
    model.graph.output[0].CopyFrom(onnx.ValueInfoProto(name="y"))
    (row,) = (result for result in check(model) if result.name.startswith("forward"))
    assert row.skipped
    assert row.detail == "no output holds numbers"


def test_of_one_class_alone_there_is_no_other() -> None:
    one = net(PLAIN.replace(" q = Softmax(y)", " q = Sigmoid(y)"), {**FLOATS, "w": normal(1, 7), "b": normal(1)})
    row = rows(check(one))["map changes with the class"]
    assert (row.skipped, row.measured, row.detail) == (True, "not measured", "there is one class alone")


def test_of_maps_there_is_no_second_best_class() -> None:
    text = "(float[N, 3, 8, 8] x) => (float[N, 5, 8, 8] y) { c = Conv(x, w) a = Relu(c) y = Conv(a, v) }"
    maps = net(text, {"w": normal(4, 3, 1, 1), "v": normal(5, 4, 1, 1)})
    row = rows(check(maps))["map changes with the class"]
    assert (row.skipped, row.detail) == (True, "the scores are no row of classes")


def test_a_model_that_cannot_be_fed_noise_is_not_measured_on_it() -> None:
    """It takes the logarithm of the image."""
    log = PLAIN.replace("c = Conv<pads = [1, 1, 1, 1]>(x", "z = Log(x) c = Conv<pads = [1, 1, 1, 1]>(z")
    row = rows(check(net(log, FLOATS), np.abs(normal(1, 3, 6, 6)) + 1))["map changes with the image"]
    assert (row.ok, row.skipped, row.measured) == (True, True, "not measured")
    assert row.detail == "the score 'y' is not finite on this input: nothing to explain"


TWO_HEADS = (
    "(float[N, 3, 8, 8] x) => (float[N, 128, 3] y) { c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c) "
    "l = Conv(a, k) r = Conv(a, k2) l1 = Reshape(l, rows) r1 = Reshape(r, rows) "
    "l2 = Transpose<perm = [0, 2, 1]>(l1) r2 = Transpose<perm = [0, 2, 1]>(r1) j = Concat<axis = 1>(l2, r2) "
    "y = Sigmoid(j) }"
)


def test_what_is_checked_is_what_is_explained() -> None:
    weights = {"stem": FLOATS["stem"], "k": normal(3, 4, 1, 1), "k2": normal(3, 4, 1, 1, seed=1)}
    boxes = net(TWO_HEADS, {**weights, "rows": np.array([0, 3, -1])})
    x = normal(3, 8, 8, seed=3)
    explainer = Explainer(boxes, labels=["cat", "dog", "eel"])
    for target in (None, "eel", "y[100,1]"):
        e = explainer(x, target=target)
        row = rows(check(boxes, x, target=target, labels=["cat", "dog", "eel"]))["gradient not all zero"]
        assert row.detail == f"d {e.target.name} / d {e.layer}"


# -- a changed model is caught ----------------------------------------------------------------------


@pytest.mark.parametrize(("change", "ok"), [(1e-2, False), (1e-3, False), (1e-6, True)])
def test_another_forward_pass_is_caught(monkeypatch: pytest.MonkeyPatch, change: float, ok: bool) -> None:
    def wrong(*args: Any) -> onnx.ModelProto:
        proto = features(*args)
        (bias,) = (tensor for tensor in proto.graph.initializer if tensor.name == "b")
        moved = numpy_helper.to_array(bias) + np.array([change, 0, 0, 0, 0], np.float32)
        bias.CopyFrom(numpy_helper.from_array(moved, "b"))
        return proto

    monkeypatch.setattr("onnxcam.explainer.parity.features", wrong)
    found = rows(check(model("one row")))
    assert found["forward: features"].ok == ok
    assert found["forward: with the gradient"].ok


# -- what cannot be checked is refused --------------------------------------------------------------


def test_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = export(model("one row"), tmp_path / "exported.onnx")
    with pytest.raises(UsageError, match="is an exported file: check the model it was made from"):
        check(path)
    with pytest.raises(ModelError, match=r"^no model at"):
        check(tmp_path / "missing.onnx")
    with pytest.raises(LayerError, match="the model has no layer 'b4'"):
        check(model("one row"), layer="b4")
    infinite = net(PLAIN, {**FLOATS, "b": np.full(5, np.inf, np.float32)})
    with pytest.raises(ModelError, match="the score 'y' is not finite on this input"):
        check(infinite)
    monkeypatch.delitem(STANDARD.rules, ("", "GridSample"))
    blocked = PLAIN.replace("p = GlobalAveragePool(a)", "s = GridSample(a, grid) p = GlobalAveragePool(s)")
    with pytest.raises(UnsupportedOpError, match="no gradient for GridSample"):
        check(net(blocked, FLOATS), layer="a")


def test_noise_is_of_a_size_that_the_model_takes() -> None:
    """A reader of lines, whose height its last kernel settles: 224 rows would not squeeze."""
    weights = {"k": normal(4, 3, 32, 3), "w": normal(4, 5), "two": np.array([2])}
    text = "c = Conv(x, k) a = Relu(c) l = Squeeze(a, two) t = Transpose<perm = [0, 2, 1]>(l) y = MatMul(t, w)"
    results = check(net(f"(float[N, 3, H, W] x) => (float[N, T, 5] y) {{ {text} }}", weights))
    assert all(result.ok for result in results)
    assert not rows(results)["symbolic against numeric"].skipped
