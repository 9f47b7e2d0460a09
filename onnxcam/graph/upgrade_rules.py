"""Adapters for operators that compute the same at opset 16, spelled otherwise: attributes became inputs, hints went.

A row: operators, and the first opset that needs the step no more. An operator with several steps takes them oldest
first. The node's form was checked before, and none needs the value of a tensor. Operators that have no row here or in
`upgrade_meanings` stay as written: tests/graph/test_upgrade.py gives the reason for every schema version up to 16.
"""

from __future__ import annotations

from onnx import TensorProto

from onnxcam.graph.upgrade_patch import Patch, adapts

# -- broadcasting, hints --------------------------------------------------------------------------------


@adapts("Reshape", below=5)
@adapts(
    "Abs", "Add", "BatchNormalization", "Ceil", "Clip", "Div", "Dropout", "Elu", "Exp", "Floor", "HardSigmoid",
    "InstanceNormalization", "LeakyRelu", "Log", "Max", "Mean", "Min", "Mul", "Neg", "PRelu", "Reciprocal", "Relu",
    "Selu", "Sigmoid", "Sqrt", "Sub", "Sum", "Tanh", below=6,
)  # fmt: skip
def in_place_hint(p: Patch) -> None:
    """`consumed_inputs` said which inputs may be overwritten."""
    p.take("consumed_inputs")


@adapts("Add", "And", "Div", "Equal", "Greater", "Less", "Mul", "Or", "Pow", "Sub", "Xor", below=7)
def limited_broadcast(p: Patch) -> None:
    """B matched a run of A's axes that starts at `axis`; without `axis` the last ones, as NumPy does."""
    axis = p.take("axis")
    if p.take("broadcast", 0) and axis is not None:
        if axis < 0:
            raise p.refusal(f"axis = {axis} has no meaning below opset 7: count it from the front")
        a, b = p.node.input
        p.node.input[1] = with_trailing_axes(p, b, a, axis)


@adapts("PRelu", below=7)
def slope_per_channel(p: Patch) -> None:
    """A vector of slopes belonged to axis 1."""
    x, slope = p.node.input
    p.node.input[1] = with_trailing_axes(p, slope, x, axis=1)


def with_trailing_axes(p: Patch, value: str, like: str, axis: int) -> str:
    """`value` with axes of size 1 appended, so that its first axis meets `axis` of `like`."""
    inner, outer = p.shape(value), p.shape(like)
    if inner is not None and outer is not None:
        missing = list(range(len(inner), len(outer) - axis))
        return p.op("Unsqueeze", value, p.int64(missing)) if missing else value
    rank, rank_like = (p.op("Size", p.op("Shape", name)) for name in (value, like))
    missing_axes = p.op("Range", rank, p.op("Sub", rank_like, p.int64(axis)), p.int64(1))
    return p.op("Unsqueeze", value, missing_axes)


@adapts("Gemm", below=7)
def gemm_broadcast(p: Patch) -> None:
    """C may always be broadcast now."""
    p.take("broadcast")


@adapts("GRU", "LSTM", "RNN", below=7)
def output_sequence(p: Patch) -> None:
    """Whether Y is wanted is said by its name alone."""
    p.take("output_sequence")


# -- attributes that became inputs ----------------------------------------------------------------------


@adapts("Clip", below=11)
def clip_bounds(p: Patch) -> None:
    """A bound left out still is the largest finite number."""
    (x,) = p.node.input
    low, high = p.take("min"), p.take("max")
    if low is not None or high is not None:
        p.node.input.append("" if low is None else p.typed(low, like=x))
    if high is not None:
        p.node.input.append(p.typed(high, like=x))


@adapts("Pad", below=2)
def pad_spelling(p: Patch) -> None:
    """`paddings` is `pads`."""
    p.put("pads", p.take("paddings"))


@adapts("Pad", below=11)
def pad_inputs(p: Patch) -> None:
    """The value is 0 when left out."""
    (x,) = p.node.input
    p.node.input.append(p.int64(p.take("pads")))
    value = p.take("value", 0.0)
    if value:
        p.node.input.append(p.typed(value, like=x))


@adapts("ReduceSum", "Squeeze", below=13)
def optional_axes(p: Patch) -> None:
    """No axes: all of them."""
    axes = p.take("axes")
    if axes:
        p.node.input.append(p.int64(axes))


@adapts("Unsqueeze", below=13)
def required_axes(p: Patch) -> None:
    """Axes of the result."""
    p.node.input.append(p.int64(p.take("axes")))


@adapts("Reshape", below=5)
def reshape_shape(p: Patch) -> None:
    """No shape: a scalar."""
    p.node.input.append(p.int64(p.take("shape", [])))


@adapts("Slice", below=10)
def slice_inputs(p: Patch) -> None:
    """Without axes, starts and ends belong to the first ones; opset 10 wants one for every axis then."""
    starts, ends = p.take("starts"), p.take("ends")
    axes = p.take("axes") or list(range(len(starts)))
    p.node.input.extend([p.int64(values) for values in (starts, ends, axes)])


@adapts("Split", below=2)
def split_lengths(p: Patch) -> None:
    """The lengths could be an input of the data's type."""
    if not any(attribute.name == "axis" for attribute in p.node.attribute):
        raise p.refusal("opset 1 does not say which axis is split when `axis` is left out: set it")
    if len(p.node.input) > 1:
        p.node.input[1] = p.op("Cast", p.node.input[1], to=TensorProto.INT64)


@adapts("Split", below=13)
def split_input(p: Patch) -> None:
    """No lengths: equal parts."""
    lengths = p.take("split")
    if lengths:
        p.node.input.append(p.int64(lengths))


@adapts("Tile", below=6)
def tile_repeats(p: Patch) -> None:
    """Repetitions of one axis become a vector with ones elsewhere."""
    x, tiles, axis = p.node.input
    ones = p.op("Expand", p.int64(1), p.op("Shape", p.op("Shape", x)))
    index, count = (p.op("Reshape", p.op("Cast", name, to=TensorProto.INT64), p.int64([1])) for name in (axis, tiles))
    p.become("Tile", x, p.op("ScatterElements", ones, index, count))


@adapts("TopK", below=10)
def top_k(p: Patch) -> None:
    """K is a vector of one element."""
    p.node.input.append(p.int64([p.take("k")]))


# -- attributes and names -------------------------------------------------------------------------------


@adapts("Cast", below=6)
def cast_by_name(p: Patch) -> None:
    """The element type was a word."""
    name = p.take("to")
    if name.upper() not in TensorProto.DataType.keys():  # noqa: SIM118  (not a dict)
        raise p.refusal(f"there is no element type '{name}': correct the attribute `to`")
    p.put("to", TensorProto.DataType.Value(name.upper()))


@adapts("Concat", below=4)
def concat_axis(p: Patch) -> None:
    """Axis 1 when left out."""
    p.put("axis", p.take("axis", 1))


@adapts("GlobalLpPool", "LpPool", below=2)
def integer_norm(p: Patch) -> None:
    """The order of the norm was a float."""
    order = p.take("p", 2.0)
    if not order.is_integer():
        raise p.refusal(f"p = {order:g} is no integer, which newer pooling demands: export the model again")
    p.put("p", int(order))


@adapts("Scatter", below=11)
def scatter(p: Patch) -> None:
    """Renamed."""
    p.node.op_type = "ScatterElements"


@adapts("Selu", below=6)
def selu_constants(p: Patch) -> None:
    """The defaults of opset 1 had four digits."""
    p.put("alpha", p.take("alpha", 1.6732))
    p.put("gamma", p.take("gamma", 1.0507))
