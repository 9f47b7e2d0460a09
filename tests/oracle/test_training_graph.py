"""Gradients of whole heads against those that onnxruntime-training builds: an oracle that owes nothing to torch."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import training_oracle
from onnx import TensorProto, helper

import onnxcam
from tests.oracle.networks import NETS, torch, trained
from tests.oracle.test_methods_torch import exported

pytestmark = pytest.mark.oracle

SAMPLE = Path(__file__).parents[2] / "sample_models" / "squeezenet11.onnx"
CLOSE = 1e-5  # of the largest element


@pytest.fixture(scope="module")
def python() -> Path:
    found = training_oracle.interpreter()
    if found is None:
        pytest.skip(f"no environment with onnxruntime-training: {training_oracle.INTERPRETER} or .venv-training")
    return found


@pytest.mark.parametrize("layer", ["fire9/concat", "fire5/concat", "pool1"])
def test_layers_of_the_sample_classifier(layer: str, python: Path) -> None:
    found, off = training_oracle.compare(SAMPLE, layer, None, python)
    assert found == layer
    assert off < CLOSE


@pytest.mark.parametrize("exporter", ["torchscript", "dynamo"])
@pytest.mark.parametrize("name", NETS)
def test_the_first_and_last_layer_of_exported_networks(name: str, exporter: str, python: Path, tmp_path: Path) -> None:
    model = tmp_path / "net.onnx"
    model.write_bytes(exported(trained(name), torch.zeros(2, 3, 32, 32), exporter))
    layers = [layer.name for layer in onnxcam.list_layers(model)]
    assert len(layers) >= 3
    off = {layer: training_oracle.compare(model, layer, None, python)[1] for layer in (layers[0], layers[-1])}
    assert off == {layer: pytest.approx(0, abs=CLOSE) for layer in off}


def test_a_gradient_worked_out_by_hand(python: Path) -> None:
    """y = relu(2 a): the seed comes back doubled where a > 0."""
    body = helper.make_graph(
        [helper.make_node("Mul", ["a", "two"], ["b"]), helper.make_node("Relu", ["b"], ["y"])],
        "g",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor("two", TensorProto.FLOAT, [], [2.0])],
    )
    head = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)])
    feeds, seed = {"a": np.array([[1, -1, 2]], np.float32)}, np.array([[10, 20, 30]], np.float32)
    found = training_oracle.layer_gradient(head, feeds, layer="a", score="y", seed=seed, python=python)
    assert found.tolist() == [[20, 0, 60]]


def test_what_it_cannot_build_is_an_error(python: Path) -> None:
    body = helper.make_graph(
        [helper.make_node("HardSwish", ["a"], ["y"])],
        "g",
        [helper.make_tensor_value_info("a", TensorProto.FLOAT, [1, 3])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])],
    )
    head = helper.make_model(body, opset_imports=[helper.make_opsetid("", 17)])
    ones = np.ones((1, 3), np.float32)
    with pytest.raises(RuntimeError, match="HardSwish"):
        training_oracle.layer_gradient(head, {"a": ones}, layer="a", score="y", seed=ones, python=python)
    assert isinstance(head, onnx.ModelProto)
    assert len(head.graph.output) == 1  # what was given is left as it was
