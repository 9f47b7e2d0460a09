"""The sample files in an empty folder, and ways to call the command line there."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result

from onnxcam.cli import main
from tests.nets import net, normal

ROOT = Path(__file__).resolve().parents[2]
Invoke = Callable[..., Result]
ENDLESS = """(float[N, 3, 8, 8] x) => (float[N, 4] y, float[n, k, h, w] l) {
  c = Conv(x, stem)
  l = Loop(, yes, c)<body = again (int64 i, bool go, float[n, k, h, w] v) => (bool on, float[n, k, h, w] o) {
    on = Identity(go) o = Relu(v)
  }>
  a = Relu(c)
  p = GlobalAveragePool(a) f = Flatten(p) y = Gemm<transB = 1>(f, w)
}"""
Process = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory: tiny.onnx, which explains blobs.png as red, and nothing else."""
    shutil.copy(ROOT / "sample_models" / "tiny_cnn.onnx", tmp_path / "tiny.onnx")
    shutil.copy(ROOT / "sample_models" / "blobs.png", tmp_path / "blobs.png")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def endless(folder: Path) -> Path:
    """A model that loops for ever when it is run; its layer is `a`."""
    path = folder / "endless.onnx"
    onnx.save(net(ENDLESS, {"stem": normal(4, 3, 3, 3), "w": normal(4, 4), "yes": np.array(True)}), path)
    return path


@pytest.fixture
def onnxcam(folder: Path) -> Invoke:
    """`onnxcam ARGS` inside this process."""
    return lambda *args: CliRunner().invoke(main, [str(arg) for arg in args], prog_name="onnxcam")


@pytest.fixture
def process(folder: Path) -> Process:
    """`python -m onnxcam ARGS` as a process of its own."""

    def run(*args: object, **options: object) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-m", "onnxcam", *map(str, args)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=60, **options)  # type: ignore[call-overload]

    return run


def refusal(result: Result, code: int = 2) -> str:
    """The one line of a refusal, after asking all that holds for every refusal."""
    lines = result.stderr.splitlines()
    assert (result.exit_code, len(lines), result.stdout) == (code, 1, "")
    assert lines[0].startswith("Error: ")
    assert lines[0].isprintable()
    assert len(lines[0]) <= 400
    return str(lines[0].removeprefix("Error: "))


def names(folder: Path) -> list[str]:
    """The files in a folder, by name."""
    return sorted(path.name for path in folder.iterdir())
