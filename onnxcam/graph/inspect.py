"""What a stranger's model means: its image input, its score, and the layers worth looking at."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto

from onnxcam.errors import LayerError, ModelError, did_you_mean
from onnxcam.graph.index import Graph, attributes, read_graph
from onnxcam.graph.layout import VIEWS, layouts, spatial_sizes
from onnxcam.graph.load import load
from onnxcam.graph.normalize import captures
from onnxcam.graph.types import Shape
from onnxcam.runtime.manifest import ImageInput, Layout, Score

PASSING = frozenset(
    [
        "Identity",
        "Cast",
        "Reshape",
        "Flatten",
        "Squeeze",
        "Unsqueeze",
        "Transpose",
        "Dropout",
        "ArgMax",
        "TopK",
        "ZipMap",
        "QuantizeLinear",
        "DequantizeLinear",
        "ArrayFeatureExtractor",
        "Normalizer",
        "CastLike",
    ]
)  # between the score and what the model gives out
SQUASHING = {"Softmax": "softmax", "LogSoftmax": "softmax", "Sigmoid": "sigmoid"}
POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})
WEIGHTED = frozenset(
    [
        "Conv",
        "ConvTranspose",
        "Gemm",
        "MatMul",
        "ConvInteger",
        "MatMulInteger",
        "QLinearConv",
        "QLinearMatMul",
        "QGemm",
        "FusedConv",
        "FusedGemm",
        "FusedMatMul",
        "DeformConv",
        "LSTM",
        "GRU",
        "RNN",
        "Attention",
        "MultiHeadAttention",
        "MatMulNBits",
    ]
)
PICKING = frozenset({"Gather", "Slice", "Split", "GatherND", "GatherElements"})
IMAGE_CHANNELS = (1, 3, 4)
IMAGE_TYPES = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT8)


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
    """Candidate target layers of a model, the best first; the automatic choice is marked. Errors as `load`."""
    graph = read_graph(load(model))
    return candidates(graph, image_input(graph), find_score(graph, score))


# -- input ----------------------------------------------------------------------------------------


def image_input(graph: Graph) -> ImageInput:
    """The input that takes the picture; ModelError when there is none or several."""
    typed = {value.name: value for value in graph.proto.graph.input}
    found = [image for name in graph.inputs if (image := as_image(graph, typed[name])) is not None]
    if len(found) != 1:
        what = ", ".join(f"'{name}' {shown(graph.shape(name))}" for name in graph.inputs) or "none"
        problem = "no input that takes an image" if not found else "several inputs that could take the image"
        raise ModelError(f"{graph.model.name} has {problem} (its inputs: {what})")
    others = [name for name in graph.inputs if name != found[0].name]
    if others:
        raise ModelError(
            f"{graph.model.name} needs more than an image: also {', '.join(map(repr, others))}; "
            "fix those inputs in the model, or use onnxcam.differentiate"
        )
    return found[0]


def as_image(graph: Graph, value: onnx.ValueInfoProto) -> ImageInput | None:
    """An input read as a picture, when it can be one."""
    shape = graph.shape(value.name)
    kind = value.type.tensor_type.elem_type
    if shape is None or len(shape) not in (3, 4) or kind not in IMAGE_TYPES:
        return None
    layout = image_layout(graph, value.name, shape)
    if layout is None:
        return None
    sizes = dict(zip(layout, shape, strict=True))
    width, height, channels = (size if isinstance(size := sizes[axis], int) and size > 0 else None for axis in "WHC")
    batch = sizes.get("N", 1)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).name
    return ImageInput(
        value.name, layout, (width, height), channels, dtype, batch if isinstance(batch, int) and batch > 0 else None
    )


def image_layout(graph: Graph, name: str, shape: Shape) -> str | None:
    """Channels first or last: told by the sizes, and where these leave it open by what reads the input."""
    batch = "N" if len(shape) == 4 else ""
    first, last = shape[len(batch)], shape[-1]
    if first in IMAGE_CHANNELS and last not in IMAGE_CHANNELS:
        return f"{batch}CHW"
    if last in IMAGE_CHANNELS and first not in IMAGE_CHANNELS:
        return f"{batch}HWC"
    for i in graph.consumers.get(name, []):
        node = graph.nodes[i]
        if node.op_type == "Transpose" and list(attributes(node).get("perm") or []) in ([0, 3, 1, 2], [2, 0, 1]):
            return f"{batch}HWC"
    return f"{batch}CHW" if len(shape) == 4 or first in IMAGE_CHANNELS else None


def shown(shape: Shape | None) -> str:
    """A shape for people: [N, 3, 224, 224]."""
    if shape is None:
        return "of unknown shape"
    return "[" + ", ".join("?" if dim is None else str(dim) for dim in shape) + "]"


# -- score ----------------------------------------------------------------------------------------


def find_score(graph: Graph, named: str | None = None) -> Score:
    """The score a caller named (a value or an output), or the one that the graph suggests.

    Raises:
        LayerError: no value of that name. ModelError: no output, or several, look like class scores.
    """
    if named is not None:
        if named not in graph:
            raise LayerError(
                f"the model has no value '{named}' to explain{did_you_mean(named, [*graph.outputs, *graph.producer])}"
            )
        if not graph.is_float(named):
            raise LayerError(f"the value '{named}' is not floating point: it cannot be explained")
        readers = [graph.nodes[i] for i in graph.consumers.get(named, []) if graph.nodes[i].op_type in SQUASHING]
        squash = SQUASHING[readers[0].op_type] if readers else ""
        return Score(named, "logit" if squash else "output", squash, named)
    traced = [score for name in graph.outputs if (score := trace(graph, name)) is not None]
    classes = [score for score in traced if class_axis(graph.shape(score.name)) is not None]
    distinct = {score.name: score for score in sorted(classes, key=lambda score: bool(score.squash))}
    if len(distinct) != 1:
        what = ", ".join(f"'{name}' {shown(graph.shape(name))}" for name in graph.outputs[:8])
        if distinct:
            raise ModelError(
                f"{graph.model.name} has several outputs that could be class scores: choose with --score ({what})"
            )
        raise ModelError(f"{graph.model.name} has no output of class scores, shape [N, classes] (its outputs: {what})")
    return next(iter(distinct.values()))


def trace(graph: Graph, output: str) -> Score | None:
    """From an output back to the score behind it; None when there is no float tensor on the way."""
    name, best = output, None
    while True:
        if best is None and graph.is_float(name):
            best = name
        node = graph.nodes[graph.producer[name]] if name in graph.producer else None
        if node is None or not node.input:
            break
        if node.op_type in SQUASHING and name != node.input[0]:
            score = node.input[0]
            return Score(score, "logit", SQUASHING[node.op_type], output)
        if (score := before_spelled_softmax(graph, node)) is not None:
            return Score(score, "logit", "softmax", output)
        if node.op_type not in PASSING:
            break
        name = node.input[0]
    return Score(best, "output", "", output) if best is not None else None


def before_spelled_softmax(graph: Graph, node: onnx.NodeProto) -> str | None:
    """The input of a softmax written as Exp, ReduceSum and Div, the maximum taken off or not."""
    if node.op_type != "Div":
        return None
    top, bottom = (graph.nodes[graph.producer[name]] if name in graph.producer else None for name in node.input)
    if top is None or bottom is None or top.op_type != "Exp" or bottom.op_type != "ReduceSum":
        return None
    if bottom.input[0] != node.input[0]:
        return None
    inner = graph.nodes[graph.producer[top.input[0]]] if top.input[0] in graph.producer else None
    if inner is not None and inner.op_type == "Sub":
        largest = graph.nodes[graph.producer[inner.input[1]]] if inner.input[1] in graph.producer else None
        if largest is not None and largest.op_type == "ReduceMax" and largest.input[0] == inner.input[0]:
            return str(inner.input[0])
    return str(top.input[0])


def class_axis(shape: Sequence[int | str | None] | None) -> int | None:
    """The classes' axis of a score shaped [N, K], [N, K, 1, 1], [N, 1, K] or [K]; None for anything else."""
    if shape is None or not shape:
        return None
    if len(shape) == 1:
        return 0
    wide = [axis for axis in range(1, len(shape)) if shape[axis] != 1]
    if len(wide) > 1:
        return None
    return wide[0] if wide else 1


# -- layers ---------------------------------------------------------------------------------------


def candidates(graph: Graph, image: ImageInput, score: Score) -> list[Layer]:
    """Values with a grid on all paths from the image to the score, the best first; the first suitable is automatic."""
    known = layouts(graph)
    on_all_paths = articulations(graph, image.name, score.name)
    weights_behind = weighted_behind(graph, score.name)
    arrives = arriving(graph, on_all_paths, score.name, known)
    merged: dict[str, Layer] = {}
    for name in reversed(on_all_paths):
        layer = as_layer(graph, name, known)
        shown_as = layer and as_layer(graph, original(graph, name, arrives.keys(), known), known)
        if shown_as is not None and shown_as.name not in merged:
            merged[shown_as.name] = replace(shown_as, reason=objection(graph, name, weights_behind, arrives))
    best = next((name for name, layer in merged.items() if not layer.reason), None)
    ranked = [
        replace(
            layer,
            automatic=name == best,
            reason=layer.reason or ("the last grid on all paths to the score" if name == best else "earlier"),
        )
        for name, layer in merged.items()
    ]
    return sorted(ranked, key=lambda layer: (not layer.automatic, layer.reason != "earlier"))


def original(graph: Graph, name: str, on_all_paths: Collection[str], known: dict[str, Layout]) -> str:
    """The value that a transpose, reshape or the like merely shows again."""
    while True:
        node = graph.nodes[graph.producer[name]] if name in graph.producer else None
        if node is None or node.op_type not in VIEWS or node.input[0] not in on_all_paths or node.input[0] not in known:
            return name
        if node.input[0] not in graph.producer:
            return name
        name = node.input[0]


def as_layer(graph: Graph, name: str, known: dict[str, Layout]) -> Layer | None:
    """A value as a layer; None when it has no grid of more than one position."""
    layout, shape = known.get(name), graph.shape(name)
    if layout is None or shape is None or "C" not in layout.axes or not graph.is_float(name):
        return None
    grid = spatial_sizes(layout, shape)
    if grid is not None and int(np.prod(grid)) <= 1:
        return None
    node = graph.nodes[graph.producer[name]]
    return Layer(name, node.name, node.op_type, shape, layout, grid, False, "")


def objection(graph: Graph, name: str, weights_behind: dict[str, bool], arrives: dict[str, bool]) -> str:
    """Why a value is not taken by itself; empty when it is suitable."""
    node = graph.nodes[graph.producer[name]]
    if node.op_type in POOLS:
        return "a pool: what it pools is finer"
    if not weights_behind.get(name, False):
        return "holds class maps: no weights between it and the score"
    if not arrives[name]:
        return "only some positions reach the score from here"
    return ""


def differentiable(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node makes a float value at all."""
    return any(name and graph.is_float(name) for name in node.output)


def articulations(graph: Graph, start: str, end: str) -> list[str]:
    """Computed values that lie on every float path from `start` to `end`, in order.

    Walking the nodes in order, a value is on all paths when it is the only one alive: made, and still to be read.
    """
    behind = graph.ancestors([end], stop=[start])
    reached, inside = {start}, []
    for i in sorted(behind):
        node = graph.nodes[i]
        if differentiable(graph, node) and reached.intersection([*node.input, *captures(node)]):
            inside.append(i)
            reached |= {
                name for name in node.output if name and (graph.is_float(name) or not graph.type(name).elem_type)
            }
    last = {name: i for i in inside for name in (*graph.nodes[i].input, *captures(graph.nodes[i])) if name in reached}
    last[end] = len(graph.nodes)
    alive, found = {start}, []
    for i in inside:
        alive |= {name for name in graph.nodes[i].output if last.get(name, -1) > i}
        alive -= {name for name in alive if last.get(name, -1) <= i}
        if len(alive) == 1 and (name := next(iter(alive))) in graph.nodes[i].output:
            found.append(name)
    return found


def weighted_behind(graph: Graph, score: str) -> dict[str, bool]:
    """For every value before the score: whether a weighted node lies between the two."""
    behind: dict[str, bool] = {score: False}
    for i in sorted(graph.ancestors([score]), reverse=True):
        node = graph.nodes[i]
        here = any(behind.get(name, False) for name in node.output) or node.op_type in WEIGHTED
        for name in node.input:
            behind[name] = behind.get(name, False) or here
    return behind


def arriving(graph: Graph, on_all_paths: list[str], score: str, known: dict[str, Layout]) -> dict[str, bool]:
    """For each value on all paths whether every grid position of it can move the score.

    It is false behind the picking of a class token. Told from one value to the next: positions that mix on the way all
    arrive, those that stay apart share the fate of the next value's.
    """
    found: dict[str, bool] = {}
    following = score
    for name in reversed(on_all_paths):
        fate = fate_of_positions(graph, name, following, known) if name != score else "mixed"
        found[name] = fate == "mixed" or (fate == "apart" and found.get(following, True))
        following = name
    return found


def fate_of_positions(graph: Graph, name: str, end: str, known: dict[str, Layout]) -> str:
    """What the grid positions of `name` are in `end`: "apart" still, "mixed", or some of them "lost" before that."""
    apart, mixed, lost = {name}, set[str](), set[str]()
    for i in sorted(graph.ancestors([end], stop=[name])):
        node = graph.nodes[i]
        reads = set(node.input) | captures(node)
        if reads & mixed:
            mixed |= set(node.output)
        elif reads & apart:
            for output in node.output:
                if output in known and grid_axes(known[output]) and node.op_type not in ("Conv", "ConvTranspose"):
                    apart.add(output)
                elif node.op_type in PICKING:
                    lost.add(output)
                elif differentiable(graph, node):
                    mixed.add(output)
        elif reads & lost:
            lost |= set(node.output)
    return "mixed" if end in mixed else "apart" if end in apart else "lost"


def grid_axes(layout: Layout) -> bool:
    """Whether positions have axes of their own."""
    return any(label in "DHWP" for label in layout.axes)


def named_layer(graph: Graph, name: str) -> Layer:
    """A layer that the user named: a value, or a node (its first output).

    Raises:
        LayerError: no such value or node, or no grid of positions in it.
    """
    value = name
    if name not in graph.producer:
        nodes = {node.name: node for node in graph.nodes if node.name}
        if name in graph.inputs:
            raise LayerError(
                f"'{name}' is the model's input: input-level methods (saliency, ...) explain it without --layer"
            )
        if name not in nodes:
            known = [*graph.producer, *nodes]
            raise LayerError(f"the model has no layer '{name}'{did_you_mean(name, known)} (see `onnxcam layers`)")
        value = nodes[name].output[0]
    known_layouts = layouts(graph)
    shape = graph.shape(value)
    if value not in known_layouts and shape is not None:
        known_layouts |= guessed(value, shape, known_grids(graph, known_layouts))
    layer = as_layer(graph, value, known_layouts)
    if layer is None:
        raise LayerError(
            f"the layer '{name}' {shown(shape)} has no grid of positions to map: choose one that `onnxcam layers` lists"
        )
    return replace(layer, reason="named")


def known_grids(graph: Graph, known: dict[str, Layout]) -> set[tuple[int, ...]]:
    """The grids of all values whose layout is known, and the image's."""
    found = [spatial_sizes(layout, graph.shape(name) or ()) for name, layout in known.items()]
    for name in graph.inputs:
        shape = graph.shape(name) or ()
        axes = image_layout(graph, name, shape) if len(shape) == 4 else None
        found.append(spatial_sizes(Layout(axes), shape) if axes else None)
    return {grid for grid in found if grid}


def guessed(name: str, shape: Shape, grids: set[tuple[int, ...]]) -> dict[str, Layout]:
    """A layout by shape alone: axes that are a grid of the model, or a whole fraction of one; else tokens in a square.

    Four axes that are neither (an attention map, say) have no layout.
    """
    if len(shape) == 4:
        fitting = [
            axes for axes, at in (("NCHW", 2), ("NHWC", 1)) if any(divides(shape[at : at + 2], g) for g in grids)
        ]
        return {name: Layout(fitting[0])} if len(fitting) == 1 else {}
    if len(shape) == 3 and isinstance(shape[1], int):
        for prefix in (0, 1, 2, 5):
            side = int(np.sqrt(max(shape[1] - prefix, 0)))
            if side > 1 and side * side == shape[1] - prefix:
                return {name: Layout("NPC", (side, side), prefix)}
    return {}


def divides(sizes: Shape, grid: tuple[int, ...]) -> bool:
    """Whether a grid is a whole number of times these sizes, the same number along each axis."""
    if len(sizes) != len(grid) or not all(isinstance(size, int) and size > 0 for size in sizes):
        return False
    times = {divmod(whole, int(size or 1)) for whole, size in zip(grid, sizes, strict=True)}
    return len(times) == 1 and next(iter(times))[1] == 0 and next(iter(times))[0] > 0
