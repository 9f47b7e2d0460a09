"""Static sizes are what ONNX Runtime computes, also where onnx infers others."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

import onnxcam
from onnxcam.graph import attributes
from tests.graph.building import graph_of
from tests.nets import net, normal, run, tapped

CASES = {
    "ceil": ("MaxPool<kernel_shape=[2,2],strides=[2,2],pads=[1,1,1,1],ceil_mode=1>(a)", 5, 3),
    "ceil, no pads": ("AveragePool<kernel_shape=[2,2],strides=[3,3],ceil_mode=1>(a)", 6, 2),
    "same, dilated": ('MaxPool<kernel_shape=[2,2],dilations=[2,2],auto_pad="SAME_UPPER">(a)', 4, 3),
    "same, dilated, strided": (
        'MaxPool<kernel_shape=[2,2],strides=[2,2],dilations=[2,2],auto_pad="SAME_LOWER">(a)', 6, 2
    ),
    "transposed both ways": ('ConvTranspose<strides=[2,2],output_padding=[1,1],auto_pad="SAME_UPPER">(a, t)', 4, 8),
    "scales": ("Resize(a, , by)", 20, 26),
    "linear scales": ('Resize<mode="linear">(a, , by)', 20, 26),
}  # fmt: skip


def model(node: str, size: int, opset: int, tail: str = "y = Flatten(b)") -> onnx.ModelProto:
    return net(
        f"(float[N,3,{size},{size}] x) => (float[N,K] y) {{\n a = Conv(x, k)\n b = {node}\n {tail}\n}}",
        {"k": normal(2, 3, 1, 1), "t": normal(2, 2, 2, 2), "by": np.array([1, 1, 1.3, 1.3], np.float32)},
        opset=opset,
    )


@pytest.mark.parametrize("opset", [17, 22])
@pytest.mark.parametrize("name", list(CASES))
def test_the_size_is_the_one_that_is_computed(name: str, opset: int) -> None:
    node, size, expected = CASES[name]
    made = model(node, size, opset)
    graph = graph_of(made)
    assert (graph.shape("b") or ())[1:] == (2, expected, expected)
    assert (graph.shape("y") or ())[1:] == (2 * expected**2,)
    assert run(made, {"x": normal(2, 3, size, size)})["y"].shape == (2, 2 * expected**2)


@pytest.mark.parametrize("name", list(CASES))
def test_the_gradient_has_the_size_that_is_computed(name: str) -> None:
    """Against central differences in double along one direction, which a window too many would not give."""
    node, size, expected = CASES[name]
    made = model(node, size, 17)
    found = onnxcam.differentiate(made, of="y", wrt="x")
    x, step = normal(1, 3, size, size, seed=1), normal(1, 3, size, size, seed=2)
    seed = normal(1, 2 * expected**2, seed=3)
    slope = (run(found.model, {"x": x, found.seed: seed})[found.gradients["x"]] * step).sum()
    ahead, behind = (run(made, {"x": x + sign * 1e-3 * step})["y"] for sign in (1, -1))
    assert slope == pytest.approx(float(((ahead - behind) * seed).sum() / 2e-3), rel=2e-2)


def test_a_size_that_follows_from_a_corrected_one() -> None:
    """The second pool reads what the first makes, and both round up."""
    made = model(
        CASES["ceil"][0], 5, 17, "c = MaxPool<kernel_shape=[2,2],strides=[3,3],ceil_mode=1>(b)\n y = Flatten(c)"
    )
    graph = graph_of(made)
    assert graph.shape("c") == ("N", 2, *run(tapped(made, "c"), {"x": normal(1, 3, 5, 5)})["c"].shape[2:])


AGREED = {name: (node, size) for name, (node, size, _) in CASES.items() if "transposed" not in name} | {
    "quotients": ('Resize<mode="linear">(a, , quotients)', 18),
    "quotients of one axis": ('Resize<mode="cubic",axes=[-1]>(a, , quotient)', 18),
    "corners": ('Resize<mode="cubic",coordinate_transformation_mode="align_corners">(a, , quotients)', 18),
    "nearest": ('Resize<nearest_mode="floor",coordinate_transformation_mode="asymmetric">(a, , quotients)', 18),
    "no padding": ("MaxPool<kernel_shape=[2,2],strides=[3,3],ceil_mode=1>(a)", 6),
    "p-norm": ("LpPool<kernel_shape=[2,2],strides=[2,2],pads=[1,1,1,1],ceil_mode=1>(a)", 5),
}
SCALES = {"by": [1, 1, 1.3, 1.3], "quotients": [1, 1, 1.3888888, 1.3888888], "quotient": [1.3888888]}  # 25 / 18


@pytest.mark.parametrize("batch", ["N", "1"])
@pytest.mark.parametrize("kind", [np.float32, np.float16])
@pytest.mark.parametrize("name", AGREED)
def test_what_onnxruntime_misjudges_is_agreed_on_and_computes_the_same(name: str, kind: type, batch: str) -> None:
    """And what reads it beside something of the right size, as the mean's gradient is, loads."""
    node, size = AGREED[name]
    opset, elem = (18 if "axes" in node or "LpPool" in node else 17), "float" if kind is np.float32 else "float16"
    text = (
        f"({elem}[{batch},3,{size},{size}] x) => ({elem}[N,2,1,1] y, {elem}[N,2,A,B] b) {{ a = Conv(x, k) b = {node} "
    )
    weights = {"k": normal(2, 3, 1, 1).astype(kind)}
    scales = {name: np.array(scale, np.float32) for name, scale in SCALES.items()}
    made = net(f"{text} c = Mul(b, b)\n y = GlobalAveragePool(c)\n}}", weights | scales, opset=opset)
    found, x = onnxcam.differentiate(made, of="y", wrt="x"), normal(1, 3, size, size).astype(kind)
    given = run(made, {"x": x})
    both = run(found.model, {"x": x, found.seed: np.ones_like(given["y"])})
    np.testing.assert_array_equal(both["b"], given["b"])
    slope = both[found.gradients["x"]]
    if kind == np.float32:
        moved = [run(made, {"x": x + step * slope})["y"].sum() for step in (1e-3, -1e-3)]
        assert (moved[0] - moved[1]) / 2e-3 == pytest.approx(float((slope**2).sum()), rel=2e-2)
    assert np.isfinite(slope).all()


@pytest.mark.parametrize(
    ("node", "size"),
    [
        ('MaxPool<kernel_shape=[1,1],strides=[3,3],auto_pad="SAME_UPPER">(a)', 9),
        ("AveragePool<kernel_shape=[2,2],strides=[3,3],ceil_mode=1,count_include_pad=1>(a)", 6),
        ('Resize<mode="linear">(a, , by)', 17),
    ],
    ids=["windows far apart", "an average of padding", "scales that are no quotients"],
)
def test_what_has_no_other_spelling_stays(node: str, size: int) -> None:
    graph = graph_of(model(node, size, 17))
    kept = graph.maker("b")
    assert kept is not None
    assert attributes(kept) == attributes(onnx.parser.parse_node(f"b = {node}"))


def test_names_of_ours_that_are_taken() -> None:
    made = net(
        '(float[N,3,18,18] x) => (float[N,3,25,25] y) { t = Identity(x) y = Resize<mode="linear">(t, , by) }',
        {"by": np.array(SCALES["quotients"], np.float32)},
    )
    made.graph.node[0].output[0] = made.graph.node[1].input[0] = "onnxcam/y/0"
    assert graph_of(made).shape("y") == ("N", 3, 25, 25)


def test_weights_worked_out_in_the_graph_have_a_size() -> None:
    """Weight standardization (ResNetV2, NFNet): the mean of each filter taken off, its scale divided out."""
    made = net(
        """(float[N,3,8,8] x) => (float[N,K] y) {
  flat = Reshape(w, rows)
  out, m, v = BatchNormalization<training_mode=1,epsilon=0.000001>(flat, gain, zero, zero, gain)
  filters = Shape(w)
  standard = Reshape(out, filters)
  a = Conv<pads=[1,1,1,1]>(x, standard)
  b = Relu(a)
  y = Flatten(b)
}""",
        {"w": normal(200, 3, 3, 3), "rows": np.array([1, 200, -1]), "gain": np.ones(200, np.float32),
         "zero": np.zeros(200, np.float32)},
    )  # fmt: skip
    graph = graph_of(made)
    assert graph.shape("standard") == (200, 3, 3, 3)
    assert graph.shape("b") == ("N", 200, 8, 8)
    assert onnxcam.list_layers(made, score="y")[0].name == "b"


@pytest.mark.parametrize("node", [
    "MaxPool<kernel_shape=[2,2],strides=[2,2],ceil_mode=1>(x)",
    "MaxPool<kernel_shape=[70000000,2],pads=[69999999,0,69999999,1],ceil_mode=1>(x)",
    'ConvTranspose<strides=[2,70000000],output_padding=[1,1],auto_pad="SAME_UPPER">(x, t)',
    "Resize(x, , far)", "Resize(x, , unknown)",
])  # fmt: skip
def test_what_no_image_has_is_refused_and_not_asked(node: str) -> None:
    side = 2**31 if "strides=[2,2],ceil" in node else 30
    made = net(
        f"(float[N,3,{side},{side}] x) => (float[N,K] y) {{ a = {node} b = GlobalMaxPool(a) y = Flatten(b) }}",
        {
            "t": normal(3, 3, 2, 2),
            "far": np.array([1, 1, 1e8, 1], np.float32),
            "unknown": np.array([1, 1, np.nan, 1], "f4"),
        },
    )
    with pytest.raises(onnxcam.ModelError, match="larger than any image's"):
        graph_of(made).shape("a")


def test_two_sides_are_asked_about_one_by_one() -> None:
    """A window of 1500 x 1500 on 2000 x 2000 takes minutes to run; each side alone makes 501."""
    made = net(
        """(float[1,3,2000,2000] x) => (float[1,K] y) {
            a = MaxPool<kernel_shape=[1500,1500],ceil_mode=1>(x) b = GlobalMaxPool(a) y = Flatten(b) }"""
    )
    assert graph_of(made).shape("a") == (1, 3, 501, 501)
