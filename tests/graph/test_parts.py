"""The part of a graph whose sizes are not settled yet."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from onnxcam.graph import inference
from onnxcam.graph.parts import may_tell_sizes, open_nodes, part_of, wired
from onnxcam.graph.types import UNKNOWN, ValueType, declared
from tests.graph.building import graph_of
from tests.nets import net

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64
TYPES = {
    "a": ValueType(FLOAT, ("N", 3)), "b": ValueType(FLOAT, ("N", 3)), "s": ValueType(INT64, (2,)),
    "y": ValueType(FLOAT, ("unk__0", 3)),
}  # fmt: skip
MODEL = "(float[N,3] x) => (float[A,3] y) { a = Relu(x) b = Mul(a, w) s = Shape(a) y = Reshape(b, s) z = Neg(b) }"


def test_what_is_open_and_what_may_tell_it() -> None:
    """Of a Reshape the sizes, but not what it arranges; nothing of what is known, or does not lead there."""
    proto = net(MODEL, {"w": np.ones(3, np.float32)})
    known = TYPES | {"z": ValueType(FLOAT, ("N", 3))}
    assert open_nodes(wired(proto.graph.node), known, {}) == [2, 3]
    assert open_nodes(wired(proto.graph.node), known, {"s"}) == [3]
    assert open_nodes(wired(proto.graph.node), known | {"y": TYPES["a"]}, {}) == []
    assert open_nodes(wired(proto.graph.node), {}, {}) == [0, 1, 2, 3, 4]


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (UNKNOWN, True),
        (ValueType(FLOAT, None), True),
        (ValueType(FLOAT, ("N", None)), True),
        (ValueType(FLOAT, ("unk__3", 4)), True),
        (ValueType(FLOAT, (4,)), True),  # scales
        (ValueType(FLOAT, ()), True),
        (ValueType(FLOAT, (4097,)), False),
        (ValueType(FLOAT, ("N", 4)), False),
        (ValueType(INT64, ("N", 4)), True),
    ],
)
def test_what_may_tell_sizes(value: ValueType, expected: bool) -> None:
    assert may_tell_sizes(value) is expected


def test_a_part_has_the_inputs_and_weights_that_it_reads() -> None:
    proto = net(MODEL, {"w": np.ones(3, np.float32)})
    weights = {tensor.name: tensor for tensor in proto.graph.initializer}
    part = part_of(proto, wired([proto.graph.node[1], proto.graph.node[3]]), TYPES, weights.get)
    assert declared(part.graph.input) == {name: TYPES[name] for name in ("a", "s")}
    assert [tensor.name for tensor in part.graph.initializer] == ["w"]
    assert part.opset_import == proto.opset_import
    whole = part_of(proto, wired(proto.graph.node), {}, weights.get)
    assert list(whole.graph.input) == list(proto.graph.input)


def test_each_round_infers_what_is_open_yet(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each Mod takes a round, for its numbers are no sizes to onnx: four nodes less to infer."""
    sizes = list[int]()
    infer = inference.inferred_types

    def counted(proto: onnx.ModelProto) -> dict[str, ValueType]:
        sizes.append(len(proto.graph.node))
        return infer(proto)

    monkeypatch.setattr(inference, "inferred_types", counted)
    step = "s{i} = Shape(x{i}) m{i} = Mod(s{i}, many4) t{i} = Reshape(x{i}, m{i}) x{j} = Neg(t{i})"
    steps = " ".join(step.format(i=i, j=i + 1) for i in range(6))
    text = f"(float[1,3,64,64] x) => (float[1,12288] y) {{ x0 = Neg(x) {steps} y = Flatten(x6) }}"
    graph = graph_of(net(text, {"many4": np.full(4, 1000, np.int64)}))
    sizes.clear()
    assert graph.shape("x6") == (1, 3, 64, 64)
    assert sizes == [26, 23, 19, 15, 11, 7, 3]
