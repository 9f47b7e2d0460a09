"""Lists of sizes as PyTorch's exporters write them."""

from __future__ import annotations

import numpy as np
import pytest

from onnxcam.graph import batches
from onnxcam.graph.expanding import sizes_of
from tests.graph.building import graph_of
from tests.nets import net

WEIGHTS = {
    "front": np.array([0]), "batch": np.array([0]), "channels": np.array([1]), "end": np.array([9]),
    "all": np.array([-1]), "kept": np.array([-1, -1]), "minus": np.array(-1), "three": np.array([3]),
    "row": np.ones((1, 1, 4), np.float32), "ones": np.array([1, 1, 1, 1]), "twos": np.array([2, 2, 2, 2]),
    "minuses": np.array([-1, -1, -1, -1]),
}  # fmt: skip
WHERE = """{to}_s = Shape({sizes}) {to}_1 = ConstantOfShape<value=int64[1]{{1}}>({to}_s) {to}_m = Mul({to}_1, minus)
    {to}_e = Equal({sizes}, {to}_m) {to} = Where({to}_e, {to}_1, {sizes}) """
LAYER = """a{i} = Shape(x{i}) n{i} = Slice(a{i}, batch, channels) c{i} = Slice(a{i}, channels, end)
    k{i} = Concat<axis=0>(n{i}, c{i}) l{i} = Reshape(k{i}, all) """
LAYER += WHERE.format(to="t{i}", sizes="l{i}").replace("{1}", "{{1}}")
LAYER += "m{i} = ReduceMean<axes=[2, 3]>(x{i}) f{i} = Expand(m{i}, t{i}) x{j} = Div(x{i}, f{i}) "


def test_a_free_batch_is_known_behind_many_layers_that_ask_for_sizes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Filter response normalization divides by what is expanded to the image's sizes: no batch is tried for them."""
    monkeypatch.setattr(batches, "of_batch", None)
    layers = "".join(LAYER.format(i=i, j=i + 1) for i in range(9))
    graph = graph_of(net(f"(float[N,3,8,8] x) => (float[N,3,8,8] y) {{ x0 = Neg(x) {layers} y = Neg(x9) }}", WEIGHTS))
    assert graph.shape("f8") == graph.shape("x9") == ("N", 3, 8, 8)


def test_a_size_that_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """A class token for every image: expand(batch, -1, -1)."""
    monkeypatch.setattr(batches, "of_batch", None)
    text = f"""(float[N,3,4] x) => (float[N,4,4] y) {{
        a = Shape(x) n = Slice(a, batch, channels) k = Concat<axis=0>(n, kept) {WHERE.format(to="t", sizes="k")}
        token = Expand(row, t) y = Concat<axis=1>(token, x) }}"""
    graph = graph_of(net(text, WEIGHTS))
    assert graph.shape("token") == ("N", 1, 4)
    assert graph.shape("y") == ("N", 4, 4)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("e = Equal(s, minuses) t = Where(e, ones, s)", "Shape"),
        ("e = Equal(minuses, s) t = Where(e, ones, s)", "Shape"),
        ("k = Concat<axis=0>(b, c) e = Equal(k, minuses) t = Where(e, ones, k)", "Concat"),
        ("d = Mul(b, three) k = Concat<axis=0>(d, c) e = Equal(k, minuses) t = Where(e, ones, k)", "Concat"),
        ("e = Equal(s, minuses) t = Where(e, twos, s)", None),  # 2 for a size that is -1
        ("e = Equal(s, twos) t = Where(e, ones, s)", None),
        ("k = Neg(s) e = Equal(k, minuses) t = Where(e, ones, s)", None),  # asks of other sizes
        ("k = Neg(s) e = Equal(k, minuses) t = Where(e, ones, k)", None),
        ("d = Sub(b, three) k = Concat<axis=0>(d, c) e = Equal(k, minuses) t = Where(e, ones, k)", None),  # 2 - 3
        ("d = Mul(b, all) k = Concat<axis=0>(d, c) e = Equal(k, minuses) t = Where(e, ones, k)", None),
        (
            "i = Cast<to=6>(b) d = Cast<to=7>(i) k = Concat<axis=0>(d, c) e = Equal(k, minuses) t = Where(e, ones, k)",
            "Concat",
        ),
        (
            "i = Cast<to=3>(b) d = Cast<to=7>(i) k = Concat<axis=0>(d, c) e = Equal(k, minuses) t = Where(e, ones, k)",
            None,
        ),
        ("k = Concat<axis=0>(fed, c) e = Equal(k, minuses) t = Where(e, ones, k)", None),
        ("e = Greater(s, minuses) t = Where(e, ones, s)", None),
        ("t = Reshape(s, all)", "Shape"),
        ("k = Concat<axis=0>(b, kept) t = Reshape(k, all)", "Concat"),
        ("t = Reshape(s, twos)", None),
        ("k = Neg(s) t = Reshape(k, all)", None),
        ("t = Identity(s)", None),
    ],
)
def test_what_is_read_as_sizes(text: str, expected: str | None) -> None:
    whole = f"""(float[N,3,H,8] x, int64[1] fed) => (int64[4] y) {{
        s = Shape(x) b = Slice(s, batch, channels) c = Slice(s, channels, end) {text} y = Neg(t) }}"""
    graph = graph_of(net(whole, WEIGHTS))
    node = graph.maker("t") or graph.nodes[0]
    found = sizes_of(node, graph.maker, graph.constant)
    assert (found and found.op_type) == expected


def test_sizes_that_are_broadcast_stay() -> None:
    """One size and four ones are four sizes."""
    text = """(float[5] x) => (float[A,B,C,D] y) {
        s = Shape(x) e = Equal(s, minuses) t = Where(e, ones, s) a = Expand(x, t) y = Neg(a) }"""
    assert graph_of(net(text, WEIGHTS)).shape("y") == (5, 5, 5, 5)
