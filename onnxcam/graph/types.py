"""Element types and shapes: onnx's inference, carried a little further."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import onnx
from onnx import TensorProto, helper

from onnxcam.errors import ModelError, first_line
from onnxcam.graph.malformed import MOST_AXES, PerilError
from onnxcam.graph.nodes import described

Dim = int | str | None
Shape = tuple[Dim, ...]
Sizes = tuple[int, ...]  # a shape, or a part of one, that is known

FLOATS = frozenset(
    {TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.BFLOAT16}
    | {kind for name, kind in TensorProto.DataType.items() if name.startswith("FLOAT8")}
)
NARROW = frozenset({TensorProto.FLOAT16, TensorProto.BFLOAT16})
COUNTS = frozenset({TensorProto.INT32, TensorProto.INT64})  # that sizes are held in
RANGES: dict[int, tuple[int, int]] = {
    TensorProto.UINT4: (0, 15), TensorProto.INT4: (-8, 7), TensorProto.UINT8: (0, 255), TensorProto.INT8: (-128, 127),
    TensorProto.UINT16: (0, 65535), TensorProto.INT16: (-32768, 32767),
}  # fmt: skip
INTEGERS = frozenset({*RANGES, TensorProto.INT32})  # that may stand for real numbers
READING_SIZES = {  # the first input that may be sizes, or axes
    **dict.fromkeys(["Expand", "Reshape", "Tile", "Slice", "Resize", "Upsample", "AffineGrid", "Pad", "Unsqueeze"], 1),
    "ConstantOfShape": 0,
}
TOO_LARGE = "the sizes that the model declares take more memory than those of any model"
MADE_UP = "unk__"  # begins the names that tf2onnx, and onnx's own inference, make up for sizes


@dataclass(frozen=True)
class ValueType:
    """Element type (TensorProto.DataType, 0 when no tensor or unknown) and shape (None: unknown rank)."""

    elem_type: int
    shape: Shape | None


UNKNOWN = ValueType(0, None)
Types = Mapping[str, ValueType]


def shape_in(types: Types, name: str) -> Shape | None:
    """The shape of a value; None where it is not among the types, or its rank not known."""
    return types[name].shape if name in types else None


def inferred_types(proto: onnx.ModelProto) -> dict[str, ValueType]:
    """What onnx's shape inference says of every value of the main graph."""
    try:
        inferred = onnx.shape_inference.infer_shapes(proto, data_prop=True)
    except Exception as error:  # onnx raises its own and C++'s types here, none of them documented
        if isinstance(error, MemoryError) or "bad_alloc" in str(error):
            raise PerilError(TOO_LARGE) from error
        raise ModelError(f"the shapes of the model contradict each other: {first_line(error)}") from error
    graph = inferred.graph
    found = declared([*graph.input, *graph.value_info, *graph.output])
    check_turned(found, graph.node)
    return refined(found, graph.node)


def declared(values: Iterable[onnx.ValueInfoProto]) -> dict[str, ValueType]:
    """Types of tensors, as a graph declares them."""
    return {
        value.name: ValueType(tensor.elem_type, shape_of(tensor) if tensor.HasField("shape") else None)
        for value in values
        if value.type.HasField("tensor_type")
        for tensor in [value.type.tensor_type]
    }


def check_axes(nodes: Iterable[onnx.NodeProto], types: Types) -> None:
    """PerilError where sizes are read of more axes than any tensor has: ONNX Runtime writes each out."""
    for node in nodes:
        for name in node.input[READING_SIZES[node.op_type] :] if node.op_type in READING_SIZES else ():
            shape = shape_in(types, name) or ()
            if len(shape) == 1 and isinstance(shape[0], int) and shape[0] > MOST_AXES:
                raise PerilError(TOO_LARGE)


def check_turned(types: Types, nodes: Iterable[onnx.NodeProto]) -> None:
    """ModelError at a Transpose of more or fewer axes than its input has, which onnx lets pass."""
    for node in nodes:
        if node.op_type != "Transpose" or node.domain:
            continue
        shape = shape_in(types, node.input[0])
        for perm in (attribute.ints for attribute in node.attribute):
            if shape is not None and len(shape) != len(perm):
                raise ModelError(
                    f"the shapes of the model contradict each other: {described(node)} turns {len(perm)} axes of "
                    f"'{node.input[0]}' {shown(shape)}"
                )


def shape_of(tensor: onnx.TypeProto.Tensor) -> Shape:
    """The shape that a type declares."""
    return tuple(
        dim.dim_value if dim.HasField("dim_value") else (dim.dim_param or None if dim.HasField("dim_param") else None)
        for dim in tensor.shape.dim
    )


def shown(shape: Shape | None) -> str:
    """A shape for people: [N, 3, 224, 224]."""
    if shape is None:
        return "of unknown shape"
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


def refined(types: dict[str, ValueType], nodes: Iterable[onnx.NodeProto]) -> dict[str, ValueType]:
    """Sizes that onnx gave a made-up symbol, solved where a reshape or a concatenation settles them.

    Exports with a free batch axis reshape to [batch, -1]: the element count tells what -1 is, the batch cancelled.
    """
    solved: dict[str, Dim] = {}

    def known(name: str) -> Shape | None:
        shape = shape_in(types, name)
        return None if shape is None else tuple(solved.get(d, d) if isinstance(d, str) else d for d in shape)

    for node in nodes:
        if node.op_type in SOLVING and node.domain == "" and node.output[0] in types:
            equation = SOLVING[node.op_type](node, [known(name) for name in node.input], known(node.output[0]))
            solved.update(equation or {})
    touched = [name for name, found in types.items() if found.shape and not solved.keys().isdisjoint(found.shape)]
    return types | {name: replace(types[name], shape=known(name)) for name in touched}


def by_element_count(node: onnx.NodeProto, inputs: list[Shape | None], output: Shape | None) -> dict[str, Dim] | None:
    """A reshape keeps the number of elements."""
    before = inputs[0]
    if before is None or output is None:
        return None
    left, right = list(before), list(output)
    for dim in before:
        if isinstance(dim, str) and dim in right:
            left.remove(dim)
            right.remove(dim)
    unknown = [dim for dim in right if not isinstance(dim, int)]
    symbols = [dim for dim in left if not isinstance(dim, int)]
    if len(unknown) != 1 or not made_up(unknown[0]) or len(symbols) > 1:
        return None
    total, rest = (math.prod(dim for dim in side if isinstance(dim, int)) for side in (left, right))
    if symbols:
        return {str(unknown[0]): symbols[0]} if total == rest else None
    return {str(unknown[0]): total // rest} if rest and total % rest == 0 else None


def by_sum(node: onnx.NodeProto, inputs: list[Shape | None], output: Shape | None) -> dict[str, Dim] | None:
    """A concatenation is as long as its parts together."""
    if output is None or any(shape is None for shape in inputs):
        return None
    axis = helper.get_node_attr_value(node, "axis") % len(output)
    parts = [(shape or ())[axis] for shape in inputs]
    if not made_up(output[axis]) or not all(isinstance(part, int) for part in parts):
        return None
    return {str(output[axis]): sum(int(part or 0) for part in parts)}


def by_broadcast(node: onnx.NodeProto, inputs: list[Shape | None], output: Shape | None) -> dict[str, Dim] | None:
    """Operands of one size give that size."""
    if output is None or any(shape is None for shape in inputs):
        return None
    found: dict[str, Dim] = {}
    for i in range(1, len(output) + 1):
        sizes = {shape[-i] for shape in inputs if shape is not None and i <= len(shape)} - {1}
        if made_up(output[-i]) and len(sizes) == 1:
            found[str(output[-i])] = sizes.pop()
    return found


def made_up(dim: Dim) -> bool:
    """Whether onnx's inference named this dimension, for want of knowledge."""
    return isinstance(dim, str) and dim.startswith(MADE_UP)


def times(count: int, dim: str) -> str:
    """The symbol of so many times a size: 64*N windows of N images."""
    return dim if count == 1 else f"{count}*{dim}"


def is_multiple(dim: Dim) -> bool:
    """Whether a size is some times another."""
    return isinstance(dim, str) and "*" in dim


def is_open(shape: Shape | None) -> bool:
    """Whether a rank is not known, or a size has no name but one that inference made up."""
    return shape is None or any(dim is None or made_up(dim) for dim in shape)


def completed(known: ValueType, other: ValueType) -> ValueType:
    """A type with what another of the same value tells beyond it."""
    shape = known.shape
    if shape is None:
        shape = other.shape
    elif other.shape is not None and len(other.shape) == len(shape):
        dims = zip(shape, other.shape, strict=True)
        shape = tuple(told if told is not None and is_open((dim,)) else dim for dim, told in dims)
    return ValueType(known.elem_type or other.elem_type, shape)


SOLVING = {
    "Reshape": by_element_count, "Concat": by_sum,
    **dict.fromkeys(["Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "Sum", "Mean", "Where"], by_broadcast),
}  # fmt: skip
