"""Sizes that a head reads of values before its layer, told again by the layer's own sizes.

Exports take the batch size off the input and reshape with it far behind. Where features and head are run apart that is
no row of anything, so the sizes are worked out anew from those which the layer shares with the input.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxcam.graph.index import Graph
from onnxcam.graph.inference import is_pure
from onnxcam.graph.measures import Dims, measured
from onnxcam.graph.nodes import reads


@dataclass
class Retold:
    """Values that can be told again, and what that takes: nodes in order, and constants."""

    names: set[str] = field(default_factory=set)
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: list[onnx.TensorProto] = field(default_factory=list)


def retold(graph: Graph, layer: str, names: Collection[str]) -> Retold:
    """Those of `names` that are arithmetic on fixed numbers and on sizes which `layer` has too."""
    axes = {dim: axis for axis, dim in enumerate(graph.shape(layer) or ()) if isinstance(dim, str)}
    pieces: list[Retold] = []
    told: set[str] = set()
    for i in sorted(graph.ancestors(names)):
        node = graph.nodes[i]
        sizes = measured(node, graph.shape, graph.maker, graph.constant)
        if sizes is not None and all(isinstance(dim, int) or dim in axes for dim in sizes.flat):
            pieces.append(gathered(graph, layer, node.output[0], sizes, axes))
        elif computable(graph, node, told):
            pieces.append(Retold(set(node.output) - {""}, [node]))
        else:
            continue
        told |= pieces[-1].names
    return joined(pieces, told.intersection(names))


def computable(graph: Graph, node: onnx.NodeProto, told: set[str]) -> bool:
    """Whether a node reads fixed numbers and sizes alone."""
    return is_pure(node) and bool(read := reads(node)) and all(name in told or name in graph.fixed for name in read)


def gathered(graph: Graph, layer: str, name: str, sizes: Dims, axes: dict[Any, int]) -> Retold:
    """The value `name`, picked out of the layer's shape with fixed numbers behind it."""
    fixed = list(dict.fromkeys(dim for dim in sizes.flat if isinstance(dim, int)))
    rank = len(graph.shape(layer) or ())
    places = np.array([axes[dim] if dim in axes else rank + fixed.index(dim) for dim in sizes.flat], np.int64)
    shape, numbers, pool, index = (f"onnxcam/{name}/{part}" for part in ("of", "fixed", "pool", "index"))
    return Retold(
        {name},
        [
            helper.make_node("Shape", [layer], [shape]),
            helper.make_node("Concat", [shape, numbers], [pool], axis=0),
            helper.make_node("Gather", [pool, index], [name]),
        ],
        [
            numpy_helper.from_array(np.array(fixed, np.int64), numbers),
            numpy_helper.from_array(places.reshape(sizes.shape), index),
        ],
    )


def joined(pieces: list[Retold], names: set[str]) -> Retold:
    """What `names` take of the pieces."""
    found, needed = Retold(names), set(names)
    for piece in reversed(pieces):
        if piece.names & needed:
            found.nodes[:0] = piece.nodes
            found.constants += piece.constants
            needed |= {name for node in piece.nodes for name in node.input}
    return found
