"""The layers worth looking at, ranked, and the one that is taken when nobody names one."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np
import onnx

from onnxcam.arguments import NAME, require
from onnxcam.errors import ModelError
from onnxcam.graph.blocked import CURE, blocked
from onnxcam.graph.cut import can_be_cut
from onnxcam.graph.image import image_input
from onnxcam.graph.imagesfirst import images_first, images_second
from onnxcam.graph.index import Graph
from onnxcam.graph.layout import VIEWS, Layouts, layouts, of_size, spatial_sizes, usual_sizes
from onnxcam.graph.load import Model, load
from onnxcam.graph.nodes import reads
from onnxcam.graph.operators import reduced_axes
from onnxcam.graph.paths import articulations, differentiable, weighted_before, weighted_behind
from onnxcam.graph.pooled import inside_generalized_mean, is_pooled
from onnxcam.graph.quantized import computing_node, read_point, unquantized
from onnxcam.graph.read import read_layers, with_branches
from onnxcam.graph.score import find_score
from onnxcam.graph.types import Shape
from onnxcam.runtime.manifest import USUAL_SIDE, ImageInput, Layout, Score

BRANCH = "a branch: it explains its own part of the score"
IN_PART = "only some positions reach the score from here"
BY_ITSELF = "not all that is read behind it has a row for each image"
SUMMING = frozenset({"ReduceSum", "ReduceMean", "ReduceSumSquare", "ReduceL1", "ReduceL2"})
MOST_BRANCHES = 16  # that are listed


@dataclass(frozen=True)
class Layer:
    """A value that a class activation map can be made of.

    Attributes:
        name: its value name.
        node: name of the node that makes it (may be empty).
        op: that node's operator.
        shape: as far as it is known.
        layout: what its axes mean.
        grid: (height, width) of its map; None where only the running model knows.
        automatic: whether onnxcam takes it when nobody names a layer.
        reason: why it is taken, or why a later one is.
    """

    name: str
    node: str
    op: str
    shape: Shape
    layout: Layout
    grid: tuple[int, ...] | None
    automatic: bool
    reason: str


def list_layers(model: str | Path | bytes | onnx.ModelProto, *, score: str | None = None) -> list[Layer]:
    """Candidate target layers of a model, the best first; the automatic choice is marked. Errors as `load`.

    Behind those on all paths to the score, each of which explains the whole of it, the last layers of branches.
    """
    require("score", score, NAME.or_none())
    return inspected(load(model), score).layers


@dataclass(frozen=True)
class Inspected:
    """What of a model can be explained, as a run finds it: at a usual size, where the model takes any.

    Attributes:
        graph: all sizes free that the model leaves free.
        layers: as `list_layers` gives them.
    """

    graph: Graph
    image: ImageInput
    score: Score
    layers: list[Layer]


def inspected(model: Model, score: str | None) -> Inspected:
    """A model, inspected. Errors as `image_input`, `find_score`."""
    graph = read_layers(model)
    image = image_input(graph)
    graph, sized = at_usual_size(graph, image) if None in image.size else (graph, graph)
    found = find_score(graph, score, image=image)
    layers = candidates(sized, image, found)
    layers += branch_layers(sized, image, found, {layer.name for layer in layers})
    if sized is not graph:  # the sizes that it leaves free stay unknown
        shapes = {one.name: graph.shape(one.name) for one in layers}
        layers = [replace(one, shape=shape, grid=None) for one in layers if (shape := shapes[one.name]) is not None]
    return Inspected(graph, image, found, layers)


def at_usual_size(graph: Graph, image: ImageInput) -> tuple[Graph, Graph]:
    """The graph with the branches that images of a nominal size take, and the same for that size alone.

    The first size is taken that fits; where none does both are the graph itself.
    """
    for sizes in usual_sizes({image.name: image.layout}, None):
        with suppress(ModelError):
            free = with_branches(graph, sizes)
            if (sized := of_size(free, sizes)) is not None:
                return free, sized
    return graph, graph


def told_size(graph: Graph, image: ImageInput) -> tuple[int | None, int | None]:
    """(width, height) of the first usual image that fits a graph which leaves both free; None: 224 x 224 fits."""
    _, sized = at_usual_size(graph, image)
    width, height = (dict(zip(image.layout, sized.shape(image.name) or (), strict=True))[axis] for axis in "WH")
    if not (isinstance(width, int) and isinstance(height, int)) or (width, height) == (USUAL_SIDE, USUAL_SIDE):
        return None, None
    return width, height


def branch_layers(graph: Graph, image: ImageInput, score: Score, others: Collection[str]) -> list[Layer]:
    """The last grid of each way to the score that ends in none of `others`, as the heads of a detector do."""
    known, computed = layouts(graph), weighted_before(graph, image.name)
    weights_behind = weighted_behind(graph, score.name)
    found, followed = list[Layer](), set[str]()  # values behind which another grid follows
    for i in sorted(graph.ancestors([score.name]), reverse=True):
        node = graph.nodes[i]
        for name in node.output if node.op_type not in VIEWS else ():
            layer = as_layer(graph, name, known.get(name)) if weights_behind.get(name) and name in computed else None
            if layer is not None and not better_before(graph, name):
                if name not in followed:
                    found.append(replace(layer, reason=BRANCH))
                followed.add(name)
        if not followed.isdisjoint(node.output):
            followed.update(reads(node))
    return [layer for layer in found if layer.name not in others][:MOST_BRANCHES]


def candidates(graph: Graph, image: ImageInput, score: Score) -> list[Layer]:
    """Values with a grid on all paths from the image to the score, the best first; the first suitable is automatic."""
    known, hidden = layouts(graph), blocked(graph)
    computed, on_all_paths = weighted_before(graph, image.name), articulations(graph, image.name, score.name)
    weights_behind = weighted_behind(graph, score.name)
    arrives = arriving(graph, on_all_paths, score.name, known)
    merged, sums = dict[str, Layer](), list[onnx.NodeProto]()  # sums: that lie behind, on all paths too
    for name in reversed(on_all_paths):
        if name not in computed:  # the image itself, scaled or turned
            break
        origin = None if name in hidden else candidate(graph, name, arrives.keys(), known)
        if origin is not None and origin.name not in merged:
            weighs = weights_behind.get(name, False) or score.kind == "embedding" or sums_channels(graph, origin, sums)
            why_not = objection(graph, origin.name, weighs=weighs, arrives=arrives[name])
            merged[origin.name] = replace(origin, reason=why_not)
        if (node := graph.maker(name)) is not None and node.op_type in SUMMING:
            sums.append(node)
    if not merged and hidden:
        raise ModelError(f"{graph.model.name} shows no layer: {CURE} ({next(iter(hidden.values()))})")
    return ranked(graph, [*merged.values()], score.name)


def candidate(graph: Graph, name: str, on_all_paths: Collection[str], known: Layouts) -> Layer | None:
    """A value as a layer: where it can be read, and the value that it merely shows again; None where it is none."""
    viewed = images_first(graph, read_point(graph, name))
    origin = original(graph, viewed, on_all_paths, known)
    return as_layer(graph, viewed, known.get(viewed)) and as_layer(graph, origin, known.get(origin))


def ranked(graph: Graph, layers: Sequence[Layer], score: str) -> list[Layer]:
    """Layers from the score backwards, the best first, then those before it.

    The best is the first without an objection at which the model can be cut. Where it can be at none, it is the first,
    of which the cut says why.
    """
    fitting = [layer for layer in layers if not layer.reason]
    best = next((layer for layer in fitting if can_be_cut(graph, layer.name, score)), next(iter(fitting), None))
    behind = fitting[: fitting.index(best)] if best is not None else []
    told = [
        replace(layer, automatic=True, reason="the last grid on all paths to the score")
        if layer is best
        else replace(layer, reason=layer.reason or (BY_ITSELF if layer in behind else "earlier"))
        for layer in layers
    ]
    return sorted(told, key=lambda layer: (not layer.automatic, layer.reason != "earlier"))


def original(graph: Graph, name: str, on_all_paths: Collection[str], known: Layouts) -> str:
    """The value that a transpose, reshape or the like merely shows again, perhaps quantized again."""
    found = name
    while (node := graph.maker(unquantized(graph, name))) is not None and node.op_type in VIEWS:
        name = node.input[0]
        layout = known.get(name) if name in on_all_paths and name in graph.producer else None
        if layout is None:
            break
        found = name if layout.axes[0] == "N" else found
    return found


def as_layer(graph: Graph, name: str, layout: Layout | None) -> Layer | None:
    """A value as a layer; None when it has no grid of more than one position, or a first axis that is not the rows."""
    shape = graph.shape(name)
    if layout is None or shape is None or layout.axes[0] != "N" or not graph.is_float(name):
        return None
    grid = spatial_sizes(layout, shape)
    if grid is not None and int(np.prod(grid)) <= 1:
        return None
    node = computing_node(graph, images_second(graph, name) or name)
    return Layer(name, node.name, node.op_type, shape, layout, grid, False, "")


def objection(graph: Graph, name: str, *, weighs: bool, arrives: bool) -> str:
    """Why a value is not taken by itself; empty when it is suitable.

    Args:
        weighs: whether its channels count differently in the score.
        arrives: whether all its positions reach the score.
    """
    if why := better_before(graph, name):
        return why
    if not weighs:
        return "holds class maps: no weights between it and the score"
    return "" if arrives else IN_PART


def sums_channels(graph: Graph, layer: Layer, sums: Iterable[onnx.NodeProto]) -> bool:
    """Whether one of the sums behind a layer adds up its channels, without weights: a distance, a likeness."""
    channels, known = layer.shape[layer.layout.channel], layouts(graph)
    if channels == 1:
        return False
    for node in sums:  # beside other values they may go on
        axes, shape, layout = reduced_axes(graph, node), graph.shape(node.input[0]), known.get(node.input[0])
        there = [layout.channel] if layout else [axis for axis, size in enumerate(shape or ()) if size == channels]
        if axes is not None and len(there) == 1 and there[0] in axes:
            return True
    return False


def better_before(graph: Graph, name: str) -> str:
    """Why what a value is made of is looked at in its place; empty when it is worth a look itself."""
    if is_pooled(graph, name):
        return "a pool: what it pools is finer"
    if inside_generalized_mean(graph, name):
        return "inside a pool that averages powers: what it pools comes before"
    if computing_node(graph, name).op_type == "Pad":
        return "padded: what it pads is all that it shows"
    return ""


def arriving(graph: Graph, on_all_paths: list[str], score: str, known: Layouts) -> dict[str, bool]:
    """For each value on all paths whether every grid position of it can move the score.

    It is false behind the picking of a class token, or of one place. Told from one value to the next: positions that
    mix on the way all arrive, those that stay apart share the fate of the next value's.
    """
    found: dict[str, bool] = {}
    following = score
    for name in reversed(on_all_paths):
        fate = fate_of_positions(graph, name, following, known) if name != score else "mixed"
        found[name] = fate == "mixed" or (fate == "apart" and found.get(following, True))
        following = name
    return found


def all_arrive(graph: Graph, name: str, end: str) -> bool:
    """Whether every grid position of a value can move another."""
    return fate_of_positions(graph, name, end, layouts(graph)) != "lost"


def is_picked(known: Layouts, name: str, following: str) -> bool:
    """Whether of all the cells of a value one alone is left in another, which is made of it."""
    here, there = known.positions.get(name, {}), known.positions.get(following, {})
    sides = [label for label, along in here.items() if along.axes]
    return bool(sides) and all(label in there and there[label].at.size == 1 for label in sides)


MEASURING_SCALE = "DynamicQuantizeLinear"  # over all positions, which is no way from one to the others


def fate_of_positions(graph: Graph, name: str, end: str, known: Layouts) -> Literal["apart", "mixed", "lost"]:
    """What grid positions of `name` are in `end`: "apart" still, "mixed", or "lost" before that (or all but one)."""
    apart, mixed, lost = {name}, set[str](), set[str]()
    for i in sorted(graph.ancestors([end], stop=[name])):
        node = graph.nodes[i]
        read = set(reads(node))
        if read & mixed:
            mixed |= set(node.output)
        elif read & apart:
            for output in node.output[:1] if node.op_type == MEASURING_SCALE else node.output:
                here = {} if known.mixes(node) else known.positions.get(output)
                if here and all(along.placeless for along in here.values()):
                    lost.add(output)
                elif here:
                    apart.add(output)
                elif differentiable(graph, node):
                    mixed.add(output)
        elif read & lost:
            lost |= set(node.output)
    return "mixed" if end in mixed else "apart" if end in apart and not is_picked(known, name, end) else "lost"
