"""What an exported file says of itself, there and back."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from typing import Any

import pytest

from onnxcam.errors import ModelError
from onnxcam.runtime import MANIFEST, ImageInput, Layout, Manifest, Score, read_manifest

MADE = Manifest(
    image=ImageInput("x", "NCHW", (224, None), 3, "float32", None), score=Score("logits", "logit", "softmax", "y"),
    layer="größe", layout=Layout("NPC", (14, 14), 1), activations="a", gradients="g", scores="logits",
    class_input="class", model="net.onnx",
)  # fmt: skip


def reading(text: str) -> Manifest | None:
    return read_manifest({MANIFEST: text}, "net.onnx")


VOLUME = replace(MADE, image=replace(MADE.image, layout="NCDHW"), layout=Layout("NCDHW"))


@pytest.mark.parametrize(
    "made",
    [
        MADE, replace(MADE, image=replace(MADE.image, white=255.0)), VOLUME,
        replace(MADE, image=ImageInput("x", "NHW", (28, 28), 1, "float32", None)),
        replace(VOLUME, layout=Layout("NPC", (2, 2, 2))), replace(MADE, layout=Layout("NCHW")),
        replace(MADE, layout=Layout("N?CHW", window=((1.0, 0.0), (-0.1, 0.7)))),
    ],
)  # fmt: skip
def test_there_and_back(made: Manifest) -> None:
    text = made.to_json()
    assert "\n" not in text
    assert reading(text) == made


def test_one_that_does_not_say_how_the_image_is_normalized() -> None:
    data = json.loads(MADE.to_json())
    del data["image"]["white"]
    assert reading(json.dumps(data)) == MADE


def test_a_model_without_one() -> None:
    assert read_manifest({"names": "{}"}, "net.onnx") is None


def test_the_axis_of_the_channels() -> None:
    assert [Layout(axes).channel for axes in ("NCHW", "NHWC", "NPC")] == [1, 3, 2]


def test_another_format_is_refused() -> None:
    data = json.loads(MADE.to_json()) | {"format": 2}
    with pytest.raises(ModelError, match=r"net\.onnx was exported by another version"):
        reading(json.dumps(data))


def changed(**entries: Any) -> str:
    return json.dumps({"format": 1, **asdict(MADE), **entries})


def layout(axes: str, **entries: Any) -> str:
    return changed(layout={"axes": axes, **entries})


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "null", "[]", "3", '"text"', "{}", '{"format": 1}', "[" * 100_000, "NaN",
        MADE.to_json()[:-20],
        changed(image=None), changed(image={}), changed(image=[1, 2]), changed(image=asdict(MADE.image) | {"extra": 1}),
        changed(image=asdict(MADE.image) | {"size": 3}), changed(image=asdict(MADE.image) | {"size": ["a", 2]}),
        changed(image=asdict(MADE.image) | {"size": [1]}), changed(image=asdict(MADE.image) | {"name": 5}),
        changed(image=asdict(MADE.image) | {"layout": "ABCD"}), changed(image=asdict(MADE.image) | {"dtype": "abc"}),
        changed(image=asdict(MADE.image) | {"batch": "x"}), changed(image=asdict(MADE.image) | {"channels": -1}),
        changed(image=asdict(MADE.image) | {"white": 3.0}), changed(image=asdict(MADE.image) | {"white": "255"}),
        changed(layout="NCHW"), changed(layout={"axes": 5}), changed(layout={"axes": "NHW"}),
        changed(layout={"axes": "NPC"}), changed(layout=asdict(MADE.layout) | {"grid": [0, 4]}),
        changed(layout=asdict(MADE.layout) | {"grid": 4}), changed(layout=asdict(MADE.layout) | {"grid": ["a", "b"]}),
        changed(layout=asdict(MADE.layout) | {"prefix": "1"}),
        *(changed(image=asdict(MADE.image) | {"dtype": dtype}) for dtype in ("f4,,", "object", "M8[s]", "bool")),
        changed(image=asdict(MADE.image) | {"batch": 10**30}), changed(image=asdict(MADE.image) | {"size": [10**9, 1]}),
        *(layout(axes) for axes in ("CCCC", "CCHW", "NNCC", "NCPP", "NC??", "CNHW", "NHW", "NCH", "NCHP", "NCDW", "")),
        layout("NCHW", grid=[2, 2]), layout("NCHW", prefix=1), layout("NPC", grid=[2**62, 4]),
        layout("NPC", grid=[2, 2], prefix=-3), layout("NPC", grid=[2, 2], prefix=10**30), layout("NPC", grid=[4]),
        layout("NPC", grid=[2, 2, 2, 2]), layout("NCHW", window=[[5, 6], [5, 6]]),
        *(layout("NCHW", window=[[0.0, 1.0], side]) for side in ([5.0, 6.0], [-2.0, 0.0], [0.5, 0.5], [0.0, 1e-300],
          [0.0, 1e308], [-1e308, 1.0], [0.0, float("nan")], [0.0, float("inf")], [0.0])),
        layout("NCHW", window=[[0.0, 1.0]]), layout("NCHW", window=[[0.0, 1.0]] * 3),
        layout("NCDHW"), layout("NPC", grid=[2, 2, 2]),
        changed(score="logits"), changed(score=asdict(MADE.score) | {"squash": None}),
        changed(layer=None), changed(gradients=["g"]), changed(unknown="entry"),
    ],
)  # fmt: skip
def test_a_damaged_manifest(text: str) -> None:
    with pytest.raises(ModelError, match=r"net\.onnx carries a damaged onnxcam manifest|another version"):
        reading(text)
