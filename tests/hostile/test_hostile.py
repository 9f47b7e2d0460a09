"""Whatever lies in a model's file, every command ends in a result or in one line, within its time and memory."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from onnxcam import export
from tests.explainer.test_detections import torchvisions
from tests.graph.building import residual, saved_by_runtime, vit
from tests.hostile.mutations import damaged, with_odd_constant
from tests.nets import net, normal

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "sample_models"
COMMANDS = [
    ["layers", "model.onnx"],
    ["ops", "model.onnx"],
    ["run", "model.onnx", "photo.png", "--npy", "--json"],
    ["run", "model.onnx", "photo.png", "-m", "guidedgradcam", "-t", "top:2", "--gradient", "auto"],
    ["check", "model.onnx", "--timeout", "0"],
    ["export", "model.onnx", "-o", "exported.onnx", "--split", "parts", "--timeout", "0"],
]
Answer = dict[str, Any]
pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the server forks")


@pytest.fixture(scope="module")
def server() -> Iterator[Callable[[Path, list[list[str]]], Answer]]:
    """Does jobs: see server.py."""
    with subprocess.Popen(
        [sys.executable, str(Path(__file__).with_name("server.py"))], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        text=True, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    ) as process:  # fmt: skip
        assert process.stdin is not None
        assert process.stdout is not None
        asked, answers = process.stdin, process.stdout

        def ask(folder: Path, commands: list[list[str]]) -> Answer:
            asked.write(json.dumps({"folder": str(folder), "commands": commands}) + "\n")
            asked.flush()
            answer: Answer = json.loads(answers.readline())
            return answer

        yield ask
        asked.close()


def models() -> dict[str, bytes]:
    """What is damaged: a network with a recipe, the same exported and optimized, one of branches, one of tokens, a
    detector.
    """
    with tempfile.TemporaryDirectory() as folder:
        exported = export(SAMPLES / "tiny_cnn.onnx", Path(folder) / "exported.onnx").read_bytes()
        optimized = saved_by_runtime(onnx.load(SAMPLES / "tiny_cnn.onnx"), Path(folder)).SerializeToString()
    return {
        "plain": (SAMPLES / "tiny_cnn.onnx").read_bytes(), "exported": exported,
        "optimized": optimized,
        "residual": residual().SerializeToString(), "tokens": vit("token").SerializeToString(),
        "detector": torchvisions().SerializeToString(),
    }  # fmt: skip


MODELS = models()
CONSTANTS = {  # inputs of operators that most models have as constants
    "low": np.float32(-1), "high": np.float32(1), "w": normal(4, 3, 3, 3), "b": normal(4), "slope": normal(4, 1, 1),
    "gain": np.ones(4, np.float32), "mean": np.zeros(4, np.float32), "var": np.ones(4, np.float32),
    "pads": np.array([0, 0, 1, 1] * 2), "hw": np.array([2, 3]), "value": np.float32(0.5), "more": np.array([1] * 4),
    "from": np.array([0, 0]), "to": np.array([8, 8]), "steps": np.array([1, 1]), "order": np.array([3, 1, 0, 2]),
    "scales": np.array([1, 1, 2, 2], np.float32), "repeats": np.array([1, 1, 1, 2]), "parts": np.array([2, 2]),
    "shape": np.array([1, 4, 1, 1]), "scale": np.float32(0.05), "point": np.uint8(128), "flat": np.array([0, -1]),
    "fc": normal(8, 5), "bias": normal(5), "one": np.array([1]), "depth": np.array([5]), "zero": np.int64(0),
    "ends": np.array([0, 1], np.float32), "limit": np.int64(5), "step": np.int64(1),
}  # fmt: skip
BY_CONSTANTS = net(
    """(float[N, 3, 8, 8] x) => (float[N, 5] y) {
        c0 = Conv<pads = [1, 1, 1, 1]>(x, w, b) c1 = Clip(c0, low, high) c2 = PRelu(c1, slope)
        c3 = BatchNormalization(c2, gain, b, mean, var) c4 = Pad(c3, pads, value)
        c5 = Pad<mode = "reflect">(c4, more, , hw) c6 = Slice(c5, from, to, hw, steps) c7 = Resize(c6, , scales)
        c8 = Tile(c7, repeats) c9 = Gather<axis = 1>(c8, order) d0, d1 = Split<axis = 1>(c9, parts)
        d2 = Concat<axis = 1>(d1, d0) e0 = Expand(value, shape) d3 = Mul(d2, e0) q = QuantizeLinear(d3, scale, point)
        d4 = DequantizeLinear(q, scale, point) i0 = InstanceNormalization(d4, gain, b)
        r0 = ReduceMean<keepdims = 0>(i0, hw) r1 = ReduceMax<keepdims = 0>(i0, hw) r2 = Concat<axis = 1>(r0, r1)
        r3 = Reshape(r2, flat) l0 = Gemm(r3, fc, bias) u = Unsqueeze(l0, one) s = Squeeze(u, one)
        t0, t1 = TopK(s, depth) h = OneHot(t1, depth, ends) g = Unsqueeze(t0, one) m = MatMul(g, h)
        v = Squeeze(m, one) ra = Range(zero, limit, step) rf = Cast<to = 1>(ra) y = Add(v, rf) }""",
    CONSTANTS, opset=18,
).SerializeToString()  # fmt: skip


def complaints(command: list[str], result: list[Any]) -> Iterator[str]:
    """What is wrong with how a command ended, in words."""
    code, out, err = result
    if code not in (0, 1, 2) or (code == 1 and command[0] != "check"):
        yield f"exit code {code}"
    lines = err.splitlines()
    if code == 2 and sum(line.startswith("Error: ") for line in lines) != 1:
        yield "not one line of error"
    if any(not line.startswith(("Error: ", "Note: ")) for line in lines):
        yield "more than errors and notes on stderr"
    if not all(line.isprintable() for line in (*out.split("\n"), *err.split("\n"))):
        yield "what a terminal obeys"


def survives(server: Callable[[Path, list[list[str]]], Answer], name: str, seed: int, folder: Path) -> None:
    """Every command on one damaged file; what ONNX Runtime alone does not survive either is not held against us."""
    data = with_odd_constant(BY_CONSTANTS, seed) if name == "constants" else damaged(MODELS[name], seed)
    (folder / "model.onnx").write_bytes(data)
    shutil.copy(SAMPLES / "blobs.png", folder / "photo.png")
    left = COMMANDS
    while left:  # in one process, as far as that comes
        answer = server(folder, left)
        for command, result in zip(left, answer["results"], strict=False):
            found = list(complaints(command, result))
            assert not found, f"{name} {seed}: onnxcam {' '.join(command)}: {found}\n{result}"
        if answer["ended"] != "done":
            plain = server(folder, [["onnxruntime", "model.onnx"]])["ended"]
            what = f"onnxcam {' '.join(left[len(answer['results'])])} was ended by {answer['ended']}"
            assert plain != "done", f"{name} {seed}: {what}, ONNX Runtime alone is not"
        left = left[len(answer["results"]) + 1 :]


@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("start", range(0, 75, 25))
def test_damaged_files(
    server: Callable[[Path, list[list[str]]], Answer], name: str, start: int, tmp_path: Path
) -> None:
    for seed in range(start, start + 25):
        (tmp_path / str(seed)).mkdir()
        survives(server, name, seed, tmp_path / str(seed))


@pytest.mark.parametrize("start", range(0, 100, 25))
def test_constants_of_odd_sizes(server: Callable[[Path, list[list[str]]], Answer], start: int, tmp_path: Path) -> None:
    for seed in range(start, start + 25):
        (tmp_path / str(seed)).mkdir()
        survives(server, "constants", seed, tmp_path / str(seed))


@pytest.mark.parametrize(
    ("name", "seed"),
    [("residual", 498), ("residual", 678), ("tokens", 646), ("tokens", 852), ("tokens", 1014), ("exported", 1162)],
)
def test_files_that_were_not_survived_once(
    server: Callable[[Path, list[list[str]]], Answer], name: str, seed: int, tmp_path: Path
) -> None:
    """Found by the run of many: types that do not exist, axes of no value, shapes larger than their data."""
    survives(server, name, seed, tmp_path)


@pytest.mark.fuzz
@pytest.mark.parametrize("name", MODELS)
@pytest.mark.parametrize("start", range(75, 1325, 25))
def test_many_damaged_files(
    server: Callable[[Path, list[list[str]]], Answer], name: str, start: int, tmp_path: Path
) -> None:
    for seed in range(start, start + 25):
        (tmp_path / str(seed)).mkdir()
        survives(server, name, seed, tmp_path / str(seed))


def test_what_the_harness_calls_a_complaint(server: Callable[[Path, list[list[str]]], Answer], tmp_path: Path) -> None:
    """It sees a traceback, a second line, an escape sequence; and what is right it lets pass."""
    assert list(complaints(["run"], [0, "fine\n", "Note: a guess\n"])) == []
    assert list(complaints(["check"], [1, "1 of 2\n", ""])) == []
    assert list(complaints(["run"], [1, "", ""])) == ["exit code 1"]
    assert list(complaints(["run"], [70, "", "Traceback\n"])) == [
        "exit code 70",
        "more than errors and notes on stderr",
    ]
    assert list(complaints(["run"], [2, "", ""])) == ["not one line of error"]
    assert list(complaints(["run"], [0, "\x1b[31m", ""])) == ["what a terminal obeys"]
    (tmp_path / "model.onnx").write_bytes(b"no model")
    answer = server(tmp_path, [["layers", "model.onnx"], ["layers", "none.onnx"]])
    assert answer["ended"] == "done"
    assert [code for code, _, _ in answer["results"]] == [2, 2]
    assert answer["results"][1][2] == "Error: no model at none.onnx\n"
