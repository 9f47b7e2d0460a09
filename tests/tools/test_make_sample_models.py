"""The sample files are the ones that the manifest names, and the models answer what it says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import make_sample_models
import numpy as np
import numpy.typing as npt
import onnx
import onnxruntime
import pytest
from PIL import Image

FOLDER = make_sample_models.FOLDER
MANIFEST = json.loads((FOLDER / "manifest.json").read_text(encoding="utf-8"))
MODELS = {entry["file"]: entry for entry in MANIFEST["models"]}

every_model = pytest.mark.parametrize("entry", MODELS.values(), ids=MODELS)


def run(path: Path, x: npt.NDArray[np.float32], *also: str) -> list[npt.NDArray[np.float32]]:
    """The model's output, then the inner values named."""
    model = onnx.load(path)
    model.graph.output.extend(onnx.ValueInfoProto(name=name) for name in also)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: x})


def prepared(entry: dict[str, Any]) -> npt.NDArray[np.float32]:
    """The manifest's photograph as its recipe says, by other code than onnxcam's."""
    recipe = entry["preprocess"]
    photo = Image.open(FOLDER / entry["image"]).convert("RGB")
    width, height = photo.size
    if recipe["resize"]["how"] == "short_side":
        scale = recipe["resize"]["to"] / min(photo.size)
        photo = photo.resize((round(width * scale), round(height * scale)), Image.Resampling.BILINEAR)
        side, _ = recipe["crop"]
        left, top = (photo.width - side) // 2, (photo.height - side) // 2
        photo = photo.crop((left, top, left + side, top + side))
    pixels = np.asarray(photo, np.float32)[..., :: -1 if recipe["channels"] == "BGR" else 1]
    x = (pixels * np.float32(recipe["scale"]) - np.float32(recipe["mean"])) / np.float32(recipe["std"])
    return np.ascontiguousarray(x.transpose(2, 0, 1)[None])


def test_the_files_are_the_manifests() -> None:
    assert make_sample_models.differences() == []
    listed = {entry["file"] for entry in [*MANIFEST["models"], *MANIFEST["images"]]}
    assert {path.name for path in FOLDER.iterdir()} == listed | {"manifest.json", "README.md", "LICENSES.txt"}


def test_a_changed_or_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for path in FOLDER.iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    (tmp_path / "chelsea.png").unlink()
    (tmp_path / "blobs.png").write_bytes(b"")
    monkeypatch.setattr(make_sample_models, "FOLDER", tmp_path)
    changed, missing = sorted(make_sample_models.differences())
    assert changed.startswith("blobs.png: SHA-256 e3b0c442")
    assert missing == "chelsea.png: missing"


@every_model
def test_the_answer_is_the_one_to_expect(entry: dict[str, Any]) -> None:
    (probabilities,) = run(FOLDER / entry["file"], prepared(entry))
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert probabilities[0].argmax() == entry["expected"]["top1"]
    slack = 0.02 if "int8" in entry["file"] else 1e-3  # a code more or less, by the rounding of one CPU or another
    assert probabilities[0].max() == pytest.approx(entry["expected"]["score"], abs=slack)


@every_model
def test_the_file_carries_its_own_recipe_and_labels(entry: dict[str, Any]) -> None:
    model = onnx.load(FOLDER / entry["file"])
    metadata = {prop.key: prop.value for prop in model.metadata_props}
    assert json.loads(metadata.pop("onnxcam.preprocess")) == entry["preprocess"]
    labels = metadata.pop("onnxcam.labels", None)
    assert entry["labels"] == (labels.split("\n") if labels else "imagenet-1k")
    assert not metadata
    assert [model.opset_import[0].version, model.ir_version] == [17, 8]


@every_model
def test_rows_of_a_batch_are_each_their_own(entry: dict[str, Any]) -> None:
    x = prepared(entry)
    (both,) = run(FOLDER / entry["file"], np.concatenate([x, x[..., ::-1]]))
    (second,) = run(FOLDER / entry["file"], x[..., ::-1].copy())
    np.testing.assert_allclose(both[1:], second, atol=1e-6)


def test_tiny_cnn_on_its_blobs_is_exact() -> None:
    probabilities, excess, logits = run(FOLDER / "tiny_cnn.onnx", prepared(MODELS["tiny_cnn.onnx"]), "excess", "logits")
    expected = np.zeros((3, 8, 8), np.float32)
    expected[0, 1:4, 1:4] = expected[1, 5:7, 5:7] = expected[2, 1:3, 5:7] = 1
    np.testing.assert_array_equal(excess[0], expected)
    np.testing.assert_array_equal(logits, [[1.25, -0.625, -0.625]])
    assert probabilities[0, 0] == pytest.approx(1 / (1 + 2 * np.exp(-1.875)))


def test_what_needs_no_download_is_made_again_byte_for_byte(tmp_path: Path) -> None:
    make_sample_models.tiny_cnn(tmp_path / "tiny_cnn.onnx")
    make_sample_models.blobs(tmp_path / "blobs.png")
    for path in tmp_path.iterdir():
        assert path.read_bytes() == (FOLDER / path.name).read_bytes()
