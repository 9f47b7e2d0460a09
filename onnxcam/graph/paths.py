"""The ways from the image to the score, and what lies on all of them."""

from __future__ import annotations

from collections.abc import Iterable

import onnx

from onnxcam.graph.index import Graph
from onnxcam.graph.nodes import reads, subgraphs
from onnxcam.graph.operators import WEIGHTED

SIZING = frozenset({"Shape", "Size", "RandomNormalLike", "RandomUniformLike", "EyeLike"})  # read a size alone


def differentiable(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node makes a value that stands for real numbers at all."""
    return any(name and graph.is_real(name) for name in node.output)


def articulations(graph: Graph, start: str, end: str) -> list[str]:
    """Computed values that lie on every differentiable path from `start` to `end`, in order.

    Walking the nodes in order, a value is on all paths when it is the only one alive: made, and still to be read.
    """
    inside, moving = between(graph, start, end)
    last = {name: i for i in inside for name in reads(graph.nodes[i]) if name in moving}
    last[end] = len(graph.nodes)
    alive, found = {start}, []
    for i in inside:
        alive |= {name for name in graph.nodes[i].output if last.get(name, -1) > i}
        alive -= {name for name in reads(graph.nodes[i]) if last.get(name, -1) <= i}  # all others are read later
        if len(alive) == 1 and (name := next(iter(alive))) in graph.nodes[i].output:
            found.append(name)
    return found


def between(graph: Graph, start: str, end: str) -> tuple[list[int], set[str]]:
    """The nodes on differentiable paths from `start` to `end`, in order, and the values that `start` can move.

    What only decides something on the way, through a truth value or an index, is on no path, unless that is all there
    is.
    """
    moving, moved = {start}, list[int]()
    for i in sorted(graph.ancestors([end], stop=[start])):
        node = graph.nodes[i]
        if differentiable(graph, node) and moving.intersection(reads(node)):
            moved.append(i)
            moving |= {name for name in node.output if name and (graph.is_real(name) or not graph.type(name).elem_type)}
    leading, inside = {end}, list[int]()
    for i in reversed(moved):
        if leading.intersection(graph.nodes[i].output):
            inside.append(i)
            leading |= moving.intersection(reads(graph.nodes[i]))
    return inside[::-1] or moved, moving


def weighted(node: onnx.NodeProto) -> bool:
    """Whether a node has weights, or a node in its subgraphs."""
    return node.op_type in WEIGHTED or any(weighted(inner) for body in subgraphs(node) for inner in body.node)


def weighted_behind(graph: Graph, *scores: str) -> dict[str, bool]:
    """For every value before a score, and each of these: whether a weighted node lies between it and one of them."""
    behind = dict.fromkeys(scores, False)
    for i in sorted(graph.ancestors(scores), reverse=True):
        node = graph.nodes[i]
        here = any(behind.get(name, False) for name in node.output) or weighted(node)
        for name in reads(node):
            behind[name] = behind.get(name, False) or here
    return behind


def weighted_before(graph: Graph, image: str) -> set[str]:
    """Every value that a weighted node makes of the image, or that is made of such a value."""
    moving, found = {image}, set[str]()
    for node in graph.nodes:
        read = set(reads(node))
        if read & moving:
            moving |= set(node.output)
            if read & found or weighted(node):
                found |= set(node.output)
    return found


def depends_on_input(graph: Graph, name: str) -> bool:
    """Whether a value depends on more of the model's inputs than their sizes."""
    return name in graph.once(moved_by_inputs)


def moved_by_inputs(graph: Graph) -> set[str]:
    """The inputs, and all that is made of more than their sizes."""
    return moved_by(graph, graph.inputs)


def moved_by(graph: Graph, names: Iterable[str]) -> set[str]:
    """Some values, and all that is made of more than their sizes."""
    moved = set(names)
    for node in graph.nodes:
        if node.op_type not in SIZING and not moved.isdisjoint(reads(node)):
            moved |= set(node.output) - {""}
    return moved
