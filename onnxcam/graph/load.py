"""A model as it lies on disk or in memory, its large weights left where they are.

`load` gives a ModelProto in which every large initializer is an external reference *into the model's own file*
(or bytes): name, type and dims are there, the data is not. Graph work then costs the same for a 5 MB and a 5 GB
model, ONNX Runtime maps the weights straight from the original file, and nothing is held twice.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx.external_data_helper import load_external_data_for_tensor

from onnxcam.errors import ModelError
from onnxcam.runtime import wire

LARGE = 16 * 1024  # bytes; smaller tensors stay inline: they are shapes, scales, biases that rules read
GRAPH, INITIALIZER = 7, 5  # fields of ModelProto and GraphProto
DATA_TYPE, FLOAT_DATA, RAW_DATA = 2, 4, 9  # fields of TensorProto
DATA_FIELDS = {FLOAT_DATA, 5, 6, 7, RAW_DATA, 10, 11}  # every field that holds elements
IN_MEMORY = "*in memory*"  # the location of weights that lie in `Model.data`


@dataclass(frozen=True)
class Model:
    """A model as given.

    Attributes:
        proto: the model; initializers over 16 kB have no data but say where it lies.
        path: the file, when it came from one.
        data: the serialized model that in-memory references point into (bytes, or the mapped file).
    """

    proto: onnx.ModelProto
    path: Path | None
    data: wire.Buffer = field(repr=False)

    @property
    def folder(self) -> Path | None:
        """Where external data lies; None for a model without a file."""
        return self.path.parent if self.path else None

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path) if self.path else "the model"

    def owns(self, tensor: onnx.TensorProto) -> bool:
        """Whether the tensor's data lies in the model itself, behind a reference made by `load`."""
        return tensor.data_location == onnx.TensorProto.EXTERNAL and place_of(tensor)[0] == self._home

    @property
    def _home(self) -> str:
        return self.path.name if self.path else IN_MEMORY

    def read(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        """The tensor with its data, wherever that lies; ModelError when it is not to be had."""
        if tensor.data_location != onnx.TensorProto.EXTERNAL:
            return tensor
        whole = onnx.TensorProto()
        whole.CopyFrom(tensor)
        if self.owns(tensor):
            _, offset, length = place_of(tensor)
            whole.raw_data = bytes(self.data[offset : offset + length])
            whole.ClearField("external_data")
            whole.ClearField("data_location")
            return whole
        check_external(tensor, self)
        load_external_data_for_tensor(whole, str(self.folder))
        whole.ClearField("external_data")
        whole.ClearField("data_location")
        return whole

    def embed(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        """In place: every weight that lies in this model's own file moves into `proto`; others stay external."""
        for tensor in proto.graph.initializer:
            if self.owns(tensor):
                tensor.CopyFrom(self.read(tensor))
        return proto

    def portable(self, proto: onnx.ModelProto) -> bytes:
        """`proto` as bytes that a session opens beside `folder`: in-memory weights embedded, the rest by reference."""
        if self.path is None:
            proto = self.embed(proto)
        return serialize(proto, self.name)


def serialize(proto: onnx.ModelProto, name: str) -> bytes:
    """Bytes of a model; ModelError over protobuf's 2 GB."""
    try:
        data: bytes = proto.SerializeToString()
    except (EncodeError, ValueError) as error:
        raise ModelError(
            f"{name} is larger than the 2 GB that one ONNX file can hold: keep its weights as external data"
        ) from error
    return data


def load(source: str | Path | bytes | onnx.ModelProto) -> Model:
    """Read a model from a path, serialized bytes or a ModelProto (which is never changed).

    Raises:
        ModelError: not a model, a format onnxcam cannot read, or external data that is missing or outside the folder.
    """
    if isinstance(source, onnx.ModelProto):
        model = from_bytes(serialize(source, "the model"), None)
    elif isinstance(source, bytes):
        model = from_bytes(source, None)
    else:
        model = from_file(Path(source))
    for tensor in all_tensors(model.proto.graph):
        if tensor.data_location == onnx.TensorProto.EXTERNAL and not model.owns(tensor) and model.path:
            check_external(tensor, model)
    return model


def from_file(path: Path) -> Model:
    """The model in a file, mapped rather than read."""
    try:
        with path.open("rb") as file:
            data: wire.Buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if path.stat().st_size else b""
    except FileNotFoundError as error:
        raise ModelError(f"no model at {path}") from error
    except OSError as error:
        reason = "it is a folder" if path.is_dir() else error.strerror or str(error)
        raise ModelError(f"cannot read the model {path}: {reason}") from error
    except ValueError as error:  # a name with a null byte
        raise ModelError(f"cannot read the model {path!s:.200}: {error}") from error
    if path.resolve().parent != path.parent.resolve():  # a link: no reference into it would stay inside the folder
        data = bytes(data)
        return from_bytes(data, path, lean=False)
    return from_bytes(data, path)


def from_bytes(data: wire.Buffer, path: Path | None, *, lean: bool = True) -> Model:
    """Parse, large weights left out."""
    name = str(path) if path else "the model"
    if not data:
        raise ModelError(f"{name} is empty: not an ONNX model")
    if data[4:8] == b"ORTM":
        raise ModelError(
            f"{name} is in ONNX Runtime's own .ort format, which holds no ONNX graph: give the original .onnx"
        )
    proto = onnx.ModelProto()
    try:
        proto.ParseFromString(skeleton(data, path.name if path else IN_MEMORY) if lean else bytes(data))
    except (DecodeError, ValueError, RecursionError) as error:
        raise ModelError(f"{name} is not an ONNX model, or is damaged or cut off{hint(data)}") from error
    if not proto.graph.node and not proto.graph.output:
        raise ModelError(f"{name} holds no ONNX graph{hint(data)}")
    return Model(proto, path, data)


def hint(data: wire.Buffer) -> str:
    """What the bytes look like instead, when that can be told."""
    start = bytes(data[:200]).lstrip()
    if start.startswith(b"version https://git-lfs"):
        return ": this is a Git LFS pointer, fetch the file itself with `git lfs pull`"
    if start[:5].lower() in (b"<!doc", b"<html"):
        return ": this is a web page, the download went wrong"
    return ""


def skeleton(data: wire.Buffer, location: str) -> bytes:
    """The serialized model with every large initializer's data replaced by a reference to `location`."""
    parts: list[bytes] = []
    for part in wire.fields(data, 0, len(data)):
        if part.number == GRAPH and part.wire_type == wire.BYTES:
            parts.append(wire.encode_bytes(GRAPH, lean_graph(data, part.start, part.end, location)))
        else:
            parts.append(bytes(data[part.tag : part.end]))
    return b"".join(parts)


def lean_graph(data: wire.Buffer, start: int, end: int, location: str) -> bytes:
    """A serialized GraphProto without the data of its large initializers."""
    parts: list[bytes] = []
    copied = start  # everything before is in `parts`
    for part in wire.fields(data, start, end):
        if part.number == INITIALIZER and part.wire_type == wire.BYTES and part.end - part.start > LARGE:
            stub = lean_tensor(data, part.start, part.end, location)
            if stub is not None:
                parts += [bytes(data[copied : part.tag]), wire.encode_bytes(INITIALIZER, stub)]
                copied = part.end
    return b"".join([*parts, bytes(data[copied:end])])


def lean_tensor(data: wire.Buffer, start: int, end: int, location: str) -> bytes | None:
    """The TensorProto without its data; None when that is not one contiguous run of little-endian elements."""
    holders = [part for part in wire.fields(data, start, end) if part.number in DATA_FIELDS]
    if len(holders) != 1 or holders[0].wire_type != wire.BYTES or holders[0].number not in (RAW_DATA, FLOAT_DATA):
        return None
    held = holders[0]
    if held.number == FLOAT_DATA and not holds_float(data, start, end):
        return None
    stub = onnx.TensorProto()
    for key, value in (("location", location), ("offset", held.start), ("length", held.end - held.start)):
        stub.external_data.add(key=key, value=str(value))
    stub.data_location = onnx.TensorProto.EXTERNAL
    return bytes(data[start : held.tag]) + bytes(data[held.end : end]) + bytes(stub.SerializeToString())


def holds_float(data: wire.Buffer, start: int, end: int) -> bool:
    """Whether a serialized TensorProto says float32 (float_data also holds complex numbers)."""
    kinds = [
        wire.varint(data, part.start, part.end)[0] for part in wire.fields(data, start, end) if part.number == DATA_TYPE
    ]
    return kinds == [onnx.TensorProto.FLOAT]


def place_of(tensor: onnx.TensorProto) -> tuple[str, int, int]:
    """Location, offset and length (-1: to the end) of external data."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    try:
        return entries.get("location", ""), int(entries.get("offset") or 0), int(entries.get("length") or -1)
    except ValueError as error:
        raise ModelError(f"the external data of '{tensor.name}' has an offset or length that is no number") from error


def check_external(tensor: onnx.TensorProto, model: Model) -> None:
    """ModelError unless the tensor's file lies in the model's folder and is long enough."""
    location, offset, length = place_of(tensor)
    what = f"the weight '{tensor.name}' of {model.name}"
    if model.folder is None:
        raise ModelError(f"{what} lies in another file ({location}): give the model's path, not its bytes")
    path = model.folder / location
    if not location or Path(location).is_absolute() or not path.resolve().is_relative_to(model.folder.resolve()):
        raise ModelError(f"{what} points outside the model's folder ({location}): refused")
    if not path.is_file():
        raise ModelError(f"{what} lies in {location}, which is missing beside the model: put the file there")
    if offset < 0 or path.stat().st_size < offset + max(length, 0):
        raise ModelError(f"{what} reaches beyond the end of {location}: the file is cut off, fetch it again")


def all_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a graph: initializers and attributes, subgraphs too."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            if attribute.HasField("g"):
                yield from all_tensors(attribute.g)
            for body in attribute.graphs:
                yield from all_tensors(body)
