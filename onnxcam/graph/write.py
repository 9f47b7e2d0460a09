"""Models to disk: whole or not at all."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path

import onnx

from onnxcam.files import check_regular

LARGEST = 2**31 - 2**20  # bytes that one protobuf may hold, with room for its frame


def write_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Have `write` fill a file of the same name in a folder of its own, then move it to `path`, and its data with it.

    Nothing half-written stays, a file that was there is replaced, and the model comes last: it points at its data.

    Raises:
        OSError: the disk says no, or `path` is something else than a file: a device, a pipe.
    """
    if path.exists():
        check_regular(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{path.name[:40]}.", dir=path.parent) as folder:
        model = Path(folder) / path.name
        write(model)
        for made in sorted(Path(folder).iterdir(), key=lambda made: made == model):
            made.chmod(model.stat().st_mode)  # onnx lets nobody else read the data, whatever the user's mask says
            made.replace(path.parent / made.name)


def data_of(path: Path) -> Path:
    """Where the weights of a model over 2 GB go."""
    return path.with_name(f"{path.name}.data")


def save(proto: onnx.ModelProto, path: Path) -> None:
    """Write a model; over 2 GB its weights go to `<name>.data` beside it. OSError when the disk says no."""
    size = sum(len(tensor.raw_data) for tensor in proto.graph.initializer)
    if size < LARGEST:
        write_whole(path, lambda made: onnx.save(proto, made, format="protobuf"))
        return
    copy = onnx.ModelProto()
    copy.CopyFrom(proto)
    write_whole(
        path,
        lambda made: onnx.save(
            copy, made, format="protobuf", save_as_external_data=True, location=data_of(path).name, size_threshold=1024
        ),
    )
