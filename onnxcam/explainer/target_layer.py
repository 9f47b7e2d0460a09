"""Which layer of a model is explained."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from onnxcam.errors import LayerError
from onnxcam.explainer.advice import without_layer
from onnxcam.explainer.subject import TargetLayer
from onnxcam.graph import IN_PART, Graph, candidates, named_layer, pooled_value

if TYPE_CHECKING:
    from onnxcam.explainer.rewritten import Rewritten

ON_ALL_PATHS = "with a grid of positions on all paths to its score"


def chosen_layer(subject: Rewritten, graph: Graph, source: str, layer: str | None, method: str) -> TargetLayer:
    """The layer that a caller named, or the best one for a method.

    Args:
        graph: the subject's, perhaps for images of one size.
        source: the value on the way to which the layer lies: the score, or the head that holds what is explained.

    Raises:
        LayerError: there is none, or none such.
    """
    if layer is not None:
        found = named_layer(graph, layer)
        return TargetLayer(found.name, found.layout)
    ranked = candidates(graph, subject.image, replace(subject.score, name=source))
    if method == "cam":
        fitting = [c for c in ranked if pooled_value(graph, c.name, c.layout, subject.score.name)]
        if not fitting:
            raise LayerError(
                "cam needs a head of global average pooling and linear layers, this model has none: use gradcam"
            )
        return TargetLayer(fitting[0].name, fitting[0].layout)
    automatic = [c for c in ranked if c.automatic]
    if not automatic:
        which = "all of whose positions reach its score" if any(c.reason == IN_PART for c in ranked) else ON_ALL_PATHS
        raise LayerError(
            f"{subject.name} has no layer {which}{without_layer(subject.graph, subject.image.name, subject.score.name)}"
        )
    return TargetLayer(automatic[0].name, automatic[0].layout)
