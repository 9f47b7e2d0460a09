"""Where elements lie on the image, and the layers that follow from it, worked out by hand for small graphs."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import pytest
from onnx import TensorProto, helper

from onnxcam.errors import LayerError
from onnxcam.graph import list_layers, named_layer
from onnxcam.graph.layout import Layouts, layouts
from onnxcam.runtime import Layout
from tests.graph.building import graph_of
from tests.nets import net, normal


def found(body: str, size: str = "1,3,8,8", opset: int = 17, **weights: Any) -> Layouts:
    """Layouts behind an image of `size`; what `body` names k is a 1 x 1 convolution's weight."""
    constants = {name: np.asarray(value) for name, value in weights.items()}
    text = f"(float[{size}] x) => (float[A] out) {{\n{body}\n out = Identity(y)\n}}"
    return layouts(graph_of(net(text, {"k": normal(4, 3, 1, 1), **constants}, opset=opset)))


def line(known: Layouts, name: str, label: str) -> npt.NDArray[np.float32]:
    """A coordinate that changes along one axis."""
    return known.positions[name][label].at.ravel()


# -- what moves ---------------------------------------------------------------------------------------


def test_pixels_have_their_centres() -> None:
    known = found("y = Relu(x)", "1,3,2,4")
    assert line(known, "y", "H").tolist() == [0.5, 1.5]
    assert line(known, "y", "W").tolist() == [0.5, 1.5, 2.5, 3.5]
    assert known.positions["y"]["H"].at.shape == (1, 1, 2, 1)


def test_slices_take_and_turn() -> None:
    known = found("a = Slice(x, one, far, axis)\n y = Slice(x, last, low, axis, back)",
                  one=[1], far=[99], axis=[3], last=[-1], low=[-99], back=[-1])  # fmt: skip
    assert line(known, "a", "W").tolist() == [1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5]
    assert line(known, "y", "W").tolist() == [7.5, 6.5, 5.5, 4.5, 3.5, 2.5, 1.5, 0.5]
    assert (known.positions["a"]["W"].start, known.positions["a"]["W"].end) == (1, 8)
    assert (known.positions["y"]["W"].start, known.positions["y"]["W"].end) == (8, 0)
    assert known["a"] == Layout("NCHW", None, 0, ((0.0, 1.0), (1 / 8, 1.0)))
    assert known["y"] == Layout("NCHW", None, 0, ((0.0, 1.0), (1.0, 0.0)))


def test_every_second_cell_of_the_last_half() -> None:
    known = found("y = Slice(x, start, far, axis, two)", start=[-4], far=[99], axis=[3], two=[2])
    assert line(known, "y", "W").tolist() == [4.5, 6.5]


@pytest.mark.parametrize(
    "pick", ["y = Gather<axis=2>(x, two)", "y = Gather<axis=2>(x, row)", "y = Slice(x, row, next, axis)"]
)
def test_a_row_that_is_picked_shows_its_own_stretch(pick: str) -> None:
    known = found(pick, two=2, row=[2], next=[3], axis=[2])
    assert known["y"].window == ((2 / 8, 3 / 8), (0.0, 1.0))


MERGED = {
    "mean": "y = ReduceMean<axes = [2], keepdims = 1>(x)",
    "slices": "a = Slice(x, zero, far, two, two) b = Slice(x, one, far, two, two) y = Add(a, b)",  # every second row
}


@pytest.mark.parametrize("way", MERGED)
def test_a_row_that_all_were_merged_into_shows_the_whole(way: str) -> None:
    known = found(MERGED[way], "1,3,2,8", zero=[0], one=[1], two=[2], far=[99])
    assert known["y"] == Layout("NCHW")


def test_a_row_beside_the_image_is_none() -> None:
    known = found("p = Pad(x, around, nought) y = Slice(p, zero, one, axis)", around=[0, 0, 2, 0, 0, 0, 0, 0],
                  nought=np.float32(0), zero=[0], one=[1], axis=[2])  # fmt: skip
    assert "p" in known
    assert "y" not in known


def test_where_a_row_lies_hangs_on_its_own_side_alone() -> None:
    text = "(float[1,3,8,W] x) => (float[A] y) { y = Gather<axis=2>(x, two) }"
    known = layouts(graph_of(net(text, {"two": np.array([2])})))
    assert known["y"].window == ((2 / 8, 3 / 8), (0.0, 1.0))
    assert layouts(graph_of(net(text.replace("8,W", "H,8"), {"two": np.array([2])}))).get("y") is None


def test_gathers_and_splits() -> None:
    known = found("g = Gather<axis=2>(x, some)\n y, z = Split<axis=3>(x)", some=[0, 1, 2, 3])
    assert line(known, "g", "H").tolist() == [0.5, 1.5, 2.5, 3.5]
    assert line(known, "z", "W").tolist() == [4.5, 5.5, 6.5, 7.5]


def test_pads_go_on_and_cut() -> None:
    known = found(
        "a = Pad(x, around)\n y = Pad(x, off)", around=[0, 0, 2, 0, 0, 0, 1, 0], off=[0, 0, -2, 0, 0, 0, 0, 0]
    )
    assert line(known, "a", "H").tolist() == [-1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5]
    assert line(known, "y", "H").tolist() == [2.5, 3.5, 4.5, 5.5, 6.5, 7.5]


def test_cells_behind_padding_lie_beyond_the_image() -> None:
    known = found(
        "p = Pad(x, around)\n c = Conv<pads=[1,1,1,1]>(p, w)\n y = Relu(c)",
        around=[0, 0, 1, 0, 0, 0, 2, 0], w=normal(4, 3, 3, 3),
    )  # fmt: skip
    assert known["y"] == Layout("NCHW", None, 0, ((-1 / 8, 10 / 8), (0.0, 1.0)))


def test_padding_makes_up_for_a_margin_that_windows_left_out() -> None:
    """The first of 6 cells has its centre at 1.5 and is shown at 0.67; the one that padding adds lies at 0.5."""
    known = found(
        "a = Conv(x, w)\n p = Pad(a, around)\n y = Conv<pads=[1,1,1,1]>(p, v)",
        around=[0, 0, 1, 1, 0, 0, 1, 1], w=normal(4, 3, 3, 3), v=normal(4, 4, 3, 3),
    )  # fmt: skip
    assert known["y"] == Layout("NCHW")


@pytest.mark.parametrize(
    "sides", ["p = Concat<axis=2>(two, x, one)", "q = Concat<axis=2>(x, one)\n p = Concat<axis=-2>(two, q)"]
)
def test_bars_beside_the_image_are_padding(sides: str) -> None:
    bars = {"two": np.zeros((1, 3, 2, 8), np.float32), "one": np.ones((1, 3, 1, 8), np.float32)}
    convolved = "\n y = Conv<pads=[1,1,1,1],strides=[2,2]>(p, w)"
    barred = found(sides + convolved, w=normal(4, 3, 3, 3), **bars)
    padded = found("p = Pad(x, around)" + convolved, around=[0, 0, 2, 0, 0, 0, 1, 0], w=normal(4, 3, 3, 3))
    assert line(barred, "p", "H").tolist() == [-1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5, 8.5]
    assert line(barred, "y", "H").tolist() == line(padded, "y", "H").tolist()
    assert barred["y"] == padded["y"]


def test_what_is_made_of_the_image_is_no_bar_beside_it() -> None:
    known = found("m = ReduceMean<axes=[2,3]>(x)\n e = Expand(m, row)\n y = Concat<axis=2>(e, x)", row=[1, 3, 1, 8])
    assert np.isnan(line(known, "y", "H")[0])
    assert "y" not in known


def test_a_class_token_before_a_strip_is_no_bar() -> None:
    known = found("c = MaxPool<kernel_shape=[8,1]>(x)\n s = Squeeze(c, rows)\n y = Concat<axis=2>(token, s)",
                  rows=[2], token=normal(1, 3, 1))  # fmt: skip
    assert known["y"] == Layout("NCP", (1, 8), 1)


def test_a_class_token_beside_every_token_leaves_them_in_place() -> None:
    """DPT reads its class token out so: joined to the channels of each other one, and mixed with them."""
    known = found(
        "j = Reshape(x, joined)\n t = Transpose<perm=[0,2,1]>(j)\n all = Concat<axis=1>(token, t)\n"
        " first = Slice(all, nought, one, one)\n rest = Slice(all, one, far, one)\n n = Shape(rest)\n"
        " spread = Expand(first, n)\n both = Concat<axis=2>(rest, spread)\n y = MatMul(both, mix)",
        "1,3,2,4", joined=[0, 3, 8], token=normal(1, 1, 3), nought=[0], one=[1], far=[99], mix=normal(6, 5),
    )  # fmt: skip
    for name in ("both", "y"):
        assert line(known, name, "W").tolist() == [0.5, 1.5, 2.5, 3.5] * 2
    assert known["y"].axes == "NPC"


def test_windows_carry_both_coordinates_in_both_axes() -> None:
    """[1, 3, 8, 8] -> 2 x 2 windows of 4 x 4, channels last, and back."""
    known = found(
        """ p = Reshape(x, parted)
 t = Transpose<perm=[0,2,4,3,5,1]>(p)
 w = Reshape(t, windows)
 u = Reshape(w, apart)
 v = Transpose<perm=[0,5,1,3,2,4]>(u)
 y = Reshape(v, whole)""",
        parted=[1, 3, 2, 4, 2, 4], windows=[4, 16, 3], apart=[1, 2, 2, 4, 4, 3], whole=[1, 3, 8, 8],
    )  # fmt: skip
    rows = known.positions["w"]["H"].at
    assert rows.shape == (4, 16, 1)
    assert rows[1, 5, 0] == 1.5  # the second window lies to the right: row 1, column 4 + 1
    assert known.positions["w"]["W"].at[1, 5, 0] == 5.5
    assert "w" not in known  # windows among the rows are no batch
    assert known["y"] == Layout("NCHW")
    assert line(known, "y", "H").tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5]


def test_a_roll_is_no_grid_until_it_is_rolled_back() -> None:
    known = found(
        """ a = Slice(x, three, far, axis)
 b = Slice(x, zero, three, axis)
 rolled = Concat<axis=2>(a, b)
 c = Slice(rolled, five, far, axis)
 d = Slice(rolled, zero, five, axis)
 y = Concat<axis=2>(c, d)""",
        three=[3], zero=[0], five=[5], far=[99], axis=[2],
    )  # fmt: skip
    assert line(known, "rolled", "H").tolist() == [3.5, 4.5, 5.5, 6.5, 7.5, 0.5, 1.5, 2.5]
    assert "rolled" not in known
    assert known["y"] == Layout("NCHW")


def test_patches_merged_in_the_channels_are_one_cell_behind_the_next_weights() -> None:
    """Swin: 2 x 2 neighbours laid over each other, by reshapes or by slices."""
    by_reshape = found(
        """ t = Transpose<perm=[0,2,3,1]>(x)
 p = Reshape(t, parted)
 q = Transpose<perm=[0,1,3,4,2,5]>(p)
 m = Reshape(q, merged)
 y = MatMul(m, w)""",
        parted=[1, 4, 2, 4, 2, 3], merged=[1, 4, 4, 12], w=normal(12, 5),
    )  # fmt: skip
    by_slices = found(
        """ a = Slice(x, zeros, far, axes, twos)
 b = Slice(x, ones, far, axes, twos)
 m = Concat<axis=1>(a, b)
 y = Conv(m, w)""",
        zeros=[0, 0], ones=[1, 1], far=[99, 99], axes=[2, 3], twos=[2, 2], w=normal(5, 6, 1, 1),
    )  # fmt: skip
    assert by_reshape["y"] == Layout("NHWC")
    assert by_slices["y"] == Layout("NCHW")
    for known in (by_reshape, by_slices):
        assert line(known, "y", "H").tolist() == [1, 3, 5, 7]


def test_depth_and_space() -> None:
    known = found("s = SpaceToDepth<blocksize=2>(x)\n c = Conv(s, w)\n d = DepthToSpace<blocksize=2>(s)\n"
                  " y = DepthToSpace<blocksize=2>(c)", w=normal(8, 12, 1, 1))  # fmt: skip
    assert line(known, "c", "H").tolist() == [1, 3, 5, 7]
    for name in "dy":
        assert line(known, name, "W").tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5]


COPIES = {
    "Keras": "u = Unsqueeze(p, three)\n t = Tile(u, twice)\n y = Reshape(t, whole)",
    "broadcast": "u = Unsqueeze(p, three)\n t = Expand(u, pairs)\n y = Reshape(t, whole)",
    "picked": "y = Gather<axis=2>(p, each)",
    "shuffled": "c = Conv(p, w)\n r = Reshape(c, blocks)\n t = Transpose<perm=[0,1,4,2,5,3]>(r)\n y = Reshape(t, both)",
}


@pytest.mark.parametrize("copies", COPIES.values(), ids=COPIES)
def test_copies_side_by_side_share_the_stretch_of_what_they_copy(copies: str) -> None:
    """As those of a nearest Resize do: else they drift from their skip connections, level by level."""
    known = found(
        f"p = MaxPool<kernel_shape=[2,2],strides=[2,2]>(x)\n {copies}", w=normal(8, 3, 1, 1), three=[3],
        twice=[1, 1, 1, 2, 1], pairs=[1, 3, 4, 2, 4], whole=[1, 3, 8, 4], each=[0, 0, 1, 1, 2, 2, 3, 3],
        blocks=[1, 2, 2, 2, 4, 4], both=[1, 2, 8, 8],
    )  # fmt: skip
    assert line(known, "y", "H").tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5]
    assert (known.positions["y"]["H"].start, known.positions["y"]["H"].end) == (0, 8)


def test_tokens_are_no_copies() -> None:
    """Every row of tokens repeats one H, which W tells apart; a turn and back changes nothing."""
    known = found("t = Reshape(x, rows)\n y = Reshape(t, grid)", rows=[1, 3, 64], grid=[1, 3, 8, 8])
    assert line(known, "t", "H")[:9].tolist() == [0.5] * 8 + [1.5]
    assert line(known, "y", "H").tolist() == [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5]


def test_einsum_puts_axes_where_the_letters_say() -> None:
    known = found('y = Einsum<equation="nchw,cd->nwdh">(x, w)', w=normal(3, 5))
    assert known["y"] == Layout("NWCH")
    assert "y" not in found('y = Einsum<equation="nchw,hd->ncdw">(x, w)', w=normal(8, 8))


def test_a_fused_product_turns_what_it_multiplies() -> None:
    """Along H the rows of what is (3, 8, 1, 8) then."""
    known = found("y = com.microsoft.FusedMatMul<transBatchA=1>(x, w)", w=normal(8, 5))
    assert known.positions["y"]["H"].at.shape == (1, 8, 1, 1)
    known = found("y = com.microsoft.FusedMatMul<transA=1>(x, w)", w=normal(8, 5))
    assert known.positions["y"]["W"].at.shape == (1, 1, 8, 1)


# -- what slides ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("node", "rows"),
    [
        ("y = Conv<pads=[1,1,1,1]>(x, w)", [0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5]),
        ("y = Conv<pads=[1,1,1,1],strides=[2,2]>(x, w)", [1, 3, 5, 7]),  # evenly, as everybody's Grad-CAM
        ("y = Conv(x, w)", [8 / 12, 2, 8 / 12 * 5, 8 / 12 * 7, 6, 8 / 12 * 11]),
        ("y = MaxPool<kernel_shape=[2,2],strides=[2,2]>(x)", [1, 3, 5, 7]),
        ("y = AveragePool<kernel_shape=[3,3],strides=[2,2],ceil_mode=1>(x)", [1, 3, 5, 7]),
        ('y = Conv<auto_pad="SAME_UPPER",strides=[2,2]>(x, w)', [1, 3, 5, 7]),
        ("y = Conv<pads=[5,1,1,1]>(x, w)", [-3.5, -2.5, -1.5, -0.5, 0.5, 1.5, 2.5, 3.5, 4.5, 5.5, 6.5, 7.5]),
        ("y = Resize(x, , half)", [1, 3, 5, 7]),
        ("y = ConvTranspose<strides=[2,2]>(x, v)", np.arange(0.25, 8, 0.5).tolist()),
    ],
)  # fmt: skip
def test_windows_step_over_the_image(node: str, rows: list[float]) -> None:
    known = found(node, w=normal(4, 3, 3, 3), v=normal(3, 4, 2, 2), half=np.array([1, 1, 0.5, 0.5], np.float32))
    assert line(known, "y", "H") == pytest.approx(rows)


@pytest.mark.parametrize(
    ("attributes", "rows"),
    [
        ('mode="linear"', [1, 3, 5, 7, 9, 11, 13, 15]),
        ('mode="linear",coordinate_transformation_mode="pytorch_half_pixel"', [1, 3, 5, 7, 9, 11, 13, 15]),
        ('mode="linear",coordinate_transformation_mode="asymmetric"', [4, 6, 8, 10, 12, 14, 16, 18]),
        ('mode="cubic",coordinate_transformation_mode="align_corners"', [4 + 8 / 7 * i for i in range(8)]),
        ('coordinate_transformation_mode="asymmetric",nearest_mode="floor"', [1, 3, 5, 7, 9, 11, 13, 15]),
    ],
)
def test_resizing_reads_where_its_convention_says(attributes: str, rows: list[float]) -> None:
    """Two cells of 8 rows, with their centres on 4 and 12, made into eight."""
    known = found(f"a = AveragePool<kernel_shape=[8,8],strides=[8,8]>(x)\n y = Resize<{attributes}>(a, , , eight)",
                  "1,3,16,16", eight=[1, 3, 8, 8])  # fmt: skip
    assert line(known, "y", "H") == pytest.approx(rows)
    step, span = rows[1] - rows[0], known.positions["y"]["H"]
    assert (span.start, span.end) == pytest.approx((rows[0] - step / 2, rows[-1] + step / 2))


def test_windows_over_cells_that_go_back_and_forth_have_no_even_spread() -> None:
    known = found("a = Gather<axis=2>(x, even)\n b = Tile(a, twice)\n"
                  " y = AveragePool<kernel_shape=[3,1],strides=[3,1]>(b)",
                  "1,3,12,12", even=[0, 2, 4, 6, 8, 10], twice=[1, 1, 2, 1])  # fmt: skip
    assert line(known, "y", "H") == pytest.approx([2.5, 8.5, 2.5, 8.5])


@pytest.mark.parametrize(("kernel", "window"), [(57, ((28 / 64, 36 / 64),) * 2), (33, None)])
def test_few_cells_close_to_each_other_are_not_stretched_over_the_image(kernel: int, window: Any) -> None:
    """Two cells, 4 pixels apart (28.5 and 32.5 with a kernel of 57), are not a left and a right half."""
    stride = 4 if kernel == 57 else 31
    known = found(f"y = Conv<strides = [{stride}, {stride}]>(x, w)", "1,3,64,64", w=normal(4, 3, kernel, kernel))
    placed = known["y"].window
    assert placed == window if window is None else placed == pytest.approx(np.array(window), abs=2 / 64)


def test_one_window_over_all_has_no_place() -> None:
    known = found("p = GlobalAveragePool(x)\n q = AveragePool<kernel_shape=[8,8]>(x)\n y = ReduceMean<axes=[2,3]>(x)")
    assert not known.positions.keys() & {"p", "q", "y"}


def test_a_strip_keeps_the_other_coordinate() -> None:
    known = found("c = Conv(x, k)\n y = MaxPool<kernel_shape=[8,1]>(c)\n s = Squeeze(y, axis)", axis=[2])
    assert known["y"] == Layout("NCHW")
    assert known["s"] == Layout("NCP", (1, 8))


# -- layers that torch exports ------------------------------------------------------------------------

TAIL = "\n f = ReduceMean<axes=[2,3],keepdims=0>(last)\n y = MatMul(f, fc)\n}"


def automatic(model: onnx.ModelProto) -> str | None:
    return next((layer.name for layer in list_layers(model) if layer.automatic), None)


@pytest.mark.parametrize("groups", [[0, 2, -1], [1, 2, 128], [1, 2, 2, 64]])
def test_group_norm_as_torch_writes_it(groups: list[int]) -> None:
    """Reshape, InstanceNormalization or its parts, Reshape: the inside is no layer."""
    inner = "n = InstanceNormalization(g, s, b)"
    if len(groups) == 4:  # decomposed
        inner = "m = ReduceMean<axes=[2,3]>(g)\n d = Sub(g, m)\n v = ReduceMean<axes=[2,3]>(d)\n n = Div(d, v)"
    model = net(
        f"""(float[1,3,8,8] x) => (float[1,5] y) {{
  c = Conv(x, k)
  g = Reshape(c, groups)
  {inner}
  r = Reshape(n, whole)
  last = Mul(r, gain){TAIL}""",
        {"k": normal(4, 3, 1, 1), "groups": np.array(groups), "whole": np.array([1, 4, 8, 8]), "gain": normal(4, 1, 1),
         "s": normal(2), "b": normal(2), "fc": normal(4, 5)},
    )  # fmt: skip
    layers = {layer.name: layer for layer in list_layers(model)}
    assert automatic(model) == "last"
    assert layers["last"].layout == Layout("NCHW")
    assert not layers.keys() & {"g", "n"}
    for name in ("g", "n"):
        with pytest.raises(LayerError, match="no grid"):
            named_layer(graph_of(model), name)


@pytest.mark.parametrize("perm", [[1, 2, 3, 0], [2, 3, 0, 1]])
def test_batches_behind_are_labelled_but_not_offered(perm: list[int]) -> None:
    model = net(
        f"""(float[N,3,8,8] x) => (float[N,5] y) {{
  c = Conv(x, k)
  turned = Transpose<perm={perm}>(c)
  r = Relu(turned)
  last = Transpose<perm={[perm.index(i) for i in range(4)]}>(r){TAIL}""",
        {"k": normal(4, 3, 1, 1), "fc": normal(4, 5)},
    )
    graph = graph_of(model)
    assert layouts(graph)["r"].axes == "".join("NCHW"[i] for i in perm)
    assert automatic(model) == "last"
    with pytest.raises(LayerError, match="batch along axis"):
        named_layer(graph, "r")


def test_tokens_of_a_sequence_first_are_labelled() -> None:
    """torch.nn.MultiheadAttention without batch_first: (L, N, C)."""
    for batch in ("N", "1"):
        model = net(
            f"""(float[{batch},3,8,8] x) => (float[{batch},5] y) {{
  c = Conv(x, k)
  joined = Reshape(c, to)
  turned = Transpose<perm=[2,0,1]>(joined)
  r = Relu(turned)
  last = Transpose<perm=[1,0,2]>(r)
  f = ReduceMean<axes=[1],keepdims=0>(last)
  y = MatMul(f, fc)
}}""",
            {"k": normal(4, 3, 1, 1), "fc": normal(4, 5), "to": np.array([0, 4, 64])},
        )
        graph = graph_of(model)
        assert layouts(graph)["r"] == Layout("PNC", (8, 8))
        assert automatic(model) == "last"
        with pytest.raises(LayerError, match="batch along axis 1"):
            named_layer(graph, "r")


def attention(name: str, keys: str, out: str) -> str:
    """Queries `name` gather from `keys`, one head."""
    return f"""
  t_{out} = Transpose<perm=[0,2,1]>({keys})
  dots_{out} = MatMul({name}, t_{out})
  weights_{out} = Softmax<axis=-1>(dots_{out})
  {out} = MatMul(weights_{out}, {keys})"""


STEM = "\n c = Conv<strides=[2,2]>(x, patch)\n j = Reshape(c, joined)\n tokens = Transpose<perm=[0,2,1]>(j)"
PARTS = {
    "patch": normal(6, 3, 2, 2), "joined": np.array([1, 6, -1]), "fc": normal(6, 5), "w": normal(6, 6),
    "square": np.array([1, 4, 4, 6]), "flat": np.array([1, -1, 6]), "zeros": np.array([0, 0]), "two": np.array([2]),
    "far": np.array([99, 99]), "axes": np.array([1, 2]), "twos": np.array([2, 2]), "extra": normal(1, 2, 6),
    "first": np.array(0), "one": np.array([1]), "zero": np.array([0]), "end": np.array([99]), "query": normal(1, 1, 6),
}  # fmt: skip


def tokens_model(body: str) -> onnx.ModelProto:
    """`body` makes `last` [1, tokens, 6] or [1, 6] of `tokens` [1, 16, 6]."""
    return net(f"(float[1,3,8,8] x) => (float[1,5] y) {{{STEM}\n{body}\n}}", PARTS)


def test_attention_that_halves_the_grid() -> None:
    """LeViT: queries are every second token, and no skip connection tells their places."""
    model = tokens_model(
        f""" s = Reshape(tokens, square)
  q = Slice(s, zeros, far, axes, twos)
  queries = Reshape(q, flat){attention("queries", "tokens", "less")}
  m = MatMul(less, w)
  last = Relu(m)
  f = ReduceMean<axes=[1],keepdims=0>(last)
  y = MatMul(f, fc)"""
    )
    assert automatic(model) == "last"
    assert layouts(graph_of(model))["last"] == Layout("NPC", (2, 2))


def test_two_class_tokens_and_their_mean() -> None:
    """DeiT, distilled: behind the last attention nothing but the two tokens is read."""
    model = tokens_model(
        f""" all = Concat<axis=1>(extra, tokens)
  between = Relu(all){attention("between", "between", "mixed")}
  sum = Add(between, mixed)
  a = Gather<axis=1>(sum, first)
  b = Gather<axis=1>(sum, one)
  bs = Squeeze(b, one)
  both = Add(a, bs)
  y = MatMul(both, fc)"""
    )
    assert automatic(model) == "between"
    layers = {layer.name: layer for layer in list_layers(model)}
    assert layers["between"].layout == Layout("NPC", (4, 4), 2)
    assert layers["sum"].reason == "only some positions reach the score from here"


def test_a_class_token_whose_size_is_worked_out() -> None:
    """TorchScript expands it by a subgraph of constants."""
    model = net(
        f"""(float[1,3,8,8] x) => (float[1,5] y) {{{STEM}
  size = Shape(tokens)
  batch = Slice(size, zero, one)
  ones = ConstantOfShape<value = int64[1] {{1}}>(three)
  negative = Mul(ones, minus)
  same = Equal(wanted, negative)
  to = Where(same, ones, wanted)
  class = Expand(token, to)
  all = Concat<axis=1>(class, tokens)
  last = Relu(all){attention("last", "last", "mixed")}
  sum = Add(last, mixed)
  a = Gather<axis=1>(sum, first)
  y = MatMul(a, fc)
}}""",
        {
            **PARTS,
            "token": normal(1, 1, 6),
            "three": np.array([3]),
            "minus": np.array(-1),
            "wanted": np.array([1, -1, -1]),
        },
    )
    graph = graph_of(model)
    assert graph.shape("class") == (1, 1, 6)
    assert graph.small_constants["class"].shape == (1, 1, 6)
    assert automatic(model) == "last"
    assert layouts(graph)["last"] == Layout("NPC", (4, 4), 1)


def test_a_learned_query_pools_all_positions() -> None:
    model = tokens_model(f" last = Relu(tokens){attention('query', 'last', 'pooled')}\n s = Squeeze(pooled, one)\n"
                         "  y = MatMul(s, fc)")  # fmt: skip
    assert automatic(model) == "last"


def test_register_tokens_are_dropped_before_the_mean() -> None:
    model = tokens_model(
        f""" all = Concat<axis=1>(extra, tokens){attention("all", "all", "mixed")}
  sum = Add(all, mixed)
  last = Slice(sum, two, end, one)
  f = ReduceMean<axes=[1],keepdims=0>(last)
  y = MatMul(f, fc)"""
    )
    assert automatic(model) == "last"
    assert layouts(graph_of(model))["last"] == Layout("NPC", (4, 4))


def test_free_sizes_keep_their_labels() -> None:
    model = net(
        f"""(float[N,3,H,W] x) => (float[N,5] y) {{
  t = Transpose<perm=[0,1,3,2]>(x)
  c = Conv(t, k)
  last = Relu(c){TAIL}""",
        {"k": normal(4, 3, 1, 1), "fc": normal(4, 5)},
    )
    (layer, *_) = list_layers(model)
    assert (layer.name, layer.layout, layer.grid) == ("last", Layout("NCWH"), None)


def test_a_crop_of_an_image_of_free_size_has_no_place() -> None:
    """How much of it four pixels are is known when it runs."""
    body = " t = Slice(x, four, end, axis)\n c = Conv(t, k)\n last = Relu(c)" + TAIL
    weights = {"k": normal(4, 3, 1, 1), "fc": normal(4, 5), "four": np.array([4]), "end": np.array([99999]),
               "axis": np.array([2])}  # fmt: skip
    free = graph_of(net(f"(float[N,3,H,W] x) => (float[N,5] y) {{\n{body}", weights))
    assert "last" not in layouts(free)
    (layer, *_) = list_layers(net(f"(float[N,3,8,8] x) => (float[N,5] y) {{\n{body}", weights))
    assert layer.layout.window == ((0.5, 1.0), (0.0, 1.0))


def test_sampling_at_computed_places_ends_them() -> None:
    model = net(
        f"""(float[1,3,8,8] x) => (float[1,5] y) {{
  c = Conv(x, k)
  sampled = GridSample(c, where)
  last = Relu(sampled){TAIL}""",
        {"k": normal(4, 3, 1, 1), "fc": normal(4, 5), "where": normal(1, 8, 8, 2)},
    )
    assert automatic(model) == "c"


def test_a_pool_of_the_channels_of_tokens_keeps_their_places() -> None:
    """As tf2onnx spells the mean of a layer normalization; of an image it mixes all places."""
    known = found("t = Reshape(x, rows)\n r = Transpose<perm=[0,2,1]>(t)\n y = GlobalAveragePool(r)", rows=[1, 3, 64])
    assert known.positions["y"]["H"].at.shape == (1, 64, 1)
    assert "y" not in found("y = GlobalAveragePool(x)").positions


def test_absurd_sizes_are_not_followed() -> None:
    pads = helper.make_tensor("pads", TensorProto.INT64, [8], [0, 0, 0, 0, 0, 0, 10**12, 0])
    model = net("(float[1,3,8,8] x) => (float[A] y) {\n p = Pad(x, pads)\n y = Relu(p) }")
    model.graph.initializer.append(pads)
    assert "y" not in layouts(graph_of(model)).positions


def test_a_decoder_that_upsampling_moves_keeps_its_place() -> None:
    """By half a coarse cell at each level, TensorFlow's old way: in the end by more than a fine cell."""
    body = "a = Conv(x, k)\n e0 = Relu(a)\n"
    for i in range(4):
        body += f"e{i + 1} = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(e{i})\n"
    body += "d4 = Relu(e4)\n"
    up = 'Resize<mode = "linear", coordinate_transformation_mode = "asymmetric">'
    for i in (3, 2, 1, 0):
        body += f"u{i} = {up}(d{i + 1}, , twice)\n d{i} = Add(e{i}, u{i})\n"
    known = found(body + "y = Relu(d0)", "1,3,64,64", twice=np.array([1, 1, 2, 2], np.float32))
    assert line(known, "y", "W")[:2] == pytest.approx([1.5, 2.5])  # 2 pixels behind the skip connection, half of them
    moved = found("y = Pad(x, left)\n z = Add(x, y)", "1,3,64,64", left=[0, 0, 0, 2, 0, 0, 0, -2])
    assert "z" not in moved.positions  # as far, but nothing was upsampled
