"""From a loaded model to the graph that everything else reads."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial

from onnxcam.graph.agreeing import with_agreed_sizes
from onnxcam.graph.branches import without_known_branches
from onnxcam.graph.containers import without_containers
from onnxcam.graph.detections import with_detections
from onnxcam.graph.flattened import without_flattens
from onnxcam.graph.fused import without_fusions
from onnxcam.graph.imagesfirst import with_images_first
from onnxcam.graph.index import Graph
from onnxcam.graph.integers import surface
from onnxcam.graph.load import Model
from onnxcam.graph.normalize import normalize
from onnxcam.graph.picking import with_plain_gathers
from onnxcam.graph.skips import without_skips
from onnxcam.graph.squeezing import is_known, squeezed, with_named_axes
from onnxcam.graph.unblocked import unblocked
from onnxcam.runtime.manifest import ImageInput

MOST_ROUNDS = 32  # of simplifying what the last round made known: each infers the whole graph


def read_graph(model: Model) -> Graph:
    """The normalized graph, simplified."""
    return simplified(Graph(model, surface(unblocked(model, normalize(model)))))


def simplified(graph: Graph, sizes: Mapping[str, Sequence[int | None]] | None = None) -> Graph:
    """The graph without what is known before it runs on inputs of some sizes, or of any; itself where nothing is.

    An If of known condition                 -> the branch that it takes
    a tensor out of a sequence or optional   -> the tensor that was put in
    Flatten, Softmax, Reshape                -> a Softmax along one axis, where one is all that is flattened
    a normalization of a sum that is read    -> the sum and its normalization
    GatherND                                 -> Gather, where it picks along the first axis
    a Squeeze that names no axes             -> the same with those of size 1, where all sizes are known
    a pool or resize that ONNX Runtime sizes otherwise than onnx -> the same with explicit pads or sizes
    """
    known_branches = partial(without_known_branches, sizes=sizes)
    simplifications = (
        known_branches, without_containers, without_flattens, without_skips, with_named_axes, with_plain_gathers,
        with_agreed_sizes,
    )  # fmt: skip
    for _ in range(MOST_ROUNDS):
        proto = next(filter(None, (simplify(graph) for simplify in simplifications)), None)
        if proto is None:
            break
        graph = graph.simpler(proto)
    return graph


def read_layers(model: Model) -> Graph:
    """The graph that `read_graph` gives, its fused products apart, detections in parts shown together, and every value
    that may be a layer shown a row per image.
    """
    graph = read_graph(model)
    apart = without_fusions(graph)
    return with_images_first(with_detections(graph if apart is None else Graph(model, apart)))


def with_branches(graph: Graph, sizes: Mapping[str, Sequence[int | None]]) -> Graph:
    """A graph from `read_layers` with the branches that inputs of some sizes take; itself where these decide none.

    All sizes stay as free as they are: it is right for all inputs that take the same branches. ModelError: these sizes
    do not fit.
    """
    found = simplified(graph, sizes)
    if found is graph:
        return graph
    _ = found.sized(sizes).types
    return with_images_first(found)


def of_one_image(graph: Graph, image: ImageInput) -> Graph:
    """A graph from `read_layers` for one image at a time, where a Squeeze makes values of another rank of one than of
    several; else itself.
    """
    if image.batch is not None or all(map(is_known, squeezed(graph).values())):
        return graph
    return with_images_first(
        simplified(graph.sized({image.name: [1 if axis == "N" else None for axis in image.layout]}))
    )
