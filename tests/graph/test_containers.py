"""Sequences and optional values that only carry tensors."""

from __future__ import annotations

import numpy as np
import onnx
import onnx.parser
import pytest

from onnxcam.errors import UnsupportedOpError
from onnxcam.graph import Graph, load, read_graph
from onnxcam.vjp import differentiate
from tests.vjp.harness import declared, session

CONTAINERS = ("Sequence", "Optional", "ConcatFrom")
AT = "int64 zero = {0}, int64 one = {1}, int64 two = {2}, int64 last = {-1}, float k = {2}"


def model(body: str) -> onnx.ModelProto:
    text = f'<ir_version: 8, opset_import: ["" : 18]> g (float[5, 3] x, bool go) => (float[] y) <{AT}> {{ {body} }}'
    return declared(onnx.parser.parse_model(text))


def used(graph: Graph) -> list[str]:
    """Containers that the score still depends on."""
    nodes = [graph.nodes[i] for i in graph.ancestors(["y"])]
    return [node.op_type for node in nodes if node.op_type.startswith(CONTAINERS)]


KNOWN = {
    "SequenceAt": "a = Neg(x) b = Exp(x) s = SequenceConstruct(a, b) y = SequenceAt(s, last)",
    "SequenceInsert": """a = Neg(x) b = Exp(x) e = SequenceEmpty() s = SequenceInsert(e, a)
        t = SequenceInsert(s, b, zero) y = SequenceAt(t, one)""",
    "SequenceInsert from behind": """a = Neg(x) b = Exp(x) s = SequenceConstruct(a, b) t = SequenceInsert(s, x, last)
        y = SequenceAt(t, one)""",
    "SequenceErase": """a = Neg(x) b = Exp(x) s = SequenceConstruct(a, b, x) t = SequenceErase(s, one)
        u = SequenceErase(t) y = SequenceAt(u, zero)""",
    "SequenceLength": """a = Neg(x) s = SequenceConstruct(a, x) n = SequenceLength(s) f = Cast <to = 1> (n)
        i = Identity(s) p = SequenceAt(i, zero) y = Mul(p, f)""",
    "ConcatFromSequence": "a = Neg(x) s = SequenceConstruct(a, x, a) y = ConcatFromSequence <axis = 1> (s)",
    "ConcatFromSequence, new axis": """a = Neg(x) s = SequenceConstruct(a, x)
        y = ConcatFromSequence <axis = -1, new_axis = 1> (s)""",
    "SplitToSequence by sizes": """sizes = Constant <value = int64[2] {2, 3}> ()
        s = SplitToSequence <axis = 0> (x, sizes)
        y = SequenceAt(s, one)""",
    "SplitToSequence by a size": """s = SplitToSequence(x, two)
        y = SequenceAt(s, last)""",
    "SplitToSequence by ones": "s = SplitToSequence <axis = 1> (x) y = SequenceAt(s, last)",
    "SplitToSequence without their axis": "s = SplitToSequence <axis = -1, keepdims = 0> (x) y = SequenceAt(s, one)",
    "Optional, a tensor": "h = OptionalGetElement(x) y = Neg(h)",
    "Optional, a sequence": """a = Neg(x) s = SequenceConstruct(a) t = OptionalGetElement(s) h = OptionalHasElement(s)
        f = Cast <to = 1> (h) p = SequenceAt(t, zero) y = Mul(p, f)""",
    "Optional, a sequence of several": """a = Neg(x) s = SequenceConstruct(a, x) o = Optional(s)
        t = OptionalGetElement(o) p = SequenceAt(t, zero) y = Exp(p)""",
    "Optional, an empty sequence": """s = SequenceEmpty() h = OptionalHasElement(s) f = Cast <to = 1> (h)
        y = Mul(x, f)""",
    "Optional, nothing": """o = Optional <type = seq(float)> () i = Identity(o) h = OptionalHasElement(i)
        f = Cast <to = 1> (h) y = Sub(x, f)""",
    "Optional": """a = Neg(x) o = Optional(a) h = OptionalHasElement(o)
        y = If (h) <then_branch = t () => (p) { p = OptionalGetElement(o) },
                    else_branch = f () => (q) { q = Exp(x) }>""",
}  # fmt: skip


@pytest.mark.parametrize("body", KNOWN.values(), ids=KNOWN)
def test_what_is_taken_out_is_what_was_put_in(body: str) -> None:
    whole = model(body)
    graph = read_graph(load(whole))
    assert used(graph) == []
    x = np.arange(15, dtype=np.float32).reshape(5, 3) / 8 - 1
    feeds = {"x": x, "go": np.array(True)}
    before, after = (session(proto).run(["y"], feeds)[0] for proto in (whole, graph.proto))
    np.testing.assert_array_equal(after, before)
    both = differentiate(whole, of="y", wrt="x")
    assert list(both.gradients) == ["x"]


def test_the_gradient_passes() -> None:
    """y = x[1] - x[0] + 2 x[2] of rows taken apart and put together again."""
    body = """s = SplitToSequence <axis = 0> (x)
        a = SequenceAt(s, zero) b = SequenceAt(s, one) c = SequenceAt(s, two) d = Neg(a) e = Mul(c, k)
        t = SequenceConstruct(d, b, e) m = ConcatFromSequence <axis = 0> (t) y = ReduceSum <keepdims = 0> (m)"""
    both = differentiate(model(body), of="y", wrt="x")
    feeds = {"x": np.ones((5, 3), np.float32), "go": np.array(True), both.seed: np.array(1, np.float32)}
    (gradient,) = session(both.model).run([both.gradients["x"]], feeds)
    np.testing.assert_array_equal(gradient[:, 0], [-1, 1, 2, 0, 0])


@pytest.mark.parametrize(
    ("op", "body"),
    [
        ("SequenceAt", "i = Cast <to = 7> (go) s = SequenceConstruct(x, x) p = SequenceAt(s, i) y = Exp(p)"),
        ("ConcatFromSequence", """n = Cast <to = 7> (go) e = SequenceEmpty()
            s = Loop (n, go, e) <body = b (int64 i, bool c, seq(float) t) => (bool d, seq(float) u) {
                d = Identity(c) u = SequenceInsert(t, x) }>
            p = ConcatFromSequence <axis = 0> (s) y = Exp(p)"""),
    ],
)  # fmt: skip
def test_what_is_decided_at_run_time_is_refused(op: str, body: str) -> None:
    with pytest.raises(UnsupportedOpError, match=f"no gradient for {op}"):
        differentiate(model(body), of="y", wrt="x")


def test_a_container_of_too_many_tensors_is_left_alone() -> None:
    """5,000 slices of one element, and 5,000 tensors put in one by one."""
    split = "n = Constant <value_ints = [5000]> () e = Expand(k, n) s = SplitToSequence(e) y = SequenceAt(s, zero)"
    inserts = " ".join(f"s{i + 1} = SequenceInsert(s{i}, x)" for i in range(5000))
    for text in (split, f"s0 = SequenceEmpty() {inserts} y = SequenceAt(s5000, zero)"):
        assert used(read_graph(load(model(text))))[-1:] == ["SequenceAt"]


@pytest.mark.parametrize("at", [[], [0, 1]], ids=["none", "two"])
def test_a_position_is_one_number(at: list[int]) -> None:
    many = model("s = SequenceConstruct(x, x) y = SequenceAt(s, many)")
    many.graph.initializer.append(onnx.numpy_helper.from_array(np.array(at, np.int64), "many"))
    assert used(read_graph(load(many))) == ["SequenceAt", "SequenceConstruct"][::-1]


def test_of_a_split_what_is_read_alone_is_written() -> None:
    """Nine hundred slices, of which one is taken: its ends and its axis, not those of the others."""
    body = "n = Constant <value_ints = [900]> () e = Expand(k, n) s = SplitToSequence(e) y = SequenceAt(s, last)"
    graph = read_graph(load(model(body)))
    assert used(graph) == []
    assert len(graph.proto.graph.initializer) < 12
