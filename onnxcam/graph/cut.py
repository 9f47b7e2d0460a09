"""A model in two: the features, which run as deployed, and the head behind the target layer."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import helper, numpy_helper

from onnxcam.errors import LayerError, ModelError, OnnxCamError
from onnxcam.graph.deployed import as_deployed
from onnxcam.graph.edit import expose
from onnxcam.graph.headsizes import retold
from onnxcam.graph.imagesfirst import SWAP, images_second
from onnxcam.graph.index import Graph
from onnxcam.graph.integers import makes_integers
from onnxcam.graph.nodes import attributes, copied, reads
from onnxcam.graph.paths import depends_on_input
from onnxcam.graph.quantized import quantizer, sources, twins, unquantized
from onnxcam.graph.types import Dim, Shape, is_multiple, is_open

ROWS = "onnxcam/rows"  # the batch axis of a head: targets, not images
MANY_WEIGHTS = 2**22  # elements; fewer may well be held twice


@dataclass(frozen=True)
class Head:
    """The graph from a layer to the score.

    Attributes:
        graph: its inputs are the layer's value and `extra`.
        layer, score: value names.
        extra: other values of the feature part that the head reads.
        still: those of them that have no row per image: the same for all images of a size, or all of a single image's.
    """

    graph: Graph
    layer: str
    score: str
    extra: tuple[str, ...]
    still: frozenset[str] = frozenset()


def features(graph: Graph, taps: Sequence[str]) -> onnx.ModelProto:
    """The model as deployed with further outputs; large weights stay references.

    The original nodes are kept wherever all taps exist in the original main graph. A tap that only normalizing brings
    to light (inside a function) takes the normalized graph.
    """
    original = graph.model.proto
    there = {name for node in original.graph.node for name in node.output} | {
        value.name for value in original.graph.input
    }
    proto = onnx.ModelProto()
    proto.CopyFrom(original if there.issuperset(taps) else graph.proto)
    expose(graph, proto, taps)
    return as_deployed(graph, proto)


def head(graph: Graph, layer: str, score: str) -> Head:
    """The nodes that depend on `layer` on the way to `score`, with the constants they read.

    If the layer is a dequantized value, the head also replaces every other value that dequantizes, or is, the same
    integers. If the score is a dequantized value, the head ends before its QuantizeLinear.

    Raises:
        ModelError: the score does not depend on the layer.
        LayerError: behind the layer something is read that is no row of an image, and cannot be told from the layer.
    """
    same, score = aliases(graph, layer), unquantized(graph, score)
    reached, behind = {layer, *same}, list[onnx.NodeProto]()
    for i in sorted(graph.ancestors([score], stop=[layer, *same])):
        node = graph.nodes[i]
        if reached.intersection(reads(node)):
            behind.append(node)
            reached |= set(node.output)
    if score not in reached:
        raise ModelError(f"the score '{score}' does not depend on the layer '{layer}': choose another layer")
    read = {name for node in behind for name in reads(node)}
    behind = [*(node for name, node in same.items() if name in read), *behind]
    outside = {name for node in behind for name in reads(node)} - reached
    fixed = {name for name in outside if name in graph.fixed}
    sizes = retold(graph, layer, outside - fixed)
    extra = tuple(sorted(outside - fixed - sizes.names))
    still = frozenset(name for name in extra if is_still(graph, layer, name) or is_of_one_image(graph, layer, name))
    for name in extra:
        if name not in still:
            check_rows(graph, layer, name)
    fixed |= {name for node in sizes.nodes for name in node.input if name in graph.fixed}
    constants = [graph.nodes[i] for i in sorted(graph.ancestors(fixed, stop=graph.small_constants))]
    shapes = {i: shape for i, node in enumerate(behind) if (shape := any_rows(graph, node)) is not None}
    behind = [reshaping(node, shapes[i].name) if i in shapes else node for i, node in enumerate(behind)]
    nodes = [*constants, *sizes.nodes, *behind]
    inputs = [declared(graph, name, rows=name not in still) for name in (layer, *extra)]
    new = [*sizes.constants, *{shape.name: shape for shape in shapes.values()}.values()]
    return Head(
        Graph(graph.model, subgraph(graph, nodes, inputs, score, new), whole=graph.whole), layer, score, extra, still
    )


def can_be_cut(graph: Graph, layer: str, score: str) -> bool:
    """Whether there is a head between a layer and a score."""
    try:
        head(graph, layer, score)
    except OnnxCamError:
        return False
    return True


def any_rows(graph: Graph, node: onnx.NodeProto) -> onnx.TensorProto | None:
    """The shape of a Reshape in a model of one image, for any number of rows; None where nothing says one row.

    A 1 in front that is also in front of what is reshaped becomes 0, which says the same of one row.
    """
    if node.op_type != "Reshape" or node.domain or attributes(node).get("allowzero", 0):
        return None
    before, after = graph.shape(node.input[0]), graph.constant(node.input[1])
    if not before or before[0] != 1 or after is None or after.ndim != 1 or not after.size or after[0] != 1:
        return None
    return numpy_helper.from_array(np.concatenate([[0], after[1:]]), f"{ROWS}/{node.input[1]}")


def reshaping(node: onnx.NodeProto, shape: str) -> onnx.NodeProto:
    """A Reshape to another shape."""
    return helper.make_node("Reshape", [node.input[0], shape], node.output, name=node.name)


def aliases(graph: Graph, layer: str) -> dict[str, onnx.NodeProto]:
    """Other names of a layer, each with the node that gives it: its integers, and what else is read of them.

    Or the value that it shows with the images first.
    """
    found = {name: helper.make_node("Identity", [layer], [name]) for name in twins(graph, layer)}
    if (second := images_second(graph, layer)) is not None:
        found[second] = helper.make_node("Transpose", [layer], [second], perm=SWAP)
    reading = graph.maker(layer)
    for name in sources(graph, layer):
        if reading is not None and name != layer:
            axis = [attribute for attribute in reading.attribute if attribute.name in ("axis", "block_size")]
            found[name] = helper.make_node("QuantizeLinear", [layer, *reading.input[1:]], [name], domain=reading.domain)
            found[name].attribute.extend(axis)
    return found


def check_rows(graph: Graph, layer: str, name: str) -> None:
    """LayerError when a value that a head reads besides its layer has no row for each image."""
    if not may_have_rows(graph.shape(name), (graph.shape(layer) or (None,))[0]):
        raise LayerError(
            f"the model cannot be cut at '{layer}': what follows also reads '{name}', which has no row for each image; "
            "choose a later layer, or use an input-level method (saliency)"
        )


def is_still(graph: Graph, layer: str, name: str) -> bool:
    """Whether a value is not known to have a row for each image, and hangs on nothing but sizes: anchors of boxes."""
    first, rows = (graph.shape(name) or (None,))[:1], (graph.shape(layer) or (None,))[:1]
    return (first != rows or rows == (None,)) and not depends_on_input(graph, name)


def is_of_one_image(graph: Graph, layer: str, name: str) -> bool:
    """Whether all of a value is a single image's, in a model that takes one at a time: rows of boxes, say."""
    return (graph.shape(layer) or (None,))[0] == 1 and not may_have_rows(graph.shape(name), 1)


def may_have_rows(shape: Shape | None, rows: Dim) -> bool:
    """Whether the first axis may stand for images: it is as long as theirs, not known, or one for all."""
    if not shape:
        return shape is None
    return shape[0] == rows or not isinstance(shape[0], int) or (shape[0] == 1 and len(shape) > 1)


def subgraph(
    graph: Graph,
    nodes: Sequence[onnx.NodeProto],
    inputs: Sequence[onnx.ValueInfoProto],
    output: str,
    constants: Sequence[onnx.TensorProto],
) -> onnx.ModelProto:
    """A model of nodes of a graph. Small constants are worked out."""
    made = {*(value.name for value in inputs), *(name for node in nodes for name in node.output)}
    read = {name for node in nodes for name in reads(node)} | {output}
    weights = [tensor for name, tensor in graph.initializers.items() if name in read - made]
    known = sorted((read - made - graph.initializers.keys()) & graph.small_constants.keys())
    body = helper.make_graph(
        nodes,
        "head",
        inputs,
        [helper.make_tensor_value_info(output, graph.type(output).elem_type, None)],
        [*weights, *(numpy_helper.from_array(graph.small_constants[name], name) for name in known), *constants],
    )
    return helper.make_model(body, ir_version=graph.proto.ir_version, opset_imports=list(graph.proto.opset_import))


def declared(graph: Graph, name: str, *, rows: bool = True) -> onnx.ValueInfoProto:
    """A value as an input: its type, its shape with a free first axis where it has a row per image."""
    found = graph.type(name)
    free = 0 if rows else -1
    shape = None if found.shape is None else [ROWS if axis == free else dim for axis, dim in enumerate(found.shape)]
    return helper.make_tensor_value_info(name, found.elem_type, shape)


FREE_TAPS = frozenset(["Relu", "Clip", "LeakyRelu", "MaxPool", "GlobalAveragePool", "Concat", "DequantizeLinear"])


def free_taps(graph: Graph) -> set[str]:
    """Values of a head that a run of the model gives out, a row per image, without losing a fusion.

    The backward pass need not make them again.
    """
    made = {node.output[0] for node in graph.nodes if node.domain == "" and node.op_type in FREE_TAPS}
    integers = {node.output[0] for node in graph.nodes if makes_integers(node) and node.op_type != "QuantizeLinear"}
    floats = {name for name in made - graph.fixed if graph.is_float(name) and quantizer(graph, name) is None}
    return {name for name in integers | floats if likely_has_rows(graph.shape(name))}


def likely_has_rows(shape: Shape | None) -> bool:
    """Whether the first axis is the images', as far as can be told.

    A size that is not known, or some rows for each image, may be a stack of what several heads say.
    """
    if not shape or is_open(shape[:1]) or is_multiple(shape[0]):
        return False
    return may_have_rows(shape, ROWS)


def packing_pays(graph: Graph) -> bool:
    """Whether a head's products gain from weights that are laid out anew: not where most have one row per image."""
    rows = others = 0
    for node in graph.nodes:
        vector = node.op_type in ("Gemm", "MatMul") and graph.rank(node.input[0]) == 2
        size = sum(math.prod(graph.initializers[name].dims) for name in node.input if name in graph.initializers)
        rows, others = (rows + size, others) if vector else (rows, others + size)
    return rows < MANY_WEIGHTS or rows < 4 * others


def pruned(
    proto: onnx.ModelProto, outputs: Sequence[str], given: Iterable[onnx.ValueInfoProto] = ()
) -> onnx.ModelProto:
    """In place: only what the outputs need. Values in `given` become inputs; inputs nobody reads are dropped."""
    graph = proto.graph
    there = {value.name: value for value in given}
    needed, kept = set(outputs), []
    for node in reversed(graph.node):
        if needed.intersection(node.output) - there.keys():
            kept.append(node)
            needed |= set(reads(node))
    nodes = list(map(copied, reversed(kept)))
    for node in nodes:  # one that is kept for its other outputs
        node.output[:] = [f"onnxcam/again/{name}" if name in there else name for name in node.output]
    inputs = [value for value in (*graph.input, *there.values()) if value.name in needed]
    weights = [tensor for tensor in graph.initializer if tensor.name in needed]
    left = [value for value in graph.output if value.name in outputs]
    for field, values in (
        (graph.node, nodes), (graph.input, inputs), (graph.initializer, weights), (graph.output, left)
    ):  # fmt: skip
        copies = list(map(copied, values))
        del field[:]
        field.extend(copies)
    return proto
