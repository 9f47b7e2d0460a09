"""Inputs besides the image: fixed to what the user feeds, so that what remains is a model of one input."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxcam.arguments import is_text
from onnxcam.errors import ModelError, UsageError, did_you_mean
from onnxcam.graph.index import Graph
from onnxcam.graph.load import Model
from onnxcam.graph.nodes import reads
from onnxcam.graph.types import shown

Array = npt.NDArray[Any]
INITIALIZERS_ARE_INPUTS = 3  # the last IR version in which an initializer has to be declared as an input too


def with_feeds(model: Model, feeds: Mapping[str, Any]) -> Model:
    """The model with some inputs turned into constants, and without those that nothing reads.

    An input that has a default already takes the new value.

    Raises:
        UsageError: no such input, or a value of another type or shape than it takes.
    """
    unread = idle(model.proto.graph)
    if not feeds and not unread:
        return model
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    inputs = {value.name: value for value in proto.graph.input}
    defaults = {tensor.name: tensor for tensor in proto.graph.initializer}
    for name, given in feeds.items():
        if name not in inputs:
            near = did_you_mean(name, inputs) or f" (its inputs: {', '.join(inputs) or 'none'})"
            raise UsageError(f"the model has no input '{name}' to feed{near}")
        value = as_declared(inputs[name], as_array(name, given))
        fix_shared_batch(proto.graph, inputs[name], value.shape)
        tensor = numpy_helper.from_array(value, name)
        if name in defaults:
            defaults[name].CopyFrom(tensor)
            continue
        proto.graph.initializer.append(tensor)
        if proto.ir_version > INITIALIZERS_ARE_INPUTS:
            proto.graph.input.remove(inputs[name])
    for name in unread.difference(feeds):
        proto.graph.input.remove(inputs[name])
    return replace(model, proto=proto)


def fix_shared_batch(graph: onnx.GraphProto, fed: onnx.ValueInfoProto, sizes: tuple[int, ...]) -> None:
    """In place: where the fed value has one row and its batch axis is a symbol, that symbol becomes 1 in every input
    and output that bears it.
    """
    dims = fed.type.tensor_type.shape.dim
    shared = dims[0].dim_param if dims and sizes[:1] == (1,) else ""
    for value in (*graph.input, *graph.output) if shared else ():
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param == shared:
                dim.dim_value = 1


def idle(graph: onnx.GraphProto) -> set[str]:
    """Inputs without a default that nothing reads, as pruning and quantizing tools leave them; none if all are idle."""
    asked = {value.name for value in graph.input} - {tensor.name for tensor in graph.initializer}
    if len(asked) < 2:
        return set()
    unread = asked - {value.name for value in graph.output}
    unread -= {name for node in graph.node for name in reads(node)}
    return unread if unread != asked else set()


def as_array(name: str, given: object) -> Array:
    """A value as an array; UsageError when it is none."""
    try:
        return np.asarray(given)
    except (ValueError, TypeError) as error:
        raise UsageError(f"the feed '{name}' is no array: {error}") from error


def as_declared(declared: onnx.ValueInfoProto, given: Array) -> Array:
    """A value in an input's own type and rank; a batch axis that only the input has is put in front."""
    if not declared.type.HasField("tensor_type"):
        raise UsageError(f"the input '{declared.name}' is no tensor: it cannot be fed")
    kind = declared.type.tensor_type
    if kind.HasField("shape"):
        dims = [dim.dim_value if dim.HasField("dim_value") else None for dim in kind.shape.dim]
        if given.ndim == len(dims) - 1 and dims[0] in (None, 1):
            given = given[None]
        fits = given.ndim == len(dims) and all(
            n is None or n < 1 or n == m for n, m in zip(dims, given.shape, strict=True)
        )
        if not fits:
            raise UsageError(
                f"the feed '{declared.name}' has shape {list(given.shape)}, the model takes "
                f"{shown(tuple(n or dim.dim_param or None for n, dim in zip(dims, kind.shape.dim, strict=True)))}"
            )
    return as_type(declared.name, kind.elem_type, given)


def as_type(name: str, elem_type: int, given: Array) -> Array:
    """A value in an element type; UsageError when that cannot hold it."""
    if elem_type == TensorProto.STRING:
        if given.dtype.kind not in "OUS":
            raise UsageError(f"the feed '{name}' holds {given.dtype}, the model takes strings")
        texts = given.astype(object)
        if not all(isinstance(one, bytes) or is_text(one) for one in texts.ravel()):
            raise UsageError(f"the feed '{name}' holds something else than text, the model takes strings")
        return texts
    if elem_type == TensorProto.UNDEFINED or elem_type not in TensorProto.DataType.values():
        raise UsageError(f"the input '{name}' is of unknown type {elem_type}: it cannot be fed")
    wanted = helper.tensor_dtype_to_np_dtype(elem_type)
    if given.dtype.kind not in "biuf":
        raise UsageError(f"the feed '{name}' holds {given.dtype}, the model takes {wanted}")
    with np.errstate(all="ignore"):
        cast = given.astype(wanted)
    if not np.array_equal(*((cast, given) if wanted.kind in "biu" else (np.isfinite(cast), np.isfinite(given)))):
        raise UsageError(
            f"the feed '{name}' holds {given.dtype} values that {wanted}, its type in the model, cannot hold"
        )
    return cast


def check_fed(graph: Graph, image: str) -> None:
    """ModelError while an input besides the image has no value."""
    missing = [name for name in graph.inputs if name != image]
    if missing:
        what = ", ".join(f"'{name}' {type_name(graph, name)} {shown(graph.shape(name))}" for name in missing[:8])
        what += f" and {len(missing) - 8} more" if len(missing) > 8 else ""
        raise ModelError(
            f"{graph.model.name} needs more than the image '{image}': also {what}; "
            f"give each with --feed {missing[0]}=FILE.npy (in Python: feeds)"
        )


def type_name(graph: Graph, name: str) -> str:
    """The element type of a value, as messages say it."""
    elem_type = graph.type(name).elem_type
    if elem_type not in TensorProto.DataType.values():
        return f"of unknown type {elem_type}"
    named = elem_type not in (TensorProto.UNDEFINED, TensorProto.STRING)
    return str(helper.tensor_dtype_to_np_dtype(elem_type) if named else TensorProto.DataType.Name(elem_type).lower())
