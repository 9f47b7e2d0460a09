"""A row of the table of operator cases: one node, its inputs and how they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from onnx import helper

Array = npt.NDArray[Any]
Dim = int | str
Role = Literal["wrt", "fed", "held"]

OLDEST_OPSET, DEFAULT_OPSET, NEWEST_OPSET = 16, 17, 26  # ONNX Runtime 1.31 loads no newer one
SIZES = {
    "N": (1, 3),
    "H": (5, 8),
    "W": (6, 7),
    "D": (4, 5),
    "L": (9, 4),
    "S": (9, 6),
    "M": (4, 1),
    "K": (1, 4),
    "C": (3, 3),
}  # what symbols are


@dataclass(frozen=True)
class Arg:
    """An input: `wrt` is differentiated, `fed` is an input of the graph too, `held` an initializer.

    Attributes:
        shape: a string is a symbolic dimension, run at each of its SIZES.
        draw: (generator, shape) -> float64 values, or the array of an index or a shape.
    """

    shape: tuple[Dim, ...]
    draw: Callable[[np.random.Generator, tuple[int, ...]], Array]
    role: Role = "wrt"

    def size(self, run: int) -> tuple[int, ...]:
        return tuple(SIZES[dim][run] if isinstance(dim, str) else dim for dim in self.shape)


@dataclass(frozen=True)
class Case:
    """One operator with its attributes and inputs (None: an optional input left out).

    Attributes:
        opset, until: the opsets at which the row is a valid model.
        outputs: how many outputs the node has; `of` is the one that is differentiated.
        truth: the output in float64 NumPy, where onnx's reference evaluator is wrong, slow or missing.
        domain: "" is ONNX's own.
    """

    op: str
    args: tuple[Arg | None, ...]
    attrs: dict[str, Any]
    opset: int
    until: int
    outputs: int
    of: int
    truth: Callable[..., Array] | None
    domain: str = ""

    @property
    def name(self) -> str:
        """The operator, with its domain when that is not ONNX's own."""
        return f"{self.domain}.{self.op}" if self.domain else self.op

    def __str__(self) -> str:
        shapes = " ".join("-" if arg is None else "x".join(map(str, arg.shape)) or "scalar" for arg in self.args)
        attrs = " ".join(f"{key}={value}".replace(" ", "") for key, value in self.attrs.items())
        return " ".join(filter(None, [f"{self.name}-{self.opset}", shapes, attrs, f"of={self.of}" if self.of else ""]))

    @property
    def symbolic(self) -> bool:
        return any(isinstance(dim, str) for arg in self.args if arg for dim in arg.shape)

    def valid(self, opset: int) -> bool:
        """Whether the row can be written at an opset: not below its own, unless that is only the table's default."""
        return (self.opset <= opset or self.opset == DEFAULT_OPSET) and opset <= self.until

    def at(self, opset: int) -> Case:
        return replace(self, opset=opset)


def case(
    op: str,
    *args: Arg | None,
    opset: int = DEFAULT_OPSET,
    until: int = NEWEST_OPSET,
    outputs: int = 1,
    of: int = 0,
    truth: Callable[..., Array] | None = None,
    domain: str = "",
    **attrs: Any,
) -> Case:
    """A row."""
    return Case(op, args, attrs, opset, until, outputs, of, truth, domain)


# -- inputs ---------------------------------------------------------------------------------------


def normal(*shape: Dim) -> Arg:
    return Arg(shape, lambda rng, size: rng.normal(size=size))


def positive(*shape: Dim) -> Arg:
    return Arg(shape, lambda rng, size: 0.3 + np.abs(rng.normal(size=size)))


def within(low: float, high: float, *shape: Dim) -> Arg:
    return Arg(shape, lambda rng, size: rng.uniform(low, high, size))


def off(kinks: Sequence[float], *shape: Dim, spread: float = 1.0) -> Arg:
    """Normal values, none of them near a kink."""

    def draw(rng: np.random.Generator, size: tuple[int, ...]) -> Array:
        x = spread * rng.normal(size=size)
        for kink in kinks:
            x = np.where(np.abs(x - kink) < 0.1, kink + np.where(x < kink, -0.1, 0.1), x)
        return x

    return Arg(shape, draw)


def distinct(*shape: Dim) -> Arg:
    """No two values within 0.02 of each other."""

    def draw(rng: np.random.Generator, size: tuple[int, ...]) -> Array:
        count = int(np.prod(size))
        return (rng.permutation(count).reshape(size) - count / 2 + 0.3) / 16

    return Arg(shape, draw)


def values(array: npt.ArrayLike) -> Arg:
    """These float values."""
    fixed = np.asarray(array, np.float64)
    return Arg(fixed.shape, lambda rng, size: fixed)


def ints(*entries: int) -> Arg:
    """A vector of int64, an initializer."""
    return index(list(entries))


def index(array: npt.ArrayLike, dtype: npt.DTypeLike = np.int64) -> Arg:
    """An array that is not floating point, an initializer."""
    fixed = np.asarray(array, dtype)
    return Arg(fixed.shape, lambda rng, size: fixed, "held")


def held(arg: Arg) -> Arg:
    """An initializer, not differentiated."""
    return replace(arg, role="held")


def fed(arg: Arg) -> Arg:
    """An input of the graph, not differentiated."""
    return replace(arg, role="fed")


def ir_version(opset: int) -> int:
    """The oldest IR version that has an opset (8 at least); ONNX Runtime 1.31 loads 13 and below."""
    return min(13, max(8, int(helper.find_min_ir_version_for([helper.make_opsetid("", opset)]))))
