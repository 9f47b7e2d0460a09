from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onnxcam.errors import PreprocessError
from onnxcam.imaging import Preprocess, Resize, load_preprocess, named_preprocess, override, preprocess_names

MANIFEST_LIKE = {
    "load": "RGB",
    "resize": {"how": "letterbox", "to": [416, 320], "pad": 114, "anchor": "center"},
    "filter": "bilinear",
    "crop": None,
    "channels": "BGR",
    "scale": 1.0,
    "mean": [103.5, 116.25, 123.75],
    "std": [57, 57, 58],
    "layout": "NHWC",
    "dtype": "float16",
}
PLAIN = {"channels": "RGB", "scale": 1}


def read(data: object) -> Preprocess:
    return Preprocess.from_json(data, name="r.json")


def test_all_keys_are_read() -> None:
    assert read(MANIFEST_LIKE) == Preprocess(
        load="RGB",
        resize=Resize("letterbox", (416, 320), 114, "center"),
        filter="bilinear",
        crop=None,
        channels="BGR",
        scale=1.0,
        mean=(103.5, 116.25, 123.75),
        std=(57.0, 57.0, 58.0),
        layout="NHWC",
        dtype="float16",
        name="r.json",
    )


def test_to_json_is_read_back() -> None:
    recipes = [read(MANIFEST_LIKE), read(PLAIN | {"channels": "Y", "crop": [4, 5]})]
    recipes += [named_preprocess(name, size=(8, 6), channels=3) for name in preprocess_names()]
    for recipe in recipes:
        text = json.dumps(recipe.to_json())
        assert Preprocess.from_json(json.loads(text), name=recipe.name) == recipe
    assert read(MANIFEST_LIKE).to_json() == MANIFEST_LIKE


def test_what_may_be_left_out() -> None:
    recipe = Preprocess.from_json({"channels": "L", "scale": 1}, name="x", layout="NHWC", dtype="float64")
    assert recipe == Preprocess("L", Resize(), "bilinear", None, "L", 1.0, (0.0,), (1.0,), "NHWC", "float64", "x")


def test_one_number_is_for_all_channels() -> None:
    recipe = read(PLAIN | {"mean": 0.5, "std": 0.25})
    assert (recipe.mean, recipe.std) == ((0.5,) * 3, (0.25,) * 3)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"scale": None}, "scale is missing"),
        ({"channels": None}, "channels is missing"),
        ({"channels": "RGBA"}, "channels has to be one of RGB, BGR, L, Y, not 'RGBA'"),
        ({"channels": 3}, "channels has to be a string"),
        ({"load": "L"}, "load L does not give channels RGB; load RGB"),
        ({"maen": [1, 1, 1]}, "unknown key 'maen'; did you mean mean"),
        ({"mean": [1, 2]}, "mean holds 2 numbers for 3 channels"),
        ({"std": [1, 1, 1, 1]}, "std holds 4 numbers"),
        ({"std": [1, 0, 1]}, "std has to be finite and not zero"),
        ({"std": [1, 1e-200, 1]}, "std has to be finite and not zero"),
        ({"mean": ["a", 1, 1]}, "mean has to be a list of finite numbers"),
        ({"mean": [1e20, 1, 1]}, "mean has to be finite"),
        ({"mean": float("nan")}, "mean has to be a list of finite numbers"),
        ({"scale": 0}, "scale has to be finite and not zero"),
        ({"scale": True}, "scale has to be a finite number, not True"),
        ({"scale": float("inf")}, "scale has to be a finite number"),
        ({"scale": 10**400}, "scale has to be a finite number, not a huge number"),
        ({"filter": "gauss"}, "filter has to be one of nearest"),
        ({"layout": "CHW"}, "layout has to be one of NCHW, NHWC"),
        ({"dtype": "int4"}, "dtype has to be one of"),
        ({"crop": 224}, r"crop has to be \[width, height\] in whole pixels, not 224"),
        ({"crop": [0, 5]}, "crop has to lie in 1..20000 pixels, not 0 x 5"),
        ({"crop": [20000, 20000]}, "crop holds more than 178956970 pixels"),
        ({"resize": "exact"}, "resize has to be an object"),
        ({"resize": {"to": 5}}, "resize.how is missing"),
        ({"resize": {"how": "squash", "to": 5}}, "resize.how has to be one of none, exact"),
        ({"resize": {"how": "exact", "to": 5}}, r"resize.to has to be \[width, height\]"),
        ({"resize": {"how": "exact", "to": [5, 5.5]}}, r"resize.to has to be \[width, height\]"),
        ({"resize": {"how": "exact", "to": [5, 20001]}}, "resize.to has to lie in 1..20000"),
        ({"resize": {"how": "short_side", "to": [5, 5]}}, "resize.to has to be a whole number"),
        ({"resize": {"how": "short_side", "to": 10**40}}, "resize.to has to be a whole number, not a huge number"),
        ({"resize": {"how": "short_side", "to": -3}}, "resize.to has to lie in 1..20000"),
        ({"resize": {"how": "short_side"}}, "resize.to is missing"),
        ({"resize": {"how": "exact", "to": [5, 5], "pad": 3}}, "unknown key 'resize.pad'"),
        ({"resize": {"how": "none", "to": 5}}, "unknown key 'resize.to'"),
        ({"resize": {"how": "letterbox", "to": [5, 5], "pad": 256}}, "resize.pad has to lie in 0..255"),
        ({"resize": {"how": "short_side", "to": 5, "multiple": 0}}, "resize.multiple has to lie in 1..20000"),
        ({"resize": {"how": "exact", "to": [5, 5], "multiple": 32}}, "multiple"),
        ({"resize": {"how": "letterbox", "to": [5, 5], "anchor": "centre"}}, "did you mean center"),
        ({"resize": {"how": "height_pad", "to": [5, 5]}, "crop": [2, 2]}, "crop does not go with height_pad"),
    ],
)
def test_what_is_wrong_is_named(change: dict[str, object], says: str) -> None:
    with pytest.raises(PreprocessError, match=f"^preprocessing r.json: .*{says}") as caught:
        read(PLAIN | change)
    assert str(caught.value).isprintable()
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize("data", [None, [], "text", 3, {}])
def test_what_is_no_recipe_at_all(data: object) -> None:
    with pytest.raises(PreprocessError, match=r"r\.json"):
        read(data)


def test_python_is_held_to_the_same() -> None:
    recipe = read(PLAIN)
    with pytest.raises(PreprocessError, match="does not go with short_side"):
        replace(recipe, resize=Resize("short_side", (5, 5)))
    with pytest.raises(PreprocessError, match="go with letterbox"):
        replace(recipe, resize=Resize("exact", (5, 5), 9))


WORDS = st.sampled_from(["", "RGB", "how", "to", "exact", "short_side", "none", "height", "width", "a\x1b\n"])
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | WORDS,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=5,
)
KEYS = st.sampled_from(
    [*MANIFEST_LIKE, "do_resize", "size", "image_mean", "image_std", "crop_size", "crop_pct", "resample"]
)


@given(st.dictionaries(KEYS, JSON), st.booleans())
def test_any_json_is_read_or_refused_in_one_line(data: dict[str, object], ours: bool) -> None:
    try:
        read({**MANIFEST_LIKE, **data} if ours else data)
    except PreprocessError as error:
        assert str(error).isprintable()  # noqa: PT017 - most examples do not raise


def test_a_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "p.json"
    path.write_text(json.dumps(MANIFEST_LIKE))
    assert replace(load_preprocess(path), name="r.json") == read(MANIFEST_LIKE)
    path.write_text(json.dumps(PLAIN))
    assert load_preprocess(str(path), layout="NHWC", dtype="float16").layout == "NHWC"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"mean": [0.5, 0.5, "size": ]', "is not JSON"),
        (b"", "is not JSON"),
        (b"\xff\xfe\x00\x81", "is not JSON"),
        (b"[" * 100_000, "is not JSON"),
        (b'{"scale": 1' + b"0" * 5000 + b"}", "is not JSON"),
        (b" " * (1 << 20) + b"{}", "larger than a megabyte"),
        (b"[1, 2]", "has to be an object"),
    ],
)
def test_a_malformed_file_is_refused_by_name(tmp_path: Path, content: bytes, says: str) -> None:
    path = tmp_path / "p.json"
    path.write_bytes(content)
    with pytest.raises(PreprocessError, match=rf"p\.json.*{says}") as caught:
        load_preprocess(path)
    assert str(caught.value).isprintable()


def test_a_missing_file_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(PreprocessError, match=r"none\.json cannot be read: No such file"):
        load_preprocess(tmp_path / "none.json")


def test_override_keeps_what_is_not_told() -> None:
    recipe = read(MANIFEST_LIKE)
    assert override(recipe) == recipe


def test_override_size() -> None:
    imagenet = named_preprocess("imagenet", size=(224, 224), channels=3)
    assert override(imagenet, size=288).resize == Resize("short_side", 288)
    assert override(imagenet, size=288).crop == (224, 224)
    assert override(imagenet, size=288, crop=(280, 270)).crop == (280, 270)
    exact = override(imagenet, size=(300, 200))
    assert (exact.resize, exact.crop) == (Resize("exact", (300, 200)), None)
    assert override(named_preprocess("unit", size=(8, 8), channels=3), size=32).resize == Resize("exact", (32, 32))
    assert override(read(MANIFEST_LIKE), size=(32, 16)).resize == Resize("letterbox", (32, 16), 114, "center")
    assert override(read(PLAIN), size=32).resize == Resize("exact", (32, 32))


def test_override_channels_turns_the_statistics_along() -> None:
    imagenet = named_preprocess("imagenet", size=(224, 224), channels=3)
    turned = override(imagenet, channels="BGR")
    assert turned.mean == (0.406, 0.456, 0.485)
    assert turned.std == (0.225, 0.224, 0.229)
    assert override(imagenet, channels="BGR", mean=(1, 2, 3)).mean == (1, 2, 3)
    grey = override(read(PLAIN), channels="L")
    assert (grey.load, grey.mean, grey.std) == ("L", (0.0,), (1.0,))
    with pytest.raises(PreprocessError, match="mean holds 3 numbers for 1 channel "):
        override(imagenet, channels="L")


def test_override_numbers() -> None:
    recipe = override(read(PLAIN), mean=(0.5,), std=(1, 2, 4), scale=0.1)
    assert (recipe.mean, recipe.std, recipe.scale) == ((0.5,) * 3, (1, 2, 4), 0.1)
    with pytest.raises(PreprocessError, match="std"):
        override(recipe, std=(0,))
    with pytest.raises(PreprocessError, match="channels has to be one of"):
        override(recipe, channels="GBR")
