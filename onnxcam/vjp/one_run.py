"""A class's gradient behind the features, in one graph: what is known before the model runs takes one run."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxcam.graph import Graph, default_to, expose
from onnxcam.runtime import HIGHEST
from onnxcam.vjp.head import RowGraph, whole_class_gradient
from onnxcam.vjp.registry import RuleSet
from onnxcam.vjp.rows import CLASS

ASKED = "onnxcam/asked"
OWN_WEIGHTS = 4  # the first IR version in which an initializer is no input


def in_one_run(graph: Graph, features: onnx.ModelProto, backward: RowGraph, score: str, axis: int) -> bool:
    """Put the gradient of a class, the optional int64 input ASKED [rows] or HIGHEST, behind the features, in place.

    False, and nothing is changed, where that could change how the features run. A gradient that makes values of the
    forward pass again would share them, and fused operators would come apart; nodes of two opsets do not mix.

    Args:
        graph: the model.
        features: made of it; they give out the score, and what `backward` reads.
        backward: the gradient of the class in CLASS [rows].
        axis: the classes' axis of the score.
    """
    body, part = features.graph, backward.proto.graph
    written = {name for node in part.node for name in node.output}
    there = {value.name for value in (*body.input, *body.initializer)}.union(*(node.output for node in body.node))
    if written & (there | graph.names) or features.ir_version < OWN_WEIGHTS or not one_language(features, backward):
        return False
    body.node.extend([*class_asked(score, axis), *part.node])
    body.initializer.extend(tensor for tensor in part.initializer if tensor.name not in there)
    body.initializer.append(numpy_helper.from_array(np.array([HIGHEST]), f"{ASKED}/highest"))
    body.input.append(helper.make_tensor_value_info(ASKED, TensorProto.INT64, [f"{ASKED}/rows"]))
    default_to(features, ASKED, HIGHEST)
    body.output.extend(value for value in part.output if value.name == backward.output)
    features.ir_version = max(features.ir_version, backward.proto.ir_version)
    return True


def image_in_one_run(graph: Graph, score: str, axis: int, image: str, *, rules: RuleSet) -> RowGraph:
    """The model with the gradient of a class, the optional int64 input CLASS [rows] or HIGHEST, at the image.

    It gives out the score too.
    """
    found = whole_class_gradient(graph, score, axis, image, rules=rules)
    expose(graph, found.proto, [score])
    default_to(found.proto, CLASS, HIGHEST)
    return found


def one_language(features: onnx.ModelProto, backward: RowGraph) -> bool:
    """Whether the features import every domain that a gradient is written in, in its version."""
    spoken, needed = (
        {opset.domain or "ai.onnx": opset.version for opset in proto.opset_import}
        for proto in (features, backward.proto)
    )
    return needed.items() <= spoken.items()


def class_asked(score: str, axis: int) -> list[onnx.NodeProto]:
    """The class of each row, from the one that is asked, or the row's highest score."""
    highest, at, asked = f"{ASKED}/highest", f"{ASKED}/at", f"{ASKED}/none"
    return [
        helper.make_node("ArgMax", [score], [f"{at}/score"], axis=axis, keepdims=0),
        helper.make_node("Reshape", [f"{at}/score", highest], [at]),
        helper.make_node("Equal", [ASKED, highest], [asked]),
        helper.make_node("Where", [asked, at, ASKED], [CLASS]),
    ]
