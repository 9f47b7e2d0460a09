"""What was written, put into the graph that it was written for: what no input moves as constants."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy.typing as npt
import onnx
from onnx import numpy_helper

from onnxcam.graph import is_pure, reads
from onnxcam.vjp.body import body_graph
from onnxcam.vjp.emitter import Emitter


def extended(g: Emitter, names: Sequence[str]) -> onnx.ModelProto:
    """The primal graph with what was written for some values."""
    nodes, initializers = g.needed(names)
    constants = worked_out(g, nodes, initializers)
    left = [node for node in nodes if not constants.keys() >= set(node.output) or set(names) & set(node.output)]
    read = {name for node in left for name in reads(node)}
    proto = onnx.ModelProto()
    proto.CopyFrom(g.graph.proto)
    proto.graph.node.extend(left)
    proto.graph.initializer.extend(tensor for tensor in initializers if tensor.name in read)
    proto.graph.initializer.extend(numpy_helper.from_array(constants[name], name) for name in constants if name in read)
    return proto


def worked_out(
    g: Emitter, nodes: Iterable[onnx.NodeProto], initializers: Sequence[onnx.TensorProto]
) -> dict[str, npt.NDArray[Any]]:
    """The small values that nodes make of constants: a kernel turned around, what resampling does along an axis.

    ONNX Runtime would work them out too, but whenever a session opens, and not at all where it may not optimize.
    """
    fixed = g.graph.fixed | {tensor.name for tensor in initializers}
    making = list[onnx.NodeProto]()
    for node in nodes:
        if is_pure(node) and all(name in fixed or not name for name in node.input):
            making.append(node)
            fixed.update(node.output)
    made = {name for node in making for name in node.output}
    settled = body_graph(g, making, {}, initializers).early_constants if making else {}
    return {name: value for name, value in settled.items() if name in made}
