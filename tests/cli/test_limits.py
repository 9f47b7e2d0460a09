"""`--timeout`: what never ends is ended, what crashes is told, and all else is as without it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from onnxcam.cli import limits
from tests.cli.conftest import Invoke, names, refusal


@pytest.mark.skipif(sys.platform == "win32", reason="the process is a shell script")
@pytest.mark.parametrize(
    ("signal", "says"),
    [
        ("SEGV", "the work on this model crashed (SIGSEGV): ONNX Runtime cannot run it"),
        ("KILL", "the work on this model was killed, most often for want of memory: try where there is more"),
    ],
)
def test_how_the_work_was_ended_is_told(
    onnxcam: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch, signal: str, says: str
) -> None:
    ending = folder / "python"
    ending.write_text(f"#!/bin/sh\necho half a table\nkill -{signal} $$\n")
    ending.chmod(0o755)
    monkeypatch.setattr(limits.sys, "executable", str(ending))
    assert refusal(onnxcam("check", "tiny.onnx")) == says


@pytest.mark.parametrize(
    "command",
    [
        ("check", "tiny.onnx"),
        ("check", "tiny.onnx", "blobs.png", "-l", "colour", "--preprocess", "unit"),
        ("check", "-l", "--odd", "tiny.onnx"),
        ("check", "--", "-odd.onnx"),
        ("export", "tiny.onnx", "--split", "parts"),
        ("export", "tiny.onnx"),
        ("export", "tiny.onnx", "-o", "out.onnx", "--labels", "missing.txt"),
    ],
    ids=" ".join,
)
def test_all_else_is_as_without_a_limit(onnxcam: Invoke, folder: Path, command: tuple[str, ...]) -> None:
    first, *rest = command
    within, without = onnxcam(first, *rest), onnxcam(first, "--timeout", "0", *rest)
    assert (within.exit_code, within.stdout, within.stderr) == (without.exit_code, without.stdout, without.stderr)


def test_nothing_of_the_working_folder_is_imported(onnxcam: Invoke, folder: Path) -> None:
    (folder / "onnx.py").write_text("open('imported', 'w')\n")
    assert onnxcam("check", "tiny.onnx").exit_code == 0
    assert "imported" not in names(folder)


@pytest.mark.parametrize("seconds", ["inf", "nan", "3000000", "1.5", "-1"])
def test_a_limit_is_so_many_seconds_up_to_a_week(onnxcam: Invoke, folder: Path, seconds: str) -> None:
    assert "Invalid value for '--timeout'" in refusal(onnxcam("check", "--timeout", seconds, "tiny.onnx"))
