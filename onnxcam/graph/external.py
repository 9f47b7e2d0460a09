"""External data: tensors whose elements lie in a file beside the model, or in the model's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import onnx
from onnx import TensorProto, helper

from onnxcam.errors import ModelError


class Place(NamedTuple):
    """Where elements lie: `length` None reaches to the end of the file."""

    location: str
    offset: int
    length: int | None


def is_external(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor's elements lie elsewhere."""
    return bool(tensor.data_location == onnx.TensorProto.EXTERNAL)


def place_of(tensor: onnx.TensorProto) -> Place:
    """The place that a tensor names; ModelError when its numbers are none."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    offset, length = entries.get("offset") or "0", entries.get("length")
    try:
        return Place(entries.get("location", ""), int(offset), int(length) if length else None)
    except ValueError as error:
        raise ModelError(f"the external data of '{tensor.name}' has an offset or length that is no number") from error


def span(tensor: onnx.TensorProto, size: int, what: str) -> tuple[int, int]:
    """Start and end of a tensor's elements in a file of `size` bytes; ModelError when that is too short."""
    location, offset, length = place_of(tensor)
    end = offset + (size_of(tensor, size - offset) if length is None else length)
    if not 0 <= offset <= end <= size:
        raise ModelError(f"{what} reaches beyond the end of {location:.100}: the file is cut off, fetch it again")
    return offset, end


def size_of(tensor: onnx.TensorProto, most: int) -> int:
    """The bytes of a tensor's elements, where each takes whole ones, but no more than there are; else `most`."""
    known = tensor.data_type in helper.get_all_tensor_dtypes() and tensor.data_type != TensorProto.STRING
    kind = helper.tensor_dtype_to_np_dtype(tensor.data_type) if known else None
    whole = kind is not None and kind.kind in "biufc"
    return min(kind.itemsize * abs(math.prod(tensor.dims)), most) if kind is not None and whole else most


def file_of(tensor: onnx.TensorProto, folder: Path, allowed: Sequence[Path], what: str) -> Path:
    """The file of a tensor's elements, named relative to `folder`, links followed.

    Raises:
        ModelError: it is missing, too short, or in none of the `allowed` folders: an untrusted model reads no others.
    """
    location = place_of(tensor).location
    try:
        file = (folder / location).resolve()
        size = file.stat().st_size if file.is_file() else None
    except (OSError, ValueError, RuntimeError) as error:  # too long, a null byte, links in a circle
        raise ModelError(f"{what} lies in a file that cannot be opened ({location:.100}): refused") from error
    if not location or Path(location).is_absolute() or not any(file.is_relative_to(place) for place in allowed):
        raise ModelError(f"{what} points outside the model's folder ({location:.100}): refused")
    if size is None:
        raise ModelError(f"{what} lies in {location:.100}, which is missing beside the model: put the file there")
    span(tensor, size, what)
    return file


def read_span(tensor: onnx.TensorProto, file: Path, what: str) -> bytes:
    """A tensor's elements out of its file."""
    start, end = span(tensor, file.stat().st_size, what)
    with file.open("rb") as opened:
        opened.seek(start)
        return opened.read(end - start)


def inlined(tensor: onnx.TensorProto, elements: bytes) -> onnx.TensorProto:
    """A copy of a tensor that holds its elements itself."""
    whole = onnx.TensorProto()
    whole.CopyFrom(tensor)
    whole.raw_data = elements
    whole.ClearField("external_data")
    whole.ClearField("data_location")
    return whole


def relocate(tensor: onnx.TensorProto, location: str) -> None:
    """In place: the same elements, under another name of their file."""
    for entry in tensor.external_data:
        if entry.key == "location":
            entry.value = location
