"""What measurements share: plain ONNX Runtime, and times that are taken in turns."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping

import onnxruntime

WARM_UP = 2  # rounds


def plain_session(model: str | bytes, threads: int = 1) -> onnxruntime.InferenceSession:
    """An ordinary session on the CPU whose threads do not spin."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = threads
    options.log_severity_level = 3
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def medians(subjects: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float]) -> dict[str, float]:
    """Median seconds of each subject, taken in turns."""
    taken: dict[str, list[float]] = {name: [] for name in subjects}
    for i in range(-WARM_UP, rounds):
        for name, subject in subjects.items():
            start = clock()
            subject()
            if i >= 0:
                taken[name].append(clock() - start)
    return {name: statistics.median(values) for name, values in taken.items()}
