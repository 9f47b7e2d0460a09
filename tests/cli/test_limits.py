"""`--timeout`: what never ends is ended, what crashes is told, and all else is as without it."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from onnxcam.cli import limits
from tests.cli.conftest import Invoke, names, refusal


@pytest.mark.skipif(sys.platform == "win32", reason="the process is a shell script")
def test_a_crash_is_told(onnxcam: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    crashing = folder / "python"
    crashing.write_text("#!/bin/sh\necho half a table\nkill -SEGV $$\n")
    crashing.chmod(0o755)
    monkeypatch.setattr(limits.sys, "executable", str(crashing))
    line = refusal(onnxcam("check", "tiny.onnx"))
    assert line == "the work on this model crashed (SIGSEGV): ONNX Runtime cannot run it"


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


@pytest.mark.skipif(sys.platform == "win32", reason="the process is a shell script")
def test_what_the_system_kills_is_told_as_that(onnxcam: Invoke, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    killed = folder / "python"
    killed.write_text("#!/bin/sh\nkill -KILL $$\n")
    killed.chmod(0o755)
    monkeypatch.setattr(limits.sys, "executable", str(killed))
    assert "killed, most often for want of memory" in refusal(onnxcam("check", "tiny.onnx"))
