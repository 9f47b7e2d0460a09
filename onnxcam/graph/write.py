"""Models to disk: whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx

LARGEST = 2**31 - 2**20  # bytes that one protobuf may hold, with room for its frame


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Have `write` fill a temporary name beside `path`, then rename; nothing half-written stays."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(prefix=f".{path.name[:40]}.", dir=path.parent)
    os.close(handle)
    temporary = Path(name)
    try:
        write(temporary)
        temporary.chmod(0o644)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def save(proto: onnx.ModelProto, path: Path) -> None:
    """Write a model; over 2 GB its weights go to `<name>.data` beside it. OSError when the disk says no."""
    size = sum(len(tensor.raw_data) for tensor in proto.graph.initializer)
    if size < LARGEST:
        write_whole(path, lambda temporary: onnx.save(proto, temporary))
        return
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    write_whole(
        path,
        lambda temporary: onnx.save(
            copy, temporary, save_as_external_data=True, location=f"{path.name}.data", size_threshold=1024
        ),
    )
