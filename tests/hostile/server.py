"""A process with everything imported that forks once for each job: thousands of commands without thousands of starts.

A job is a line of JSON: a folder, and command lines of `onnxcam` to run in it one after the other. The answer is a line
too: for each command its exit code and what it printed, and how the process ended: "done", "time", or a signal's name.
"""

from __future__ import annotations

import importlib
import json
import os
import resource
import signal
import sys
import time
import traceback
from pathlib import Path
from typing import Any

SECONDS = 60  # of a job
MEMORY = 6 * 2**30  # bytes of address space
MISTAKE = 70  # exit code of an exception that nobody caught


def serve() -> None:
    """Answer jobs until there are none."""
    for module in ("onnx", "onnxruntime", "PIL.Image", "onnxcam.checking", "onnxcam.exporting", "onnxcam.cli.batch"):
        importlib.import_module(module)
    for line in sys.stdin:
        sys.stdout.write(json.dumps(forked(**json.loads(line))) + "\n")
        sys.stdout.flush()


def forked(folder: str, commands: list[list[str]]) -> dict[str, Any]:
    """Do a job in a child, and see how that ends."""
    pid = os.fork()
    if pid == 0:
        try:
            work(Path(folder), commands)
        finally:
            os._exit(MISTAKE)
    ended = how_it_ended(pid)
    results = []
    for i in range(len(commands)):
        code, out, err = (Path(folder, f"{i}.{kind}") for kind in ("code", "out", "err"))
        if code.exists():
            results.append([int(code.read_text()), *(p.read_text(errors="backslashreplace") for p in (out, err))])
    return {"ended": ended, "results": results}


def how_it_ended(pid: int) -> str:
    """Wait for a child, no longer than it may take."""
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            return signal.Signals(os.WTERMSIG(status)).name if os.WIFSIGNALED(status) else "done"
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return "time"


def work(folder: Path, commands: list[list[str]]) -> None:
    """Run the commands; leave what each printed, and its exit code, in files."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.chdir(folder)
    for i, command in enumerate(commands):
        for descriptor, kind in ((1, "out"), (2, "err")):
            opened = os.open(f"{i}.{kind}", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(opened, descriptor)
            os.close(opened)
        sys.stdout, sys.stderr = (
            open(descriptor, "w", encoding="utf-8", errors="backslashreplace", closefd=False)  # noqa: SIM115
            for descriptor in (1, 2)
        )
        code = plain_session(command[1]) if command[0] == "onnxruntime" else onnxcam(command)
        sys.stdout.flush()
        sys.stderr.flush()
        Path(f"{i}.code").write_text(str(code))
    os._exit(0)


def onnxcam(command: list[str]) -> int:
    """`onnxcam COMMAND` here; the exit code."""
    from onnxcam.cli import main

    try:
        main(command)
    except SystemExit as ended:
        return int(ended.code or 0)
    except BaseException:  # noqa: BLE001 (what escapes is what is looked for)
        traceback.print_exc()
        return MISTAKE
    return 0


def plain_session(model: str) -> int:
    """ONNX Runtime alone on the same file, fed zeros: what ends it here is not ours."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    for level in ("ORT_ENABLE_ALL", "ORT_DISABLE_ALL"):
        options.graph_optimization_level = getattr(onnxruntime.GraphOptimizationLevel, level)
        try:
            session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
            shapes = [[d if isinstance(d, int) else 1 for d in port.shape] for port in session.get_inputs()]
            session.run(
                None, {p.name: np.zeros(s, np.float32) for p, s in zip(session.get_inputs(), shapes, strict=True)}
            )
        except Exception:  # noqa: BLE001 (only whether it comes back counts)
            continue
    return 0


if __name__ == "__main__":
    serve()
