"""Products that ONNX Runtime fused with an activation, apart again: what looks for a Relu or for classes sees them.

ONNX Runtime fuses them anew when a session opens.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from typing import Any

import onnx
from onnx import TensorProto, helper

from onnxcam.graph.index import Graph
from onnxcam.graph.integers import MICROSOFT
from onnxcam.graph.nodes import attributes, optional, with_nodes

FUSED = {"FusedConv": "Conv", "FusedGemm": "Gemm"}
ADDED = 3  # the place of what a FusedConv adds, among its inputs
ACTIVATION = "activation", "activation_params", "activation_alpha", "activation_beta", "activation_gamma"
SPELLED = "activation_"  # before the name of an attribute of the activation, in a FusedGemm
PARAMETERS = {  # in their order in a FusedConv
    "Clip": ("min", "max"), "Elu": ("alpha",), "HardSigmoid": ("alpha", "beta"), "LeakyRelu": ("alpha",),
    "ThresholdedRelu": ("alpha",),
}  # fmt: skip


def without_fusions(graph: Graph) -> onnx.ModelProto | None:
    """The model with such products apart from what follows; None where there are none."""
    if not any(map(is_fused, graph.nodes)):
        return None
    nodes, limits = list[onnx.NodeProto](), list[onnx.TensorProto]()
    for node in graph.nodes:
        found, constants = parts(graph, node) if is_fused(node) else ([node], [])
        nodes += found
        limits += constants
    return with_nodes(graph.proto, nodes, limits)


def is_fused(node: onnx.NodeProto) -> bool:
    """Whether a node is a product with an activation that ONNX has, or none."""
    if node.domain != MICROSOFT or node.op_type not in FUSED or len(node.output) != 1 or len(node.input) < 2:
        return False
    name, _ = activation_of(attributes(node))
    return not name or (onnx.defs.has(name) and not onnx.defs.get_schema(name).deprecated)


def activation_of(attrs: Mapping[str, Any]) -> tuple[str, dict[str, Any]]:
    """The activation that a fused node names, "" for none, and its parameters: attributes, of a Clip inputs."""
    name = str(attrs.get("activation", ""))
    if values := attrs.get("activation_params"):  # as a FusedConv says them
        return name, dict(zip(PARAMETERS.get(name, ()), values, strict=False))
    known = onnx.defs.get_schema(name).attributes if onnx.defs.has(name) else ()
    spelled = {key.removeprefix(SPELLED): value for key, value in attrs.items() if key.startswith(SPELLED)}
    return name, {key: value for key, value in spelled.items() if key in known}


def parts(graph: Graph, node: onnx.NodeProto) -> tuple[list[onnx.NodeProto], list[onnx.TensorProto]]:
    """The product, what is added to it, and the activation; and the constants that this reads."""
    (y,), (name, parameters), limits = node.output, activation_of(attributes(node)), list[onnx.TensorProto]()
    product = helper.make_node(FUSED[node.op_type], node.input[:ADDED], [y], node.name)
    product.attribute.extend(attribute for attribute in node.attribute if attribute.name not in ACTIVATION)
    found = [product]
    if added := optional(node, ADDED):
        found.append(helper.make_node("Add", ["", added], [y], f"{node.name or y}/sum"))
    if name == "Clip":
        kind = graph.type(node.input[0]).elem_type or TensorProto.FLOAT
        limits = [helper.make_tensor(f"onnxcam/{y}/{end}", kind, [], [value]) for end, value in parameters.items()]
        parameters = {}
    if name:
        inputs = ["", *(tensor.name for tensor in limits)]
        found.append(helper.make_node(name, inputs, [y], f"{node.name or y}/activation", **parameters))
    for i, (one, following) in enumerate(pairwise(found)):
        one.output[0] = following.input[0] = f"onnxcam/{y}/{i}"
    return found, limits
