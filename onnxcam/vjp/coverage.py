"""Which operators of a model a gradient has to pass, and what stops it before which layer."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx

from onnxcam.errors import UnsupportedOpError
from onnxcam.graph import BRANCH, Graph, Layer, inspected, load, with_feeds
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import STANDARD, RuleSet
from onnxcam.vjp.sweep import operator_name, opset_of, path, reverse


@dataclass(frozen=True)
class OperatorUse:
    """An operator between a model's image and its score.

    Attributes:
        name: its type, with the domain when it is not ONNX's own.
        opset: the version of its domain in the model, as it is differentiated.
        count: how many nodes there are.
        rule: whether every one of them has a gradient rule.
    """

    name: str
    opset: int
    count: int
    rule: bool


@dataclass(frozen=True)
class LayerCoverage:
    """A candidate layer, and the node that stops the gradient from the score, with its reason; empty: it arrives."""

    layer: Layer
    blocker: str


@dataclass(frozen=True)
class Coverage:
    """The operators by name, the layers as `list_layers` ranks them."""

    operators: list[OperatorUse]
    layers: list[LayerCoverage]


def blocking_operators(
    model: str | Path | bytes | onnx.ModelProto,
    score: str | None = None,
    *,
    feeds: Mapping[str, Any] | None = None,
    rules: RuleSet = STANDARD,
) -> Coverage:
    """What stands between the gradient and a model's layers; `feeds`: values for the inputs besides the image.

    Raises:
        ModelError, LayerError: as `list_layers`.
    """
    seen = inspected(with_feeds(load(model), feeds or {}), score)
    between, _ = path(seen.graph, [seen.score.name], [seen.image.name], rules)
    return Coverage(used(seen.graph, between, rules), covered(seen.graph, seen.score.name, seen.layers, rules))


def used(graph: Graph, between: Iterable[int], rules: RuleSet) -> list[OperatorUse]:
    """The operators of some nodes, by name."""
    alike: dict[tuple[str, str], list[onnx.NodeProto]] = {}
    for i in between:
        node = graph.nodes[i]
        alike.setdefault((node.domain, node.op_type), []).append(node)
    return [
        OperatorUse(
            operator_name(nodes[0]), opset_of(graph, nodes[0]), len(nodes), all(rules.find(graph, n) for n in nodes)
        )
        for _, nodes in sorted(alike.items())
    ]


def covered(graph: Graph, score: str, layers: Sequence[Layer], rules: RuleSet) -> list[LayerCoverage]:
    """What blocks each layer. Of those on every path to the score a later one lets through what reaches an earlier."""
    found: dict[str, str] = {}
    through = False
    for layer in sorted(layers, key=lambda layer: graph.producer[layer.name]):
        on_path = layer.reason != BRANCH
        found[layer.name] = "" if on_path and through else blocker(graph, score, layer.name, rules)
        through |= on_path and not found[layer.name]
    return [LayerCoverage(layer, found[layer.name]) for layer in layers]


def blocker(graph: Graph, score: str, layer: str, rules: RuleSet) -> str:
    """The node that stops the sweep from the score to a layer: by having no rule, or one that turns it down."""
    try:
        reverse(Emitter(graph), {score: "seed"}, [layer], rules)
    except UnsupportedOpError as error:
        return f"{error.op} (opset {error.opset}) at '{error.node}'" + (f": {error.why}" if error.why else "")
    return ""
