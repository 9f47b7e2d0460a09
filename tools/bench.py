"""What an explanation costs over the plain forward pass of the same file: ratios from one interleaved run.

    python tools/bench.py [--net NAME] [--rounds N] [--threads N] [--markdown] [--save]

Times are medians of CPU time (threads 1) or wall time, taken in turns so that a drifting machine hits all alike; both
sides get the same threads, and none of them spins. Memory is the peak of a fresh process, from path to first result.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from bench_nets import NETS
from markdown import table
from measuring import medians, plain_session

import onnxcam

ROOT = Path(__file__).resolve().parent.parent
SAMPLE, PHOTO = ROOT / "sample_models" / "squeezenet11.onnx", ROOT / "sample_models" / "chelsea.png"
TITLES = {
    "gradcam": "Grad-CAM / forward",
    "gradcam_extra_ms": "Grad-CAM adds, ms",
    "five_targets": "five targets / one target",
    "input_gradient": "forward + input gradient / forward",
    "memory": "peak memory / plain",
    "memory_extra_mb": "memory added, MB",
}
PEAK = """
print(next(int(line.split()[1]) / 1024 for line in open("/proc/self/status") if line.startswith("VmHWM")))
"""
PLAIN = """
import sys, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
shape = [size if isinstance(size, int) else 1 for size in session.get_inputs()[0].shape]
session.run(None, {session.get_inputs()[0].name: numpy.full(shape, 0.5, numpy.float32)})
"""
EXPLAINED = """
import sys, numpy, onnxcam
explainer = onnxcam.Explainer(sys.argv[1])
image = explainer.subject.image
explainer(numpy.full((1, image.channels, image.size[1], image.size[0]), 0.5, numpy.float32))
"""
BARE = """
import sys, numpy, onnxruntime
from PIL import Image
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
photo = Image.open(sys.argv[2]).convert("RGB").resize((227, 227))
x = numpy.asarray(photo, numpy.float32).transpose(2, 0, 1)[None]
session.run(None, {session.get_inputs()[0].name: x})
"""


@dataclass(frozen=True)
class Costs:
    """Ratios of one net."""

    forward_ms: float
    gradcam: float
    gradcam_extra_ms: float
    five_targets: float
    input_gradient: float
    memory: float
    memory_extra_mb: float


def measure(path: Path, rounds: int, threads: int) -> Costs:
    """All figures of one net."""
    plain = plain_session(str(path), threads)
    image, score = plain.get_inputs()[0], plain.get_outputs()[0]
    shape = [size if isinstance(size, int) else 1 for size in image.shape]
    x = np.random.default_rng(0).normal(size=shape).astype(np.float32)
    explainer = onnxcam.Explainer(path, threads=threads)
    differentiated = onnxcam.differentiate(path, of=explainer.subject.score.name, wrt=image.name)
    whole = plain_session(differentiated.model.SerializeToString(), threads)
    wanted = [score.name, differentiated.gradients[image.name]]
    seed = np.zeros((1, 1000), np.float32)
    seed[0, 0] = 1
    t = medians(
        {
            "forward": lambda: plain.run([score.name], {image.name: x}),
            "gradcam": lambda: explainer(x),
            "one": lambda: explainer(x, target=0),
            "five": lambda: explainer(x, target=[0, 1, 2, 3, 4]),
            "input": lambda: whole.run(wanted, {image.name: x, differentiated.seed: seed}),
        },
        rounds,
        time.thread_time if threads == 1 else time.perf_counter,
    )
    memory = {name: peak_mb(script, path) for name, script in (("plain", PLAIN), ("ours", EXPLAINED))}
    return Costs(
        forward_ms=1e3 * t["forward"],
        gradcam=t["gradcam"] / t["forward"],
        gradcam_extra_ms=1e3 * (t["gradcam"] - t["forward"]),
        five_targets=t["five"] / t["one"],
        input_gradient=t["input"] / t["forward"],
        memory=memory["ours"] / memory["plain"],
        memory_extra_mb=memory["ours"] - memory["plain"],
    )


def peak_mb(script: str, model: Path, runs: int = 3) -> float:
    """Median peak resident megabytes of a fresh process (Linux; the kernel's figure for the new program alone)."""
    command = [sys.executable, "-c", script + PEAK, str(model)]
    return statistics.median(
        float(subprocess.run(command, check=True, capture_output=True, text=True).stdout) for _ in range(runs)
    )


def cold_start(rounds: int) -> dict[str, float]:
    """Seconds of `onnxcam run` on the sample from a cold process, and of a bare script that loads and runs it."""
    with tempfile.TemporaryDirectory() as out:
        commands = {
            "onnxcam run": [sys.executable, "-m", "onnxcam", "run", SAMPLE, PHOTO, "-o", out, "--quiet"],
            "bare script": [sys.executable, "-c", BARE, SAMPLE, PHOTO],
        }
        runs: dict[str, Callable[[], object]] = {
            name: lambda command=command: subprocess.run(command, check=True, stdout=subprocess.DEVNULL)  # type: ignore[misc]
            for name, command in commands.items()
        }
        return medians(runs, rounds, time.perf_counter)


def markdown(measured: Mapping[str, Any]) -> str:
    """The table of the README."""
    rows = (
        [name, f"{cost['forward_ms']:.1f}", *(f"{cost[key]:.{1 if 'extra' in key else 2}f}" for key in TITLES)]
        for name, cost in measured["nets"].items()
    )
    start = measured["cold_start_s"]
    more = start["onnxcam run"] - start["bare script"]
    return "\n".join(
        [
            table(["net", "forward, ms", *TITLES.values()], rows, figures=True),
            "",
            "*Forward* is one run of the plain file. "
            f"Measured with onnxcam {measured['version']} on the CPU provider, {measured['threads']} thread, batch 1, "
            f"224 or 227 pixels. From a cold process, `onnxcam run` takes {more:.2f} s more than a script that only "
            "loads and runs.",
        ]
    )


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--net", action="append", help="only these (repeatable): squeezenet, " + ", ".join(NETS))
    parser.add_argument("--rounds", type=int, default=21)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--markdown", action="store_true", help="a table instead of JSON")
    parser.add_argument("--save", action="store_true", help="keep the figures in docs/costs.json, for the README")
    options = parser.parse_args()
    nets: dict[str, Callable[[Path], Path]] = {"squeezenet": lambda _: SAMPLE, **NETS}
    costs = {}
    with tempfile.TemporaryDirectory() as folder:
        for name, build in nets.items():
            if not options.net or name in options.net:
                costs[name] = asdict(measure(build(Path(folder)), options.rounds, options.threads))
                print(name, costs[name], file=sys.stderr)
        start = cold_start(max(5, options.rounds // 3))
    measured = {"version": onnxcam.__version__, "threads": options.threads, "nets": costs, "cold_start_s": start}
    text = json.dumps(measured, indent=2)
    if options.save:
        (ROOT / "docs" / "costs.json").write_text(text + "\n", encoding="utf-8")
    print(markdown(measured) if options.markdown else text)


if __name__ == "__main__":
    main()
