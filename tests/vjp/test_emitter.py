"""What the emitter writes for a call: nothing twice, chains of the same movement as one node."""

from __future__ import annotations

import onnx
import pytest

from onnxcam.graph import load, read_graph
from onnxcam.vjp.emitter import Emitter

MODEL = '<ir_version: 8, opset_import: ["" : 17]> g (float[2, 3, 4] x) => (float[2, 3, 4] y) { y = Relu(x) }'


@pytest.fixture
def g() -> Emitter:
    return Emitter(read_graph(load(onnx.parser.parse_model(MODEL))))


def made(g: Emitter, name: str) -> onnx.NodeProto:
    node = g.made(name)
    assert node is not None
    return node


def test_the_same_call_twice_is_one_node(g: Emitter) -> None:
    assert g.op("Exp", "x") == g.op("Exp", "x")
    assert g.op("Exp", "y") != g.op("Exp", "x")
    assert len(g.nodes) == 2


def test_a_transpose_of_a_transpose_is_one_of_what_the_first_reads(g: Emitter) -> None:
    twice = g.op("Transpose", g.op("Transpose", "x", perm=[1, 2, 0]), perm=[1, 0, 2])
    assert list(made(g, twice).input) == ["x"]
    assert list(made(g, twice).attribute[0].ints) == [2, 1, 0]


def test_a_transpose_back_is_the_value_itself(g: Emitter) -> None:
    assert g.op("Transpose", g.op("Transpose", "x", perm=[1, 2, 0]), perm=[2, 0, 1]) == "x"


def test_a_reshape_of_a_reshape_is_one(g: Emitter) -> None:
    twice = g.op("Reshape", g.op("Reshape", "x", g.ints(6, 4)), g.ints(-1, 8))
    assert list(made(g, twice).input) == ["x", g.ints(-1, 8)]


def test_a_size_that_the_first_reshape_makes_is_left_to_it(g: Emitter) -> None:
    first = g.op("Reshape", "x", g.ints(6, 4))
    assert list(made(g, g.op("Reshape", first, g.ints(0, 2, 2))).input) == [first, g.ints(0, 2, 2)]


def test_a_long_chain_of_tests_is_not_followed_to_its_end(g: Emitter) -> None:
    """As of a thousand rectifiers one behind the other: what is near is merged still."""
    tests = [g.op("Greater", f"r{i}", "x") for i in range(3000)]
    chain = tests[0]
    for test in tests[1:]:
        chain = g.op("And", chain, test)
    assert g.op("And", chain, tests[-1]) == chain
    assert g.op("And", chain, tests[0]) != chain
