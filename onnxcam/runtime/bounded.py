"""A bound on the memory that inference takes for what a stranger's file declares.

A vector of sizes may be declared to hold 2 ** 40 of them: inference, onnx's or ONNX Runtime's, makes an axis of each.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

try:
    import resource
except ImportError:  # as on Windows: there is no bound
    resource = None  # type: ignore[assignment]

MOST_MEMORY = 2**31  # bytes beyond what the process holds
MUCH_MEMORY = 2**29  # that no graph's inference takes: that of 12,000 nodes takes a tenth
OUT_OF_MEMORY = "bad_alloc"  # as C++ says it
COPIES = 4  # of what is read, that may be held for a while
STATUS = Path("/proc/self/status")


@contextmanager
def bounded_memory(size: int) -> Iterator[None]:
    """MemoryError where inference of a model of so many bytes takes more than that of any real one.

    Also where it gave up on a node without a word.
    """
    if resource is None or not STATUS.exists():
        yield
        return
    held, peak = held_and_peak()
    before, most = resource.getrlimit(resource.RLIMIT_AS)
    copies = COPIES * size
    bound = held + copies + MOST_MEMORY
    resource.setrlimit(resource.RLIMIT_AS, (bound if before == resource.RLIM_INFINITY else min(before, bound), most))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (before, most))
    if held_and_peak()[1] > max(peak, held + copies + MUCH_MEMORY):
        raise MemoryError


def held_and_peak() -> tuple[int, int]:
    """The bytes of memory that this process has, and the most that it had."""
    found = dict(
        re.findall(r"^(VmSize|VmPeak):\s*(\d+) kB$", STATUS.read_text(encoding="ascii", errors="replace"), re.M)
    )
    return int(found.get("VmSize", 0)) << 10, int(found.get("VmPeak", 0)) << 10
