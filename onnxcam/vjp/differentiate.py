"""`differentiate`: a model in, the same model with the gradient appended out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import onnx
from onnx import helper

from onnxcam.arguments import NAME, NAMES, Kind, require
from onnxcam.errors import LayerError, ModelError, did_you_mean
from onnxcam.files import naming_output
from onnxcam.graph import Graph, as_deployed, load, read_graph, restore_interface, save, with_told_sizes
from onnxcam.vjp.emitter import Emitter, cotangent_type
from onnxcam.vjp.registry import STANDARD, RuleSet
from onnxcam.vjp.settling import extended
from onnxcam.vjp.sweep import reverse


@dataclass(frozen=True)
class Differentiated:
    """A model that also gives gradients.

    Attributes:
        model: the original inputs and outputs (same names, types, order and values), then the seed input and one output
            for every gradient.
        seed: name of the input that takes the cotangent: shape and dtype of `of`. A one-hot seed gives the gradient of
            one element; any array gives a vector-Jacobian product.
        gradients: output name for every value of `wrt`; float32 (float64 for a double), in the value's shape.
    """

    model: onnx.ModelProto = field(repr=False)
    seed: str
    gradients: Mapping[str, str]

    def save(self, path: str | Path) -> None:
        """Write the model; over 2 GB its weights go to external data beside it. OutputError: it cannot be written."""
        with naming_output(Path(path)):
            save(self.model, Path(path))


def differentiate(
    model: str | Path | bytes | onnx.ModelProto, *, of: str, wrt: str | Sequence[str], rules: RuleSet = STANDARD
) -> Differentiated:
    """Append the gradient of one value with respect to others, as ONNX in standard operators.

    Args:
        model: a path, serialized bytes, or a ModelProto (never changed).
        of: the value whose gradient is taken, of any shape; any value of the main graph.
        wrt: the values it is taken with respect to: inputs, weights or computed values, by name.
        rules: adjoints; GUIDED and DECONVNET replace the rectifier's.

    Returns:
        The model with one more input, the seed, and one more output for every `wrt`: d <seed, of> / d wrt. A value that
        `of` does not depend on gets zeros.

    Raises:
        ModelError: the model cannot be read.
        LayerError: no such value, or one that is not floating point.
        UnsupportedOpError: an operator on a path has no rule.
    """
    require("of", of, NAME)
    require("wrt", wrt, NAMES)
    require("rules", rules, Kind("a RuleSet", lambda value: isinstance(value, RuleSet)))
    graph = read_graph(load(model))
    names = [wrt] if isinstance(wrt, str) else list(dict.fromkeys(wrt))
    for name in (of, *names):
        check_value(graph, name)
    g = Emitter(graph)
    seed = g.fresh("seed")
    start = as_cotangent(g, seed, of)
    found = reverse(g, {of: start}, names, rules)
    gradients = {}
    for name in names:
        gradients[name] = g.fresh(f"gradient/{name}")
        kind = cotangent_type(graph.type(name).elem_type)
        ct = held_to_shape(g, found[name] or g.zeros_like(name, kind), name)
        g.nodes.append(helper.make_node("Identity", [ct], [gradients[name]]))
    proto = assembled(g, seed, of, gradients)
    return Differentiated(graph.model.embed(proto), seed, gradients)


def held_to_shape(g: Emitter, ct: str, name: str) -> str:
    """A cotangent; a run fails where it has not the value's number of elements.

    Dimensions of one name are taken to be equal, which ONNX Runtime does not check across inputs: where it broadcasts
    what was declared alike, the cotangent is larger than the value.
    """
    graph = g.graph
    symbols = [dim for value in graph.inputs for dim in set(graph.shape(value) or ()) if isinstance(dim, str)]
    if any(symbols.count(dim) > 1 for dim in graph.shape(name) or () if isinstance(dim, str)):
        return g.op("Reshape", ct, g.op("Shape", name))
    return ct


def check_value(graph: Graph, name: str) -> None:
    """LayerError unless `name` is a floating-point value of the main graph."""
    if name not in graph:
        known = [*graph.inputs, *graph.producer]
        raise LayerError(f"the model has no value '{name}'{did_you_mean(name, known)}")
    if not graph.is_float(name):
        raise LayerError(f"the value '{name}' is not floating point: it has no gradient")


def as_cotangent(g: Emitter, seed: str, of: str) -> str:
    """The seed in the type that cotangents have (float16 becomes float32)."""
    elem_type = g.graph.type(of).elem_type
    kind = cotangent_type(elem_type)
    return seed if kind == elem_type else g.cast(seed, kind)


def assembled(g: Emitter, seed: str, of: str, gradients: Mapping[str, str]) -> onnx.ModelProto:
    """The primal graph with everything the emitter wrote, its original interface first."""
    graph, proto = g.graph, extended(g, list(gradients.values()))
    restore_interface(graph, proto)
    proto.graph.input.append(typed(graph, of, rename=seed))
    for name, output in gradients.items():
        proto.graph.output.append(
            typed(graph, name, rename=output, elem_type=cotangent_type(graph.type(name).elem_type))
        )
    return with_told_sizes(graph, as_deployed(graph, proto))


def typed(graph: Graph, name: str, *, rename: str | None = None, elem_type: int | None = None) -> onnx.ValueInfoProto:
    """A value's declaration under its own name or another; ModelError when its type cannot be told."""
    found = graph.type(name)
    kind = elem_type or found.elem_type
    if not kind:
        raise ModelError(f"the type of '{name}' cannot be worked out")
    return helper.make_tensor_value_info(rename or name, kind, found.shape)
