"""`differentiate` as its users meet it: names, interface, chosen values, errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import onnx.parser
import onnxruntime
import pytest
from onnx import TensorProto
from onnxruntime.capi.onnxruntime_pybind11_state import Fail

from onnxcam.errors import LayerError, OutputError
from onnxcam.vjp import Differentiated, differentiate
from tests.nets import net, normal, run

TEXT = """<ir_version: 8, opset_import: ["" : 17]>
g (float[N, 3] x, float[N, 3] z, int64[2] i) => (float[N, 2] y, int64[N] best, float[N, 3] h)
<float[3, 2] w = {1, 2, 3, 4, 5, 6}, float[2] b = {0.5, -0.5}> {
    h = Mul (x, x)
    s = Gemm (h, w, b)
    y = Gather <axis = 1> (s, i)
    best = ArgMax <axis = 1, keepdims = 0> (y)
}"""
X = np.array([[1, 2, 3], [-1, 0, 2]], np.float32)
FEEDS = {"x": X, "z": np.zeros_like(X), "i": np.array([1, 0])}
SEED = np.array([[1, 0], [0, 10]], np.float32)  # s[0, 1] and 10 s[1, 0]


@pytest.fixture
def model() -> onnx.ModelProto:
    return onnx.parser.parse_model(TEXT)


def gradients(result: Differentiated, seed: np.ndarray, model: onnx.ModelProto | None = None) -> dict[str, np.ndarray]:
    session = onnxruntime.InferenceSession((model or result.model).SerializeToString())
    found = session.run(list(result.gradients.values()), {**FEEDS, result.seed: seed})
    return dict(zip(result.gradients, found, strict=True))


def test_inputs_weights_and_computed_values(model: onnx.ModelProto) -> None:
    found = gradients(differentiate(model, of="y", wrt=["x", "h", "w", "b", "s"]), SEED)
    np.testing.assert_array_equal(found["s"], [[0, 1], [10, 0]])
    np.testing.assert_array_equal(found["h"], [[2, 4, 6], [10, 30, 50]])
    np.testing.assert_array_equal(found["x"], [[4, 16, 36], [-20, 0, 200]])
    np.testing.assert_array_equal(found["w"], [[10, 1], [0, 4], [40, 9]])
    np.testing.assert_array_equal(found["b"], [10, 1])


def test_one_name(model: onnx.ModelProto) -> None:
    result = differentiate(model, of="y", wrt="x")
    assert list(result.gradients) == ["x"]


def test_a_name_given_twice_is_answered_once(model: onnx.ModelProto) -> None:
    assert list(differentiate(model, of="y", wrt=["x", "h", "x"]).gradients) == ["x", "h"]


def test_the_value_itself_gets_the_seed(model: onnx.ModelProto) -> None:
    found = gradients(differentiate(model, of="y", wrt=["y", "x"]), SEED)
    np.testing.assert_array_equal(found["y"], SEED)
    np.testing.assert_array_equal(found["x"], [[4, 16, 36], [-20, 0, 200]])


def test_what_it_does_not_depend_on_gets_zeros(model: onnx.ModelProto) -> None:
    found = gradients(differentiate(model, of="h", wrt=["z", "y", "w"]), np.ones_like(X))
    assert {name: (value.shape, bool(value.any())) for name, value in found.items()} == {
        "z": ((2, 3), False), "y": ((2, 2), False), "w": ((3, 2), False),
    }  # fmt: skip


def test_the_interface_only_grows(model: onnx.ModelProto) -> None:
    result = differentiate(model, of="y", wrt=["x", "h"])
    graph = result.model.graph
    assert list(graph.input)[:3] == list(model.graph.input)
    assert [value.name for value in graph.input][3:] == [result.seed]
    assert list(graph.output)[:3] == list(model.graph.output)
    assert [value.name for value in graph.output][3:] == [result.gradients["x"], result.gradients["h"]]
    shapes = [
        [dim.dim_param or dim.dim_value for dim in value.type.tensor_type.shape.dim]
        for value in (graph.input[3], *graph.output)
    ]
    assert shapes == [["N", 2], ["N", 2], ["N"], ["N", 3], ["N", 3], ["N", 3]]
    onnx.checker.check_model(result.model, full_check=True)


def test_the_model_is_not_changed(model: onnx.ModelProto) -> None:
    before = model.SerializeToString(deterministic=True)
    differentiate(model, of="y", wrt="x")
    assert model.SerializeToString(deterministic=True) == before


def test_path_bytes_and_proto_are_one(model: onnx.ModelProto, tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    first, second, third = (
        differentiate(source, of="y", wrt="x") for source in (model, model.SerializeToString(), path)
    )  # fmt: skip
    expected = gradients(first, SEED)["x"]
    np.testing.assert_array_equal(gradients(second, SEED)["x"], expected)
    np.testing.assert_array_equal(gradients(third, SEED)["x"], expected)


def test_save(model: onnx.ModelProto, tmp_path: Path) -> None:
    result = differentiate(model, of="y", wrt="x")
    result.save(tmp_path / "gradient.onnx")
    saved = onnx.load(tmp_path / "gradient.onnx")
    np.testing.assert_array_equal(gradients(result, SEED, saved)["x"], gradients(result, SEED)["x"])
    with pytest.raises(OutputError, match="cannot be written: it is a folder"):
        result.save(tmp_path)


@pytest.mark.parametrize(("kind", "gradient"), [("float16", "FLOAT"), ("float", "FLOAT"), ("double", "DOUBLE")])
def test_types(kind: str, gradient: str) -> None:
    text = f'<ir_version: 8, opset_import: ["" : 17]> g ({kind}[2] x) => ({kind}[2] y) {{ h = Exp(x) y = Mul(h, x) }}'
    result = differentiate(onnx.parser.parse_model(text), of="y", wrt=["x", "h"])
    graph = result.model.graph
    name = kind.upper()
    assert [value.type.tensor_type.elem_type for value in graph.input] == [TensorProto.DataType.Value(name)] * 2
    assert [value.type.tensor_type.elem_type for value in graph.output] == [
        TensorProto.DataType.Value(name), *[TensorProto.DataType.Value(gradient)] * 2,
    ]  # fmt: skip


def test_new_names_collide_with_nothing() -> None:
    plain = onnx.parser.parse_model(TEXT)
    taken = [name for name in names(differentiate(plain, of="y", wrt="x").model) if name.startswith("onnxcam/")]
    for old, new in zip(["h", "s", "w", "b"], taken, strict=False):  # a model that has been here before
        for node in plain.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]
        for value in (*plain.graph.initializer, *plain.graph.output):
            value.name = new if value.name == old else value.name
    result = differentiate(plain, of="y", wrt="x")
    np.testing.assert_array_equal(gradients(result, SEED)["x"], [[4, 16, 36], [-20, 0, 200]])


def names(model: onnx.ModelProto) -> list[str]:
    graph = model.graph
    return [*(t.name for t in graph.initializer), *(name for node in graph.node for name in node.output)]


@pytest.mark.parametrize(
    ("of", "wrt", "message"),
    [
        ("logits", "x", "the model has no value 'logits'"),
        ("y", "X", "the model has no value 'X'"),
        ("y", ["x", "besst"], "the model has no value 'besst'; did you mean best?"),
        ("best", "x", "the value 'best' is not floating point: it has no gradient"),
        ("y", "i", "the value 'i' is not floating point: it has no gradient"),
    ],
)
def test_errors(model: onnx.ModelProto, of: str, wrt: str | list[str], message: str) -> None:
    with pytest.raises(LayerError) as caught:
        differentiate(model, of=of, wrt=wrt)
    assert str(caught.value).startswith(message)
    assert "\n" not in str(caught.value)


TWO = """<ir_version: 8, opset_import: ["" : 17]> g (float[N, 3] x, float[N, 3] z) => (float[N, 3] y) {
    h = Neg(z) y = Add(x, h) }"""


@pytest.mark.parametrize("wrt", ["z", "h"])
def test_sizes_declared_equal_that_are_not_fail(wrt: str) -> None:
    """Of a batch of 3 and one of 1 the forward pass broadcasts: the cotangent of the one would be three."""
    result = differentiate(onnx.parser.parse_model(TWO), of="y", wrt=wrt)
    session = onnxruntime.InferenceSession(result.model.SerializeToString())
    output, three, one = [result.gradients[wrt]], np.ones((3, 3), np.float32), np.ones((1, 3), np.float32)
    (found,) = session.run(output, {"x": three, "z": three, result.seed: three})
    np.testing.assert_array_equal(found, three if wrt == "h" else -three)
    with pytest.raises(Fail, match="cannot be reshaped"):
        session.run(output, {"x": three, "z": one, result.seed: three})


EMPTY = [
    "a = Conv<kernel_shape = [3, 3]>(x, w) b = Relu(a) c = MaxPool<kernel_shape = [2, 2]>(b) y = GlobalAveragePool(c)",
    "a = Reshape(x, to) b = Softmax(a) c = Gather<axis = 1>(b, grid) y = ReduceMax<axes = [1]>(c)",
    "a = AveragePool<kernel_shape = [2, 2], strides = [2, 2]>(x) y = Mul(a, a)",
    "a = Pad<mode = \"reflect\">(x, p) y = Mul(a, a)",
    "a = Slice(x, p1, p4, p2, p2) y = Mul(a, a)",
    "a = Gather<axis = 2>(x, grid) y = Mul(a, a)",
    "a = Gather<axis = 2>(x, pair) y = Mul(a, a)",
    "a = Flatten(x) y = MatMul(a, m)",
]  # fmt: skip


@pytest.mark.parametrize("body", EMPTY)
def test_no_rows_have_no_gradients(body: str) -> None:
    held = """int64[3] to = {0, 4, 4}, int64[1, 2] grid = {1, 3}, int64[2, 2] pair = {1, 1, 0, 1},
        int64[8] p = {0, 0, 1, 1, 0, 0, 1, 1}, int64[1] p1 = {1}, int64[1] p2 = {2}, int64[1] p4 = {4}"""
    text = f"""<ir_version: 8, opset_import: ["" : 17]> g (float[N, 1, 4, 4] x) => (float[] y) <{held}> {{ {body} }}"""
    model = onnx.parser.parse_model(text)
    weights = {"w": np.ones((2, 1, 3, 3), np.float32), "m": np.ones((16, 2), np.float32)}
    model.graph.initializer.extend(onnx.numpy_helper.from_array(array, name) for name, array in weights.items())
    x = np.zeros((0, 1, 4, 4), np.float32)
    (y,) = onnxruntime.InferenceSession(model.SerializeToString()).run(["y"], {"x": x})
    result = differentiate(model, of="y", wrt="x")
    session = onnxruntime.InferenceSession(result.model.SerializeToString())
    (found,) = session.run([result.gradients["x"]], {"x": x, result.seed: y})
    assert found.shape == x.shape


def test_rows_that_only_batches_of_some_sizes_have_count() -> None:
    """Of one row, and of very many, nothing is left; of three something is."""
    weights = {"one": np.array([1]), "far": np.array([2**63 - 1]), "end": np.array([-1]), "three": np.array([3])}
    model = net(
        "(float[N,2] x) => (float[M,2] y) { a = Slice(x, one, far) b = Slice(a, end, three) y = Mul(b, b) }", weights
    )
    result = differentiate(model, of="y", wrt="x")
    x, ct = normal(3, 2), np.ones((1, 2), np.float32)
    found = run(result.model, {"x": x, result.seed: ct})[result.gradients["x"]]
    np.testing.assert_allclose(found, 2 * x * [[0], [0], [1]])


def test_nothing_picked_is_no_product_over_nothing() -> None:
    model = net(
        "(float[2,3,4] x) => (float[2,3,0] y) { y = Gather<axis = 2>(x, none) }", {"none": np.zeros(0, np.int64)}
    )
    result = differentiate(model, of="y", wrt="x")
    found = run(result.model, {"x": normal(2, 3, 4), result.seed: np.zeros((2, 3, 0), np.float32)})
    assert not found[result.gradients["x"]].any()
    assert "MatMul" not in {node.op_type for node in result.model.graph.node}


def test_a_value_without_elements_has_no_gradient() -> None:
    """The adjoint's product over no rows would be whatever lies in memory."""
    scales = np.array([1, 1, 0.6, 2], np.float32)
    model = net('(float[1,3,1,5] x) => (float[1,3,0,10] y) { y = Resize<mode = "linear">(x, , s) }', {"s": scales})
    result = differentiate(model, of="y", wrt="x")
    found = run(result.model, {"x": normal(1, 3, 1, 5), result.seed: np.zeros((1, 3, 0, 10), np.float32)})
    assert not found[result.gradients["x"]].any()
    assert "MatMul" not in {node.op_type for node in result.model.graph.node}


def test_a_model_that_was_differentiated_may_be_again(tmp_path: Path) -> None:
    """Names of the first time are in the way of none of the second; and a gradient has a gradient."""
    once = differentiate(net("(float[N,3] x) => (float[N,3] y) { y = Mul(x, x) }"), of="y", wrt="x")
    once.save(tmp_path / "once.onnx")
    twice = differentiate(tmp_path / "once.onnx", of="y", wrt="x")
    second = differentiate(tmp_path / "once.onnx", of=once.gradients["x"], wrt="x")
    x, ct = normal(2, 3), normal(2, 3, seed=1)
    found = run(twice.model, {"x": x, once.seed: ct, twice.seed: 2 * ct})
    np.testing.assert_allclose(found[once.gradients["x"]], 2 * x * ct, rtol=1e-6)
    np.testing.assert_allclose(found[twice.gradients["x"]], 4 * x * ct, rtol=1e-6)
    found = run(second.model, {"x": x, once.seed: ct, second.seed: np.ones_like(x)})
    np.testing.assert_allclose(found[second.gradients["x"]], 2 * ct, rtol=1e-6)


def test_a_mean_over_more_positions_than_an_integer_counts() -> None:
    """Nobody feeds 2^80 pixels, but a file may say that it takes them: the count does not wrap around."""
    side = 2**40
    found = differentiate(
        net(f"(float[1,1,{side},{side}] x) => (float[1,1,1,1] y) {{ y = GlobalAveragePool(x) }}"), of="y", wrt="x"
    )
    assert sum(tensor.ByteSize() for tensor in found.model.graph.initializer) < 1000


def test_bfloat16_of_a_free_size() -> None:
    """Its sizes are read as they are: ONNX Runtime has no Neg for it, by which float16 is left alone."""
    body = "h = Cast<to = 16>(x) v = Slice(h, one, three) y = Cast<to = 1>(v)"
    model = net(f"(float[N,2] x) => (float[M,2] y) {{ {body} }}", {"one": np.array([1]), "three": np.array([3])})
    result = differentiate(model, of="y", wrt="x")
    feeds = {"x": normal(4, 2), result.seed: np.ones((2, 2), np.float32)}
    np.testing.assert_array_equal(run(result.model, feeds)[result.gradients["x"]][:, 0], [0, 1, 1, 0])
