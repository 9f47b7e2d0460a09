"""What stands between the gradient and a model's layers."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from onnxcam.vjp import STANDARD, RuleSet
from onnxcam.vjp.coverage import blocking_operators
from tests.nets import net


@pytest.fixture
def model() -> onnx.ModelProto:
    """Three layers in a row, a Relu between the first two and a Tanh between the last two."""
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17]>
        row (float[N, 3, 8, 8] image) => (float[N, 3] y) {
            first = Conv (image, w)  relu = Relu (first)
            second = Conv (relu, w)  tanh = Tanh (second)
            third = Conv (tanh, w)
            mean = GlobalAveragePool (third)  flat = Flatten (mean)  y = MatMul (flat, v)
        }"""
    )
    for name, shape in (("w", (3, 3, 1, 1)), ("v", (3, 3))):
        model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones(shape, np.float32), name))
    for node in model.graph.node:
        node.name = f"the {node.output[0]}"
    return model


def without(*op_types: str) -> RuleSet:
    return RuleSet("some", {key: rule for key, rule in STANDARD.rules.items() if key[1] not in op_types})


def blockers(model: onnx.ModelProto, rules: RuleSet) -> dict[str, str]:
    return {row.layer.name: row.blocker for row in blocking_operators(model, rules=rules).layers}


def test_operators_are_counted_between_image_and_score(model: onnx.ModelProto) -> None:
    found = {
        use.name: (use.opset, use.count, use.rule) for use in blocking_operators(model, rules=without("Relu")).operators
    }
    assert found == {
        "Conv": (17, 3, True), "Flatten": (17, 1, True), "GlobalAveragePool": (17, 1, True), "MatMul": (17, 1, True),
        "Relu": (17, 1, False), "Tanh": (17, 1, True),
    }  # fmt: skip


def test_nothing_blocks_a_plain_network(model: onnx.ModelProto) -> None:
    assert set(blockers(model, STANDARD).values()) == {""}


def test_layers_behind_a_blocker_are_free_and_those_before_it_name_it(model: onnx.ModelProto) -> None:
    found = blockers(model, without("Tanh"))
    assert {"first", "relu", "second", "tanh", "third"} >= set(found) >= {"first", "second", "third"}
    stopped = "Tanh (opset 17) at 'the tanh'"
    assert {name: found[name] for name in ("first", "second", "third")} == {
        "first": stopped, "second": stopped, "third": "",
    }  # fmt: skip


def test_the_blocker_nearest_to_the_score_is_named(model: onnx.ModelProto) -> None:
    found = blockers(model, without("Relu", "Tanh"))
    assert found["first"] == "Tanh (opset 17) at 'the tanh'"
    assert blockers(model, without("Relu"))["second"] == ""


def test_a_rule_that_turns_a_node_down_says_why() -> None:
    model = net(
        """(float[N, 3, 8, 8] image) => (float[N, 3, 2] y) {
            a = Conv (image, w)  p = ReduceMean <axes = [2], keepdims = 0> (a)
            y = Loop (n, , p) <body = b (int64 i, bool c, float[N, K, L] s) => (bool d, float[N, M, O] e) {
                d = Identity (c)  q = Mul (s, s)  e = Concat <axis = 2> (q, p) }>
        }""",
        {"w": np.ones((3, 3, 1, 1), np.float32), "n": np.array(2)},
    )
    model.graph.node[-1].name = "the loop"
    assert (
        blockers(model, STANDARD)["a"]
        == "Loop (opset 17) at 'the loop': its state 's' changes its shape from step to step"
    )


def test_the_layers_are_ranked_as_list_layers_ranks_them(model: onnx.ModelProto) -> None:
    from onnxcam.graph import list_layers

    assert [row.layer for row in blocking_operators(model).layers] == list_layers(model)


def test_another_score_has_another_way(model: onnx.ModelProto) -> None:
    assert "MatMul" not in {use.name for use in blocking_operators(model, "flat").operators}
