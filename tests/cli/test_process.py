"""The command line as a process: descriptors, signals, terminals."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.cli.conftest import ROOT, Process

COMMAND = [sys.executable, "-m", "onnxcam"]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}
POSIX = pytest.mark.skipif(os.name != "posix", reason="signals and terminals as POSIX has them")


def test_a_run_is_json_on_stdout_and_nothing_on_stderr(process: Process) -> None:
    ran = process("run", "tiny.onnx", "blobs.png", "--json")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert json.loads(ran.stdout)["target"]["label"] == "red"


def test_a_refusal_is_one_line_on_stderr(process: Process) -> None:
    ran = process("run", "tiny.onnx", "missing.png")
    assert (ran.returncode, ran.stdout, ran.stderr.count("\n")) == (2, "", 1)
    assert ran.stderr.startswith("Error: missing.png")


def test_what_a_c_library_says_of_a_damaged_file_stays_hidden(process: Process, folder: Path) -> None:
    from PIL import Image

    with Image.open("blobs.png") as photo:
        photo.convert("RGB").save("photo.tif", compression="tiff_lzw")
    whole = (folder / "photo.tif").read_bytes()
    (folder / "photo.tif").write_bytes(whole[:8] + b"\xff" * 40 + whole[48:])
    ran = process("run", "tiny.onnx", "photo.tif")
    if ran.returncode:
        assert (ran.returncode, ran.stderr.count("\n")) == (2, 1)


def test_only_the_streams_of_python_reach_the_terminal() -> None:
    code = """
import os, sys, warnings
from onnxcam.cli.terminal import undisturbed
with undisturbed():
    os.write(1, b"C says"); os.write(2, b"C complains"); warnings.warn("careful")
    print("ours"); print("our error", file=sys.stderr)
os.write(1, b"after"); os.write(2, b"behind")
"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, env=ENVIRONMENT, check=True)
    assert (ran.stdout.split(), ran.stderr.split()) == ([b"ours", b"after"], [b"our", b"error", b"behind"])


@contextmanager
def started(*command: str, **options: Any) -> Iterator[subprocess.Popen[Any]]:
    """The command line in a process, which is killed where the test fails to end it.

    It hears what it does not under nohup, or behind a shell's &.
    """

    def hear() -> None:
        for name in ("SIGHUP", "SIGINT"):
            signal.signal(getattr(signal, name), signal.SIG_DFL)

    with subprocess.Popen([*COMMAND, *command], env=ENVIRONMENT, preexec_fn=hear, **options) as ran:
        try:
            yield ran
        finally:
            ran.kill()


@POSIX
def test_an_interrupted_run_exits_130_and_keeps_what_it_finished(folder: Path) -> None:
    command = ["run", "tiny.onnx", *["blobs.png"] * 5000, "--json"]
    with started(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as ran:
        assert ran.stdout is not None
        first = json.loads(ran.stdout.readline())
        ran.send_signal(signal.SIGINT)
        rest, error = ran.communicate(timeout=30)
    assert (ran.returncode, error) == (130, "Error: interrupted\n")
    assert len(rest.splitlines()) < 4999
    assert (folder / first["files"][0]).is_file()
    assert not [name for name in os.listdir(folder / "onnxcam_out") if name.startswith(".")]


@POSIX
@pytest.mark.parametrize(
    "command", [["run", "endless.onnx", "blobs.png", "-l", "a"], ["check", "endless.onnx", "-l", "a"]]
)
def test_control_c_ends_what_never_ends(folder: Path, endless: Path, command: list[str]) -> None:
    """Python's own handler would wait for ONNX Runtime."""
    with started(*command, stderr=subprocess.PIPE, text=True) as ran:
        time.sleep(2)
        ran.send_signal(signal.SIGINT)
        _, error = ran.communicate(timeout=30)
    assert (ran.returncode, error) == (130, "Error: interrupted\n")
    assert not (folder / "onnxcam_out").exists()


def ended(pid: int) -> bool:
    """Whether a process comes to its end within seconds."""
    for _ in range(100):
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return True
        state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
        if state.startswith("Z"):  # what nobody waits for
            return True
        time.sleep(0.05)
    return False


@POSIX
@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGHUP", 129), ("SIGKILL", -9)])
def test_the_process_behind_a_limit_does_not_outlive_its_parent(
    folder: Path, endless: Path, number: str, code: int
) -> None:
    with started("check", "endless.onnx", "-l", "a", stderr=subprocess.PIPE) as ran:
        time.sleep(2)
        listed = subprocess.run(["pgrep", "-P", str(ran.pid)], capture_output=True, text=True)
        ran.send_signal(getattr(signal, number))
        _, error = ran.communicate(timeout=30)
    assert (ran.returncode, error) == (code, b"" if code < 0 else b"Error: interrupted\n")
    (child,) = listed.stdout.split()
    assert ended(int(child))


@POSIX
def test_a_file_half_written_is_removed_at_the_end(folder: Path) -> None:
    code = """
import sys, time
from pathlib import Path
from onnxcam.cli.errors import for_the_user
from onnxcam.cli.interrupts import interruptible
from onnxcam.files import write_whole
def write(path):
    path.write_text("half"); print("written", flush=True); time.sleep(60)
with interruptible():
    write_whole(Path("out.onnx"), write)
"""
    before = sorted(os.listdir(folder))
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=ENVIRONMENT
    ) as ran:
        assert ran.stdout is not None
        ran.stdout.readline()
        ran.terminate()
    assert sorted(os.listdir(folder)) == before


@POSIX
def test_a_reader_that_leaves_is_no_error(folder: Path) -> None:
    command = [*COMMAND, "run", "tiny.onnx", *["blobs.png"] * 5000, "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT) as ran:
        assert ran.stdout is not None
        assert ran.stderr is not None
        ran.stdout.readline()
        ran.stdout.close()
        error = ran.stderr.read()
    assert (ran.returncode, error) == (141, "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_under_stdout_is_told(folder: Path) -> None:
    with open("/dev/full", "w") as full:
        ran = subprocess.run(
            [*COMMAND, "layers", "tiny.onnx"], stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
        )
    assert (ran.returncode, ran.stderr) == (2, "Error: No space left on device\n")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
@pytest.mark.parametrize("option", ["--help", "--version"])
def test_help_that_cannot_be_written_is_told(folder: Path, option: str) -> None:
    with open("/dev/full", "w") as full:
        ran = subprocess.run([*COMMAND, option], stdout=full, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT)
        neither = subprocess.run([*COMMAND, "layers", "none.onnx"], stdout=full, stderr=full, env=ENVIRONMENT)
    assert (ran.returncode, ran.stderr) == (2, "Error: No space left on device\n")
    assert neither.returncode == 2


def on_a_terminal(*args: str) -> str:
    """What `onnxcam ARGS` writes to a stderr that is a terminal."""
    import pty

    ours, theirs = pty.openpty()
    with subprocess.Popen([*COMMAND, *args], stdout=subprocess.DEVNULL, stderr=theirs, env=ENVIRONMENT) as ran:
        os.close(theirs)
        parts = []
        try:
            while part := os.read(ours, 4096):
                parts.append(part)
        except OSError:  # how Linux says that nobody holds the other end
            pass
    os.close(ours)
    assert ran.returncode == 0
    return b"".join(parts).decode()


@POSIX
@pytest.mark.parametrize(
    ("args", "bar"),
    [(("blobs.png", "blobs.png"), True), (("blobs.png",), False), (("blobs.png", "blobs.png", "-q"), False)],
)
def test_the_progress_bar_is_for_several_images_on_a_terminal(folder: Path, args: tuple[str, ...], bar: bool) -> None:
    assert ("2/2" in on_a_terminal("run", "tiny.onnx", *args)) is bar
