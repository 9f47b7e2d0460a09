"""What is said to users about every operator of the default domain: a rule, no gradient, upgraded, or why not."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Literal

import onnx.defs

from onnxcam.vjp.registry import NO_GRADIENT, STANDARD, since_version

OLDEST_OPSET = 16  # models are brought here before they are differentiated

_CONTAINER = "only where it is known before the model runs which tensor it gives"
_TEXT = "works on text"
_TOO_NEW = "no ONNX Runtime loads its opset yet"

OUT_OF_SCOPE: dict[str, str] = {
    "BitCast": "reads a number's bits as another number's: there is no derivative",
    "CausalConvWithState": _TOO_NEW,
    "ConcatFromSequence": _CONTAINER,
    "ImageDecoder": "decodes files",
    "LinearAttention": _TOO_NEW,
    "Optional": _CONTAINER,
    "OptionalGetElement": _CONTAINER,
    "OptionalHasElement": _CONTAINER,
    "RegexFullMatch": _TEXT,
    "SequenceAt": _CONTAINER,
    "SequenceConstruct": _CONTAINER,
    "SequenceEmpty": _CONTAINER,
    "SequenceErase": _CONTAINER,
    "SequenceInsert": _CONTAINER,
    "SequenceLength": _CONTAINER,
    "SequenceMap": _CONTAINER,
    "SplitToSequence": _CONTAINER,
    "StringConcat": _TEXT,
    "StringNormalizer": _TEXT,
    "StringSplit": _TEXT,
    "SwiGLU": _TOO_NEW,
    "TfIdfVectorizer": _TEXT,
    "Unique": "the number of its outputs' elements depends on the input",
}


UPGRADED = {"Scatter": "ScatterElements", "Upsample": "Resize"}  # ended before OLDEST_OPSET, and read as these


@dataclass(frozen=True)
class Operator:
    """An operator as `list_operators` tells it.

    Attributes:
        name, domain: "" is ONNX's own domain.
        versions: the versions of its schema (since which opset) that this holds for.
        support: "rule": differentiated; "no gradient": its output does not move with its inputs, the gradient upstream
            is zero; "upgraded": read as its successor; "out of scope": refused where the gradient would have to pass.
        note: the formula of the rule, or the reason.
    """

    name: str
    domain: str
    versions: tuple[int, ...]
    support: Literal["rule", "no gradient", "upgraded", "out of scope"]
    note: str


def list_operators() -> list[Operator]:
    """Every operator that `differentiate` knows of, by domain and name."""
    found = []
    for (domain, name), rule in STANDARD.rules.items():
        formula = (inspect.getdoc(rule.function) or "").partition("\n")[0]
        found.append(Operator(name, domain, tuple(sorted(rule.versions)), "rule", formula))
    constant = dict.fromkeys(NO_GRADIENT, "its output does not move with its inputs")
    found += [Operator(name, "", schema_versions(name), "no gradient", why) for name, why in constant.items()]
    found += [Operator(name, "", schema_versions(name), "upgraded", f"read as {new}") for name, new in UPGRADED.items()]
    found += [Operator(name, "", schema_versions(name), "out of scope", why) for name, why in OUT_OF_SCOPE.items()]
    known = (operator for operator in found if operator.versions)  # an older onnx lacks the newest operators
    return sorted(known, key=lambda operator: (operator.domain, operator.name))


def schema_versions(name: str) -> tuple[int, ...]:
    """The versions of an operator's schema that opsets from OLDEST_OPSET on use."""
    opsets = range(OLDEST_OPSET, onnx.defs.onnx_opset_version() + 1)
    return tuple(sorted({since_version(name, opset) for opset in opsets} - {0}))
