"""`onnxcam run` on models that are no classifiers: what is typed, printed and written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from tests.cli.conftest import Invoke, names, refusal
from tests.cli.test_run import rows
from tests.nets import net, normal

STEM = "c = Conv<pads = [1, 1, 1, 1]>(x, stem) a = Relu(c) "
# red, green and blue, each seen where it is the brightest
COLOURS = {"stem": np.eye(3, dtype=np.float32)[..., None, None] * (np.arange(9).reshape(3, 3) == 4).astype(np.float32)}
COLOURS |= {"k": np.eye(3, dtype=np.float32)[..., None, None]}
SEGMENTS = f"(float[N, 3, 8, 8] x) => (float[N, 3, 8, 8] y) {{ {STEM} y = Conv(a, k) }}"
VOLUME = "(float[N, 1, 4, 6, 8] x) => (float[N, 5] y) { c = Conv(x, cube) a = Relu(c) p = GlobalAveragePool(a) " \
         "f = Flatten(p) y = Gemm<transB = 1>(f, w) }"  # fmt: skip


@pytest.fixture
def segments(folder: Path) -> Path:
    """segments.onnx says which colour is where; half.png is red on the left, a little brighter blue on the right."""
    onnx.save(net(SEGMENTS, COLOURS), folder / "segments.onnx")
    pixels = np.zeros((8, 8, 3), np.uint8)
    pixels[:, :4, 0], pixels[:, 4:, 2] = 200, 250
    Image.fromarray(pixels).save(folder / "half.png")
    (folder / "colours.txt").write_text("red\ngreen\nblue\n")
    return folder


def explained(onnxcam: Invoke, *args: object) -> list[dict[str, Any]]:
    options = ("--preprocess", "unit", "--labels", "colours.txt", "--json")
    result = onnxcam("run", "segments.onnx", "half.png", *options, *args)
    assert result.exit_code == 0, result.stderr
    return rows(result.stdout)


def test_a_segmentation(onnxcam: Invoke, segments: Path) -> None:
    red, blue, box = explained(onnxcam, "-t", "red", "-t", "blue", "-t", "blue@0,0,6,8")
    assert red["target"] == {
        "name": "red over its own region", "index": None, "label": "red", "probability": None,
        "score": pytest.approx(32 * 200 / 255, rel=1e-3),
    }  # fmt: skip
    assert (red["top"], red["score"]) == ([], {"name": "y", "kind": "output", "guess": False})
    assert blue["target"]["score"] == pytest.approx(32 * 250 / 255, rel=1e-3)
    assert box["target"]["score"] == pytest.approx(16 * 250 / 255, rel=1e-3)
    assert [Path(row["files"][0]).name for row in (red, blue, box)] == [
        "half.red-over-its-own-region.gradcam.png", "half.blue-over-its-own-region.gradcam.png",
        "half.blue-over-0-0-6-8.gradcam.png",
    ]  # fmt: skip


def test_a_target_that_nobody_named_is_announced(onnxcam: Invoke, segments: Path) -> None:
    result = onnxcam("run", "segments.onnx", "half.png", "--preprocess", "unit", "--labels", "colours.txt")
    assert (
        "Note: no target was named, this explains red over its own region: say another with --target" in result.stderr
    )
    assert re.search(r"Grad-CAM of red over its own region = [\d.]+ at a, 8 x 8: ok", result.stdout)
    assert names(segments / "onnxcam_out") == ["half.gradcam.png"]


def test_class_names_that_fit_nothing_are_announced(onnxcam: Invoke, segments: Path) -> None:
    model = net(SEGMENTS, COLOURS)
    onnx.helper.set_model_props(model, {"stride": "8", "names": "['red', 'blue']"})
    onnx.save(model, segments / "segments.onnx")
    result = onnxcam("run", "segments.onnx", "half.png", "-t", "2")
    assert "Note: the 2 class names fit no axis of 'y' and are left out" in result.stderr
    assert "Grad-CAM of class 2 over its own region" in result.stdout
    named = onnxcam("run", "segments.onnx", "half.png", "-t", "2", "--labels", "colours.txt")
    assert "class names" not in named.stderr


def test_names_of_targets_alike_in_a_file_name_are_kept_apart(onnxcam: Invoke, segments: Path) -> None:
    found = explained(onnxcam, "-t", "y[0,1,2]", "-t", "y[0,1:2]", "-t", "y[0,-1,2]")
    assert [Path(row["files"][0]).name for row in found] == [
        "half.y-0-1-2.gradcam.png", "half.y-0-1-2_2.gradcam.png", "half.y-0-1-2_3.gradcam.png",
    ]  # fmt: skip


def test_a_class_that_one_image_has_not_ends_no_run(onnxcam: Invoke, segments: Path) -> None:
    Image.new("RGB", (16, 16), "red").save(segments / "red.png")
    result = onnxcam("run", "segments.onnx", "red.png", "half.png", "--labels", "colours.txt", "-t", "blue", "--json")
    assert result.exit_code == 2
    assert "Error: red.png: the model sees blue nowhere in this image: say where, 2@X0" in result.stderr
    assert [row["image"] for row in rows(result.stdout)] == ["half.png"]


def test_a_class_that_is_not_there_leaves_the_others(onnxcam: Invoke, segments: Path) -> None:
    Image.new("RGB", (16, 16), "red").save(segments / "red.png")
    asked = ("-t", "blue", "-t", "red", "-t", "green", "--labels", "colours.txt", "--json")
    result = onnxcam("run", "segments.onnx", "red.png", *asked)
    assert result.exit_code == 2
    refused = [line.split(" nowhere")[0] for line in result.stderr.splitlines() if line.startswith("Error")]
    assert refused == ["Error: the model sees blue", "Error: the model sees green"]
    assert [row["target"]["name"] for row in rows(result.stdout)] == ["red over its own region"]


def test_a_refusal_tells_of_a_guess(onnxcam: Invoke, segments: Path) -> None:
    Image.new("RGB", (16, 16), "red").save(segments / "red.png")
    guess = "(the preprocessing may be why, unit is a guess: exact 8x8 bilinear, RGB, 0..1)"
    result = onnxcam("run", "segments.onnx", "red.png", "-t", "2")
    assert guess in result.stderr
    assert "guess" not in onnxcam("run", "segments.onnx", "red.png", "-t", "2", "--preprocess", "unit").stderr


def test_an_image_with_nothing_in_it_ends_no_run(onnxcam: Invoke, segments: Path) -> None:
    """A text detector finds nothing on an empty page, and the other pages are explained all the same."""
    text = (
        f"(float[N, 3, 8, 8] x) => (float[N, 1, 8, 8] y) {{ {STEM} m = Conv(a, red) s = Sub(m, half) y = Sigmoid(s) }}"
    )
    red = np.array([1, 0, 0], np.float32).reshape(1, 3, 1, 1)
    onnx.save(net(text, {**COLOURS, "red": red, "half": np.float32(0.5)}), segments / "reds.onnx")
    Image.new("RGB", (8, 8), "blue").save(segments / "blue.png")
    result = onnxcam("run", "reds.onnx", "blue.png", "half.png", "--preprocess", "unit", "--json")
    assert result.exit_code == 2
    assert "Error: blue.png: the model sees nothing in this image: say where, 0@X0" in result.stderr
    assert [row["image"] for row in rows(result.stdout)] == ["half.png"]


TARGETS = {
    "green@none.png": "none.png",
    "no class": "no class is called 'no class'",
    "z[1]": "the model has no value 'z' to explain",
    "y[1,2,3,4]": r"the index [1,2,3,4] does not fit 'y', which holds 3 x 8 x 8 numbers for an image",
    "y[]": "'[]' is no index",
    "top:2": "top:K is for models that score classes: 'y' holds 3 x 8 x 8 numbers for an image: say CLASS",
    "ctc": "tokens are explained in a sequence of steps",
    "similar:none.png": "none.png",
}


@pytest.mark.parametrize("target", TARGETS)
def test_what_cannot_be_is_one_line(onnxcam: Invoke, segments: Path, target: str) -> None:
    result = onnxcam("run", "segments.onnx", "half.png", "--labels", "colours.txt", "-t", target)
    assert TARGETS[target] in refusal(result)
    assert not (segments / "onnxcam_out").exists()


def test_a_likeness_is_of_no_class(onnxcam: Invoke, folder: Path) -> None:
    """An embedding looks like raw outputs of classes: percentages of it mean nothing."""
    text = f"(float[N, 3, 8, 8] x) => (float[N, 3] y) {{ {STEM} p = ReduceMean<axes = [2, 3], keepdims = 0>(a) " \
           "y = MatMul(p, w) }"  # fmt: skip
    onnx.save(net(text, {**COLOURS, "w": normal(3, 3)}), folder / "embedding.onnx")
    Image.new("RGB", (8, 8), "red").save(folder / "red.png")
    like, best = (
        onnxcam("run", "embedding.onnx", "blobs.png", "--preprocess", "unit", *target)
        for target in (("-t", "similar:red.png"), ())
    )
    assert re.search(r"of similarity to red.png = -?0\.\d+ at a, 8 x 8", like.stdout)
    assert "%" in best.stdout
    assert "percentages, is a guess" in best.stderr
    assert "%" not in like.stdout
    assert "percentages" not in like.stderr
    both = onnxcam("run", "embedding.onnx", "blobs.png", "-t", "similar:red.png", "-t", "1")
    assert "%" in both.stdout


def test_feeds(onnxcam: Invoke, folder: Path) -> None:
    text = f"(float[N, 3, 8, 8] x, float[3] light) => (float[N, 3] y) {{ {STEM} p = ReduceMean<axes = [2, 3], " \
           "keepdims = 0>(a) m = MatMul(p, w) y = Mul(m, light) }"  # fmt: skip
    onnx.save(net(text, {**COLOURS, "w": normal(3, 3)}), folder / "lit.onnx")
    np.save(folder / "light.npy", np.array([1.0, 2, 3]))
    assert "also 'light' float32 [3]; give each with --feed light=FILE.npy" in refusal(
        onnxcam("run", "lit.onnx", "blobs.png")
    )
    result = onnxcam("run", "lit.onnx", "blobs.png", "--feed", "light=light.npy", "-t", "2", "--json")
    assert result.exit_code == 0, result.stderr
    for feed, says in {
        "light": "--feed 'light' should be NAME=FILE.npy",
        "light=none.npy": "the feed none.npy cannot be read as an array: No such",
        "light=blobs.png": "the feed blobs.png cannot be read as an array", "dark=light.npy": "no input 'dark' to feed",
    }.items():  # fmt: skip
        assert says in refusal(onnxcam("run", "lit.onnx", "blobs.png", "--feed", feed))
    table = onnxcam("layers", "lit.onnx").stdout.splitlines()
    assert [line.split() for line in table[:3]] == [
        ["input", "x", "[N,", "3,", "8,", "8]", "NCHW", "float32"], ["feed", "light", "[3]", "float32"],
        ["score", "y", "[N,", "3]", "output"],
    ]  # fmt: skip
    assert "ok" in onnxcam("ops", "lit.onnx", "--feed", "light=light.npy").stdout
    fixed = onnxcam("layers", "lit.onnx", "--feed", "light=light.npy").stdout
    assert "feed" not in [line.split()[0] for line in fixed.splitlines() if line]
    checked = onnxcam("check", "lit.onnx", "blobs.png", "--feed", "light=light.npy")  # in a process of its own
    assert checked.exit_code == 0, checked.stdout + checked.stderr
    assert onnxcam("export", "lit.onnx", "-o", "kept.onnx", "--feed", "light=light.npy").exit_code == 0
    kept = onnxcam("run", "kept.onnx", "blobs.png", "-t", "2", "--json")
    assert rows(kept.stdout)[0]["map"]["max"] == pytest.approx(rows(result.stdout)[0]["map"]["max"], rel=1e-5)
    assert "has no inputs to feed" in refusal(onnxcam("run", "kept.onnx", "blobs.png", "--feed", "light=light.npy"))
    twice = onnxcam("run", "lit.onnx", "blobs.png", "--feed", "light=light.npy", "--feed", "light=light.npy")
    assert "--feed gives the input 'light' twice" in refusal(twice)


def test_what_is_no_row_of_classes_is_not_exported(onnxcam: Invoke, segments: Path) -> None:
    says = "an exported file explains a row of class scores, 'y' is [N, 3, 8, 8]: name another with --score"
    assert says in refusal(onnxcam("export", "segments.onnx", "-o", "never.onnx"))


def test_a_volume_is_a_npy_and_gives_one(onnxcam: Invoke, folder: Path) -> None:
    onnx.save(net(VOLUME, {"cube": normal(4, 1, 3, 3, 3), "w": normal(5, 4)}), folder / "volume.onnx")
    np.save(folder / "scan.npy", normal(1, 4, 6, 8))
    result = onnxcam("run", "volume.onnx", "scan.npy", "--json")
    assert result.exit_code == 0, result.stderr
    (row,) = rows(result.stdout)
    assert (row["map"]["shape"], row["preprocess"]) == ([2, 4, 6], {"name": "array as given", "guess": False})
    assert names(folder / "onnxcam_out") == ["scan.gradcam.npy"]
    assert np.load(folder / "onnxcam_out" / "scan.gradcam.npy").shape == (2, 4, 6)
    assert "takes volumes (NCDHW), a photo has no depth" in refusal(onnxcam("run", "volume.onnx", "blobs.png"))


def test_what_a_mean_does_to_a_row_is_said(onnxcam: Invoke, segments: Path) -> None:
    boxes = SEGMENTS.replace("float[N, 3, 8, 8] y", "float[N, 64, 3] y").replace(
        "y = Conv(a, k)", "m = Conv(a, k) r = Reshape(m, flat) y = Transpose<perm = [0, 2, 1]>(r)"
    )
    onnx.save(net(boxes, {**COLOURS, "flat": np.array([0, 3, -1])}), segments / "boxes.onnx")
    asked = ("run", "boxes.onnx", "half.png", "-t", "y[0,0]", "--preprocess", "unit")
    assert "where a single row or step looks, --method hirescam shows" in onnxcam(*asked).stderr
    assert "--method hirescam" not in onnxcam(*asked, "-m", "hirescam").stderr
