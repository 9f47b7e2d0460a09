"""One spelling for everything: what the rest of the package may take for granted about a graph.

model-local functions inlined; default domain spelled ""; opset at least 16 (`upgrade`); initializers are no inputs;
constants are initializers; nodes in topological order; value_info forgotten (it may be stale, and then inference
believes it); defaults that inference gets wrong spelled out; Dropouts in training mode say what they drop. Value names,
inputs and outputs stay as they are.
"""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, helper, numpy_helper

from onnxcam.errors import ModelError, first_line
from onnxcam.graph.calls import check_calls, write_defaults
from onnxcam.graph.integers import SURFACED
from onnxcam.graph.load import Model
from onnxcam.graph.malformed import check_constants, check_growth, check_nodes, check_perils, check_sparse
from onnxcam.graph.nodes import all_graphs, all_nodes, described, optional, reads, replace_nodes
from onnxcam.graph.types import MADE_UP
from onnxcam.graph.upgrade import LOWEST_IR, align_functions, upgrade
from onnxcam.graph.upgrade_patch import Facts

LATEST = 2**31 - 1  # what onnx holds versions in
WHERE_NONE_IS_USED = 17  # the opset of a model that has no operator of the default domain
JUNK_DIMS = {"", "?", "None", "none", "-1", "unk", "unknown"}  # exporters' words for "any size"


def normalize(model: Model) -> onnx.ModelProto:
    """A normalized copy of a model's proto.

    Raises:
        ModelError: no default opset, a malformed node, a cycle, a function that cannot be inlined, operators nobody can
            adapt.
    """
    proto = onnx.ModelProto()
    proto.CopyFrom(model.proto)
    unify_domains(proto, model.name)
    if proto.functions:
        proto = inlined(proto, model.name)
    if proto.ir_version > LATEST:
        raise ModelError(f"{model.name} says it is of IR version {proto.ir_version}, which cannot be: it is damaged")
    proto.ir_version = max(proto.ir_version, LOWEST_IR)
    drop_initializer_inputs(proto.graph)
    forget_marks(proto.graph)
    for node in all_nodes(proto.graph):  # first: what adapts old operators infers types
        check_perils(node, model.name)
    upgrade(proto)
    check_nodes(proto, model.name)
    check_sparse(proto.graph, model.name)
    spell_out(proto)
    name_masks(proto)
    lift_constants(proto.graph, model.name)
    check_constants(proto.graph, model.name)
    sort_nodes(proto.graph, model.name)
    check_growth(proto.graph, model.name)
    forget_shapes(proto.graph)
    return proto


def unify_domains(proto: onnx.ModelProto, name: str) -> None:
    """Spell ai.onnx as "" and import each domain once; of several versions the last counts, as in ONNX Runtime."""
    versions: dict[str, int] = {}
    for entry in proto.opset_import:
        domain = "" if entry.domain == "ai.onnx" else entry.domain
        versions[domain] = entry.version
    if not proto.functions and all(node.domain not in ("", "ai.onnx") for node in all_nodes(proto.graph)):
        versions.setdefault("", WHERE_NONE_IS_USED)
    if versions.get("", 0) < 1:
        raise ModelError(
            f"{name} does not say which opset it uses (no opset_import for the default domain): export it again"
        )
    if odd := next((version for version in versions.values() if not 0 <= version <= LATEST), None):
        raise ModelError(
            f"{name} says it uses an opset {odd}, which cannot be: it is damaged, fetch or export it again"
        )
    for node in all_nodes(proto.graph):
        if node.domain == "ai.onnx":
            node.domain = ""
    for domain in sorted({node.domain for node in all_nodes(proto.graph)} - versions.keys()):
        versions[domain] = 1  # ONNX Runtime runs its own domains unannounced
    del proto.opset_import[:]
    proto.opset_import.extend(helper.make_opsetid(domain, version) for domain, version in versions.items())


def inlined(proto: onnx.ModelProto, name: str) -> onnx.ModelProto:
    """The model with every call of a model-local function replaced by its body."""
    drop_shadowed(proto)
    align_functions(proto)
    functions = {(f.domain, f.name) for f in proto.functions}
    check_calls(proto, name)
    write_defaults(proto)
    try:
        flat = onnx.inliner.inline_local_functions(proto)
    except Exception as error:  # onnx raises its own and C++'s types here, none of them documented
        raise ModelError(f"the functions inside {name} cannot be inlined: {first_line(error)}") from error
    left = {(node.domain, node.op_type) for node in all_nodes(flat.graph)} & functions
    if left:
        raise ModelError(
            f"the function {sorted(left)[0][1]} inside {name} uses another opset than the model and cannot be inlined: "
            "export the model again with one opset"
        )
    del flat.functions[:]
    unify_domains(flat, name)
    return flat


def drop_shadowed(proto: onnx.ModelProto) -> None:
    """Forget functions that bear the name of a standard operator: ONNX Runtime runs the operator."""
    (version,) = (entry.version for entry in proto.opset_import if entry.domain == "")
    kept = [f for f in proto.functions if f.domain not in ("", "ai.onnx") or not onnx.defs.has(f.name, version, "")]
    if len(kept) < len(proto.functions):
        del proto.functions[:]
        proto.functions.extend(kept)


def drop_initializer_inputs(graph: onnx.GraphProto) -> None:
    """A weight that is also listed as an input is a weight."""
    weights = {tensor.name for tensor in graph.initializer}
    kept = [value for value in graph.input if value.name not in weights]
    if len(kept) < len(graph.input):
        del graph.input[:]
        graph.input.extend(kept)


def forget_marks(graph: onnx.GraphProto) -> None:
    """Take names from nodes that are called as those that are put in to show a value otherwise."""
    for node in all_nodes(graph):
        if node.name.startswith(SURFACED):
            node.name = ""


def spell_out(proto: onnx.ModelProto) -> None:
    """Write defaults that onnx's shape inference gets wrong: STFT gives half the spectrum unless told otherwise."""
    for node in all_nodes(proto.graph):
        if node.op_type == "STFT" and not node.domain and all(a.name != "onesided" for a in node.attribute):
            node.attribute.append(helper.make_attribute("onesided", 1))


def name_masks(proto: onnx.ModelProto) -> None:
    """Have every Dropout that may be in training mode say what it dropped, which its gradient needs to know."""
    if silent := [n for n in all_nodes(proto.graph) if n.op_type == "Dropout" and not n.domain and optional(n, 2)]:
        facts = Facts(proto)
        for node in silent:
            kept, *mask = node.output
            node.output[:] = [kept, *mask] if any(mask) else [kept, facts.fresh(f"{kept}_mask")]


def lift_constants(graph: onnx.GraphProto, name: str) -> None:
    """Constant nodes and sparse initializers of the main graph become initializers."""
    for sparse in graph.sparse_initializer:
        graph.initializer.append(densified(sparse, name))
    del graph.sparse_initializer[:]
    kept = []
    for node in graph.node:
        if node.op_type == "Constant" and node.domain == "" and (tensor := constant_of(node, name)) is not None:
            tensor.name = node.output[0]
            graph.initializer.append(tensor)
        else:
            kept.append(node)
    if len(kept) < len(graph.node):
        replace_nodes(graph, kept)


def densified(sparse: onnx.SparseTensorProto, name: str) -> onnx.TensorProto:
    """The same elements with their zeros; ModelError when they lie elsewhere, or outside the shape."""
    try:
        if sparse.values.data_type == TensorProto.STRING:
            raise ValueError("it holds text")
        values, indices = numpy_helper.to_array(sparse.values), numpy_helper.to_array(sparse.indices)
        array = np.zeros(tuple(sparse.dims), values.dtype)
        array[tuple(indices.T) if indices.ndim == 2 else np.unravel_index(indices, array.shape)] = values
    except (ValueError, TypeError, KeyError, IndexError, OSError, onnx.checker.ValidationError) as error:
        what = f"the sparse weight '{sparse.values.name}' of {name}"
        raise ModelError(f"{what} cannot be read ({first_line(error)}): export it dense") from error
    return numpy_helper.from_array(array, sparse.values.name)


def constant_of(node: onnx.NodeProto, name: str) -> onnx.TensorProto | None:
    """The tensor a Constant node stands for; None for strings and sequences, which carry no gradient."""
    if len(node.attribute) != 1 or len(node.output) != 1:
        raise ModelError(f"{name} is broken: {described(node)} does not hold one value")
    (attribute,) = node.attribute
    match attribute.name:
        case "value":
            tensor = TensorProto()
            tensor.CopyFrom(attribute.t)
            return tensor
        case "value_float":
            return helper.make_tensor("", TensorProto.FLOAT, [], [attribute.f])
        case "value_floats":
            return helper.make_tensor("", TensorProto.FLOAT, [len(attribute.floats)], attribute.floats)
        case "value_int":
            return helper.make_tensor("", TensorProto.INT64, [], [attribute.i])
        case "value_ints":
            return helper.make_tensor("", TensorProto.INT64, [len(attribute.ints)], attribute.ints)
        case "sparse_value":
            return densified(attribute.sparse_tensor, name)
    return None


def sort_nodes(graph: onnx.GraphProto, name: str, outside: Iterable[str] = ()) -> None:
    """Topological order, kept as it is where it already holds; ModelError on a cycle or a value nobody makes.

    `outside`: what a subgraph may read besides its own values.
    """
    known = {*outside, *(value.name for value in graph.input), *(tensor.name for tensor in graph.initializer)}
    made_by = {output: i for i, node in enumerate(graph.node) for output in node.output if output}
    read = [set(reads(node)) for node in graph.node]
    order: list[int] = []
    state = [0] * len(graph.node)  # 0 unseen, 1 on the stack, 2 done
    for root in range(len(graph.node)):
        stack = [root] if state[root] == 0 else []
        while stack:
            i = stack[-1]
            if state[i] == 2:
                stack.pop()
                continue
            state[i] = 1
            waiting = [made_by[r] for r in sorted(read[i] - known) if r in made_by and state[made_by[r]] != 2]
            if not waiting:
                missing = [r for r in sorted(read[i] - known) if r not in made_by]
                if missing:
                    raise ModelError(
                        f"{name} is broken: {described(graph.node[i])} reads '{missing[0]}', which nothing makes"
                    )
                state[i] = 2
                order.append(stack.pop())
            elif any(state[j] == 1 for j in waiting):
                raise ModelError(f"{name} is broken: {described(graph.node[i])} depends on its own output (a cycle)")
            else:
                stack += reversed(waiting)
    if order != list(range(len(graph.node))):
        replace_nodes(graph, [graph.node[i] for i in order])


def forget_shapes(graph: onnx.GraphProto) -> None:
    """No claims about inner or output shapes survive; every input dimension of unknown size gets a name of its own.

    Exporters write "None" or "?" for several dimensions that differ; a shared name would make them one. So would the
    names that two branches give to sizes of their own.
    """
    _, *bodies = all_graphs(graph)
    for value in (value for body in bodies for value in (*body.input, *body.output, *body.value_info)):
        for dim in value.type.tensor_type.shape.dim:
            dim.ClearField("dim_param")
    del graph.value_info[:]
    for value in graph.output:
        if value.type.HasField("tensor_type"):
            value.type.tensor_type.ClearField("shape")
    for value in graph.input:
        for axis, dim in enumerate(value.type.tensor_type.shape.dim):
            known = dim.dim_value > 0 or (dim.HasField("dim_param") and dim.dim_param not in JUNK_DIMS)
            if not known or dim.dim_param.startswith(MADE_UP):
                dim.dim_param = f"{value.name}.{axis}"
