"""The reverse sweep: cotangents from one value back to others, over the nodes between them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence

import numpy as np
import onnx
from onnx import TensorProto

from onnxcam.errors import UnsupportedOpError
from onnxcam.graph import BLOCKED, CURE, QUANTIZERS, Graph, Shape, called, reads
from onnxcam.vjp.emitter import Emitter, cotangent_type
from onnxcam.vjp.masking import guarded
from onnxcam.vjp.operators import OUT_OF_SCOPE
from onnxcam.vjp.registry import NO_GRADIENT, ZERO, Node, Rule, RuleError, RuleSet, operands

UNKNOWN = TensorProto.UNDEFINED
ADVICE = "differentiate with respect to a value downstream of it"  # an explainer, which knows more, gives its own


def reverse(g: Emitter, seeds: Mapping[str, str], wrt: Sequence[str], rules: RuleSet) -> dict[str, str | None]:
    """Write the cotangents of `wrt`, given those of other values; None for a value that these do not depend on.

    Raises:
        UnsupportedOpError: an operator between them has no rule.
    """
    graph = g.graph
    between, active = path(graph, seeds, wrt, rules)
    pending = {name: [seed] for name, seed in seeds.items()}
    done: dict[str, str | None] = {}
    for i in reversed(between):
        node = graph.nodes[i]
        cotangents = [settle(g, pending, done, name) for name in node.output]
        if any(ct is not None for ct in cotangents):
            for name, ct in back(g, node, cotangents, active, rules, wrt):
                pending.setdefault(name, []).append(ct)
    return {name: settle(g, pending, done, name) for name in wrt}


def settle(g: Emitter, pending: dict[str, list[str]], done: dict[str, str | None], name: str) -> str | None:
    """The whole cotangent of a value, once everything that reads it has been visited."""
    if name not in done:
        parts, shape = pending.pop(name, []), g.graph.shape(name) or ()
        empty = 0 in shape  # a product over no elements is not zero in ONNX Runtime
        done[name] = g.add(side_by_side(g, parts, shape)) if parts and not empty else None
    return done[name]


def side_by_side(g: Emitter, parts: list[str], shape: Shape) -> list[str]:
    """Cotangents to be added. Slices that make up the value, each padded with zeros, are put together instead."""
    rows: dict[int, list[tuple[int, int, str]]] = {}
    for part in parts if shape else []:
        margins = zeros_around(g, part)
        if margins is not None and isinstance(size := shape[margins[0]], int):
            axis, before, after = margins
            rows.setdefault(axis, []).append((before, size - after, part))
    for axis, row in rows.items():
        begins, ends, padded = zip(*sorted(row), strict=True)
        if (*begins, shape[axis]) == (0, *ends):
            slices = [node.input[0] for part in padded if (node := g.made(part))]
            return [g.op("Concat", *slices, axis=axis), *(part for part in parts if part not in padded)]
    return parts


def zeros_around(g: Emitter, value: str) -> tuple[int, int, int] | None:
    """The one axis along which a value was padded with zeros, and how many before and after; None: it was not."""
    node = g.made(value)
    pads = g.constant(node.input[1]) if node and node.op_type == "Pad" and len(node.input) == 2 else None
    if pads is None or pads.min() < 0:
        return None
    before, after = pads.reshape(2, -1)
    axes = np.flatnonzero(before + after)
    return (int(axes[0]), int(before[axes[0]]), int(after[axes[0]])) if axes.size == 1 else None


def path(graph: Graph, of: Iterable[str], wrt: Iterable[str], rules: RuleSet) -> tuple[list[int], set[str]]:
    """Nodes on differentiable paths from `wrt` to `of`, in order, and the values that depend on `wrt`."""
    active = set(wrt)
    upstream = graph.ancestors(of)
    read = {name for i in upstream for name in reads(graph.nodes[i])} | set(of)
    between = []
    for i in sorted(upstream):
        node = graph.nodes[i]
        if passes(node) and not active.isdisjoint(reads(node)):
            between.append(i)
            active |= {name for name in conducting(graph, node, rules, read) if name}
    return between, active


def conducting(graph: Graph, node: onnx.NodeProto, rules: RuleSet, read: Collection[str]) -> Iterable[str]:
    """The outputs of a node that stand for real numbers; `read`: what is read on the way.

    A quantizer's scale is held, also where it is computed on the way (straight-through), if its integers are read too.
    What is no tensor conducts, and so do all outputs of an operator without a rule: the gradient must not lose its way
    there unnoticed.
    """
    if node.op_type in QUANTIZERS and node.output[0] in read:
        return list(node.output)[:1]
    if rules.find(graph, node) is None:
        return list(node.output)
    kinds = {name: graph.type(name).elem_type for name in node.output if name}
    return [name for name, kind in kinds.items() if kind == UNKNOWN or graph.is_real(name)]


def passes(node: onnx.NodeProto) -> bool:
    """Whether a gradient can pass through a node at all."""
    return not (node.domain == "" and node.op_type in NO_GRADIENT)


def back(
    g: Emitter,
    node: onnx.NodeProto,
    cotangents: list[str | None],
    active: set[str],
    rules: RuleSet,
    wrt: Sequence[str],
) -> Iterable[tuple[str, str]]:
    """(value, its cotangent) for everything a node reads that depends on the sweep's end."""
    graph = g.graph
    found = rules.find(graph, node)
    if found is None:
        raise unsupported(graph, node, CURE if node.domain in BLOCKED else OUT_OF_SCOPE.get(operator_name(node), ""))
    names = operands(node)
    reached = frozenset(i for i, name in enumerate(names) if name in active)
    wanted = reached if found.only is None else reached & found.only
    for i in sorted(reached - wanted):
        if graph.is_float(names[i]):
            raise unsupported(graph, node, f"none for its input {i}, which depends on the layer")
    try:
        n = Node(g, node, wanted, rules, wrt)
        results = guarded(g, n, cotangents[0], found.function(g, n, *cotangents))
    except RuleError as error:
        raise unsupported(graph, node, str(error)) from error
    except (MemoryError, ValueError) as error:  # NumPy's two words for it
        if isinstance(error, ValueError) and "too big" not in str(error):
            raise
        raise unsupported(graph, node, "its sizes take more memory than there is") from error
    for i in sorted(wanted):
        ct = results[i] if i < len(results) else None
        if ct is None:
            raise unsupported(graph, node, f"none for its input {i}")
        if ct != ZERO:
            yield names[i], fitted(g, node, names[i], ct, found)


def unsupported(graph: Graph, node: onnx.NodeProto, why: str = "") -> UnsupportedOpError:
    """The error for a node that cannot be passed."""
    return UnsupportedOpError(operator_name(node), opset_of(graph, node), called(node), ADVICE, why)


def opset_of(graph: Graph, node: onnx.NodeProto) -> int:
    """The version of a node's domain."""
    return int(graph.opsets.get(node.domain, 1))


def operator_name(node: onnx.NodeProto) -> str:
    """An operator, with its domain when that is not ONNX's own."""
    return f"{node.domain}.{node.op_type}" if node.domain else node.op_type


def fitted(g: Emitter, node: onnx.NodeProto, name: str, ct: str, found: Rule) -> str:
    """A cotangent in the shape and type of what the node reads under a name."""
    if found.broadcasts:
        ct = g.sum_to(ct, g.graph.shape(node.output[0]), name)
    kinds = [cotangent_type(g.graph.type(value).elem_type) for value in (node.output[0], name)]
    return ct if kinds[0] == kinds[1] else g.cast(ct, kinds[1])
