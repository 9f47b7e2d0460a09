"""An If whose condition is the same for every input, or for all of one size, is the branch that it takes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import chain, count
from typing import Any

import numpy.typing as npt
import onnx
from onnx import helper

from onnxcam.graph.index import Graph
from onnxcam.graph.nodes import all_graphs, local_names, renamed, subgraphs, with_nodes
from onnxcam.graph.normalize import lift_constants, sort_nodes


def without_known_branches(
    graph: Graph, sizes: Mapping[str, Sequence[int | None]] | None = None
) -> onnx.ModelProto | None:
    """The model with the branches that are always taken in the main graph; None where no condition is known.

    `sizes`: of inputs, for which alone they need to be known; in the model that is given back they stay free.
    """
    proto = graph.proto
    ifs = [i for i, node in enumerate(graph.nodes) if node.op_type == "If" and node.domain == ""]
    known = conditions(graph, ifs, graph.sized(sizes or {}).early_constants) if ifs else {}
    if not known:
        return None
    found = with_nodes(proto, ())
    made, numbers = Counter(definitions([proto.graph])), dict[str, Iterator[int]]()
    for i, node in enumerate(proto.graph.node):
        if i in known:
            unfold(node, "then_branch" if known[i] else "else_branch", made, numbers, found.graph)
        else:
            found.graph.node.append(node)
    lift_constants(found.graph, graph.model.name)
    sort_nodes(found.graph, graph.model.name)
    return found


def conditions(graph: Graph, ifs: Iterable[int], known: Mapping[str, npt.NDArray[Any]]) -> dict[int, bool]:
    """The conditions of some Ifs, where these are among the known constants."""
    found = {i: known.get(graph.nodes[i].input[0]) for i in ifs}
    return {i: bool(value) for i, value in found.items() if value is not None and value.size == 1}


def definitions(graphs: Iterable[onnx.GraphProto]) -> Iterator[str]:
    """Every value of some graphs and of those inside them, once for every graph that makes it."""
    return (name for graph in graphs for body in all_graphs(graph) for name in local_names(body))


def unfold(
    node: onnx.NodeProto, which: str, made: Counter[str], numbers: dict[str, Iterator[int]], graph: onnx.GraphProto
) -> None:
    """Put a branch in the place of its If: outputs under the node's names, all else under its own where free.

    `made` are the names in use, and `numbers` those not yet put behind names that are.
    """
    made.subtract(definitions(subgraphs(node)))
    branch = onnx.GraphProto()
    branch.CopyFrom(helper.get_node_attr_value(node, which))
    made.update(definitions(body for inner in branch.node for body in subgraphs(inner)))  # these stay as they are
    computed = {name for inner in branch.node for name in inner.output}
    pairs = [(inner.name, outer) for inner, outer in zip(branch.output, node.output, strict=True) if outer]
    names = {inner: outer for inner, outer in reversed(pairs) if inner in computed}
    for name in sorted(local_names(branch) - names.keys()):
        others = (f"{name}_{i}" for i in numbers.setdefault(name, count(1)))
        names[name] = next(new for new in chain([name], others) if new not in made or not made[new])
        made[names[name]] += 1
    graph.node.extend(renamed(branch.node, names))
    for inner, outer in pairs:
        if names.get(inner) != outer:
            graph.node.append(helper.make_node("Identity", [names.get(inner, inner)], [outer], name=outer))
    for tensor in branch.initializer:
        tensor.name = names[tensor.name]
    for sparse in branch.sparse_initializer:
        sparse.values.name = names.get(sparse.values.name, sparse.values.name)
    graph.initializer.extend(branch.initializer)
    graph.sparse_initializer.extend(branch.sparse_initializer)
