"""What pools make, and the global mean of a layer, where that is all that a head reads of it."""

from __future__ import annotations

import math

import numpy as np
import onnx

from onnxcam.graph.index import Graph
from onnxcam.graph.layout import VIEWS, layouts
from onnxcam.graph.nodes import attributes, optional, reads
from onnxcam.graph.operators import WEIGHTED, reduced_axes
from onnxcam.graph.quantized import sources, twins, unquantized
from onnxcam.graph.sizing import POOLS
from onnxcam.runtime.manifest import Layout

LINEAR = frozenset({
    "Flatten", "Reshape", "Squeeze", "Unsqueeze", "Identity", "Dropout", "Transpose", "Cast", "BatchNormalization",
    "QuantizeLinear", "DequantizeLinear",
})  # fmt: skip
AFFINE = frozenset({
    "Gemm", "MatMul", "Conv", "Add", "Sub", "Mul", "Div", "QGemm", "QLinearMatMul", "QLinearConv", "QLinearAdd",
    "QLinearMul",
})  # linear when all but one operand is fixed  # fmt: skip
ALL_POOLS = POOLS | {"QLinearAveragePool", "NhwcMaxPool"}
PICKING = VIEWS | {"Concat", "Gather", "QuantizeLinear", "DequantizeLinear"}


def pooled_value(graph: Graph, layer: str, layout: Layout, score: str) -> str | None:
    """The global mean of a layer when the head is nothing but that and linear steps; None otherwise."""
    pooled = global_mean(graph, layer, layout)
    if pooled is None:
        return None
    score = unquantized(graph, score)
    reached = {pooled}
    for i in sorted(graph.ancestors([score], stop=[pooled])):
        node = graph.nodes[i]
        moving = [name for name in node.input if name in reached]
        if not moving:
            continue
        others = [name for name in node.input if name and name not in reached]
        fixed = all(name in graph.fixed for name in others)
        linear = node.op_type in LINEAR or (node.op_type in AFFINE and fixed and len(moving) == 1)
        if node.op_type == "Shape":
            continue
        if not linear or not graph.is_real(node.output[0]) or attributes(node).get("training_mode"):
            return None
        if node.op_type == "Div" and node.input[0] not in reached:
            return None
        reached |= set(node.output)
    return pooled if score in reached else None


def global_mean(graph: Graph, layer: str, layout: Layout) -> str | None:
    """The mean of a layer over all its positions, when that is all that is read of it; None otherwise."""
    reader = only_reader(graph, layer) if not twins(graph, layer) else None
    if reader is not None and reader.op_type in VIEWS:
        known = layouts(graph)
        while reader is not None and reader.op_type in VIEWS and reader.output[0] in known:
            layout, reader = known[reader.output[0]], only_reader(graph, reader.output[0])
    return str(reader.output[0]) if reader is not None and pools_globally(graph, reader, layout) else None


def only_reader(graph: Graph, name: str) -> onnx.NodeProto | None:
    """The node that reads a value, or the integers that stand for one which nothing reads, when there is one alone."""
    readers = graph.consumers.get(name) or [
        i for q in sources(graph, name) for i in graph.consumers[q] if graph.nodes[i].op_type != "DequantizeLinear"
    ]
    return graph.nodes[readers[0]] if len(readers) == 1 else None


def pools_globally(graph: Graph, node: onnx.NodeProto, layout: Layout) -> bool:
    """Whether a node is the mean over all positions of a value of this layout, and over nothing else."""
    spatial = [i for i, label in enumerate(layout.axes) if label in "DHWP"]
    if averaged_axes(graph, node) != spatial:
        return False
    tokens = (graph.shape(node.input[0]) or ())[layout.axes.index("P")] if "P" in layout.axes else None
    return tokens == (None if layout.grid is None else math.prod(layout.grid))  # else a class token is in the mean too


def averaged_axes(graph: Graph, node: onnx.NodeProto) -> list[int] | None:
    """The axes that a node takes the whole mean over, in order; None when it does anything else."""
    rank, attrs = graph.rank(node.input[0]) or 0, attributes(node)
    behind_channels = list(range(2, rank))
    if node.op_type in ("GlobalAveragePool", "QLinearGlobalAveragePool"):
        return list(range(1, rank - 1)) if attrs.get("channels_last") else behind_channels
    if node.op_type == "AveragePool":
        before, after = (graph.shape(name) or () for name in (node.input[0], node.output[0]))
        one = len(after) > 2 and set(after[2:]) == {1}
        whole = one and not any(attrs.get("pads", [])) and list(attrs["kernel_shape"]) == list(before[2:])
        return behind_channels if whole else None
    return reduced_axes(graph, node) if node.op_type == "ReduceMean" else None


def is_pooled(graph: Graph, name: str) -> bool:
    """Whether a value is a pool's, or picked from several of one value: Keras's windows of two sizes are so written."""
    return name in graph.once(pooled_values)


def pooled_values(graph: Graph) -> dict[str, str]:
    """What pools make, and what is picked from pools of one value alone, with the value that is pooled."""
    found: dict[str, str] = {}
    for node in graph.nodes:
        if node.op_type in ALL_POOLS:
            found[node.output[0]] = node.input[0]
        elif node.op_type in PICKING:
            pooled = {found.get(name, "") for name in reads(node) if name not in graph.fixed}
            if len(pooled) == 1 and "" not in pooled:
                found[node.output[0]] = pooled.pop()
    return found


def inside_generalized_mean(graph: Graph, name: str) -> bool:
    """Whether a value is a step of a generalized mean over all its positions (GeM) that nothing else reads.

    What is pooled is cut off below, raised to a power and averaged, and the root is taken of that.
    """
    node = graph.maker(name)
    power = reader_of_content(graph, name) if node is not None and is_guard(graph, node) else node
    layout = layouts(graph).get(power.output[0]) if power is not None and power.op_type == "Pow" else None
    if power is None or layout is None or (mean := global_mean(graph, power.output[0], layout)) is None:
        return False
    root = reader_of_content(graph, mean)
    if root is None or root.op_type != "Pow":
        return False
    up, down = graph.constant(power.input[1]), graph.constant(root.input[1])
    if up is None or down is None or up.size != down.size:
        return False
    return np.allclose(up.ravel() * down.ravel(), 1, rtol=1e-3)


def is_guard(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether a node keeps a power's base from being negative, and is not the activation of a layer in front of it."""
    before = graph.maker(node.input[0])
    return cuts_off_below(graph, node) and not (before is not None and before.op_type in WEIGHTED)


def reader_of_content(graph: Graph, name: str) -> onnx.NodeProto | None:
    """The node that alone reads a value, or what shows it again, for more than to show it again."""
    reader = only_reader(graph, name)
    while reader is not None and reader.op_type in VIEWS:
        reader = only_reader(graph, reader.output[0])
    return reader


def cuts_off_below(graph: Graph, node: onnx.NodeProto) -> bool:
    """Whether all that a node does is to raise what lies below a fixed number to that."""
    if node.op_type == "Max":
        return len(node.input) == 2 and any(name in graph.fixed for name in node.input)
    return node.op_type == "Clip" and not optional(node, 2)
