"""The shapes of a loop's final states, which onnx's inference leaves open: a state may change its shape in every step.

What the body makes of the shape at hand tells whether it does: sizes that stay hold in every step, others are free.
A state may start as a placeholder of another rank, which the first step replaces.
"""

from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxcam.errors import ModelError
from onnxcam.graph.nodes import captures
from onnxcam.graph.types import Shape, Types, ValueType, inferred_types, made_up


def final_states(model: onnx.ModelProto, types: Types) -> dict[str, ValueType]:
    """Types of the states that loops of the main graph give out, where they have a rank.

    Args:
        types: of every value that is known so far.
    """
    found: dict[str, ValueType] = {}
    for node in model.graph.node:
        if node.op_type == "Loop" and node.domain == "":
            states = state_types(model, node, types)
            outputs = zip(node.output, states, strict=False)
            found |= {name: state for name, state in outputs if name and state.elem_type and state.shape is not None}
    return found


def state_types(model: onnx.ModelProto, node: onnx.NodeProto, types: Types) -> list[ValueType]:
    """The types that a loop's states have behind every step; none where the body does not fit them.

    They are those in front of it too, except of a placeholder, which a loop of no step would give out as it is.
    """
    states = [without_made_up(types.get(name, ValueType(0, None))) for name in node.input[2:]]
    may_replace = makes_a_step(model, node)
    while True:
        try:
            ends = step(model, node, states, types)
        except ModelError:
            return []
        wider = [
            without_made_up(end)
            if may_replace and is_placeholder(state.shape, end.shape)
            else ValueType(state.elem_type, common(state.shape, end.shape))
            for state, end in zip(states, ends, strict=True)
        ]
        if wider == states:
            return states
        states, may_replace = wider, False  # the first step alone reads what the loop starts with


def makes_a_step(model: onnx.ModelProto, node: onnx.NodeProto) -> bool:
    """Whether a loop is known to run its body once at least."""
    asked = [name for name in node.input[:2] if name]
    given = (tensor for tensor in model.graph.initializer if tensor.name in asked and not tensor.external_data)
    known = [
        numpy_helper.to_array(tensor) for tensor in given if tensor.data_type in (TensorProto.INT64, TensorProto.BOOL)
    ]
    return len(known) == len(asked) and all(bool((value > 0).all()) for value in known)


def is_placeholder(before: Shape | None, behind: Shape | None) -> bool:
    """Whether a state has another rank in front of the first step than behind it."""
    return before is not None and behind is not None and len(before) != len(behind)


def without_made_up(found: ValueType) -> ValueType:
    """A type without the symbols of inference: these are others whenever it runs, and in the body."""
    sizes = found.shape and tuple(None if made_up(dim) else dim for dim in found.shape)
    return ValueType(found.elem_type, sizes)


def common(before: Shape | None, behind: Shape | None) -> Shape | None:
    """The shape that a state has before and behind a step: None for a size that changes, and for a rank that does."""
    if before is None or behind is None or len(before) != len(behind):
        return None
    return tuple(was if was == now else None for was, now in zip(before, behind, strict=True))


def step(model: onnx.ModelProto, node: onnx.NodeProto, states: Sequence[ValueType], types: Types) -> list[ValueType]:
    """What a body makes of states of these types."""
    (body,) = (attribute.g for attribute in node.attribute if attribute.name == "body")
    outside = captures(node)
    sizes = [t for t in model.graph.initializer if t.name in outside and t.data_type == TensorProto.INT64]
    given = {name: types[name] for name in sorted(outside - {t.name for t in sizes}) if name in types}
    given |= {port.name: state for port, state in zip(body.input[2:], states, strict=True)}
    ports = [
        helper.make_tensor_value_info(name, found.elem_type, found.shape)
        for name, found in given.items()
        if found.elem_type
    ]
    graph = helper.make_graph(body.node, "step", [*body.input[:2], *ports], [], [*body.initializer, *sizes])
    alone = helper.make_model(graph, ir_version=model.ir_version, opset_imports=list(model.opset_import))
    made = given | inferred_types(alone) | {t.name: ValueType(t.data_type, tuple(t.dims)) for t in body.initializer}
    return [made.get(port.name, ValueType(0, None)) for port in body.output[1 : 1 + len(states)]]
