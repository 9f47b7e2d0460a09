"""`layers`, `ops`, `check` and `export`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx
import pytest

import onnxcam as library
from onnxcam.checking import CheckResult
from onnxcam.cli.ops import of_model
from onnxcam.vjp import STANDARD, list_operators
from tests.cli.conftest import Invoke, names, refusal

# -- layers -----------------------------------------------------------------------------------------


def test_layers_tells_input_score_and_layers_the_automatic_one_marked(onnxcam: Invoke) -> None:
    result = onnxcam("layers", "tiny.onnx")
    assert (result.exit_code, result.stderr) == (0, "")
    lines = [line.split() for line in result.stdout.splitlines()]
    assert lines[0] == ["input", "image", "[N,", "3,", "32,", "32]", "NCHW", "float32"]
    assert lines[1] == ["score", "logits", "[N,", "3]", "logit", "of", "a", "softmax"]
    marked = [line for line in lines if line and line[0] == "*"]
    automatic = library.list_layers("tiny.onnx")[0]
    assert [line[1] for line in marked] == [automatic.name]
    assert len(lines) == 4 + len(library.list_layers("tiny.onnx"))


def test_layers_says_when_there_is_none(onnxcam: Invoke, folder: Path) -> None:
    model = onnx.parser.parse_model(
        '<ir_version: 8, opset_import: ["": 17]> flat (float[N, 3, 8, 8] image) => (float[N, 4] y) '
        "{ f = Flatten (image)  y = MatMul (f, w) }"
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((192, 4), np.float32), "w"))
    onnx.save(model, "flat.onnx")
    assert onnxcam("layers", "flat.onnx").stdout.splitlines()[-1].startswith("No layer with a grid")


def test_names_in_a_model_reach_no_terminal_unprintable(onnxcam: Invoke, folder: Path) -> None:
    text = onnx.printer.to_text(onnx.load("tiny.onnx"))
    assert "excess" in text
    model = onnx.load("tiny.onnx")
    for node in model.graph.node:
        for held in (node.input, node.output):
            held[:] = ["\x1b[31mexcess\x07" if name == "excess" else name for name in held]
    onnx.save(model, "hostile.onnx")
    for command in ("layers", "ops", "check"):
        result = onnxcam(command, "hostile.onnx")
        assert result.exit_code == 0, result.output
        assert all(line.isprintable() for line in result.stdout.splitlines())
        assert "?[31mexcess?" in result.stdout


# -- ops --------------------------------------------------------------------------------------------


def test_ops_lists_every_operator(onnxcam: Invoke) -> None:
    lines = onnxcam("ops").stdout.splitlines()
    assert lines[0].split() == ["operator", "domain", "versions", "support", "note"]
    assert [line.split()[0] for line in lines[1:]] == [operator.name for operator in list_operators()]


def test_ops_of_a_model_tells_its_operators_and_its_layers(onnxcam: Invoke) -> None:
    text = onnxcam("ops", "tiny.onnx").stdout
    operators, layers = (part.splitlines()[1:] for part in text.split("\n\n"))
    assert ["Conv", "17", "1", "yes"] in [line.split() for line in operators]
    assert all(line.endswith("ok") for line in layers)
    assert len(layers) == len(library.list_layers("tiny.onnx"))


def test_ops_tells_what_stops_the_gradient(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(STANDARD.rules, ("com.microsoft", "QuickGelu"))
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["": 17, "com.microsoft": 1]>
        blocked (float[N, 3, 8, 8] image) => (float[N, 3] y) {
            early = Conv (image, w)  late = com.microsoft.QuickGelu <alpha = 1.0> (early)
            last = Conv (late, w)  m = GlobalAveragePool (last)  y = Flatten (m)
        }"""
    )
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.ones((3, 3, 1, 1), np.float32), "w"))
    for node in model.graph.node:
        node.name = f"the {node.output[0]}"
    onnx.save(model, "blocked.onnx")
    text = of_model("blocked.onnx", None)
    assert "stopped by com.microsoft.QuickGelu (opset 1) at 'the late'" in text


def test_ops_takes_a_score_only_with_a_model(onnxcam: Invoke) -> None:
    assert "--score" in refusal(onnxcam("ops", "--score", "logits"))


# -- check ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("image", [(), ("blobs.png",)])
def test_check_holds_on_the_sample(onnxcam: Invoke, image: tuple[str, ...]) -> None:
    result = onnxcam("check", "tiny.onnx", *image)
    assert (result.exit_code, result.stderr) == (0, "")
    *_, last = result.stdout.splitlines()
    count = len(result.stdout.splitlines()) - 2
    assert last == f"{count} of {count} checks hold"


def test_a_failed_check_exits_1(onnxcam: Invoke, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = {}

    def check(model: str, image: str | None, **options: object) -> list[CheckResult]:
        asked.update(options, model=model, image=image)
        return [
            CheckResult("parity", True, "0", "1e-4", "y"),
            CheckResult("gradient", False, "0.5", "0.99", "relu1"),
            CheckResult("map", True, "not measured", "> 0", "one class"),
        ]

    monkeypatch.setattr(library, "check", check)
    result = onnxcam(
        "check", "--timeout", "0", "m.onnx", "i.png", "-l", "relu1", "--score", "y", "--preprocess", "unit", "-t", "cat"
    )
    assert result.exit_code == 1
    assert result.stdout.splitlines() == [
        "      check     measured      limit  on",
        "ok    parity    0             1e-4   y",
        "FAIL  gradient  0.5           0.99   relu1",
        "skip  map       not measured  > 0    one class",
        "1 of 2 checks hold, 1 could not be measured",
    ]
    assert asked == {
        "model": "m.onnx", "image": "i.png", "layer": "relu1", "score": "y", "preprocess": "unit", "provider": "cpu",
        "feeds": {}, "target": "cat", "labels": None,
    }  # fmt: skip


def test_check_refuses_what_is_no_model(onnxcam: Invoke) -> None:
    assert "missing.onnx" in refusal(onnxcam("check", "missing.onnx"))


# -- export -----------------------------------------------------------------------------------------


def test_an_exported_file_is_told_and_runs_without_flags(onnxcam: Invoke) -> None:
    result = onnxcam("export", "tiny.onnx", "-o", "explained.onnx")
    assert (result.exit_code, result.stderr) == (0, "")
    first, *rest = result.stdout.splitlines()
    assert first.startswith("explained.onnx, ")
    assert {tuple(line.split()[:2]) for line in rest} >= {("in", "image"), ("in", "class"), ("out", "probabilities")}
    row = json.loads(onnxcam("run", "explained.onnx", "blobs.png", "--json").stdout)
    assert (row["target"]["label"], row["layer"], row["status"]) == ("red", "excess", "ok")


def test_split_writes_two_files(onnxcam: Invoke, folder: Path) -> None:
    result = onnxcam("export", "tiny.onnx", "--split", "parts")
    assert result.exit_code == 0, result.stderr
    assert names(folder / "parts") == ["features.onnx", "head_vjp.onnx"]
    assert "onnxcam/gradient" in result.stdout


@pytest.mark.parametrize(
    ("args", "says"),
    [
        ((), "-o OUT"),
        (("--split", "parts", "--labels", "l.txt"), "-o OUT"),
        (("-o", "."), "is a folder, not a file"),
        (("-o", "x.onnx", "--labels", "none.txt"), "none.txt"),
        (("-o", "x.onnx", "-l", "exces"), "excess"),
    ],
    ids=" ".join,
)
def test_export_refuses_in_one_line(onnxcam: Invoke, folder: Path, args: tuple[str, ...], says: str) -> None:
    assert says in refusal(onnxcam("export", "tiny.onnx", *args))
    assert names(folder) == ["blobs.png", "tiny.onnx"]
