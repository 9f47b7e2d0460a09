"""If, Loop and Scan against float64 differences of the whole model."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto

from onnxcam.errors import UnsupportedOpError
from onnxcam.vjp import differentiate
from tests.vjp.cases.control import COUNT, FLOWS, TRUE, Flow
from tests.vjp.harness import Rewritten, check, session


@pytest.mark.parametrize("flow", FLOWS, ids=str)
def test_against_differences(flow: Flow) -> None:
    wrt = [name for name in ("x", "z", "w") if name in flow.shapes[0]]
    model = flow.model()
    rewritten, exact = Rewritten(model, "y", wrt), session(flow.model("double"))
    rng = np.random.default_rng(1)
    for shapes in flow.shapes:
        for fed in flow.feeds:
            feeds = {name: 0.2 + rng.uniform(size=shape) for name, shape in shapes.items()}
            feeds = {name: value.astype(np.float32).astype(np.float64) for name, value in feeds.items()} | fed
            check(rewritten.run(feeds), lambda at: np.asarray(exact.run(["y"], at)[0]), np.float32)


def refused(body: str, why: str, *, wrt: str = "x", weights: str = TRUE) -> UnsupportedOpError:
    with pytest.raises(UnsupportedOpError, match=why) as caught:
        differentiate(Flow("", body, COUNT, weights).model(), of="y", wrt=wrt)
    assert "\n" not in str(caught.value)
    return caught.value


def test_a_node_inside_is_named_as_the_model_names_it() -> None:
    body = """y = Loop (n, t, x) <body = b (int64 i, bool c, float[N, 3] s) => (bool d, float[N, 3] e) {
        d = Identity(c) u = Unique(s) f = ReduceSum(u) e = Add(s, f) }>"""
    error = refused(body, "no gradient for Unique")
    assert (error.op, error.node) == ("Unique", "u")


def test_a_state_that_grows_is_refused() -> None:
    body = """s = Loop (n, t, z) <body = b (int64 i, bool c, float[K] s) => (bool d, float[L] e) {
        d = Identity(c) q = Mul(s, s) e = Concat <axis = 0> (q, z) }> y = Exp(s)"""
    assert refused(body, "its state 's' changes its shape from step to step", wrt="z").op == "Loop"


@pytest.mark.parametrize(
    ("start", "made"), [("zero", "Add(r, x)"), ("x0", "Identity(x)")], ids=["a step reads it", "it is asked about"]
)
def test_a_placeholder_is_refused_where_what_it_starts_as_counts(start: str, made: str) -> None:
    body = f"""x0 = ReduceSum <keepdims = 0> (x) y = Loop (three, t, {start}) <
        body = b (int64 i, bool c, float r) => (bool d, float[N, 3] e) {{
        d = Identity(c) s = {made} e = Mul(s, s) }}>"""
    refused(body, "changes its shape from step to step", weights=f"{TRUE}, int64 three = {{3}}, float zero = {{0}}")


def test_random_numbers_inside_are_refused() -> None:
    """Run again, the loop would draw others."""
    body = """y = Loop (n, t, x) <body = b (int64 i, bool c, float[N, 3] s) => (bool d, float[N, 3] e) {
        d = Identity(c) r = RandomNormalLike(s) e = Mul(r, s) }>"""
    refused(body, "RandomNormalLike inside would draw other numbers")


def test_a_state_that_is_a_sequence_is_refused() -> None:
    body = """e = SequenceEmpty() q = Loop (n, t, e) <
        body = b (int64 i, bool c, seq(float) s) => (bool d, seq(float) r) {
        d = Identity(c) r = SequenceInsert(s, x) }> y = ConcatFromSequence <axis = 0> (q)"""
    refused(body, "no gradient for ConcatFromSequence")


def test_integers_alone_carry_no_gradient() -> None:
    """A loop over a counter is no path, and does not run backwards."""
    body = """k = Loop (n, t, one) <body = b (int64 i, bool c, int64 s) => (bool d, int64 e) {
        d = Identity(c) e = Add(s, s) }> f = Cast <to = 1> (k) y = Mul(x, f)"""
    model = Flow("", body, COUNT, f"{TRUE}, int64 one = {{1}}").model()
    both = differentiate(model, of="y", wrt="x").model
    assert [node.op_type for node in both.graph.node].count("Loop") == 1


def test_states_that_the_way_back_does_not_read_are_not_kept() -> None:
    """Adding needs no state: the loop is not run again for it, and its scanned output tells how many steps it made."""
    model = Flow(
        "",
        """s, y = Loop (n, t, x) <
        body = b (int64 i, bool c, float[N, 3] s) => (bool d, float[N, 3] e, float[N, 3] o) {
        d = Identity(c) e = Add(s, z) o = Mul(s, z) }>""",
        COUNT,
        TRUE,
    ).model()
    both = differentiate(model, of="y", wrt="x").model
    assert [node.op_type for node in both.graph.node].count("Loop") == 2


INTEGERS = [
    """q = QuantizeLinear(x, h, o)
    r = If (go) <then_branch = a () => (p) { p = Transpose(q) }, else_branch = b () => (v) { v = Transpose(q) }>
    y = DequantizeLinear(r, h, o)""",
    """q = QuantizeLinear(x, h, o) one = Constant <value = int64 {1}> ()
    r = Loop (one, , q) <body = b (int64 i, bool c, uint8[2, 2] s) => (bool d, uint8[2, 2] e) {
        d = Identity(c) e = Transpose(s) }>
    y = DequantizeLinear(r, h, o)""",
    """q = QuantizeLinear(x, h, o)
    r = Scan <num_scan_inputs = 1, scan_output_axes = [1],
              body = b (uint8[2] s) => (uint8[2] e) { e = Identity(s) }> (q)
    y = DequantizeLinear(r, h, o)""",
]


@pytest.mark.parametrize("body", INTEGERS, ids=["If", "Loop", "Scan"])
def test_integers_of_a_quantizer_are_passed(body: str) -> None:
    """x and its transpose, straight through; the last lies outside the quantizer's range."""
    weights = "float h = {0.5}, uint8 o = {10}"
    rewritten = Rewritten(Flow("", body, "bool go, float[2, 2] x", weights).model(), "y", ["x"])
    feeds = {"go": np.array(True), "x": np.array([[1, 2], [3, -99]], np.float32)}
    result = rewritten.run({name: feeds[name] for name in feeds}, np.array([[1, 2], [3, 4]]))
    np.testing.assert_array_equal(result.gradients["x"], [[1, 3], [2, 0]])


def test_a_number_of_steps_that_the_file_declares_is_not_believed() -> None:
    """ONNX Runtime believes it, where the Shape of that output is read."""
    model = Flow(
        "",
        """y, all = Loop (n, t, x) <
        body = b (int64 i, bool c, float[N, 3] s) => (bool d, float[N, 3] e, float[N, 3] o) {
        d = Identity(c) e = Mul(s, s) o = Identity(e) }>""",
        COUNT,
        TRUE,
    ).model()
    model.graph.output.append(onnx.helper.make_tensor_value_info("all", TensorProto.FLOAT, [5, 2, 3]))
    x = np.full((2, 3), 1.1)
    found = Rewritten(model, "y", ["x"]).run({"x": x, "n": np.array(2), "z": np.ones(3)}, np.ones((2, 3)))
    np.testing.assert_allclose(found.gradients["x"], 4 * x**3, rtol=1e-5)
