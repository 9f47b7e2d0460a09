"""A model as it lies on disk or in memory, its large weights left where they are.

`load` gives a ModelProto in which every large initializer is an external reference *into the model's own file*
(or bytes): name, type and dims are there, the data is not. Graph work then costs the same for a 5 MB and a 5 GB
model, ONNX Runtime maps the weights straight from the original file, and nothing is held twice.
"""

from __future__ import annotations

import math
import mmap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy.typing as npt
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, EncodeError, Message
from onnx import numpy_helper

from onnxcam.arguments import Kind, is_text, require
from onnxcam.errors import ModelError, UsageError
from onnxcam.graph.external import file_of, inlined, is_external, place_of, read_span, relocate, span
from onnxcam.graph.skeleton import skeleton
from onnxcam.runtime import wire

MODEL = Kind("a path, bytes or a ModelProto", lambda value: isinstance(value, str | Path))
MOST_A_BYTE = 4  # elements: the smallest types have two bits
MOST_AXES = 64
IN_MEMORY = "*in memory*"  # the location of weights that lie in `Model.data`


@dataclass(frozen=True)
class Model:
    """A model as given.

    Attributes:
        proto: the model; initializers over 16 kB have no data but say where it lies.
        path: the file, when it came from one.
        data: the serialized model that in-memory references point into (bytes, or the mapped file).
        others: the files of its external data.
    """

    proto: onnx.ModelProto
    path: Path | None
    data: wire.Buffer = field(repr=False)
    others: frozenset[Path] = frozenset()

    @cached_property
    def folder(self) -> Path | None:
        """Where the file itself lies, links followed: external data is relative to it; None without a file."""
        return self.path.resolve().parent if self.path else None

    @property
    def name(self) -> str:
        """What messages call it."""
        return str(self.path) if self.path else "the model"

    @cached_property
    def _home(self) -> str:
        return home_of(self.path)

    def owns(self, tensor: onnx.TensorProto) -> bool:
        """Whether the tensor's data lies in the model itself, behind a reference made by `load`."""
        return is_external(tensor) and place_of(tensor).location == self._home

    def weight(self, tensor: onnx.TensorProto) -> str:
        """What messages call a tensor."""
        return f"the weight '{tensor.name}' of {self.name}"

    def read(self, tensor: onnx.TensorProto) -> onnx.TensorProto:
        """The tensor with its data, wherever that lies; ModelError when it is not to be had."""
        if not is_external(tensor):
            return tensor
        what = self.weight(tensor)
        if self.owns(tensor):
            start, end = span(tensor, len(self.data), what)
            return inlined(tensor, bytes(self.data[start:end]))
        if self.folder is None:
            raise ModelError(f"{what} lies in another file: give the model's path, not its bytes")
        return inlined(tensor, read_span(tensor, file_of(tensor, self.folder, [self.folder], what), what))

    def array(self, tensor: onnx.TensorProto) -> npt.NDArray[Any]:
        """The tensor's elements; ModelError when they are not to be had, or do not fill its shape."""
        try:
            return numpy_helper.to_array(self.read(tensor))
        except (ValueError, TypeError, KeyError) as error:  # onnx's words for sizes and types that cannot be
            raise ModelError(damaged(self.weight(tensor))) from error

    def check_spared(self, path: Path) -> None:
        """UsageError when writing to a path would replace the model, or a file of its external data."""
        meant = path.resolve()  # by way of folders that are not there yet, too
        for file in [*filter(None, [self.path]), *sorted(self.others)]:
            if meant.exists() and file.exists() and meant.samefile(file):
                what = "the model itself" if file == self.path else "the data of the model"
                raise UsageError(f"{path} is {what} and would be overwritten: choose another name or folder")

    def embed(self, proto: onnx.ModelProto) -> onnx.ModelProto:
        """In place: every weight moves into `proto`, wherever it lies, so that the result stands on its own."""
        for tensor in all_tensors(proto):
            if is_external(tensor):
                tensor.CopyFrom(self.read(tensor))
        return proto

    def portable(self, proto: onnx.ModelProto) -> bytes:
        """`proto` as bytes that a session opens beside `folder`: in-memory weights embedded, the rest by reference.

        Raises:
            ModelError: over 2 GB; or a weight in another file, where the model came without a path.
        """
        if self._home == IN_MEMORY:
            for tensor in proto.graph.initializer:
                if self.owns(tensor) or (self.path is None and is_external(tensor)):
                    tensor.CopyFrom(self.read(tensor))
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
        require("model", source, MODEL)
        model = from_file(Path(source))
    for tensor in all_tensors(model.proto):
        check_filled(tensor, model)
    found = [bring_inside(tensor, model) for tensor in all_tensors(model.proto) if is_external(tensor)]
    return replace(model, others=frozenset(filter(None, found)))


def check_filled(tensor: onnx.TensorProto, model: Model) -> None:
    """ModelError where a shape is far larger than the data that the model holds for it: no memory is taken for that.

    Nor time for one of more axes than NumPy knows. A sparse tensor's dense shape is its own; data in other files is
    measured when it is read.
    """
    if len(tensor.dims) > MOST_AXES:
        raise ModelError(f"{model.weight(tensor)} has {len(tensor.dims):,} axes, which no tensor has")
    if is_external(tensor) and not model.owns(tensor):
        return
    held = tensor.ByteSize() + ((place_of(tensor).length or 0) if is_external(tensor) else 0)
    if math.prod(tensor.dims) > MOST_A_BYTE * held:
        raise ModelError(damaged(model.weight(tensor)))


def damaged(what: str) -> str:
    """What is said of a weight whose shape and data contradict each other."""
    return f"{what} is damaged, its data does not fill its shape: fetch or export the model again"


def bring_inside(tensor: onnx.TensorProto, model: Model) -> Path | None:
    """Check external data and, in place, bring it inside `model.folder`: outside of it nothing will be read.

    A model's file may be a link: Hugging Face's cache gives it and its data, which lie in one folder under other names,
    their own names in another. As in ONNX Runtime, data is looked for beside the link, and may lie there too.

    Returns:
        Its file; None for data in the model itself.
    """
    what = model.weight(tensor)
    if model.owns(tensor):
        span(tensor, len(model.data), what)
    if model.owns(tensor) or model.path is None or model.folder is None:
        return None
    beside = model.path.parent
    file = file_of(tensor, beside, [model.folder, beside.resolve()], what)
    if not file.is_relative_to(model.folder):
        tensor.CopyFrom(inlined(tensor, read_span(tensor, file, what)))
    elif model.path.is_symlink():
        relocate(tensor, file.relative_to(model.folder).as_posix())
    return file


def from_file(path: Path) -> Model:
    """The model in a file, mapped rather than read."""
    what = f"the model {path!s:.200}"
    try:
        size = path.stat().st_size
        if not path.is_file():
            raise ModelError(f"cannot read {what}: it is {'a folder' if path.is_dir() else 'no ordinary file'}")
        with path.open("rb") as file:
            data: wire.Buffer = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) if size else b""
    except FileNotFoundError as error:
        raise ModelError(f"no model at {path}") from error
    except OSError as error:
        raise ModelError(f"cannot read {what}: {error.strerror or error}") from error
    except ValueError as error:  # a name with a null byte
        raise ModelError(f"cannot read {what}: {error}") from error
    return from_bytes(data, path)


def home_of(path: Path | None) -> str:
    """The location of references into the model itself: its file's own name, links followed.

    Neither protobuf nor ONNX Runtime take a path that is not UTF-8: such a model is held as one from memory is.
    """
    file = path.resolve() if path else None
    return file.name if file and is_text(str(file)) else IN_MEMORY


def from_bytes(data: wire.Buffer, path: Path | None) -> Model:
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
        proto.ParseFromString(skeleton(data, home_of(path)))
    except (DecodeError, ValueError, RecursionError) as error:
        raise ModelError(f"{name} is not an ONNX model, or is damaged or cut off{hint(data)}") from error
    if not all(isinstance(text, str) for text in texts(proto)):  # protobuf gives bytes for what is not UTF-8
        raise ModelError(f"{name} holds a name that is not UTF-8, it is damaged: fetch or export it again")
    if not proto.graph.node and not proto.graph.output:
        raise ModelError(f"{name} holds no ONNX graph{hint(data)}")
    return Model(proto, path, data)


def texts(message: Message) -> Iterator[str | bytes]:
    """Every string of a message and of the messages in it."""
    for descriptor, value in message.ListFields():
        if descriptor.type == FieldDescriptor.TYPE_STRING:
            yield from [value] if isinstance(value, str | bytes) else value
        elif descriptor.type == FieldDescriptor.TYPE_MESSAGE:
            for inner in [value] if isinstance(value, Message) else value:
                yield from texts(inner)


def hint(data: wire.Buffer) -> str:
    """What the bytes look like instead, when that can be told."""
    start = bytes(data[:200]).lstrip()
    if start.startswith(b"version https://git-lfs"):
        return ": this is a Git LFS pointer, fetch the file itself with `git lfs pull`"
    if start[:5].lower() in (b"<!doc", b"<html"):
        return ": this is a web page, the download went wrong"
    return ""


def all_tensors(proto: onnx.ModelProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a model: initializers and attributes, those of subgraphs and functions too."""
    yield from graph_tensors(proto.graph)
    for function in proto.functions:
        yield from node_tensors(function.node)


def graph_tensors(graph: onnx.GraphProto) -> Iterator[onnx.TensorProto]:
    """Every tensor of a graph."""
    yield from graph.initializer
    for sparse in graph.sparse_initializer:
        yield from (sparse.values, sparse.indices)
    yield from node_tensors(graph.node)


def node_tensors(nodes: Iterable[onnx.NodeProto]) -> Iterator[onnx.TensorProto]:
    """Every tensor in the attributes of nodes."""
    for attribute in (attribute for node in nodes for attribute in node.attribute):
        if attribute.HasField("t"):
            yield attribute.t
        yield from attribute.tensors
        for sparse in [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else attribute.sparse_tensors:
            yield from (sparse.values, sparse.indices)
        for body in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            yield from graph_tensors(body)
