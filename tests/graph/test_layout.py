"""What the axes mean, followed through the graph."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from onnxcam.graph.layout import layouts, spatial_sizes
from onnxcam.runtime import Layout
from tests.graph.building import channels_last, graph_of, vit
from tests.nets import net, normal


def found(body: str, size: str = "N,3,8,6", opset: int = 17, **weights: Any) -> dict[str, Layout]:
    """Layouts behind `c = Conv(x, w)`, [N, 5, 8, 6]."""
    text = f"(float[{size}] x) => (float[N,5] y) {{\n c = Conv<pads=[1,1,1,1]>(x, w)\n{body}\n}}"
    constants = {name: np.asarray(value) for name, value in weights.items()}
    return layouts(graph_of(net(text, {"w": normal(5, 3, 3, 3), **constants}, opset=opset)))


def test_convolutions_and_pools_step_over_the_image() -> None:
    known = found("a = Relu(c)\n p = MaxPool<kernel_shape=[2,2]>(a)\n y = GlobalAveragePool(p)")
    assert known == dict.fromkeys(["c", "a", "p"], Layout("NCHW"))


def test_elementwise_operators_keep_the_labels() -> None:
    known = found("b = Add(c, bias)\n d = Mul(two, b)\n y = Add(d, c)", bias=normal(5, 1, 1), two=np.float32(2))
    assert known == dict.fromkeys(["c", "b", "d", "y"], Layout("NCHW"))


@pytest.mark.parametrize(("perm", "axes"), [([0, 2, 3, 1], "NHWC"), ([2, 3, 0, 1], "HWNC"), ([0, 1, 3, 2], "NCWH")])
def test_transposes_permute_them(perm: list[int], axes: str) -> None:
    assert found(f"y = Transpose<perm={perm}>(c)")["y"] == Layout(axes)


def test_a_transpose_without_perm_turns_them_round() -> None:
    assert found("y = Transpose(c)")["y"] == Layout("WHCN")


def test_reshapes_join_and_part_the_grid() -> None:
    known = found(
        """ p = Reshape(c, joined)
 t = Transpose<perm=[0,2,1]>(p)
 m = MatMul(t, mixing)
 u = Transpose<perm=[0,2,1]>(m)
 y = Reshape(u, parted)""",
        joined=[0, 5, -1], parted=[0, 7, 8, 6], mixing=normal(5, 7),
    )  # fmt: skip
    assert known["p"] == Layout("NCP", (8, 6))
    assert known["t"] == known["m"] == Layout("NPC", (8, 6))
    assert known["y"] == Layout("NCHW")


@pytest.mark.parametrize("to", [[0, 5, 12, -1], [0, 6, 8, 5], [0, -1], [-1, 5, 48, 2]])
def test_other_reshapes_lose_them(to: list[int]) -> None:
    assert "y" not in found("y = Reshape(c, to)", to=to)


def test_flatten_is_a_reshape() -> None:
    assert "y" not in found("y = Flatten(c)")


def tokens(body: str, **weights: Any) -> dict[str, Layout]:
    """Layouts behind t, the patches [1, 48, 5] of an image."""
    text = f" p = Reshape(c, joined)\n t = Transpose<perm=[0,2,1]>(p)\n{body}"
    return found(text, size="1,3,8,6", joined=[0, 5, -1], **weights)


def test_tokens_before_and_behind_the_grid() -> None:
    known = tokens(
        """ one = Concat<axis=1>(extra, t)
 five = Concat<axis=1>(more, one)
 y = Concat<axis=1>(five, extra)""",
        extra=normal(1, 1, 5), more=normal(1, 4, 5),
    )  # fmt: skip
    assert [known[name].prefix for name in ("one", "five", "y")] == [1, 5, 5]
    assert known["y"] == Layout("NPC", (8, 6), 5)


def test_cutting_tokens_off() -> None:
    constants = {
        "zero": [0],
        "one": [1],
        "two": [2],
        "last": [9999],
        "axis": [1],
        "extra": normal(1, 2, 5),
        "few": [20],
        "five": [5],
    }
    known = tokens(
        """ j = Concat<axis=1>(extra, t)
 rest = Slice(j, two, last, axis)
 some = Slice(j, one, last, axis)
 half = Slice(j, zero, few, axis)
 later = Slice(j, five, last, axis)
 y = Slice(j, zero, two, axis)""",
        **constants,
    )
    assert known["rest"] == Layout("NPC", (8, 6))
    assert known["some"] == Layout("NPC", (8, 6), 1)
    assert known["half"] == Layout("NPC", (3, 6), 2, ((0.0, 3 / 8), (0.0, 1.0)))  # the first three rows of patches
    assert "later" not in known  # it begins within the grid
    assert "y" not in known


def test_picking_a_token_loses_the_grid() -> None:
    assert "y" not in tokens(" y = Gather<axis=1>(t, first)", first=0)


def test_mixing_tokens_is_not_mixing_channels() -> None:
    known = tokens(" s = Transpose<perm=[0,2,1]>(t)\n dots = MatMul(t, s)\n y = MatMul(dots, t)")
    assert known["dots"] == known["y"] == Layout("NPC", (8, 6))  # a row a query, which gathers from all
    mixed = tokens(" s = Transpose<perm=[0,2,1]>(t)\n y = MatMul(s, mixer)", mixer=normal(48, 48))
    assert "y" not in mixed


def test_joining_and_splitting_channels_keeps_the_grid() -> None:
    known = found("j = Concat<axis=1>(c, c)\n u, v = Split<axis=1>(j)\n y = Concat<axis=2>(u, v)")
    assert known["j"] == known["u"] == known["v"] == Layout("NCHW")
    assert "y" not in known


def test_axes_of_size_one_come_and_go() -> None:
    known = found("u = Unsqueeze(c, two)\n y = Squeeze(u, two)", two=[2])

    assert known["u"] == Layout("NC?HW")
    assert known["y"] == Layout("NCHW")


def test_an_operator_of_another_domain_is_not_taken_for_its_namesake() -> None:
    text = "(float[N,3,8,6] x) => (float[N,5,8,6] y) { c = Conv<pads=[1,1,1,1]>(x, w)\n t = Relu(c)\n y = Relu(t) }"
    graph = graph_of(net(text, {"w": normal(5, 3, 3, 3)}))
    _ = graph.types
    graph.nodes[1].CopyFrom(onnx.helper.make_node("Transpose", [], ["t"], domain="com.acme"))
    assert "t" not in layouts(graph)


@pytest.mark.parametrize(
    "inputs", ["float[1,1,16,16] mask, float[1,3,64,64] x", "float[1,3,64,64] x, float[1,1,16,16] mask"]
)
def test_layouts_are_of_the_image_whichever_input_stands_first(inputs: str) -> None:
    text = f"""({inputs}) => (float[1,5] y) {{ c = Conv<pads = [1, 1, 1, 1]>(x, w) m = Neg(mask)
        p = GlobalAveragePool(c) q = GlobalAveragePool(m) r = Mul(p, q) y = Flatten(r) }}"""
    known = layouts(graph_of(net(text, {"w": normal(5, 3, 3, 3)})))
    assert known["c"] == Layout("NCHW")
    assert "m" not in known


def test_whole_networks() -> None:
    known = layouts(graph_of(channels_last()))
    assert known["a0"] == Layout("NCHW")
    assert known["nhwc"] == known["last"] == Layout("NHWC")
    assert known["last"].channel == 3
    known = layouts(graph_of(vit("token")))
    assert known["conv"] == Layout("NCHW")
    assert known["tokens"] == Layout("NPC", (4, 4))
    assert known["between"] == known["normed"] == Layout("NPC", (4, 4), 1)
    assert "picked" not in known
    assert known["mixed1"] == Layout("NPC", (4, 4), 1)


def test_the_size_of_the_grid() -> None:
    assert spatial_sizes(Layout("NCHW"), ("N", 4, 7, 9)) == (7, 9)
    assert spatial_sizes(Layout("NHWC"), ("N", 7, 9, 4)) == (7, 9)
    assert spatial_sizes(Layout("NCHW"), ("N", 4, "h", 9)) is None
    assert spatial_sizes(Layout("NPC", (7, 9), 1), ("N", 64, 4)) == (7, 9)
