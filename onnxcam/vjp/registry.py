"""Rules: which function gives the cotangents of which operator."""

from __future__ import annotations

from collections import ChainMap
from collections.abc import Callable, Collection, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
import onnx.defs

from onnxcam.graph import MICROSOFT, Graph, attributes, captures, quantizer
from onnxcam.vjp.emitter import Array, Emitter, cotangent_type, numpy_type

Cotangent = str | None
Cotangents = Sequence[Cotangent]
RuleFunction = Callable[..., Cotangents]
ZERO = ""  # the cotangent of an input that does not move the output: nothing is written for it


def operands(node: onnx.NodeProto) -> list[str]:
    """What a rule gives cotangents for, by its place: a node's inputs ("" for one left out), then its captures."""
    return [*node.input, *sorted(captures(node))]


class Node:
    """A primal node as a rule reads it.

    Attributes:
        input: the names it reads; what its subgraphs read from outside comes after its own inputs.
        rules: those of the sweep, for a sweep inside.
        ends: the values whose cotangents the sweep is for.
    """

    def __init__(
        self, g: Emitter, proto: onnx.NodeProto, wanted: frozenset[int], rules: RuleSet, ends: Collection[str] = ()
    ) -> None:
        self._g, self.proto, self._wanted, self.rules, self.ends = g, proto, wanted, rules, ends
        self.input, self.output = operands(proto), list(proto.output)
        self.attrs: dict[str, Any] = attributes(proto)
        self.elem_type = cotangent_type(g.graph.type(self.output[0]).elem_type)

    def attr(self, name: str, default: Any = None) -> Any:
        """An attribute as a Python value."""
        return self.attrs.get(name, default)

    def attrs_except(self, *names: str) -> dict[str, Any]:
        """The attributes without some."""
        return {name: value for name, value in self.attrs.items() if name not in names}

    def has(self, i: int) -> bool:
        """Whether the optional input i is there."""
        return i < len(self.input) and bool(self.input[i])

    def wants(self, i: int) -> bool:
        """Whether anybody asks for the cotangent of input i."""
        return i in self._wanted

    def optional(self, i: int) -> str:
        """The name of the optional input i; "" where it is left out."""
        return self.input[i] if self.has(i) else ""

    def x(self, i: int = 0) -> str:
        """The primal input i, in the cotangents' type; "" where it is left out."""
        return self._as_cotangent(self.optional(i))

    def y(self, i: int = 0) -> str:
        """The primal output i, in the cotangents' type; where a quantizer follows, its dequantized value.

        Reading what lies between DequantizeLinear and QuantizeLinear would take the operator off its integer kernel.
        """
        name = self.output[i]
        return self._as_cotangent(self._g.dequantized(name) if self._g.graph.is_float(name) else name)

    def own_y(self) -> str:
        """The first primal output as the operator itself has it, whatever reads it: for those that go on with it."""
        return self._as_cotangent(self.output[0])

    def is_quantized(self) -> bool:
        """Whether a quantizer alone reads the primal output."""
        return quantizer(self._g.graph, self.output[0]) is not None

    def real(self) -> str:
        """What the primal output stands for, where it is a quantizer's integers, in the cotangents' type."""
        return self._as_cotangent(self._g.dequantized(self.output[0]))

    def _as_cotangent(self, name: str) -> str:
        g, kind = self._g, self._g.graph.type(name).elem_type
        if kind in (self.elem_type, 0):
            return name
        if g.is_narrow(name):
            return g.op("Neg", g.cast(g.op("Neg", name), self.elem_type))
        return g.cast(name, self.elem_type)

    def const(self, i: int) -> Array | None:
        """Input i when it is there and known before the graph runs."""
        return self._g.constant(self.input[i]) if self.has(i) else None

    def number(self, i: int) -> float | None:
        """The single number that input i is, where it is known; RuleError where it is none, or several."""
        value = self.const(i)
        if value is not None and value.size != 1:
            raise RuleError(f"its input {i} is no single number, but {value.size}")
        return None if value is None else float(value.item())

    def shape(self, i: int = 0) -> tuple[int | str | None, ...] | None:
        """The shape of input i."""
        return self._g.graph.shape(self.input[i])

    def size(self, axis: int, i: int = 0) -> int | None:
        """The size of input i along an axis, where it is known."""
        return self._g.size(self.input[i], axis)

    def rank(self, i: int = 0) -> int:
        """The rank of input i; RuleError when it is not known."""
        rank = self._g.graph.rank(self.input[i])
        if rank is None:
            raise RuleError(f"the rank of '{self.input[i]}' is not known")
        return rank

    def axis(self, default: int = -1) -> int:
        """The attribute `axis`, counted from the front. RuleError: the value has no such axis."""
        value, shape = int(self.attr("axis", default)), self.shape()
        if shape is not None and not -len(shape) <= value < len(shape):
            raise RuleError(f"its axis {value} is none of {len(shape)}")
        return value % self.rank() if value < 0 else value

    def array(self, value: npt.ArrayLike) -> str:
        """A constant of the cotangents' type, a number as an array of rank 0."""
        return self._g.const(value, numpy_type(self.elem_type))

    def least(self) -> float:
        """The least number of the cotangents' type."""
        return float(np.finfo(numpy_type(self.elem_type)).min)


class RuleError(Exception):
    """A rule meets a node it does not cover; the sweep makes an UnsupportedOpError of it. The text says what."""


@dataclass(frozen=True)
class Rule:
    """How one operator passes cotangents from its outputs to its inputs.

    Attributes:
        function: (emitter, node, *cotangents of the outputs) -> a cotangent for every wanted input. It may give others
            too: what nobody wants is skipped, and its nodes go with it. So it asks `Node.wants` only where an unwanted
            cotangent would take work to write, or might not be there to write.
        versions: since_versions of the schema it covers.
        broadcasts: its inputs broadcast against each other, and it gives cotangents in the output's shape.
        only: the inputs that it gives cotangents for; None: all. Others (an index, a size) get nothing, and a float
            among them that lies on the path is refused.
    """

    function: RuleFunction
    versions: frozenset[int]
    broadcasts: bool = False
    only: frozenset[int] | None = None


EARLY = {"LayerNormalization": 17}  # the version that ONNX Runtime runs at opsets that have none
Key = tuple[str, str]  # domain, op_type


@dataclass(frozen=True)
class RuleSet:
    """Rules by operator: `STANDARD`, or a set that replaces some of its adjoints."""

    name: str
    rules: MutableMapping[Key, Rule] = field(repr=False)

    def replace(self, name: str, rules: Mapping[Key, Rule]) -> RuleSet:
        """A rule set that differs in `rules`; what is registered here later counts there too."""
        return RuleSet(name, ChainMap(dict(rules), self.rules))

    def find(self, graph: Graph, node: onnx.NodeProto) -> Rule | None:
        """The rule for a node of a graph, None when there is none for its version."""
        version = 1 if node.domain else since_version(node.op_type, graph.opset) or EARLY.get(node.op_type, 0)
        domain = node.domain if version else MICROSOFT  # ONNX Runtime has put a few of its own into the default domain
        rule = self.rules.get((domain, node.op_type))
        return rule if rule is not None and (domain or version in rule.versions) else None


_RULES: dict[Key, Rule] = {}
STANDARD = RuleSet("standard", _RULES)


def rule(
    *op_types: str,
    versions: Sequence[int] = (),
    broadcasts: bool = False,
    only: Sequence[int] | None = None,
    domain: str = "",
) -> Callable[[RuleFunction], RuleFunction]:
    """Register a function for operators, in STANDARD. ONNX's own have `versions`, those of other domains but one."""
    if not domain and not versions:
        raise ValueError(f"which versions of {', '.join(op_types)}?")

    def register(function: RuleFunction) -> RuleFunction:
        for op_type in op_types:
            if (domain, op_type) in _RULES:
                raise ValueError(f"two rules for {op_type}")
            _RULES[domain, op_type] = Rule(
                function, frozenset(versions or [1]), broadcasts, None if only is None else frozenset(only)
            )
        return function

    return register


@cache
def since_version(op_type: str, opset: int) -> int:
    """The version of an operator's schema that an opset uses; 0 when the default domain has no such operator."""
    try:
        schema = onnx.defs.get_schema(op_type, opset, "")
    except onnx.defs.SchemaError:
        return 0
    return int(schema.since_version)


# Their outputs do not change with a small change of their inputs, or not in a way anyone differentiates.
NO_GRADIENT: frozenset[str] = frozenset(
    [
        "And",
        "ArgMax",
        "ArgMin",
        "Bernoulli",
        "BitShift",
        "BitwiseAnd",
        "BitwiseNot",
        "BitwiseOr",
        "BitwiseXor",
        "BlackmanWindow",
        "Ceil",
        "Constant",
        "ConstantOfShape",
        "Equal",
        "EyeLike",
        "Floor",
        "Greater",
        "GreaterOrEqual",
        "HammingWindow",
        "HannWindow",
        "Hardmax",
        "IsInf",
        "IsNaN",
        "Less",
        "LessOrEqual",
        "MelWeightMatrix",
        "Multinomial",
        "NonMaxSuppression",
        "NonZero",
        "Not",
        "Or",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Round",
        "Shape",
        "Sign",
        "Size",
        "Xor",
    ]
)
