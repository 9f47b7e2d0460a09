"""From chosen elements back to the head that made them."""

from __future__ import annotations

import numpy as np
import onnx
import pytest

from onnxcam.graph import indices_of, source_of
from tests.graph.building import graph_of
from tests.nets import net, normal

WEIGHTS = {
    "w": normal(6, 3, 1, 1),
    "v": normal(6, 3, 1, 1, seed=1),
    "to": np.array([0, 6, -1]),
    "box": np.array([4, 2]),
}


def detector(batch: str) -> str:
    """Two heads of 4 x 4 and 2 x 2 positions, each a box (4) beside the sigmoid of two classes: (20, 6)."""
    return f"""(float[{batch},3,4,4] x) => (float[{batch},20,6] y) {{
  fine = Conv(x, w)
  small = AveragePool<kernel_shape=[2,2],strides=[2,2]>(x)
  coarse = Conv(small, v)
  fine_box, fine_class = Split<axis=1>(fine, box)
  fine_p = Sigmoid(fine_class)
  fine_all = Concat<axis=1>(fine_box, fine_p)
  fine_rows = Reshape(fine_all, to)
  coarse_rows = Reshape(coarse, to)
  rows = Concat<axis=2>(fine_rows, coarse_rows)
  y = Transpose<perm=[0,2,1]>(rows)
}}"""


@pytest.mark.parametrize("batch", ["1", "N"])
@pytest.mark.parametrize(
    ("chosen", "source"),
    [
        ([(3, 4)], "fine_p"),  # a class of the fine head
        ([(3, 4), (7, 5)], "fine_p"),
        ([(3, 0)], "fine_box"),
        ([(3, 0), (3, 4)], "fine_rows"),  # a box and a class of it: the whole head
        ([(16, 4)], "coarse_rows"),
        ([(3, 4), (16, 4)], "y"),  # of both heads: nothing behind where they join
        ([], "y"),
    ],
)
def test_the_head_that_made_them(batch: str, chosen: list[tuple[int, int]], source: str) -> None:
    mask = np.zeros((1, 20, 6), bool)
    for at in chosen:
        mask[0][at] = True
    assert source_of(graph_of(net(detector(batch), WEIGHTS)), "y", mask) == source


def test_a_softmax_is_followed_along_its_axis() -> None:
    """Of a joined score one element depends on its whole row: not on a row of another head."""
    text = """(float[N,3,4,4] x) => (float[N,20,6] y) {
  fine = Conv(x, w)
  small = AveragePool<kernel_shape=[2,2],strides=[2,2]>(x)
  coarse = Conv(small, v)
  fine_rows = Reshape(fine, to)
  coarse_rows = Reshape(coarse, to)
  rows = Concat<axis=2>(fine_rows, coarse_rows)
  t = Transpose<perm=[0,2,1]>(rows)
  y = Softmax<axis=AXIS>(t)
}"""
    mask = np.zeros((1, 20, 6), bool)
    mask[0, 17, 2] = True
    for axis, source in ((-1, "coarse_rows"), (1, "y")):
        assert source_of(graph_of(net(text.replace("AXIS", str(axis)), WEIGHTS)), "y", mask) == source


def joined_first(batch: str) -> str:
    """The heads joined as they are, boxes and classes parted behind that, boxes times the strides of their heads."""
    return f"""(float[{batch},3,4,4] x) => (float[{batch},20,6] y) {{
  fine = Conv(x, w)
  small = AveragePool<kernel_shape=[2,2],strides=[2,2]>(x)
  coarse = Conv(small, v)
  fine_rows = Reshape(fine, to)
  coarse_rows = Reshape(coarse, to)
  all = Concat<axis=2>(fine_rows, coarse_rows)
  boxes, classes = Split<axis=1>(all, box)
  p = Sigmoid(classes)
  scaled = Mul(boxes, strides)
  front = Slice(scaled, zero, two, one)
  back = Slice(scaled, two, four, one)
  rows = Concat<axis=1>(front, back, p)
  y = Transpose<perm=[0,2,1]>(rows)
}}"""


@pytest.mark.parametrize("batch", ["1", "N"])
@pytest.mark.parametrize(
    ("chosen", "source"),
    [
        ([(3, 4)], "fine_rows"), ([(17, 5)], "coarse_rows"), ([(3, 4), (17, 5)], "p"), ([(17, 0)], "coarse_rows"),
        ([(3, 1), (3, 2)], "y"), ([(3, 2), (5, 3)], "fine_rows"),
    ],
)  # fmt: skip
def test_heads_that_are_joined_before_they_are_parted(batch: str, chosen: list[tuple[int, int]], source: str) -> None:
    strides = np.repeat([8, 16], [16, 4]).astype(np.float32)
    more = {
        "strides": strides,
        "zero": np.array([0]),
        "one": np.array([1]),
        "two": np.array([2]),
        "four": np.array([4]),
    }
    mask = np.zeros((1, 20, 6), bool)
    for at in chosen:
        mask[0][at] = True
    assert source_of(graph_of(net(joined_first(batch), {**WEIGHTS, **more})), "y", mask) == source


PICKED = """(float[N,3,4,4] x) => (float[N,5,6] kept, float[N,5] best, float[N,2,2,6] some) {
  HEADS
  highest = ReduceMax<axes=[2],keepdims=0>(y)
  best, order = TopK<axis=1>(highest, five)
  column = Unsqueeze(order, two)
  index = Expand(column, like)
  kept = GatherElements<axis=1>(y, index)
  some = Gather<axis=1>(y, places)
}"""
ORDER = np.array([[7, 17, 3, 19, 0]])
KNOWN = {"order": ORDER, "index": np.repeat(ORDER[..., None], 6, axis=2)}


@pytest.mark.parametrize(
    ("name", "chosen", "source"),
    [
        ("kept", [(0, 4)], "fine_p"),  # row 7
        ("kept", [(1, 5)], "coarse_rows"),  # row 17
        ("kept", [(0, 4), (1, 4)], "y"),  # of both heads
        ("some", [(0, 1, 5)], "coarse_rows"),  # row 18, by constant indices on two axes
        ("some", [(1, 0, 4)], "fine_p"),
        ("some", [(1, 1, 4)], "coarse_rows"),  # row -1
    ],
)
def test_rows_that_were_picked_are_followed_to_where_they_lay(
    name: str, chosen: list[tuple[int, ...]], source: str
) -> None:
    heads = detector("N").partition("{")[2].rstrip("}")
    more = {
        "five": np.array([5]), "two": np.array([2]), "like": np.array([1, 5, 6]), "places": np.array([[4, 18], [5, -1]])
    }  # fmt: skip
    graph = graph_of(net(PICKED.replace("HEADS", heads), {**WEIGHTS, **more}))
    mask = np.zeros({"kept": (1, 5, 6), "some": (1, 2, 2, 6)}[name], bool)
    for at in chosen:
        mask[0][at] = True
    assert source_of(graph, name, mask, KNOWN) == (source if source != "y" else name)
    assert indices_of(graph, name) == ({"index": True} if name == "kept" else {})
    if name == "kept":
        assert source_of(graph, name, mask) == name  # without the indices nobody can say which


def test_the_highest_scores_are_followed_too() -> None:
    text = """(float[N,3,4,4] x) => (float[N,3] y) {
  fine = Conv(x, one)
  coarse = AveragePool<kernel_shape=[2,2],strides=[2,2]>(fine)
  a = Flatten(fine)
  b = Flatten(coarse)
  all = Concat<axis=1>(a, b)
  y, order = TopK(all, three)
}"""
    graph = graph_of(net(text, {"one": normal(1, 3, 1, 1), "three": np.array([3])}))
    assert indices_of(graph, "y") == {"order": True}
    for row, source in enumerate(["a", "b", "a"]):
        assert source_of(graph, "y", np.arange(3)[None] == row, {"order": np.array([[3, 18, 0]])}) == source


def test_quantizers_are_followed_and_what_joins_integers() -> None:
    text = """(float[1,3,4,4] x) => (float[1,20,6] y) {
  fine = Conv(x, w)
  small = AveragePool<kernel_shape=[2,2],strides=[2,2]>(x)
  coarse = Conv(small, v)
  fine_rows = Reshape(fine, to)
  coarse_rows = Reshape(coarse, to)
  fq = QuantizeLinear(fine_rows, s, z)
  cq = QuantizeLinear(coarse_rows, s, z)
  rows = com.microsoft.QLinearConcat<axis=2>(s, z, fq, s, z, cq, s, z)
  d = DequantizeLinear(rows, s, z)
  t = Transpose<perm=[0,2,1]>(d)
  q = QuantizeLinear(t, s, z)
  y = DequantizeLinear(q, s, z)
}"""
    proto = net(text, {**WEIGHTS, "s": np.float32(0.1), "z": np.uint8(128)})
    proto.opset_import.append(onnx.helper.make_opsetid("com.microsoft", 1))
    for place, source in ((3, "fq"), (17, "cq")):
        mask = np.zeros((1, 20, 6), bool)
        mask[0, place, 2] = True
        assert source_of(graph_of(proto), "y", mask) == source


SUPPRESSED = """(float[1,3,4,4] x) => (float[1,9,6] out) {
  HEADS
  boxes = Slice(y, zero, four, two)
  classes = Slice(y, four, six, two)
  best = ReduceMax<axes=[2],keepdims=0>(classes)
  label = ArgMax<axis=2,keepdims=0>(classes)
  s = Gather(best, nought)
  b = Gather(boxes, nought)
  l = Gather(label, nought)
  over = Greater(s, low)
  found = NonZero(over)
  sure = Transpose(found)
  bs = GatherND(b, sure)
  ss = GatherND(s, sure)
  ls = GatherND(l, sure)
  bb = Unsqueeze(bs, zero)
  cc = Unsqueeze(ss, both)
  kept = NonMaxSuppression(bb, cc, most)
  last = Gather<axis=1>(kept, second)
  kb = Gather(bs, last)
  ks = Gather(ss, last)
  kl = Gather(ls, last)
  sc = Unsqueeze(ks, one)
  kf = Cast<to=1>(kl)
  lc = Unsqueeze(kf, one)
  table = Concat<axis=1>(kb, sc, lc)
  flat = Reshape(table, rest)
  n = Size(flat)
  less = Sub(all, n)
  behind = Unsqueeze(less, zero)
  pads = Concat<axis=0>(zero, behind)
  padded = Pad(flat, pads)
  full = Reshape(padded, whole)
  out = ScatterND(blank, first, full)
}"""


def test_what_a_suppression_of_boxes_keeps_is_followed_back() -> None:
    """As Ultralytics' export writes it, for one image: sure ones alone, then without overlaps, and filled up."""
    numbers = {"zero": [0], "one": [1], "two": [2], "four": [4], "six": [6], "both": [0, 1], "rest": [-1]}
    more = {name: np.array(values) for name, values in numbers.items()} | {
        "nought": np.array(0), "second": np.array(2), "most": np.array([9]), "all": np.array(54),
        "low": np.float32(0.2), "whole": np.array([1, 9, 6]), "first": np.array([[0]]),
        "blank": np.zeros((1, 9, 6), np.float32),
    }  # fmt: skip
    heads = detector("1").partition("{")[2].rstrip("}")
    graph = graph_of(net(SUPPRESSED.replace("HEADS", heads), {**WEIGHTS, **more}))
    assert indices_of(graph, "out") == {}
    assert indices_of(graph, "out", alone=True) == {"pads": False, "last": False, "sure": False}
    sure, last = np.array([[2], [3], [17], [19]]), np.array([3, 0])  # of those over the limit two are kept
    known = {"pads": np.array([0, 54 - 12]), "last": last, "sure": sure}
    for row, source in ((0, "coarse_rows"), (1, "fine_p"), (2, "out")):
        mask = np.zeros((1, 9, 6), bool)
        mask[0, row, 4] = True  # the score
        assert source_of(graph, "out", mask, known) == source
    assert source_of(graph, "out", mask[:, ::-1]) == "out"  # nobody knows what was kept


def test_a_length_that_is_not_known_is_not_made_up() -> None:
    """Of two heads of any length one above the other, which rows are whose hangs on that length."""
    text = """(float[16,4] x, bool[16] keep, int64[M] pick) => (float[M,4] y) {
        p = Neg(x) q = Abs(x) nz = NonZero(keep) f = Reshape(nz, rest)
        a0 = Gather(p, f) b0 = Gather(q, f) a = Unsqueeze(a0, zero) b = Unsqueeze(b0, zero)
        s = Concat<axis=0>(a, b) rows = Reshape(s, fours) y = Gather(rows, pick) }"""
    weights = {"rest": np.array([-1]), "zero": np.array([0]), "fours": np.array([-1, 4])}
    graph = graph_of(net(text, weights))
    for row in range(16):
        mask = np.array([[True, False, False, False]])
        assert source_of(graph, "y", mask, {"pick": np.array([row]), "f": np.arange(16)}) in ("y", "a")
