"""Products fused with an activation come apart, as ONNX Runtime computes them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import helper

import onnxcam
from onnxcam.graph import list_layers, load
from onnxcam.graph.read import read_graph, read_layers
from tests.nets import Array, net, normal, run

WEIGHTS: dict[str, Array] = {
    "k": normal(4, 3, 3, 3), "c": normal(4, seed=1), "w": normal(4, 5, seed=2), "b": normal(5, seed=3),
}  # fmt: skip
HEAD = "p = GlobalAveragePool(f) g = Flatten(p) y = Gemm(g, w, b)"
CONV = "f = com.microsoft.FusedConv<kernel_shape=[3,3], pads=[1,1,1,1]{0}>({1}) "
CASES = {  # what is fused, and what it comes apart into
    "Relu": (', activation="Relu"', "x, k, c", ["Conv", "Relu"]),
    "no bias": (', activation="Tanh"', "x, k", ["Conv", "Tanh"]),
    "Clip": (', activation="Clip", activation_params=[-0.5, 1.5]', "x, k, c", ["Conv", "Clip"]),
    "LeakyRelu": (', activation="LeakyRelu", activation_params=[0.3]', "x, k, c", ["Conv", "LeakyRelu"]),
    "HardSigmoid": (', activation="HardSigmoid", activation_params=[0.3, 0.4]', "x, k, c", ["Conv", "HardSigmoid"]),
    "a sum": ("", "x, k, c, z", ["Conv", "Add"]),
    "a sum and no bias": (', activation="Relu"', "x, k, , z", ["Conv", "Add", "Relu"]),
    "nothing": ("", "x, k, c", ["Conv"]),
}


def model(body: str) -> onnx.ModelProto:
    proto = net(f"(float[N,3,6,6] x) => (float[N,5] y) {{ z = Conv<pads=[1,1,1,1]>(x, k) {body} }}", WEIGHTS)
    proto.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    return proto


@pytest.mark.parametrize("case", CASES)
def test_a_fused_convolution_comes_apart(case: str) -> None:
    attributes, inputs, operators = CASES[case]
    given = model(CONV.format(attributes, inputs) + HEAD)
    graph = read_layers(load(given))
    assert [node.op_type for node in graph.nodes][1 : 1 + len(operators)] == operators
    assert graph.maker("f") is not None
    x = normal(2, 3, 6, 6, seed=4)
    np.testing.assert_allclose(run(graph.proto, {"x": x})["y"], run(given, {"x": x})["y"], rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("operator", "parameters"),
    [
        ("LeakyRelu", "activation_alpha=0.3"),
        ("Selu", "activation_alpha=1.2, activation_gamma=0.8"),
        ("Elu", "activation_alpha=0.4"),
        ("HardSigmoid", "activation_beta=0.1, activation_alpha=0.7"),
        ("Relu", "activation_beta=0.1"),
    ],
)
def test_a_fused_product_comes_apart(operator: str, parameters: str) -> None:
    given = model(
        "p = GlobalAveragePool(z) g = Flatten(p) "
        f'y = com.microsoft.FusedGemm<activation="{operator}", {parameters}, alpha=0.5>(g, w, b)'
    )
    graph = read_layers(load(given))
    assert [node.op_type for node in graph.nodes][-2:] == ["Gemm", operator]
    x = normal(2, 3, 6, 6, seed=4)
    np.testing.assert_allclose(run(graph.proto, {"x": x})["y"], run(given, {"x": x})["y"], rtol=1e-5, atol=1e-5)


def test_the_layer_is_behind_the_activation_and_the_file_runs_as_it_is() -> None:
    given = model(CONV.format(', activation="Relu"', "x, k, c, z") + HEAD)
    (taken,) = (layer for layer in list_layers(given) if layer.automatic)
    assert (taken.name, taken.op) == ("f", "Relu")
    explained = onnxcam.Explainer(given)(normal(1, 3, 6, 6), 2)
    assert explained.map.shape == (6, 6)


def test_a_gradient_of_the_whole_keeps_the_deployed_node() -> None:
    given = model(CONV.format(', activation="Relu"', "x, k, c") + HEAD)
    assert read_graph(load(given)).maker("f").op_type == "FusedConv"  # type: ignore[union-attr]


def test_a_skip_connection_inside_keeps_the_place() -> None:
    """What is convolved has none, as behind attention; what is added to it has."""
    given = net(
        f"""(float[N,3,6,6] x) => (float[N,5] y) {{ z = Conv<pads=[1,1,1,1]>(x, k) a = MatMul(z, mix)
        t = Transpose<perm=[0,1,3,2]>(a) m = MatMul(t, mix)
        f = com.microsoft.FusedConv<activation="Relu">(m, one, , z) {HEAD} }}""",
        {**WEIGHTS, "mix": normal(6, 6), "one": normal(4, 4, 1, 1)},
    )
    given.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    assert [layer.name for layer in list_layers(given) if layer.automatic] == ["f"]


@pytest.mark.parametrize("change", ["unknown", "deprecated", "two outputs", "no weight"])
def test_what_is_no_fused_product_stays(change: str) -> None:
    given = model(CONV.format(', activation="Relu"', "x, k, c") + HEAD)
    (node,) = (node for node in given.graph.node if node.op_type == "FusedConv")
    if change == "unknown":
        node.attribute[-1].s = b"Unheard"
    elif change == "deprecated":
        node.attribute[-1].s = b"Upsample"
    elif change == "two outputs":
        node.output.append("more")
    else:
        del node.input[1:]
    with pytest.raises(onnxcam.OnnxCamError):
        onnxcam.differentiate(given, of="y", wrt="x")
