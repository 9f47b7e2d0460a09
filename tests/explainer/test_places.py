"""A blob on the image, and where the map says that it is, for models that turn, flip, crop or pad inside."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest

import onnxcam
from onnxcam.errors import UsageError
from onnxcam.explainer import Explainer
from onnxcam.graph import list_layers
from tests.nets import net

HEIGHT, WIDTH = 24, 40
WEIGHTS = {
    "nine": np.pad(np.eye(2, dtype=np.float32)[:, :, None, None], ((0, 0), (0, 0), (4, 4), (4, 4))),
    "w": np.ones((2, 3, 3, 3), np.float32), "one": np.ones((2, 2, 1, 1), np.float32), "fc": np.ones((2, 4), np.float32),
    "bar": np.zeros((1, 3, 8, 40), np.float32),
}  # fmt: skip
INTEGERS = {
    "zeros": [0, 0], "far": [999, 999], "minus": [-1, -1], "low": [-999, -999], "twos": [2, 2], "spatial": [2, 3],
    "left": [4, 8], "right": [20, 40], "corner": [8, 20], "end": [24, 40], "letter": [0, 0, 8, 0, 0, 0, 8, 0],
    "cut": [0, 0, -4, -8, 0, 0, 0, 0], "large": [1, 3, 48, 80], "small": [1, 3, 12, 20], "rows": [2],
    "nothing": [0], "five": [5], "nineteen": [19], "all": [999], "same": [0, 0, 0, 0, 0, 0, 1, 1],
    "more": [0, 0, 5, 1, 0, 0, 2, 9],
}  # fmt: skip


def model(body: str, shape: str = "1,3,24,40") -> onnx.ModelProto:
    """`body` makes `last` of x; the map of a class is the sum of the channels of `last`."""
    constants = {name: np.array(value, np.int64) for name, value in INTEGERS.items()}
    text = f"""(float[{shape}] x) => (float[1,4] y) {{
{body}
  pool = GlobalAveragePool(last)
  f = Flatten(pool)
  y = MatMul(f, fc)
}}"""
    return net(text, {**WEIGHTS, **constants})


def blob(y: int, x: int, layout: str = "NCHW") -> npt.NDArray[np.float32]:
    image = np.zeros((3, HEIGHT, WIDTH), np.float32)
    image[:, y - 2 : y + 2, x - 2 : x + 2] = 1
    return image if layout == "NCHW" else image.transpose(1, 2, 0)


def centre(heat: npt.NDArray[Any]) -> tuple[float, float]:
    """The centre of mass of a heat map, in pixels."""
    ys, xs = np.mgrid[: heat.shape[0], : heat.shape[1]] + 0.5
    return float((ys * heat).sum() / heat.sum()), float((xs * heat).sum() / heat.sum())


CONV = "c = Conv<pads=[1,1,1,1]>(t, w)\n last = Relu(c)"
STRIDED = "c = Conv<pads=[1,1,1,1],strides=[2,2]>(t, w)\n last = Relu(c)"
BEHIND = "c = Conv(t, one)\n last = Relu(c)"
WAYS = {
    "as it is": f"t = Identity(x)\n{CONV}",
    "height and width swapped": f"t = Transpose<perm=[0,1,3,2]>(x)\n{CONV}",
    "swapped and strided": f"t = Transpose<perm=[0,1,3,2]>(x)\n{STRIDED}",
    "swapped behind": f"a = Conv<pads=[1,1,1,1]>(x, w)\n t = Transpose<perm=[0,1,3,2]>(a)\n{BEHIND}",
    "flipped": f"t = Slice(x, minus, low, spatial, minus)\n{CONV}",
    "flipped and swapped": f"s = Slice(x, minus, low, spatial, minus)\n t = Transpose<perm=[0,1,3,2]>(s)\n{STRIDED}",
    "cropped": f"t = Slice(x, left, right, spatial)\n{CONV}",
    "cropped off the centre": f"t = Slice(x, corner, end, spatial)\n{STRIDED}",
    "cropped behind": f"a = Conv<pads=[1,1,1,1]>(x, w)\n t = Slice(a, corner, end, spatial)\n{BEHIND}",
    "cropped by a negative pad": f"t = Pad(x, cut)\n{CONV}",
    "letterboxed": f"t = Pad(x, letter)\n{STRIDED}",
    "letterboxed by bars": f"t = Concat<axis=2>(bar, x, bar)\n{STRIDED}",
    "padded": f"t = Pad(x, more)\n{CONV}",
    "mirrored at the sides": f'a = Conv<pads=[1,1,1,1]>(x, w)\n t = Pad<mode="reflect">(a, more)\n{BEHIND}',
    "windows far off the centre": "c = Conv<pads=[1,8,1,0]>(x, w)\n last = Relu(c)",
    "windows without padding": """c = Conv(x, w)
  d = Conv(c, nine)
  last = Relu(d)""",
    "flipped, and windows without padding": """m = Slice(x, minus, low, spatial, minus)
  c = Conv(m, w)
  d = Conv(c, nine)
  last = Relu(d)""",
    "enlarged": f"t = Resize(x, , , large)\n{STRIDED}",
    "shrunk": f"t = Resize(x, , , small)\n{CONV}",
    "padded as TensorFlow does": "t = Pad(x, same)\n c = Conv<strides=[2,2]>(t, w)\n last = Relu(c)",
    "every second pixel": f"t = Slice(x, zeros, far, spatial, twos)\n{CONV}",
    "rolled and rolled back": """a = Conv<pads=[1,1,1,1]>(x, w)
  p = Slice(a, five, all, rows)
  q = Slice(a, nothing, five, rows)
  r = Concat<axis=2>(p, q)
  s = Relu(r)
  u = Slice(s, nineteen, all, rows)
  v = Slice(s, nothing, nineteen, rows)
  b = Concat<axis=2>(u, v)
  last = Add(b, a)""",
}


@pytest.mark.parametrize("way", list(WAYS))
@pytest.mark.parametrize("place", [(12, 24), (14, 30)])
def test_the_map_lies_where_the_blob_is(way: str, place: tuple[int, int]) -> None:
    found = onnxcam.explain(model(WAYS[way]), blob(*place), target=1, layer="last")
    assert found.status == "ok"
    assert found.heatmap.shape == (HEIGHT, WIDTH)
    assert centre(found.heatmap) == pytest.approx(place, abs=1.01)
    assert automatic(model(WAYS[way])) == "last"


def automatic(made: onnx.ModelProto) -> str:
    return next(layer.name for layer in list_layers(made) if layer.automatic)


def test_channels_last_with_height_and_width_swapped() -> None:
    made = model(f"t = Transpose<perm=[0,3,2,1]>(x)\n{CONV}", "1,24,40,3")
    found = onnxcam.explain(made, blob(6, 30, "NHWC"), target=1)
    assert found.layer == "last"
    assert found.map.shape == (24, 40)
    assert centre(found.heatmap) == pytest.approx((6, 30), abs=0.51)


def test_bytes_are_scaled_turned_and_resized_inside() -> None:
    """uint8 [N, H, W, 3], as for a phone: Cast, Resize, Transpose, Div, a crop of the middle."""
    constants = {name: np.array(value, np.int64) for name, value in INTEGERS.items()}
    made = net(
        """(uint8[N,24,40,3] x) => (float[N,4] y) {
  f = Cast<to=1>(x)
  r = Resize<mode="linear">(f, , by)
  t = Transpose<perm=[0,3,1,2]>(r)
  d = Div(t, white)
  m = Slice(d, inner, outer, spatial)
  c = Conv<pads=[1,1,1,1]>(m, w)
  last = Relu(c)
  pool = GlobalAveragePool(last)
  g = Flatten(pool)
  y = MatMul(g, fc)
}""",
        {**WEIGHTS, **constants, "by": np.array([1, 2, 2, 1], np.float32), "white": np.float32(255),
         "inner": np.array([8, 8]), "outer": np.array([40, 72])},
    )  # fmt: skip
    image = (blob(14, 30, "NHWC") * 255).astype(np.uint8)
    found = onnxcam.explain(made, image, target=1)
    assert (found.layer, found.map.shape) == ("last", (32, 64))
    assert found.window == ((4 / 24, 20 / 24), (4 / 40, 36 / 40))
    assert centre(found.heatmap) == pytest.approx((14, 30), abs=0.26)


def test_what_a_crop_inside_cuts_away_stays_dark() -> None:
    found = onnxcam.explain(model(WAYS["cropped"]), np.ones((3, HEIGHT, WIDTH), np.float32), target=1)
    assert found.map.shape == (16, 32)
    assert found.window == ((4 / 24, 20 / 24), (8 / 40, 1.0))
    assert not found.heatmap[:4].any()
    assert not found.heatmap[20:].any()
    assert not found.heatmap[:, :8].any()
    assert (found.heatmap[5:19, 9:39] > 0.5).all()


def test_the_part_that_padding_shows_is_left_out() -> None:
    found = onnxcam.explain(model(WAYS["letterboxed"]), blob(12, 24), target=1)
    assert found.map.shape == (20, 20)
    assert found.window == (pytest.approx((-8 / 24, 32 / 24), abs=0.03), (0.0, 1.0))


def test_the_numeric_gradient_turns_the_grid_too() -> None:
    explainer = Explainer(model(WAYS["flipped and swapped"]))
    symbolic, numeric = (explainer(blob(14, 30), target=1, gradient=how) for how in ("symbolic", "numeric"))
    assert numeric.gradient == "numeric"
    np.testing.assert_allclose(numeric.map, symbolic.map, rtol=1e-3)


def test_an_exported_file_remembers_the_window(tmp_path: Path) -> None:
    path = onnxcam.export(model(WAYS["flipped and swapped"]), tmp_path / "out.onnx")
    found = onnxcam.explain(path, blob(14, 30), target=1)
    assert centre(found.heatmap) == pytest.approx((14, 30), abs=1.01)


def test_guided_grad_cam_needs_a_layer_that_shows_the_whole_image() -> None:
    with pytest.raises(UsageError, match="'last' shows only a part"):
        onnxcam.explain(model(WAYS["cropped"]), blob(12, 24), target=1, method="guidedgradcam")


@pytest.mark.parametrize("way", ["flipped", "flipped and swapped"])
def test_guided_grad_cam_takes_a_layer_that_shows_the_image_mirrored(way: str) -> None:
    found = onnxcam.explain(model(WAYS[way]), blob(14, 30), target=1, method="guidedgradcam")
    assert centre(np.abs(found.heatmap)) == pytest.approx((14, 30), abs=1.01)


def mirrored() -> onnx.ModelProto:
    """A flip by sampling at fixed places, which are not followed."""
    made = model("t = GridSample<align_corners=1>(x, grid)\n" + CONV)
    ys, xs = np.meshgrid(np.linspace(-1, 1, HEIGHT), np.linspace(1, -1, WIDTH), indexing="ij")
    grid = np.stack([xs, ys], -1)[None].astype(np.float32)
    made.graph.initializer.append(onnx.numpy_helper.from_array(grid, "grid"))
    return made


def test_a_map_that_is_placed_by_shape_alone_says_so(tmp_path: Path) -> None:
    made = mirrored()
    found = onnxcam.explain(made, blob(14, 30), target=1, layer="last")
    assert found.placed == "by shape"
    assert "placed by shape" in found.legend()
    exported = onnxcam.export(made, tmp_path / "out.onnx", layer="last")
    assert onnxcam.explain(exported, blob(14, 30), target=1).placed == "by shape"
    followed = onnxcam.explain(model(WAYS["flipped"]), blob(14, 30), target=1)
    assert followed.placed == "followed"
    assert not any("placed" in line for line in followed.legend())


@pytest.mark.parametrize("way", ["flipped", "cropped", "letterboxed", "as it is"])
def test_the_recipe_of_the_docs_puts_an_exported_map_in_its_place(way: str, tmp_path: Path) -> None:
    """The function in docs/export.md, from the raw outputs and the manifest alone."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"^def on_image.*?return heat\n", page, re.DOTALL | re.MULTILINE)
    told: dict[str, Any] = {"np": np}
    exec(text, told)
    path = onnxcam.export(model(WAYS[way]), tmp_path / "out.onnx", layer="last")
    session = onnxruntime.InferenceSession(path)
    manifest = json.loads(session.get_modelmeta().custom_metadata_map["onnxcam.manifest"])
    activations, gradients = session.run(["last", "gradients"], {"x": blob(14, 30)[None], "class": np.array([1])})
    heat = np.maximum((gradients.mean(axis=(2, 3), keepdims=True) * activations).sum(axis=1)[0], 0)
    shown = told["on_image"](heat / heat.max(), (HEIGHT, WIDTH), manifest["layout"]["window"])
    expected = onnxcam.explain(model(WAYS[way]), blob(14, 30), target=1, layer="last")
    np.testing.assert_allclose(shown, expected.heatmap, atol=1e-5)
