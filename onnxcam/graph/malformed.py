"""What is malformed is refused by name before anything reads it: not all of onnx survives it."""

from __future__ import annotations

import math
import re

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxcam.errors import ModelError, counted, first_line
from onnxcam.graph.integers import MICROSOFT
from onnxcam.graph.nodes import all_graphs, all_nodes, described, optional

TERM = re.compile(rb"[A-Za-z ]*(\.\.\.[A-Za-z ]*)?")
LONGEST_EQUATION = 1000  # characters
AXES, MOST_AXES = frozenset({"axis", "axes", "batch_axis", "time_axis"}), 2**10
LARGEST_BLOCK = 2**15  # pixels along a side
MOST_DENSE = 2**28  # bytes of all sparse weights, with their zeros
LONGEST_VECTOR, LONGEST_VECTORS = 2**22, 2**24  # sizes, or numbers of a Range; of all that are not short
SHORT_VECTOR = 2**18
GROWING = frozenset({"Concat", "Range"})
LIKE_SIZES = GROWING | {
    "Cast", "Add", "Sub", "Mul", "Neg", "Abs", "Identity", "Slice", "Gather", "Where", "Unsqueeze", "Squeeze",
}  # fmt: skip
BYTES: dict[int, int] = {TensorProto.INT64: 8, TensorProto.INT32: 4}  # of a number
LARGEST_STEP, LONGEST_STEPS = 2**30, 64  # of a Slice (onnx counts in 32 bits), and how many axes it may have


TEXT, NUMBER, NUMBERS = onnx.AttributeProto.STRING, onnx.AttributeProto.INT, onnx.AttributeProto.INTS
KINDS = {  # of attributes that mean the same wherever they are, as in operators of which onnx knows nothing
    "auto_pad": TEXT, "activation": TEXT, "group": NUMBER, "kernel_shape": NUMBERS, "pads": NUMBERS, "strides": NUMBERS,
    "dilations": NUMBERS, "activation_params": onnx.AttributeProto.FLOATS, "channels": NUMBER, "channels_last": NUMBER,
}  # fmt: skip


class PerilError(ModelError):
    """A model that onnx or ONNX Runtime neither refuses nor survives: neither is to be asked what is wrong with it."""


def check_nodes(proto: onnx.ModelProto, name: str) -> None:
    """ModelError at a node that is not what its operator asks for: an input too few, an attribute of another kind.

    ONNX Runtime refuses these too; all code behind reads inputs and attributes without asking.
    """
    context = onnx.checker.C.CheckerContext()
    context.ir_version = proto.ir_version
    context.opset_imports = opsets = {entry.domain: entry.version for entry in proto.opset_import}
    for node in all_nodes(proto.graph):
        check_subgraphs(node, name)
        if any(attribute.ref_attr_name for attribute in node.attribute):
            raise ModelError(f"{name} is broken: {described(node)} refers to an attribute of no function")
        if odd := next((a.name for a in node.attribute if KINDS.get(a.name, a.type) != a.type), None):
            raise ModelError(f"{name} is broken: {described(node)} is malformed (its {odd} is of another kind)")
        unchecked = node.op_type == "Constant" or any(a.HasField("g") or a.graphs for a in node.attribute)
        if unchecked or not onnx.defs.has(node.op_type, opsets[node.domain], node.domain):
            continue
        if onnx.defs.get_schema(node.op_type, opsets[node.domain], node.domain).deprecated:  # the checker refuses these
            continue
        try:
            onnx.checker.check_node(node, context)
        except onnx.checker.ValidationError as error:
            raise ModelError(f"{name} is broken: {described(node)} is malformed ({first_line(error)})") from error


def check_subgraphs(node: onnx.NodeProto, name: str) -> None:
    """ModelError where the subgraphs of an If, a Loop or a Scan do not take and give what their node does."""
    if node.domain or node.op_type not in ("If", "Loop", "Scan"):
        return
    bodies = {a.name: a.g for a in node.attribute if a.HasField("g") and a.type == onnx.AttributeProto.GRAPH}
    held = ("then_branch", "else_branch") if node.op_type == "If" else ("body",)
    inputs = 0 if node.op_type == "If" else len(node.input)
    outputs = len(node.output) + (node.op_type == "Loop")
    sizes = {which: (len(body.input), len(body.output)) for which, body in bodies.items()}
    if (
        len({attribute.name for attribute in node.attribute}) < len(node.attribute)
        or any(sizes.get(which) != (inputs, outputs) for which in held)
        or len(node.input) < {"If": 1, "Loop": 2, "Scan": 1}[node.op_type]
    ):
        raise ModelError(f"{name} is broken: {described(node)} does not take and give what its {' and '.join(held)} do")
    if node.op_type == "Scan":
        check_scan(node, name)


def check_scan(node: onnx.NodeProto, name: str) -> None:
    """ModelError where a Scan does not say how it takes its inputs apart."""
    numbers = {attribute.name: attribute.i for attribute in node.attribute}
    lists = {attribute.name: len(attribute.ints) for attribute in node.attribute if attribute.ints}
    count = numbers.get("num_scan_inputs", 0)
    scanned = {"input": count, "output": len(node.output) - len(node.input) + count}
    if not 0 < count <= len(node.input) or scanned["output"] < 0 or any(
        lists.get(f"scan_{which}_{what}", size) != size
        for which, size in scanned.items() for what in ("axes", "directions")
    ):  # fmt: skip
        raise ModelError(f"{name} is broken: {described(node)} does not say how its inputs and outputs are scanned")


def check_perils(node: onnx.NodeProto, name: str) -> None:
    """PerilError at what onnx or ONNX Runtime neither refuses nor survives: it never ends, or ends the process."""
    for given in node.attribute if node.domain in ("", MICROSOFT) else ():
        if given.name == "group" and given.i < 1:
            raise PerilError(f"{name} is broken: {described(node)} has {given.i} groups")
        if given.name == "num_outputs" and given.i > LARGEST_BLOCK:
            raise PerilError(f"{name} is broken: {described(node)} has {given.i:,} outputs")
        if given.name in AXES and any(abs(axis) > MOST_AXES for axis in (given.i, *given.ints)):
            raise PerilError(f"{name} is broken: {described(node)} names an axis that no tensor has")
        if given.name == "blocksize" and not 0 < given.i <= LARGEST_BLOCK:
            raise PerilError(f"{name} is broken: {described(node)} has blocks of {given.i}")
        if given.name == "equation" and not is_equation(given.s):
            raise PerilError(f"{name} is broken: {described(node)} has an equation that is none")


def is_equation(text: bytes) -> bool:
    """Whether a text says which axes of which factors an Einsum sums."""
    factors, *result = text.split(b"->")
    terms = [*factors.split(b","), *result]
    return len(text) <= LONGEST_EQUATION and len(result) < 2 and all(TERM.fullmatch(term) for term in terms)


def check_constants(graph: onnx.GraphProto, name: str) -> None:
    """PerilError at constants that their readers neither refuse nor survive.

    A Slice by steps that no tensor has, which onnx's inference counts without end; a OneHot of a depth that is no
    number, which ends ONNX Runtime.
    """
    for body in all_graphs(graph):
        plain = [node for node in body.node if not node.domain]
        sliced = {steps: node for node in plain if node.op_type == "Slice" and (steps := optional(node, 4))}
        spread = {depth: node for node in plain if node.op_type == "OneHot" and (depth := optional(node, 1))}
        for tensor in body.initializer:
            if tensor.name in sliced and is_absurd(tensor):
                node = described(sliced[tensor.name])
                raise PerilError(f"{name} is broken: {node} takes steps of more than any tensor holds")
            if tensor.name in spread and math.prod(tensor.dims) != 1:
                raise PerilError(f"{name} is broken: {described(spread[tensor.name])} has a depth that is no number")


def check_growth(graph: onnx.GraphProto, name: str) -> None:
    """PerilError where sizes are put together to vectors longer than any shape: onnx's inference writes them all out.

    The nodes are in order. What is no vector of sizes counts as one number.
    """
    for inner in all_graphs(graph):
        check_lengths(inner, name)


def check_lengths(graph: onnx.GraphProto, name: str) -> None:
    """The same for one graph, of which the values around it count as one number each.

    All together count what is put together in the graph, and what is made of that: not what a detector finds.
    """
    total, together = 0, set[str]()
    lengths = {tensor.name: math.prod(tensor.dims) for tensor in graph.initializer if len(tensor.dims) < 2}
    for value in (*graph.input, *graph.value_info):
        dims = value.type.tensor_type.shape.dim
        if len(dims) > MOST_AXES:
            raise PerilError(f"{name} is broken: '{value.name}' has {len(dims):,} axes, more than any tensor")
        lengths |= {value.name: dims[0].dim_value} if len(dims) == 1 and dims[0].dim_value > 0 else {}
    held = (tensor for tensor in graph.initializer if tensor.data_location != TensorProto.EXTERNAL)
    numbers = {tensor.name: tensor for tensor in held if math.prod(tensor.dims) <= 1}
    for node in graph.node:
        read = [lengths.get(value, 1) for value in node.input]
        length = max(read, default=1)
        if node.op_type == "Slice" and max(read[1:], default=1) > LONGEST_STEPS:
            raise PerilError(f"{name} is broken: {described(node)} names an axis that no tensor has")
        if node.op_type == "Concat":
            length = sum(read)
        elif node.op_type == "Gather":
            length = read[-1]
        elif node.op_type == "Range" and all(value in numbers for value in node.input):
            length = steps_of(*(numbers[value] for value in node.input))
        grown = length > LONGEST_VECTOR and node.op_type in GROWING
        if node.op_type in LIKE_SIZES:
            lengths |= dict.fromkeys(node.output[:1], length)
        if node.op_type in GROWING or (node.op_type in LIKE_SIZES and not together.isdisjoint(node.input)):
            together.update(node.output[:1])
            total += length if length > SHORT_VECTOR else 0
        if grown or total > LONGEST_VECTORS:
            raise PerilError(f"{name} is broken: {described(node)} makes a vector of {counted(length)} numbers")


def steps_of(start: onnx.TensorProto, limit: onnx.TensorProto, step: onnx.TensorProto) -> int:
    """How many numbers a Range of constants makes; 0 where they are none."""
    try:
        first, last, by = (float(numpy_helper.to_array(tensor).item()) for tensor in (start, limit, step))
        return max(math.ceil((last - first) / by), 0)
    except (ValueError, OverflowError, ZeroDivisionError):
        return 0


def is_absurd(tensor: onnx.TensorProto) -> bool:
    """Whether a tensor, as of steps, holds integers that are no sizes."""
    if tensor.data_type not in BYTES or not 0 < math.prod(tensor.dims) <= LONGEST_STEPS:
        return False
    expected = BYTES[tensor.data_type] * math.prod(tensor.dims)
    if tensor.data_location == TensorProto.EXTERNAL or len(tensor.raw_data) not in (0, expected):
        return False
    return bool(np.any(np.abs(numpy_helper.to_array(tensor).astype(np.float64)) > LARGEST_STEP))


def check_sparse(graph: onnx.GraphProto, name: str) -> None:
    """ModelError where the zeros of all sparse weights together take more memory than any real model's."""
    held = [attribute.sparse_tensor for node in all_nodes(graph) for attribute in node.attribute]
    size = 0
    for sparse in [*held, *(sparse for body in all_graphs(graph) for sparse in body.sparse_initializer)]:
        kind = sparse.values.data_type
        itemsize = helper.tensor_dtype_to_np_dtype(kind).itemsize if kind in helper.get_all_tensor_dtypes() else 0
        size += itemsize * abs(math.prod(sparse.dims))
    if size > MOST_DENSE:
        raise ModelError(
            f"the sparse weights of {name} take {counted(size >> 20)} MB with their zeros: export them dense"
        )
