"""Sessions: what runs, what is refused, and in which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper

from onnxcam.errors import InputError, ModelError, ProviderError
from onnxcam.runtime import Session
from onnxcam.runtime.session import Port, reason, whole_steps
from tests.graph.building import nodes_model, residual
from tests.nets import net, normal

node = helper.make_node


def test_a_model_from_bytes_and_from_a_path(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    onnx.save(residual(), path)
    x = {"x": normal(2, 3, 8, 8)}
    opened = [Session(source) for source in (path, str(path), path.read_bytes())]
    first = opened[0].run(x)["y"]
    assert first.shape == (2, 5)
    np.testing.assert_allclose(first.sum(axis=1), 1, rtol=1e-6)
    for session in opened[1:]:
        np.testing.assert_array_equal(session.run(x)["y"], first)
        assert session.provider == "CPUExecutionProvider"


def test_ports() -> None:
    model = net("(float[N,4,M] x, int64[2] i) => (float[N,4,2] y) { y = Gather<axis=2>(x, i) }")
    session = Session(model.SerializeToString())
    assert session.inputs == [Port("x", "tensor(float)", ("N", 4, "M")), Port("i", "tensor(int64)", (2,))]
    assert session.outputs == [Port("y", "tensor(float)", ("N", 4, 2))]


def test_an_optional_input_is_listed_and_need_not_be_fed() -> None:
    model = nodes_model([node("Mul", ["x", "w"], ["y"])], {"w": np.full(4, 2, np.float32)})
    model.graph.input.append(helper.make_tensor_value_info("w", TensorProto.FLOAT, [4]))
    session = Session(model.SerializeToString())
    assert [port.name for port in session.inputs] == ["x", "w"]
    x = normal(1, 4)
    np.testing.assert_array_equal(session.run({"x": x})["y"], 2 * x)


def test_outputs_are_chosen_by_name_and_come_in_that_order() -> None:
    model = nodes_model([node("Neg", ["x"], ["a"]), node("Abs", ["x"], ["b"])], outputs=("a", "b"))
    session = Session(model.SerializeToString())
    assert list(session.run({"x": normal(1, 4)}, ["b"])) == ["b"]
    assert list(session.run({"x": normal(1, 4)})) == ["a", "b"]


def test_without_optimization_the_graph_runs_as_written() -> None:
    level = onnxruntime.GraphOptimizationLevel
    for optimize, expected in ((True, level.ORT_ENABLE_ALL), (False, level.ORT_DISABLE_ALL)):
        opened = Session(residual().SerializeToString(), optimize=optimize)._session
        assert opened.get_session_options().graph_optimization_level == expected


@pytest.mark.parametrize(
    ("source", "says"),
    [
        (b"garbage", "cannot load the model"),
        (b"", "cannot load the model"),
        (nodes_model([node("Mystery", ["x"], ["y"])]).SerializeToString(), "Mystery"),
        (nodes_model([node("MatMul", ["x", "w"], ["y"])], {"w": normal(7, 2)}).SerializeToString(), "[Ii]ncompatible"),
        ("gone.onnx", "exist"),
    ],
)
def test_models_that_onnxruntime_refuses(source: bytes | str, says: str) -> None:
    with pytest.raises(ModelError, match=says) as caught:
        Session(source)
    text = str(caught.value)
    assert text.startswith("ONNX Runtime cannot load the model: ")
    assert "\n" not in text
    assert "[ONNXRuntimeError]" not in text
    assert "/onnxruntime_src" not in text
    assert len(text) < 400


def test_the_model_is_called_by_its_name() -> None:
    with pytest.raises(ModelError, match=r"cannot load photo\.onnx: "):
        Session(b"garbage", name="photo.onnx")


@pytest.mark.parametrize(
    "feeds",
    [
        {"x": normal(2, 5)},
        {"x": normal(2, 4).astype(np.float64)},
        {"x": normal(4)},
        {},
        {"z": normal(2, 4)},
        {"x": [["a"]]},
    ],
)
def test_inputs_that_do_not_fit(feeds: dict[str, Any]) -> None:
    session = Session(nodes_model([node("MatMul", ["x", "w"], ["y"])], {"w": normal(4, 2)}).SerializeToString())
    with pytest.raises(ModelError, match="does not run on this input") as caught:
        session.run(feeds)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("shape", "fed", "advised"),
    [
        (("N", 3, "H", "W"), (1, 3, 64, 33), "such as 32 x 64"),
        (("N", "H", "W", 3), (1, 400, 500, 3), "such as 512 x 384"),
        (("N", 3, "H", "W"), (1, 3, 8, 64), "such as 64 x 32"),
        (("N", 3, "H", "W"), (1, 3, 64, 32), ""),
        (("N", 3, 48, "W"), (1, 3, 48, 33), ""),
        (("N", "T"), (1, 33), ""),
    ],
)
def test_sides_of_free_size_are_to_be_multiples(shape: tuple[Any, ...], fed: tuple[int, ...], advised: str) -> None:
    advice = whole_steps(Port("x", "tensor(float)", shape), np.zeros(fed))
    assert (advised in advice) if advised else advice == ""


def test_outputs_that_are_not_there() -> None:
    session = Session(nodes_model([node("Neg", ["x"], ["y"])]).SerializeToString())
    with pytest.raises(ModelError, match="ghost"):
        session.run({"x": normal(1, 4)}, ["ghost"])


def test_an_unknown_provider() -> None:
    with pytest.raises(ProviderError, match="'abacus'"):
        Session(residual().SerializeToString(), provider="abacus")


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("[ONNXRuntimeError] : 2 : INVALID_ARGUMENT : Got invalid dimensions for x", "Got invalid dimensions for x"),
        ("[ONNXRuntimeError] : 1 : FAIL : Load model from a : b failed:bad", "Load model from a : b failed:bad"),
        ("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for\n  Conv(22) node",
         "Could not find an implementation for Conv(22) node"),
        ("plain words", "plain words"),
        ("a\n\tb", "a b"),
        ("x" * 1000, "x" * 300),
        ("", "RuntimeError"),
    ],
)  # fmt: skip
def test_reasons_without_codes(message: str, expected: str) -> None:
    assert reason(RuntimeError(message)) == expected


def test_an_operator_that_is_not_known_is_named_however_much_its_node_reads() -> None:
    """As of TensorFlow's, which its exporter leaves in."""
    model = nodes_model([node("Neg", ["x"], ["n" * 400]), node("Erfc", ["n" * 400] * 3, ["y"])])
    with pytest.raises(
        ModelError, match=r"cannot load m.onnx: it has no operator Erfc \(opset \d+\): export the model"
    ):
        Session(model.SerializeToString(), name="m.onnx")


def test_reasons_without_source_files() -> None:
    text = (
        "[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Non-zero status code returned while running Reshape node. "
        "Name:'r' Status Message: /onnxruntime_src/core/providers/cpu/tensor/reshape_helper.h:47 "
        "onnxruntime::ReshapeHelper::ReshapeHelper(const TensorShape&) size was false. Cannot be reshaped"
    )
    assert "Cannot be reshaped" in reason(RuntimeError(text))
    text = (
        "[ONNXRuntimeError] : 1 : FAIL : /onnxruntime_src/core/graph/model_load_utils.h:46 "
        "void onnxruntime::ValidateOpsetForDomain(const std::map<std::string, int>&, int) Opset 99 is too new."
    )
    assert reason(RuntimeError(text)) == "Opset 99 is too new."


def test_the_advice_is_given_once() -> None:
    model = net("(float[N,3,H,W] x, float[N,3,H,W] z) => (float[A,B,C,D] y) { y = Add(x, z) }")
    with pytest.raises(InputError) as caught:
        Session(model.SerializeToString()).run({"x": normal(1, 3, 33, 40), "z": normal(1, 3, 34, 40)})
    assert str(caught.value).count("such as") == 1
