"""What may be explained: photos and arrays, one or many, for models that take them in their own ways."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from PIL import Image

from onnxcam import Explainer, Explanation, ImageError, PreprocessError, UsageError, export
from onnxcam.methods import list_methods
from onnxcam.targets import Spec
from tests.nets import Array, net, normal

METHODS = [method.name for method in list_methods()]
FLOATS: dict[str, Array] = {"stem": normal(4, 3, 3, 3), "w": normal(5, 4), "b": normal(5)}
HALVES = {name: value.astype(np.float16) for name, value in FLOATS.items()}
WEIGHTS: dict[str, Array] = {
    **FLOATS,
    "first": np.array([0]),
    "zero": np.array(0),
    "rest": np.array([-1]),
    "most": np.array(255, np.float32),
    "two": np.array([2, -1]),
    "four": np.array([1, 4]),
    "pair": np.array([2, 4]),
}
FEATURES = "c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c) p = GlobalAveragePool(a) "
HEAD = "f = Flatten(p) y = Gemm<transB = 1>(f, w, b) "


def model(inputs: str, before: str = "", head: str = HEAD, weights: dict[str, Array] = WEIGHTS) -> onnx.ModelProto:
    """The network of this page behind another input, or with another head."""
    kind = inputs.partition("[")[0].replace("uint8", "float").replace("int8", "float")
    return net(f"({inputs}) => ({kind}[M, K] q) {{ {before} {FEATURES} {head} q = Softmax(y) }}", weights)


@pytest.fixture(scope="module")
def plain() -> Explainer:
    return Explainer(model("float[N, 3, H, W] x"))


def same(found: Explanation, expected: Explanation, *, within: float = 1e-5, times: float = 1.0) -> None:
    """The same map and the same answer, up to a factor and rounding."""
    bound = within * float(np.abs(expected.map).max())
    np.testing.assert_allclose(found.map / times, expected.map, rtol=0, atol=bound)
    assert found.status == expected.status
    assert found.target.index == expected.target.index
    assert found.score == pytest.approx(expected.score, abs=10 * within)
    assert found.probability == pytest.approx(expected.probability, abs=10 * within)


X = normal(3, 3, 6, 7)


# -- one or many ------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_an_array_of_rows_gives_a_list(plain: Explainer, method: str) -> None:
    found = plain(X, method=method)
    assert len(found) == 3
    for e, x in zip(found, X, strict=True):
        same(e, plain(x, method=method))


def test_one_row_with_or_without_batch_axis_gives_one_explanation(plain: Explainer) -> None:
    assert isinstance(plain(X[:1]), Explanation)
    assert isinstance(plain(X[0]), Explanation)
    same(plain(X[:1]), plain(X[0]))
    assert len(plain([X[0]])) == 1
    assert len(plain([X[:1], X[1]])) == 2


@pytest.mark.parametrize("method", METHODS)
def test_images_of_several_sizes(plain: Explainer, method: str) -> None:
    """Images of one size share a run; the list keeps its order."""
    images = [normal(3, *size, seed=i) for i, size in enumerate([(6, 7), (9, 5), (6, 7), (4, 4), (9, 5)])]
    for e, x in zip(plain(images, method=method), images, strict=True):
        assert e.map.shape == x.shape[1:]
        same(e, plain(x, method=method))


def test_more_rows_than_a_run_takes(plain: Explainer) -> None:
    many = normal(70, 3, 5, 5)
    found = plain(many)
    assert len(found) == 70
    for row in (0, 63, 64, 69):
        same(found[row], plain(many[row]))


def test_paths_pictures_bytes_and_arrays(tiny: Explainer, samples: Path) -> None:
    path = samples / "blobs.png"
    with Image.open(path) as picture:
        array = np.asarray(picture.convert("RGB"), np.float32).transpose(2, 0, 1) / 255
        found = tiny([path, str(path), path.read_bytes(), picture, array])
    for e in found:
        np.testing.assert_array_equal(e.map, found[0].map)
    assert [e.image for e in found] == [str(path), str(path), "image", "image", "array"]
    assert [e.preprocess for e in found] == ["from the model"] * 4 + ["array as given"]
    assert [e.heatmap.shape for e in found] == [(32, 32)] * 5


# -- models that take an image in their own way ------------------------------------------------------

VARIANTS: dict[str, tuple[onnx.ModelProto, Callable[[Array], Array]]] = {
    "declared batch of 1": (model("float[1, 3, 6, 7] x"), lambda x: x),
    "declared batch of 2": (model("float[2, 3, 6, 7] x"), lambda x: x),
    "no batch axis": (model("float[3, 6, 7] z", "x = Unsqueeze(z, first)"), lambda x: x),
    "no batch axis, scores [K]": (
        net(
            "(float[3, 6, 7] z) => (float[K] q) { x = Unsqueeze(z, first)" + FEATURES + HEAD
            + "s = Squeeze(y, first) q = Softmax(s) }",
            WEIGHTS,
        ),
        lambda x: x,
    ),
    "a batch of 1 baked into the head": (
        model("float[N, 3, 6, 7] x", head="f = Reshape(p, four) y = Gemm<transB = 1>(f, w, b)"), lambda x: x,
    ),
    "a batch of 2 baked into the head": (
        model("float[2, 3, 6, 7] x", head="f = Reshape(p, pair) y = Gemm<transB = 1>(f, w, b)"), lambda x: x,
    ),
    "the batch size read off the input": (
        model(
            "float[N, 3, 6, 7] x",
            "s = Shape(x) n = Gather(s, zero) m = Unsqueeze(n, first) t = Concat<axis = 0>(m, rest)",
            "f = Reshape(p, t) y = Gemm<transB = 1>(f, w, b)",
        ),
        lambda x: x,
    ),
    "channels last": (
        model("float[N, 6, 7, 3] z", "x = Transpose<perm = [0, 3, 1, 2]>(z)"), lambda x: np.moveaxis(x, -3, -1),
    ),
    "channels last, no batch axis": (
        model("float[6, 7, 3] z", "t = Unsqueeze(z, first) x = Transpose<perm = [0, 3, 1, 2]>(t)"),
        lambda x: np.moveaxis(x, -3, -1),
    ),
}  # fmt: skip


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("variant", VARIANTS)
def test_every_method_on_every_kind_of_input(plain: Explainer, variant: str, method: str) -> None:
    proto, fed = VARIANTS[variant]
    explainer = Explainer(proto)
    targets: list[Spec] = ["top:1", 3]
    expected = plain(X, target=targets, method=method)
    for found, row in zip(explainer(list(fed(X)), target=targets, method=method), expected, strict=True):
        for e, one in zip(found, row, strict=True):
            same(e, one)
    same(explainer(fed(X[0]), method=method), plain(X[0], method=method))


@pytest.fixture(scope="module")
def grey() -> tuple[onnx.ModelProto, Explainer]:
    """A network that gives its grey image an axis of channels first, and the same without that step."""
    weights = {**WEIGHTS, "stem": normal(4, 1, 3, 3), "second": np.array([1])}
    inner = model("float[N, 6, 7] z", "x = Unsqueeze(z, second)", weights=weights)
    return inner, Explainer(model("float[N, 1, 6, 7] x", weights=weights))


@pytest.mark.parametrize("method", METHODS)
def test_a_grey_image_without_an_axis_of_channels(grey: tuple[onnx.ModelProto, Explainer], method: str) -> None:
    proto, plain = grey
    explainer = Explainer(proto)
    for e, one in zip(explainer(X[:, 0], method=method), plain(X[:, :1], method=method), strict=True):
        same(e, one)
        assert e.photo.tobytes() == one.photo.tobytes()
    same(explainer(X[0, 0], method=method), plain(X[0, :1], method=method))
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    same(explainer(photo, method=method), plain(photo, method=method))


def test_a_grey_image_without_an_axis_of_channels_in_an_exported_file(
    grey: tuple[onnx.ModelProto, Explainer], tmp_path: Path
) -> None:
    proto, plain = grey
    explainer = Explainer(export(proto, tmp_path / "exported.onnx"))
    same(explainer(X[0, 0], target=2), plain(X[0, :1], target=2))


def test_a_grey_image_of_another_size(grey: tuple[onnx.ModelProto, Explainer]) -> None:
    with pytest.raises(ImageError, match=r"has shape \[7, 6\], the model's input 'z' takes \[6, 7\] \(HW\): resize it"):
        Explainer(grey[0])(X[0, 0].T)


def test_rows_that_the_model_mixes_are_explained_by_themselves(plain: Explainer) -> None:
    """A norm over the batch: declared free, it is not; two rows together give another answer than each alone."""
    mixing = "m = ReduceMean<axes = [0], keepdims = 1>(p) d = Sub(p, m) e = Add(d, m) h = Mul(e, m) f = Flatten(h) "
    explainer = Explainer(model("float[N, 3, H, W] x", head=mixing + "y = Gemm<transB = 1>(f, w, b)"))
    for e, x in zip(explainer(X, target=2), X, strict=True):
        np.testing.assert_allclose(e.map, explainer(x, target=2).map, rtol=0, atol=1e-7)


def test_pixels_as_bytes(plain: Explainer) -> None:
    """uint8, channels last, scaled inside: what is explained at the image is the pixel, 255 to one."""
    explainer = Explainer(
        model("uint8[N, 6, 7, 3] u", "t = Cast<to = 1>(u) d = Div(t, most) x = Transpose<perm = [0, 3, 1, 2]>(d)")
    )
    pixels = np.random.default_rng(0).integers(0, 256, (2, 6, 7, 3), np.uint8)
    scaled = pixels.transpose(0, 3, 1, 2).astype(np.float32) / 255
    for method in METHODS:
        gradient = method in ("saliency", "guidedbackprop", "guidedgradcam")
        for e, one in zip(explainer(pixels, method=method), plain(scaled, method=method), strict=True):
            same(e, one, times=1 / 255 if gradient else 1)
    same(explainer(pixels[0].astype(np.int64)), plain(scaled[0]))
    same(explainer(pixels[0].astype(np.float64)), plain(scaled[0]))
    photo = explainer(Image.fromarray(pixels[0]))
    same(photo, plain(scaled[0]))
    assert photo.preprocess == "raw"


@pytest.mark.parametrize(
    "array", [normal(6, 7, 3), np.full((6, 7, 3), 256), np.full((6, 7, 3), -1), np.full((6, 7, 3), np.nan)]
)
def test_numbers_that_bytes_cannot_hold_are_refused(array: Array) -> None:
    explainer = Explainer(model("uint8[N, 6, 7, 3] u", "t = Cast<to = 1>(u) x = Transpose<perm = [0, 3, 1, 2]>(t)"))
    with pytest.raises(ImageError, match="values that uint8, the type of the model's input 'u', cannot hold"):
        explainer(array)


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"scale": 1 / 255}, "gives 0 to 1, the model's input 'u' takes uint8 pixels, 0 to 255: use raw"),
        ({"scale": 1, "mean": [103.9, 116.8, 123.7]}, "gives -123.7 to 151.1, the model's input 'u' takes uint8"),
    ],
)
def test_a_recipe_that_bytes_cannot_hold_is_refused(values: dict[str, object], says: str) -> None:
    """Rounded to bytes, every pixel would be 0 or 1, or what is below the mean 0."""
    net = model("uint8[N, 6, 7, 3] u", "t = Cast<to = 1>(u) x = Transpose<perm = [0, 3, 1, 2]>(t)")
    with pytest.raises(PreprocessError, match=says):
        Explainer(net, preprocess={"channels": "RGB", **values})


def test_no_recipe_gives_signed_bytes() -> None:
    explainer = Explainer(model("int8[N, 6, 7, 3] u", "t = Cast<to = 1>(u) x = Transpose<perm = [0, 3, 1, 2]>(t)"))
    assert explainer(np.zeros((6, 7, 3), np.int8)).item.row.dtype == np.int8
    with pytest.raises(PreprocessError, match="'u' takes int8, which no preprocessing gives: give an array"):
        explainer(Image.new("RGB", (7, 6)))


@pytest.mark.parametrize("method", METHODS)
def test_float16(plain: Explainer, method: str) -> None:
    """The forward pass as deployed, the gradient in float32, and maps in float32."""
    explainer = Explainer(model("float16[N, 3, H, W] x", weights=WEIGHTS | HALVES))
    for e, one in zip(explainer(X, method=method), plain(X, method=method), strict=True):
        assert e.map.dtype == np.float32
        same(e, one, within=5e-3)


@pytest.mark.parametrize("method", METHODS)
def test_float64(method: str) -> None:
    """ONNX Runtime convolves no doubles on the CPU, but pools and multiplies them."""
    text = """({0}[N, 3, 6, 8] x) => ({0}[N, K] y) {{
        p = MaxPool<kernel_shape = [2, 2], strides = [2, 2]>(x) t = Transpose<perm = [0, 2, 3, 1]>(p) m = MatMul(t, k)
        a = Relu(m) f = ReduceMean<axes = [1, 2], keepdims = 0>(a) y = Gemm<transB = 1>(f, w, b) }}"""
    weights = {**FLOATS, "k": normal(3, 4)}
    double = Explainer(net(text.format("double"), {name: value.astype(np.float64) for name, value in weights.items()}))
    single = Explainer(net(text.format("float"), weights))
    x = normal(2, 3, 6, 8)
    for e, one in zip(double(x, method=method), single(x, method=method), strict=True):
        assert e.map.dtype == np.float32
        assert e.scores.dtype == np.float64
        same(e, one)


def test_more_channels_than_a_photo_has(samples: Path) -> None:
    """Arrays are explained; a photo is what does not fit."""
    explainer = Explainer(model("float[N, 12, H, W] x", weights={**WEIGHTS, "stem": normal(4, 12, 3, 3)}))
    assert explainer(normal(12, 6, 6)).map.shape == (6, 6)
    with pytest.raises(PreprocessError, match="a photo gives 1 or 3 channels, the model takes 12"):
        explainer(samples / "blobs.png")


# -- what is refused --------------------------------------------------------------------------------

WRONG: dict[str, tuple[object, type[Exception], str]] = {
    "another size": (np.zeros((3, 16, 32)), ImageError, r"\[3, 16, 32\], the model's .* takes \[3, 32, 32\] \(CHW\)"),
    "channels last": (np.zeros((32, 32, 3)), ImageError, r"shape \[32, 32, 3\], the model's input 'image' takes"),
    "too few axes": (np.zeros((32, 32)), ImageError, r"shape \[32, 32\]"),
    "too many axes": (np.zeros((1, 1, 3, 32, 32)), ImageError, r"shape \[1, 1, 3, 32, 32\]"),
    "no rows": (np.zeros((0, 3, 32, 32)), ImageError, "the array holds no image: its first axis has size 0"),
    "text": (np.full((3, 32, 32), "a"), ImageError, "the array holds <U1, the model's input 'image' takes numbers: fl"),
    "pixels": (np.zeros((3, 32, 32), np.uint8), ImageError, "uint8 pixels, the model's input 'image' takes float32 va"),
    "objects": (np.full((3, 32, 32), None), ImageError, "the array holds object"),
    "complex numbers": (np.full((3, 32, 32), 1j), ImageError, "the array holds complex128"),
    "an empty list": ([], UsageError, "no images to explain: the list is empty"),
    "a list in a list": ([[1, 2]], ImageError, "not list$"),
    "a number": (5, ImageError, "an image is a path, bytes, a PIL image or an array, not int"),
    "nothing": (None, ImageError, "not NoneType"),
    "a missing file": ("missing.png", ImageError, "missing.png is missing"),
    "no picture": (b"GIF89a?", ImageError, "image"),
}  # fmt: skip


@pytest.mark.parametrize("wrong", WRONG)
def test_refused_in_one_line(tiny: Explainer, wrong: str) -> None:
    image, kind, says = WRONG[wrong]
    with pytest.raises(kind, match=says) as caught:
        tiny(image)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)


def test_integers_that_are_no_bytes_are_numbers_of_the_models_range(tiny: Explainer) -> None:
    np.testing.assert_array_equal(tiny(np.eye(32, dtype=np.int64)[None].repeat(3, 0)).item.row[0], np.eye(32))


def test_one_wrong_image_of_many_is_the_one_that_is_named(tiny: Explainer) -> None:
    with pytest.raises(ImageError, match=r"missing.png"):
        tiny([np.zeros((3, 32, 32)), "missing.png"])
