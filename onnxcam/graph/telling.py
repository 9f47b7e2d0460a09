"""Types that onnx's inference leaves open, and that operators tell: of what they read, or of what they give out."""

from __future__ import annotations

from collections.abc import Container, Iterable
from dataclasses import replace

import onnx
from onnx import TensorProto, helper

from onnxcam.graph.integers import MICROSOFT
from onnxcam.graph.nodes import attributes, optional
from onnxcam.graph.types import UNKNOWN, Types, ValueType, made_up, shape_in

LISTING = {  # attributes with a number an axis, but for so many axes
    **dict.fromkeys(["Conv", "ConvTranspose", "MaxPool", "AveragePool", "LpPool"], ("kernel_shape", 2)),
    "Transpose": ("perm", 0),
}
RANKS = dict.fromkeys(["LSTM", "GRU", "RNN"], 3) | dict.fromkeys(["DepthToSpace", "SpaceToDepth"], 4)
TYPING = {"DequantizeLinear": 1, "QuantizeLinear": 2}  # the input that has the element type of the output
IMAGES = 4  # axes of images
UNTOLD = "onnxcam.untold"  # a domain of which onnx knows nothing
ATTENTION_SCORES, ATTENTION_PAST = 3, 4  # an output and an input of ONNX's own
PAST_RANKS = {"Attention": {1: 5}, "MultiHeadAttention": {1: 4, 2: 4}}  # op_type -> output -> rank


def read_ranks(model: onnx.ModelProto, types: Types) -> dict[str, ValueType]:
    """Types of computed values whose rank what reads them tells: behind a Reshape to a computed shape, or an If."""
    made = {name for node in model.graph.node for name in node.output}
    found: dict[str, ValueType] = {}
    for node in model.graph.node:
        rank = rank_taken(node, types)
        name = node.input[0] if node.input else ""
        if rank and name in made and name in types and types[name].elem_type and types[name].shape is None:
            found[name] = ValueType(types[name].elem_type, (None,) * rank)
    return found


def rank_taken(node: onnx.NodeProto, types: Types) -> int:
    """The only rank that a node takes its first input in; 0 where there are others, or it is not told."""
    if node.domain:
        return 0
    if node.op_type not in LISTING:
        return RANKS.get(node.op_type, 0)
    which, others = LISTING[node.op_type]
    if listed := attributes(node).get(which):
        return len(listed) + others
    return len(shape_in(types, optional(node, 1)) or ()) if "Conv" in node.op_type else 0


def spell_quantizers(graph: onnx.GraphProto) -> None:
    """In place: ONNX Runtime's own quantizers, which onnx does not know, as what has their shape and element type."""
    for node in graph.node:
        typing = TYPING.get(node.op_type) if node.domain == MICROSOFT else None
        if typing is not None and optional(node, typing):
            node.CopyFrom(helper.make_node("CastLike", [node.input[0], node.input[typing]], node.output))
        elif typing is not None:
            node.domain = ""


def false_sizes(nodes: Iterable[onnx.NodeProto], types: Types) -> dict[str, ValueType]:
    """Types of what an Attention gives out, where some of its sizes are none: without these.

    onnx calls those that it does not know 0, and counts no keys of the past where it gives out the scores.
    """
    found: dict[str, ValueType] = {}
    for node in nodes:
        if node.op_type != "Attention" or node.domain or any(0 in (shape_in(types, name) or ()) for name in node.input):
            continue
        past = bool(optional(node, ATTENTION_PAST))
        true = {
            name: without_false(types[name], past=past and i == ATTENTION_SCORES)
            for i, name in enumerate(node.output)
            if name in types
        }
        found |= true if any(one != types[name] for name, one in true.items()) else {}
    return found


def without_false(value: ValueType, *, past: bool) -> ValueType:
    """A type without sizes of 0, and with a past without the last one, the number of keys."""
    if not value.shape:
        return value
    *others, last = (None if size == 0 else size for size in value.shape)
    return replace(value, shape=(*others, last if not past or made_up(last) else None))


def leave_untold(proto: onnx.ModelProto, names: Container[str]) -> None:
    """In place: inference tells nothing of the nodes that make these values."""
    for node in proto.graph.node:
        if any(name in names for name in node.output):
            node.domain = UNTOLD
    proto.opset_import.append(helper.make_opsetid(UNTOLD, 1))


def fused_outputs(model: onnx.ModelProto, types: Types) -> dict[str, ValueType]:
    """Types of what ONNX Runtime's own operators give out, which nobody tells inference in time, or rightly."""
    found: dict[str, ValueType] = {}
    for node in model.graph.node:
        if node.domain == MICROSOFT and node.op_type in PAST_RANKS:
            found |= past_states(node, types)
        elif node.domain == MICROSOFT and node.op_type == "DynamicQuantizeLSTM" and optional(node, 2):
            found |= quantized_states(node, types)
        elif node.domain == MICROSOFT and node.op_type == "CropAndResize":
            found |= crops(node, types)
        elif node.op_type == "SimplifiedLayerNormalization" and len(node.output) > 1 and node.output[1]:
            found |= inverse(node, types)
    return found


def crops(node: onnx.NodeProto, types: Types) -> dict[str, ValueType]:
    """Type of what a CropAndResize cuts out: as many crops as there are regions, with the channels of the image."""
    image = types.get(node.input[0], UNKNOWN)
    if not image.elem_type or image.shape is None or len(image.shape) != IMAGES:
        return {}
    regions = shape_in(types, node.input[1]) or (None,)
    many, channels = (None if made_up(size) else size for size in (regions[0], image.shape[1]))
    return {node.output[0]: ValueType(image.elem_type, (many, channels, None, None))}


def past_states(node: onnx.NodeProto, types: Types) -> dict[str, ValueType]:
    """Types of the keys and values that an attention gives out for the next step.

    Where it is given none of the step before, ONNX Runtime does not tell their shapes itself.
    """
    elem_type = next((types[name].elem_type for name in node.input if name in types), 0)
    given = {i: rank for i, rank in PAST_RANKS[node.op_type].items() if i < len(node.output) and node.output[i]}
    return {node.output[i]: ValueType(elem_type, (None,) * rank) for i, rank in given.items()} if elem_type else {}


def quantized_states(node: onnx.NodeProto, types: Types) -> dict[str, ValueType]:
    """Types of what an LSTM of quantized weights gives out: of all steps, and of the last."""
    x, r = (shape_in(types, name) for name in (node.input[0], node.input[2]))
    if x is None or r is None or not len(x) == len(r) == 3:
        return {}
    steps, rows, _ = (None if made_up(dim) else dim for dim in x)  # these are other symbols in every round
    state = (r[0], rows, r[1])
    shapes, elem_type = ((steps, *state), state, state), types[node.input[0]].elem_type
    return {name: ValueType(elem_type, s) for name, s in zip(node.output, shapes, strict=False) if name}


def inverse(node: onnx.NodeProto, types: Types) -> dict[str, ValueType]:
    """Type of 1 / root mean square; ONNX Runtime infers that it keeps all axes but the first that is normalized."""
    x = shape_in(types, node.input[0])
    axis = attributes(node).get("axis", -1)
    if x is None or not -len(x) <= axis < len(x):
        return {}
    first = axis % len(x)
    return {node.output[1]: ValueType(TensorProto.FLOAT, (*x[:first], *[1] * (len(x) - first)))}
