"""What cannot be done is said in one line that names the thing."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxcam import (
    Explainer,
    ImageError,
    LayerError,
    ModelError,
    OnnxCamError,
    PreprocessError,
    ProviderError,
    TargetError,
    UsageError,
)
from onnxcam.explainer import core
from tests.nets import net, normal

TINY = Path(__file__).resolve().parents[2] / "sample_models" / "tiny_cnn.onnx"
BLOBS = TINY.parent / "blobs.png"
GREY = {
    "load": "L", "channels": "L", "scale": 1.0, "mean": [0], "std": [1], "resize": {"how": "exact", "to": [32, 32]},
    "filter": "bilinear", "layout": "NCHW", "dtype": "float32",
}  # fmt: skip
SMALL = GREY | {
    "load": "RGB",
    "channels": "RGB",
    "mean": [0] * 3,
    "std": [1] * 3,
    "resize": {"how": "exact", "to": [16, 16]},
}


def tiny(**options: Any) -> Callable[..., Any]:
    """The sample, opened when it is called."""
    return lambda **asked: Explainer(TINY, **options)(BLOBS, **asked)


ASKED: dict[str, tuple[dict[str, Any], type[OnnxCamError], str]] = {
    "no targets": ({"target": []}, UsageError, "no targets to explain: the list is empty"),
    "no such class": ({"target": 3}, TargetError, "target 3 is out of range: the model has classes 0 to 2"),
    "no such label": ({"target": "gren"}, TargetError, "no class is called 'gren'; did you mean green"),
    "no such method": ({"method": "gradcan"}, UsageError, "unknown method 'gradcan'; did you mean gradcam"),
    "no such gradient": ({"gradient": "fast"}, UsageError, "unknown gradient 'fast': choose symbolic, numeric, auto"),
    "no such layer": ({"layer": "exces"}, LayerError, r"the model has no layer 'exces'; did you mean excess"),
    "a layer without a grid": ({"layer": "logits"}, LayerError, r"the layer 'logits' \[N, 3\] has no grid of"),
    "the input as a layer": ({"layer": "image"}, LayerError, "'image' is the model's input: input-level methods"),
    "a layer for saliency": ({"method": "saliency", "layer": "excess"}, UsageError, "saliency explains the input: it"),
    "one of several targets": ({"target": ["red", 7]}, TargetError, "target 7 is out of range"),
}  # fmt: skip


@pytest.mark.parametrize("name", ASKED)
def test_asked_for_what_is_not_there(name: str) -> None:
    asked, kind, says = ASKED[name]
    with pytest.raises(kind, match=f"^{says}") as caught:
        tiny()(**asked)
    assert "\n" not in str(caught.value)


OPTIONS: dict[str, tuple[dict[str, Any], type[OnnxCamError], str]] = {
    "too few labels": ({"labels": ["red"]}, TargetError, "1 labels for a model of 3 classes"),
    "too many labels": ({"labels": list("abcd")}, TargetError, "4 labels for a model of 3 classes"),
    "no labels file": ({"labels": "missing.txt"}, TargetError, "cannot read the labels file missing.txt"),
    "no such recipe": ({"preprocess": "imagenett"}, PreprocessError, "no preprocessing called 'imagenett'; did you"),
    "no recipe file": ({"preprocess": Path("missing.json")}, PreprocessError, ".*missing.json"),
    "a recipe of one channel": ({"preprocess": GREY}, PreprocessError, r"preprocessing given gives 1 channel\(s\)"),
    "a recipe of another size": ({"preprocess": SMALL}, PreprocessError, "preprocessing given ends in 16 x 16 pixels"),
    "no such score": ({"score": "logit"}, LayerError, "the model has no value 'logit' to explain; did you mean"),
    "an input as the score": ({"score": "image"}, LayerError, "'image' is an input of the model: choose something"),
    "no such provider": ({"provider": "quantum"}, ProviderError, "the provider 'quantum' is not in this build"),
    "too many pixels": ({"max_pixels": 10}, ImageError, ".*blobs.png holds more than 20 pixels, 10 are allowed"),
}  # fmt: skip


@pytest.mark.parametrize("name", OPTIONS)
def test_opened_with_what_does_not_fit(name: str) -> None:
    options, kind, says = OPTIONS[name]
    with pytest.raises(kind, match=f"^{says}") as caught:
        tiny(**options)()
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("recipe", "says"),
    [
        ("[" * 100_000, "the model's metadata entry onnxcam.preprocess is not JSON"),
        (
            json.dumps(SMALL | {"resize": {"how": "exact", "to": [13000, 13000]}}),
            ".* ends in 13000 x 13000 pixels",
        ),
        (json.dumps(SMALL | {"crop": [32, 31]}), ".* ends in 32 x 31 pixels, the model's input 'image' takes 32 x 32"),
    ],
)
def test_a_recipe_in_the_model_that_does_not_fit_is_refused_before_any_photo(
    recipe: str, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(core, "decode", None)
    model = onnx.load(TINY)
    onnx.helper.set_model_props(model, {"onnxcam.preprocess": recipe})
    with pytest.raises(PreprocessError, match=f"^{says}"):
        Explainer(model)(BLOBS)


def test_a_given_recipe_that_does_not_fit_is_refused_before_any_photo() -> None:
    with pytest.raises(PreprocessError, match="takes 3"):
        Explainer(TINY, preprocess=GREY)


STEM = "c = Conv({}, stem) a = Relu(c) p = GlobalAveragePool(a) f = Flatten(p) "
HEAD = STEM.format("x") + "y = Gemm<transB = 1>(f, w)"
WEIGHTS = {"stem": normal(4, 3, 3, 3), "w": normal(5, 4), "v": normal(5, 4, seed=1)}
MODELS = {
    "no image": (
        "(float[N, 4] x) => (float[N, 5] y) { y = Gemm<transB = 1>(x, w) }",
        r"has no input that takes an image \(its inputs: 'x' float32 \[N, 4\]\)",
    ),
    "two images": (
        f"(float[N, 3, 8, 8] x, float[N, 3, 8, 8] z) => (float[N, 5] y) {{ s = Add(x, z) {HEAD.replace('(x', '(s')} }}",
        "has several inputs that could take the image",
    ),
    "more than an image": (
        f"(float[N, 3, 8, 8] x, float[N, 5] z) => (float[N, 5] s) {{ {HEAD} s = Add(y, z) }}",
        r"needs more than the image 'x': also 'z' float32 \[N, 5\]; give each with --feed z=FILE\.npy",
    ),
    "two scores": (
        f"(float[N, 3, 8, 8] x) => (float[N, 5] y, float[N, 5] z) {{ {HEAD} z = Gemm<transB = 1>(f, v) }}",
        "has several outputs that could be explained: choose with --score NAME; for a map, --target",
    ),
    "no score": ("(float[N, 3, 8, 8] x) => (int64[4] y) { y = Shape(x) }", "has no output of floating-point numbers"),
}  # fmt: skip


@pytest.mark.parametrize("name", MODELS)
def test_models_that_cannot_be_explained(name: str) -> None:
    text, says = MODELS[name]
    with pytest.raises(ModelError, match=f"^the model {says}") as caught:
        Explainer(net(text, WEIGHTS))(normal(3, 8, 8))
    assert "\n" not in str(caught.value)


def test_of_two_scores_one_may_be_named() -> None:
    explainer = Explainer(net(MODELS["two scores"][0], WEIGHTS), score="z")
    assert explainer(normal(3, 8, 8)).score_name == "z"


@pytest.mark.parametrize(
    "data", [b"", b"not a model", b"<!DOCTYPE html>", b"version https://git-lfs.github.com/spec/v1\n"]
)
def test_files_that_are_no_model(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(data)
    for source in (path, str(path), data):
        with pytest.raises(ModelError) as caught:
            Explainer(source)
        assert "\n" not in str(caught.value)


def test_paths_that_are_no_file(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match=r"^no model at .*missing.onnx$"):
        Explainer(tmp_path / "missing.onnx")
    with pytest.raises(ModelError, match=r"it is a folder$"):
        Explainer(tmp_path)


def test_the_model_given_is_never_changed() -> None:
    proto = onnx.load(TINY)
    before = proto.SerializeToString(deterministic=True)
    explainer = Explainer(proto)
    for method in ("gradcam", "cam", "guidedgradcam"):
        explainer(BLOBS, method=method)
    assert proto.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize("name", ["onnxcam/class", "onnxcam/gradient", "onnxcam/seed"])
def test_a_model_that_uses_a_name_of_ours(name: str) -> None:
    model = onnx.load(TINY)
    score = model.graph.output[0].name
    model.graph.output[0].name = name
    for node in model.graph.node:
        node.output[:] = [name if output == score else output for output in node.output]
    with pytest.raises(ModelError, match=f"calls a value '{name}', as onnxcam calls one of its own"):
        Explainer(model)


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ((3, 16, 16), "resize it"),
        ((32, 32, 3), "its channels are last, move that axis"),
        ((2, 3, 32, 32), "it holds 2 of them; give one per file, or the array itself from Python"),
    ],
)
def test_an_array_of_another_shape_is_told_what_to_do(shape: tuple[int, ...], says: str, tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.zeros(shape, np.float32))
    told = rf"the model's input 'image' takes \[3, 32, 32\] \(CHW\): {says}$"
    with pytest.raises(ImageError, match=told):
        Explainer(TINY)(tmp_path / "x.npy")


def test_what_ends_onnx_runtime_is_not_shown_to_it() -> None:
    weights = {"k": np.ones((3, 3, 1, 1), np.float32), "w": np.ones((3, 2), np.float32)}
    body = "c = ConvTranspose<group = 0>(x, k) p = GlobalAveragePool(c) f = Flatten(p) y = MatMul(f, w)"
    proto = net(f"(float[N,3,4,4] x) => (float[N,2] y) {{ {body} }}", weights)
    with pytest.raises(ModelError, match=r"^the model is broken: ConvTranspose 'node0' has 0 groups$"):
        Explainer(proto)
