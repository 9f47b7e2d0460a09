"""A layer that the user names, and what to name instead."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace

import numpy as np

from onnxcam.errors import LayerError, did_you_mean
from onnxcam.graph.blocked import CURE, blocked
from onnxcam.graph.image import image_input, image_layout
from onnxcam.graph.imagesfirst import images_first
from onnxcam.graph.index import Graph
from onnxcam.graph.layers import Layer, as_layer
from onnxcam.graph.layout import Layouts, layouts, spatial_sizes
from onnxcam.graph.paths import articulations, weighted_before
from onnxcam.graph.quantized import read_point
from onnxcam.graph.types import Shape, shown
from onnxcam.runtime.manifest import Layout

ACTIVATIONS = frozenset({"Relu", "LeakyRelu", "PRelu", "Clip", "Sigmoid", "Tanh", "Elu", "Gelu", "HardSwish", "Add"})
PLANES = frozenset({"Conv", "ConvTranspose", "MaxPool", "AveragePool", "BatchNormalization", "GridSample", "Resize"})


def named_layer(graph: Graph, name: str) -> Layer:
    """A layer that the user named: a value, or a node (its first output); where it is quantized, read behind that.

    Raises:
        LayerError: no such value or node, or no grid of positions in it.
    """
    value = images_first(graph, read_point(graph, meant(graph, name)))
    if value in blocked(graph):
        raise LayerError(f"the layer '{name}' holds blocks of channels: {CURE}")
    known, shape = layouts(graph), graph.shape(value)
    layout = known.get(value) or by_shape(graph, value, known)
    if layout is not None and layout.axes[0] != "N":
        raise LayerError(
            f"the layer '{name}' {shown(shape)} holds the batch along axis {layout.axes.index('N')}, not first: "
            f"{instead_of(graph, value, known)}"
        )
    layer = as_layer(graph, value, layout)
    if layer is None:
        lost = known.lost(value)
        why = f" (positions cannot be followed through {lost})" if lost else ""
        raise LayerError(
            f"the layer '{name}' {shown(shape)} has no grid of positions to map{why}: {instead_of(graph, value, known)}"
        )
    return replace(layer, reason="named")


def meant(graph: Graph, name: str) -> str:
    """The computed value that a user means: of that name, or a node's first output. LayerError: there is none."""
    if name in graph.producer:
        return name
    if name in graph.inputs:
        raise LayerError(
            f"'{name}' is the model's input: input-level methods (saliency, ...) explain it without --layer"
        )
    nodes = {node.name: node for node in graph.nodes if node.name}
    if name not in nodes:
        known = [*graph.producer, *nodes]
        raise LayerError(f"the model has no layer '{name}'{did_you_mean(name, known)} (see `onnxcam layers`)")
    return str(nodes[name].output[0])


def instead_of(graph: Graph, value: str, known: Layouts) -> str:
    """What to do where a value can be no layer."""
    on_all_paths = reversed(articulations(graph, image_input(graph).name, value))
    before = dict.fromkeys(placed_before(graph, value, known))
    earlier = next((name for name in [*on_all_paths, *before] if name in before), None)
    return f"choose an earlier one, such as '{earlier}'" if earlier else "use an input-level method (saliency)"


def placed_before(graph: Graph, value: str, known: Layouts) -> Iterator[str]:
    """The values before another that can be named as layers, the last first."""
    weighted = weighted_before(graph, image_input(graph).name) - {value, *blocked(graph)}
    for i in sorted(graph.ancestors([value]), reverse=True):
        name = graph.nodes[i].output[0]
        if name in weighted and as_layer(graph, name, known.get(name)) is not None:
            yield name


def by_shape(graph: Graph, value: str, known: Layouts) -> Layout | None:
    """A layout of a value of which no positions are known, guessed; None where it has no rows, or looks like none."""
    shape = graph.shape(value)
    if shape is None or value in known.positions or not batch_first(graph, shape):
        return None
    return guessed(shape, known_grids(graph, known), ["NCHW"] if of_planes(graph, value) else ["NCHW", "NHWC"])


def batch_first(graph: Graph, shape: Shape) -> bool:
    """Whether the first axis is as long as the batch of an input, or one."""
    batches = {sizes[0] for name in graph.inputs if (sizes := graph.shape(name))}
    return bool(shape) and (shape[0] == 1 or shape[0] in batches)


def known_grids(graph: Graph, known: Layouts) -> set[tuple[int, ...]]:
    """The grids of all values whose layout is known, and the image's."""
    found = [spatial_sizes(layout, graph.shape(name) or ()) for name, layout in known.items()]
    for name in graph.inputs:
        shape = graph.shape(name) or ()
        axes = image_layout(graph, name, shape) if len(shape) == 4 else None
        found.append(spatial_sizes(Layout(axes), shape) if axes else None)
    return {grid for grid in found if grid}


def of_planes(graph: Graph, value: str) -> bool:
    """Whether a value is of an operator that has channels first, perhaps activated."""
    maker = graph.maker(value)
    while maker is not None and maker.op_type in ACTIVATIONS:
        maker = graph.maker(maker.input[0])
    return maker is not None and maker.op_type in PLANES


def guessed(shape: Shape, grids: set[tuple[int, ...]], orders: Sequence[str]) -> Layout | None:
    """A layout by shape alone: axes that are a grid of the model, or a whole fraction of one; else tokens in a square.

    Four axes that are neither (an attention map, say) have no layout.
    """
    if len(shape) == 4:
        at = {axes: axes.index("H") for axes in orders}
        fitting = [axes for axes in orders if any(divides(shape[at[axes] : at[axes] + 2], g) for g in grids)]
        return Layout(fitting[0], followed=False) if len(fitting) == 1 else None
    if len(shape) == 3 and isinstance(shape[1], int):
        for prefix in (0, 1, 2, 5):
            side = int(np.sqrt(max(shape[1] - prefix, 0)))
            if side > 1 and side * side == shape[1] - prefix:
                return Layout("NPC", (side, side), prefix, followed=False)
    return None


def divides(sizes: Shape, grid: tuple[int, ...]) -> bool:
    """Whether a grid is a whole number of times these sizes, the same number along each axis."""
    if len(sizes) != len(grid) or not all(isinstance(size, int) and size > 0 for size in sizes):
        return False
    times = {divmod(whole, int(size or 1)) for whole, size in zip(grid, sizes, strict=True)}
    return len(times) == 1 and next(iter(times))[1] == 0 and next(iter(times))[0] > 0
