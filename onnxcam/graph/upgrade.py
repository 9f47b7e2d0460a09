"""Models older than opset 16, brought to 16 by our own exact adapters.

`onnx.version_converter` is not used: it moves values silently (linear Upsample and Resize) and loses functions.
Truth is what ONNX Runtime computes for the old node; where it has no kernel (below opset 7), the specification.
An adapter is a small function and its row, in `upgrade_rules` (other spelling) or `upgrade_meanings` (other meaning).
"""

from __future__ import annotations

from collections.abc import Iterator

import onnx
from onnx import helper

from onnxcam.errors import first_line
from onnxcam.graph import upgrade_meanings, upgrade_rules  # noqa: F401  (they fill the table)
from onnxcam.graph.nodes import all_nodes, replace_nodes, subgraphs
from onnxcam.graph.upgrade_patch import ADAPTERS, DEFAULT_DOMAIN, RETIRED, UNDOCUMENTED, Facts, Patch, refusal

TARGET = 16
LOWEST_IR = 8


def upgrade(model: onnx.ModelProto) -> None:
    """In place: a model below opset 16 of the default domain gets opset 16 and IR 8 at least; a newer one stays.

    Only nodes change whose form or meaning did, in subgraphs too. Every value keeps its name; new names are unique.
    Model-local functions keep their own opsets: inline them before. On an error the model is unchanged.

    Raises:
        ModelError: an operator that cannot be adapted exactly; names it, the node, the opset and the cure.
    """
    opset = default_opset(model)
    if opset is None or opset >= TARGET:
        return
    for graph, nodes in list(adapted(model.graph, opset, Facts(model))):
        replace_nodes(graph, nodes)
    others = [entry for entry in model.opset_import if entry.domain not in DEFAULT_DOMAIN]
    del model.opset_import[:]
    model.opset_import.extend([helper.make_opsetid("", TARGET), *others])
    model.ir_version = max(model.ir_version, LOWEST_IR)


def align_functions(model: onnx.ModelProto) -> None:
    """In place: functions of another opset take the model's where every operator in them means the same in both."""
    version = default_opset(model)
    for function in model.functions:
        used = {node.op_type for node in all_nodes(function) if node.domain in DEFAULT_DOMAIN}
        for entry in function.opset_import:
            if version and entry.domain in DEFAULT_DOMAIN and all(same(op, entry.version, version) for op in used):
                entry.version = version


def same(op_type: str, one: int, other: int) -> bool:
    """Whether two opsets share their version of an operator."""
    try:
        versions = {onnx.defs.get_schema(op_type, opset).since_version for opset in (one, other)}
    except onnx.defs.SchemaError:
        return False
    return len(versions) == 1


def default_opset(model: onnx.ModelProto) -> int | None:
    """The version of the default domain: the last one where it is imported twice, as in ONNX Runtime."""
    versions = [entry.version for entry in model.opset_import if entry.domain in DEFAULT_DOMAIN]
    return versions[-1] if versions else None


def adapted(graph: onnx.GraphProto, opset: int, facts: Facts) -> Iterator[tuple[onnx.GraphProto, list[onnx.NodeProto]]]:
    """The graphs that change with their new nodes, inner ones first."""
    nodes, changed = [], False
    for node in graph.node:
        for body in subgraphs(node):
            yield from adapted(body, opset, facts)
        patch = adapt(node, opset, facts) if node.domain in DEFAULT_DOMAIN else None
        nodes += [node] if patch is None else [*patch.before, patch.node]
        changed |= patch is not None
    if changed:
        yield graph, nodes


def adapt(node: onnx.NodeProto, opset: int, facts: Facts) -> Patch | None:
    """The node at opset 16, every step between applied in order; None where it stays as written."""
    adapters = [adapter for below, adapter in ADAPTERS.get(node.op_type, []) if opset < below]
    standard = in_standard(node.op_type, opset)
    if not standard and node.op_type not in (RETIRED if adapters else UNDOCUMENTED):
        why = "ONNX has no such operator at this opset: export the model again in standard operators"
        raise refusal(node, node.op_type, opset, why)
    if not adapters:
        return None
    patch = Patch(node, opset, facts)
    if standard:
        check_form(patch)
    for adapter in adapters:
        adapter(patch)
    return patch


def check_form(patch: Patch) -> None:
    """ModelError unless the node has the inputs and attributes of its opset, on which the adapters rely."""
    context = onnx.checker.C.CheckerContext()
    context.ir_version, context.opset_imports = LOWEST_IR, {"": patch.opset}
    try:
        onnx.checker.check_node(patch.node, context)
    except onnx.checker.ValidationError as error:
        raise patch.refusal(f"it is malformed ({first_line(error)}): export the model again") from error


def in_standard(op_type: str, opset: int) -> bool:
    """Whether the operator exists at an opset of the default domain and is not deprecated there."""
    try:
        return not onnx.defs.get_schema(op_type, opset).deprecated
    except onnx.defs.SchemaError:
        return False
