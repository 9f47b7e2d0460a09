"""Models to disk: whole or not at all."""

from __future__ import annotations

from pathlib import Path

import onnx

from onnxcam.files import write_whole

LARGEST = 2**31 - 2**20  # bytes that one protobuf may hold, with room for its frame


def data_of(path: Path) -> Path:
    """Where the weights of a model over 2 GB go."""
    return path.with_name(f"{path.name}.data")


def save(proto: onnx.ModelProto, path: Path) -> None:
    """Write a model, in a folder that may be new; over 2 GB its weights go to `<name>.data` beside it.

    OSError when the disk says no.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
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
