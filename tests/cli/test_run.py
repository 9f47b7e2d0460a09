"""`onnxcam run`: what is printed, what is written, what is refused."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from PIL import Image

from onnxcam.explainer import core
from onnxcam.imaging import COLORMAPS, preprocess_names
from onnxcam.methods import METHODS
from tests.cli.conftest import ROOT, Invoke, names, refusal
from tests.explainer.test_detections import torchvisions

KEYS = [
    "image", "model", "method", "layer", "placed", "gradient", "provider", "preprocess", "score", "target", "top",
    "map", "boxes", "status", "files", "seconds",
]  # fmt: skip
HOSTILE = "\x1b[31m\x1b]0;owned\x07\u202e\x7f<b>"


def rows(text: str) -> list[dict[str, Any]]:
    def refuse(name: str) -> None:
        raise ValueError(name)

    return [json.loads(line, parse_constant=refuse) for line in text.splitlines()]


def explained(onnxcam: Invoke, *args: object) -> list[dict[str, Any]]:
    result = onnxcam("run", "tiny.onnx", *args, "--json")
    assert result.exit_code == 0, result.stderr
    return rows(result.stdout)


# -- what is printed ------------------------------------------------------------------------------


def test_the_summary_says_what_the_model_says_and_where_the_picture_is(onnxcam: Invoke) -> None:
    result = onnxcam("run", "tiny.onnx", "blobs.png")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout.splitlines() == [
        "tiny.onnx on cpu, explaining logits (logit)",
        "preprocessing from the model: exact 32x32 bilinear, RGB, 0..1",
        "blobs.png",
        "  0  red    1.25    76.5 %",
        "  1  green  -0.625  11.7 %",
        "  2  blue   -0.625  11.7 %",
        "  Grad-CAM of red (0) at excess, 8 x 8: ok",
        f"    {Path('onnxcam_out/blobs.gradcam.png')}",
    ]


def test_json_holds_the_keys_of_the_design_and_their_values(onnxcam: Invoke) -> None:
    (row,) = explained(onnxcam, "blobs.png", "--npy", "--boxes", "--top-k", "2")
    assert list(row) == KEYS
    expected = {
        "image": "blobs.png", "model": "tiny.onnx", "method": "gradcam", "layer": "excess", "gradient": "symbolic",
        "provider": "cpu", "score": {"name": "logits", "kind": "logit", "guess": False}, "status": "ok",
        "files": [str(Path("onnxcam_out/blobs.gradcam.png")), str(Path("onnxcam_out/blobs.gradcam.npy"))],
    }  # fmt: skip
    assert {key: row[key] for key in expected} == expected
    probability = pytest.approx(1 / (1 + 2 * np.exp(-1.875)))
    assert row["target"] == {"name": "red", "index": 0, "label": "red", "score": 1.25, "probability": probability}
    assert [one["index"] for one in row["top"]] == [0, 1]
    assert row["top"][0] == row["target"]
    raw = np.load(row["files"][1])
    assert (raw.dtype, list(raw.shape)) == (np.float32, row["map"]["shape"])
    assert (row["map"]["min"], row["map"]["max"]) == (raw.min(), raw.max())
    ((x0, y0, x1, y1),) = row["boxes"]
    assert 0 <= x0 < x1 <= 32
    assert 0 <= y0 < y1 <= 32
    assert row["preprocess"]["name"] == "from the model"
    assert row["seconds"] > 0


def test_boxes_are_null_unless_asked_for(onnxcam: Invoke) -> None:
    assert explained(onnxcam, "blobs.png")[0]["boxes"] is None


def test_quiet_prints_nothing_and_leaves_the_json(onnxcam: Invoke) -> None:
    result = onnxcam("run", "tiny.onnx", "blobs.png", "-q")
    assert (result.exit_code, result.output) == (0, "")
    assert len(explained(onnxcam, "blobs.png", "-q")) == 1


def test_quiet_does_not_hide_an_error(onnxcam: Invoke) -> None:
    assert "missing.png" in refusal(onnxcam("run", "tiny.onnx", "missing.png", "-q"))


def test_detections_in_several_outputs_are_explained_and_told(onnxcam: Invoke, folder: Path) -> None:
    onnx.save(torchvisions(), "detector.onnx")
    (folder / "labels.txt").write_text("background\nant\nbee\n")
    args = "run", "detector.onnx", "blobs.png", "--labels", "labels.txt", "--preprocess", "unit"
    result = onnxcam(*args, "--json")
    (row,) = rows(result.stdout)
    assert row["target"]["name"].endswith(" in row 0")
    assert row["target"]["label"] in ("background", "ant", "bee")
    assert (
        "'detections' are rows of a box, a score and a class, of the model's output boxes, s, labels" in result.stderr
    )
    assert len(rows(onnxcam(*args, "--json", "-t", "top:2").stdout)) == 2
    assert "detections  [" in onnxcam("layers", "detector.onnx").stdout


def test_guesses_are_announced_and_told_in_the_json(onnxcam: Invoke, folder: Path) -> None:
    model = onnx.load("tiny.onnx")
    del model.metadata_props[:]
    onnx.save(model, "bare.onnx")
    result = onnxcam("run", "bare.onnx", "blobs.png", "--json")
    (row,) = rows(result.stdout)
    assert row["preprocess"]["guess"] is True
    assert row["target"]["label"] is None
    assert result.stderr.splitlines() == [
        f"Note: nothing says how to preprocess, '{row['preprocess']['name']}' is a guess: say it with --preprocess"
    ]
    assert onnxcam("run", "bare.onnx", "blobs.png", "--json", "-q").stderr == ""
    assert "(a guess)" in onnxcam("run", "bare.onnx", "blobs.png").stdout
    byte = onnx.numpy_helper.from_array(np.float32(1 / 255), "byte")
    model.graph.initializer.append(byte)
    model.graph.node[0].input[0] = "scaled"
    model.graph.node.insert(0, onnx.helper.make_node("Mul", [model.graph.input[0].name, "byte"], ["scaled"]))
    onnx.save(model, "scaling.onnx")
    assert onnxcam("run", "scaling.onnx", "blobs.png").stderr.splitlines() == [
        "Note: nothing says how to preprocess, 'raw' is a guess, as the model itself normalizes 0..255: "
        "say it with --preprocess"
    ]


def test_percentages_of_raw_outputs_are_a_guess_that_is_announced(onnxcam: Invoke, folder: Path) -> None:
    model = onnx.load("tiny.onnx")
    model.graph.output[0].name = "logits"
    del model.graph.node[-1]
    onnx.save(model, "raw.onnx")
    result = onnxcam("run", "raw.onnx", "blobs.png", "--json")
    (row,) = rows(result.stdout)
    assert row["score"] == {"name": "logits", "kind": "logit", "guess": True}
    assert row["target"]["probability"] == pytest.approx(1 / (1 + 2 * np.exp(-1.875)))
    assert result.stderr.splitlines() == [
        "Note: the model ends in raw outputs, no softmax: that 'logits' holds logits of one, and so the percentages, "
        "is a guess (of an embedding, say --target similar:IMAGE)"
    ]
    assert "logit of a softmax that the model leaves out (a guess)" in onnxcam("layers", "raw.onnx").stdout
    named = onnxcam("run", "raw.onnx", "blobs.png", "--json", "--score", "logits")
    assert (named.stderr, rows(named.stdout)[0]["target"]["probability"]) == ("", None)


def test_a_refused_run_announces_nothing(onnxcam: Invoke) -> None:
    model = onnx.load("tiny.onnx")
    del model.metadata_props[:]
    onnx.save(model, "bare.onnx")
    assert "missing.png" in refusal(onnxcam("run", "bare.onnx", "missing.png"))


def test_several_images_end_with_a_count(onnxcam: Invoke) -> None:
    result = onnxcam("run", "tiny.onnx", "blobs.png", "blobs.png")
    assert result.stdout.splitlines()[-1] == "2 explained, 0 refused"


def test_labels_reach_no_terminal_unprintable(onnxcam: Invoke, folder: Path) -> None:
    (folder / "labels.txt").write_text("".join(f"{HOSTILE}{i}\n" for i in range(3)), encoding="utf-8")
    told = onnxcam("run", "tiny.onnx", "blobs.png", "--labels", "labels.txt")
    strict = onnxcam("run", "tiny.onnx", "blobs.png", "--labels", "labels.txt", "--json")
    assert all(line.isprintable() for line in (told.stdout + strict.stdout).splitlines())
    assert rows(strict.stdout)[0]["target"]["label"] == f"{HOSTILE}0"


def test_help_names_every_method_recipe_and_colour_map(onnxcam: Invoke) -> None:
    text = onnxcam("run", "--help").stdout
    words = set(text.replace(",", " ").replace(".", " ").replace(";", " ").split())
    assert words >= {*METHODS, *preprocess_names(), *COLORMAPS}


# -- what is asked for ----------------------------------------------------------------------------


def test_several_targets_and_methods_are_lines_and_files_of_their_own(onnxcam: Invoke, folder: Path) -> None:
    found = explained(onnxcam, "blobs.png", "-t", "blue", "-t", "0", "-m", "gradcam", "-m", "Grad-CAM++")
    assert [(row["method"], row["target"]["index"]) for row in found] == [
        ("gradcam", 2), ("gradcam", 0), ("gradcam++", 2), ("gradcam++", 0),
    ]  # fmt: skip
    assert names(folder / "onnxcam_out") == sorted(
        f"blobs.{i}.{method}.png" for i in (0, 2) for method in ("gradcam", "gradcam++")
    )


def test_top_k_targets_are_the_best_in_order_each_once(onnxcam: Invoke) -> None:
    found = explained(onnxcam, "blobs.png", "-t", "1", "-t", "top:2", "-t", "red")
    assert [row["target"]["index"] for row in found] == [1, 0]


def test_a_method_named_twice_runs_once(onnxcam: Invoke) -> None:
    assert len(explained(onnxcam, "blobs.png", "-m", "gradcam", "-m", "grad_cam")) == 1


def test_a_layer_goes_to_the_methods_that_read_one(onnxcam: Invoke) -> None:
    cam, saliency = explained(onnxcam, "blobs.png", "-l", "excess", "-m", "gradcam", "-m", "saliency")
    assert (cam["layer"], saliency["layer"]) == ("excess", "image")
    assert "takes no layer" in refusal(onnxcam("run", "tiny.onnx", "blobs.png", "-l", "excess", "-m", "saliency"))


def test_a_numeric_gradient_says_so(onnxcam: Invoke) -> None:
    assert explained(onnxcam, "blobs.png", "--gradient", "numeric")[0]["gradient"] == "numeric"
    assert "numeric gradient" in onnxcam("run", "tiny.onnx", "blobs.png", "--gradient", "numeric").stdout


def test_single_options_change_the_recipe_and_keep_the_rest(onnxcam: Invoke) -> None:
    options = ("--scale", "1/128", "--mean", "0.5", "--std", "1,2,4", "--channels", "bgr")
    (row,) = explained(onnxcam, "blobs.png", *options)
    recipe = row["preprocess"]
    assert (recipe["scale"], recipe["mean"], recipe["std"]) == (1 / 128, [0.5] * 3, [1, 2, 4])
    assert (recipe["channels"], recipe["resize"]) == ("BGR", {"how": "exact", "to": [32, 32]})
    assert recipe["guess"] is False


def test_size_and_crop_change_the_geometry(onnxcam: Invoke) -> None:
    (row,) = explained(onnxcam, "blobs.png", "--preprocess", "unit", "--size", "40x48", "--crop", "32")
    assert row["preprocess"]["resize"] == {"how": "exact", "to": [40, 48]}
    assert row["preprocess"]["crop"] == [32, 32]


def test_the_colour_map_reaches_the_picture(onnxcam: Invoke) -> None:
    pictures = []
    for name in ("viridis", "jet"):
        (row,) = explained(onnxcam, "blobs.png", "--colormap", name, "-o", name)
        pictures.append(Path(row["files"][0]).read_bytes())
    assert pictures[0] != pictures[1]


# -- what is written ------------------------------------------------------------------------------


def test_two_images_of_one_name_are_two_results(onnxcam: Invoke, folder: Path) -> None:
    for name in ("a/pic.png", "b/pic.png", "b/PIC.bmp"):
        (folder / name).parent.mkdir(exist_ok=True)
        with Image.open("blobs.png") as photo:
            photo.save(name)
    found = explained(onnxcam, "a/pic.png", "b/pic.png", "b/PIC.bmp", "-o", "out")
    wanted = ["pic.gradcam.png", "pic_2.gradcam.png", "PIC_3.gradcam.png"]
    assert [Path(row["files"][0]).name for row in found] == wanted
    assert names(folder / "out") == sorted(wanted)


def test_a_later_run_replaces_the_files_of_an_earlier_one(onnxcam: Invoke, folder: Path) -> None:
    (folder / "onnxcam_out").mkdir()
    stale = folder / "onnxcam_out" / "blobs.gradcam.png"
    stale.write_bytes(b"stale")
    explained(onnxcam, "blobs.png")
    assert stale.read_bytes().startswith(b"\x89PNG")
    assert names(folder / "onnxcam_out") == ["blobs.gradcam.png"]


def test_an_image_to_explain_is_never_overwritten(onnxcam: Invoke, folder: Path) -> None:
    shutil.copy("blobs.png", "blobs.gradcam.png")
    before = (folder / "blobs.gradcam.png").read_bytes()
    result = onnxcam("run", "tiny.onnx", "blobs.png", "blobs.gradcam.png", "-o", ".")
    assert "overwritten" in refusal(result)
    assert (folder / "blobs.gradcam.png").read_bytes() == before


def test_a_folder_that_holds_its_own_maps_is_explained_as_before(onnxcam: Invoke, folder: Path) -> None:
    for _ in range(2):
        found = explained(onnxcam, ".", "-o", ".", "-m", "gradcam", "-m", "saliency")
        assert [row["image"] for row in found] == [os.path.join(".", "blobs.png")] * 2
    assert names(folder) == ["blobs.gradcam.png", "blobs.png", "blobs.saliency.png", "tiny.onnx"]


def test_odd_bytes_in_a_name_survive_the_json_and_leave_the_file_names(onnxcam: Invoke, folder: Path) -> None:
    odd = os.fsdecode(b"bl\xff\x1b[31m.png")
    try:
        shutil.copy("blobs.png", odd)
    except OSError:
        pytest.skip("a file system that takes no such name")
    (row,) = explained(onnxcam, odd)
    assert os.fsencode(row["image"]) == os.fsencode(odd)
    assert names(folder / "onnxcam_out") == ["bl__[31m.gradcam.png"]
    assert onnxcam("run", "tiny.onnx", odd).stdout.isascii()


def test_a_long_name_is_shortened(onnxcam: Invoke, folder: Path) -> None:
    shutil.copy("blobs.png", "x" * 250 + ".png")
    (row,) = explained(onnxcam, "x" * 250 + ".png", "--npy")
    assert {len(Path(name).stem) for name in row["files"]} == {200 + len(".gradcam")}


# -- what is refused ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("args", "says"),
    [
        (("missing.onnx", "blobs.png"), "missing.onnx"),
        (("tiny.onnx",), "IMAGE"),
        (("tiny.onnx", "missing.png"), "missing.png"),
        (("tiny.onnx", "no*.png"), "no image matches no*.png"),
        (("tiny.onnx", "empty"), "the folder empty holds no image"),
        (("tiny.onnx", "blobs.png", "-t", "3"), "classes 0 to 2"),
        (("tiny.onnx", "blobs.png", "-t", "-1"), "-1"),
        (("tiny.onnx", "blobs.png", "-t", "gren"), "did you mean green"),
        (("tiny.onnx", "blobs.png", "-t", "top:0"), "top:K"),
        (("tiny.onnx", "blobs.png", "-l", "exces"), "excess"),
        (("tiny.onnx", "blobs.png", "-m", "gradkam"), "gradcam"),
        (("tiny.onnx", "blobs.png", "--colormap", "viridian"), "viridis"),
        (("tiny.onnx", "blobs.png", "--gradient", "magic"), "symbolic"),
        (("tiny.onnx", "blobs.png", "--score", "logit"), "logits"),
        (("tiny.onnx", "blobs.png", "--provider", "abacus"), "cpu"),
        (("tiny.onnx", "blobs.png", "--labels", "none.txt"), "none.txt"),
        (("tiny.onnx", "blobs.png", "--preprocess", "unity"), "unit"),
        (("tiny.onnx", "blobs.png", "--size", "3x4x5"), "no size"),
        (("tiny.onnx", "blobs.png", "--mean", "1,a"), "no number"),
        (("tiny.onnx", "blobs.png", "--mean", "1,2"), "3 channels"),
        (("tiny.onnx", "blobs.png", "--scale", "1/0"), "no number"),
        (("tiny.onnx", "blobs.png", "--scale", "nan"), "finite"),
        (("tiny.onnx", "blobs.png", "--channels", "L"), "1 channel"),
        (("tiny.onnx", "blobs.png", "--max-pixels", "1000"), "1000"),
        (("tiny.onnx", "blobs.png", "--threads", "-1"), "threads"),
        (("tiny.onnx", "blobs.png", "--frobnicate"), "--frobnicate"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_usage_is_one_line_and_leaves_nothing(
    onnxcam: Invoke, folder: Path, args: tuple[str, ...], says: str
) -> None:
    (folder / "empty").mkdir()
    assert says in refusal(onnxcam("run", *args))
    assert not (folder / "onnxcam_out").exists()


@pytest.mark.parametrize("out", ["occupied", "occupied/below"])
def test_an_output_folder_that_cannot_be_is_named(onnxcam: Invoke, folder: Path, out: str) -> None:
    (folder / "occupied").write_text("a file")
    assert out in refusal(onnxcam("run", "tiny.onnx", "blobs.png", "-o", out)).replace(os.sep, "/")


def test_one_bad_image_among_many_is_told_and_the_others_go_on(onnxcam: Invoke, folder: Path) -> None:
    (folder / "text.png").write_text("no picture")
    result = onnxcam("run", "tiny.onnx", "text.png", "blobs.png", "missing.png", "--json")
    assert result.exit_code == 2
    assert [row["image"] for row in rows(result.stdout)] == ["blobs.png"]
    told = result.stderr.splitlines()
    assert [line.split()[:2] for line in told] == [["Error:", "text.png"], ["Error:", "missing.png"]]
    assert names(folder / "onnxcam_out") == ["blobs.gradcam.png"]


def test_one_map_that_cannot_be_written_is_told_and_the_others_go_on(onnxcam: Invoke, folder: Path) -> None:
    shutil.copy("blobs.png", "other.png")
    (folder / "onnxcam_out" / "blobs.gradcam.png").mkdir(parents=True)
    result = onnxcam("run", "tiny.onnx", "blobs.png", "other.png", "--json")
    assert result.exit_code == 2
    assert [row["image"] for row in rows(result.stdout)] == ["other.png"]
    assert "cannot be written" in result.stderr


def test_an_error_names_the_image_whatever_that_is_called(onnxcam: Invoke, folder: Path) -> None:
    (folder / "image").write_text("no picture")
    (folder / "cannot").write_text("no picture")
    told = onnxcam("run", "tiny.onnx", "image", "cannot").stderr.splitlines()
    assert [line.split()[:2] for line in told] == [["Error:", "image"], ["Error:", "cannot"]]


LEFT_IN_TRAINING = {
    "BatchNormalization 'bn'": "b, i, j = BatchNormalization<training_mode = 1>(c, s, z, m, v) y = GlobalMaxPool(b)",
    "Dropout 'bn'": "d = GlobalAveragePool(c) y = Dropout(d, half, on)",
}


@pytest.mark.parametrize("node", LEFT_IN_TRAINING)
def test_a_node_left_in_training_mode_is_told(onnxcam: Invoke, folder: Path, node: str) -> None:
    """Both are differentiated as they are: with the statistics of the batch, by what this run dropped."""
    constants = "float half = {0.5}, bool on = {1}, float[3] s = {1, 2, 3}, float[3] z = {0, 1, 2}, "
    constants += "float[3] m = {3, 4, 5}, float[3] v = {6, 7, 8}"
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> g (float[1, 3, 8, 8] x) => (float[1, 3] p) <{constants}> {{
        c = Conv<kernel_shape = [3, 3]>(x, w) {LEFT_IN_TRAINING[node]} p = Flatten(y) }}"""
    )
    weight = np.random.default_rng(0).normal(size=(3, 3, 3, 3)).astype(np.float32)
    model.graph.initializer.append(onnx.numpy_helper.from_array(weight, "w"))
    next(n for n in model.graph.node if n.op_type == node.split()[0]).name = "bn"
    onnx.save(model, "training.onnx")
    result = onnxcam("run", "training.onnx", "blobs.png", "-l", "c")
    told = f"Note: {node} is in training mode, scores and maps depend on what shares the batch, or on chance"
    assert result.exit_code == 0
    assert told in result.stderr


RANDOM = {"r": "r = RandomNormalLike(g)", "r, unused": "unused = RandomNormalLike(g) r = Neg(g)"}


@pytest.mark.parametrize("name", RANDOM)
def test_random_numbers_on_the_way_to_the_score_are_told(onnxcam: Invoke, folder: Path, name: str) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> g (float[1, 3, 8, 8] x) => (float[1, 3] p) {{
        c = Relu(x) w = Conv(c, k) g = GlobalMaxPool(w) {RANDOM[name]} y = Add(g, r) p = Flatten(y) }}"""
    )
    kernel = np.eye(3, dtype=np.float32).reshape(3, 3, 1, 1)
    model.graph.initializer.append(onnx.numpy_helper.from_array(kernel, "k"))
    for node in model.graph.node:
        node.name = node.output[0]
    onnx.save(model, "random.onnx")
    told = "Note: RandomNormalLike 'r' draws at random, scores and maps differ from run to run"
    assert (told in onnxcam("run", "random.onnx", "blobs.png", "-l", "w").stderr) == (name == "r")


def test_a_map_placed_by_its_shape_alone_is_told(onnxcam: Invoke, folder: Path) -> None:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 17]> g (float[1, 3, 8, 8] x) => (float[1, 3] p) {
        t = GridSample(x, grid) c = Conv(t, k) a = GlobalMaxPool(c) p = Flatten(a) }"""
    )
    ys, xs = np.meshgrid(np.linspace(-1, 1, 8), np.linspace(1, -1, 8), indexing="ij")
    for name, value in (("k", np.eye(3).reshape(3, 3, 1, 1)), ("grid", np.stack([xs, ys], -1)[None])):
        model.graph.initializer.append(onnx.numpy_helper.from_array(value.astype(np.float32), name))
    onnx.save(model, "sampled.onnx")
    result = onnxcam("run", "sampled.onnx", "blobs.png", "-l", "c", "--json")
    assert [row["placed"] for row in rows(result.stdout)] == ["by shape"]
    assert "could not be followed, the map is placed by shape alone" in result.stderr
    whole = onnxcam("run", "sampled.onnx", "blobs.png", "-m", "saliency", "--json")
    assert [row["placed"] for row in rows(whole.stdout)] == ["followed"]
    assert "by shape" not in whole.stderr


def test_what_is_wrong_with_every_image_is_told_once(onnxcam: Invoke) -> None:
    refusal(onnxcam("run", "tiny.onnx", "blobs.png", "blobs.png", "-t", "7"))


@pytest.mark.parametrize("step", ["decode", "prepare"])
def test_one_image_too_large_for_the_memory_leaves_the_others(
    onnxcam: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    images = [shutil.copy("blobs.png", name) for name in ("a.png", "b.png", "c.png")]
    done, calls = getattr(core, step), []

    def short(*args: object, **options: object) -> object:
        calls.append(args)
        if len(calls) == 2:
            raise MemoryError
        return done(*args, **options)

    monkeypatch.setattr(core, step, short)
    result = onnxcam("run", "tiny.onnx", *images)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1] == "Error: b.png: not enough memory for this image: make it smaller"
    assert result.stdout.splitlines()[-1] == "2 explained, 1 refused"


def test_nothing_is_written_when_a_later_method_is_refused(onnxcam: Invoke, folder: Path) -> None:
    args = ("blobs.png", "-m", "gradcam", "-m", "hirescam", "--gradient", "numeric")
    assert "hirescam" in refusal(onnxcam("run", "tiny.onnx", *args))
    assert not (folder / "onnxcam_out").exists()


def test_the_sample_is_an_egyptian_cat(onnxcam: Invoke) -> None:
    sample = ROOT / "sample_models"
    result = onnxcam("run", sample / "squeezenet11.onnx", sample / "chelsea.png", "--json", "-t", "top:2")
    best, second = rows(result.stdout)
    assert (best["target"]["index"], best["target"]["label"]) == (285, "Egyptian cat")
    assert (best["map"]["shape"], best["status"]) == ([13, 13], "ok")
    assert second["target"]["score"] < best["target"]["score"]
    assert "ImageNet's names are a guess" in result.stderr
