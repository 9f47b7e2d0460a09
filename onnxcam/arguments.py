"""Arguments of the public functions: one of a wrong type is refused in one line, before anything is read."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import index
from pathlib import Path

from onnxcam.errors import UsageError

MOST_THREADS = 4096  # more is a slip, which ONNX Runtime would try to start


@dataclass(frozen=True)
class Kind:
    """What an argument may be: in words, and whether a value is it."""

    words: str
    fits: Callable[[object], bool]

    def or_none(self) -> Kind:
        """The same, or None."""
        return Kind(f"{self.words}, or None", lambda value: value is None or self.fits(value))


def require(name: str, value: object, kind: Kind) -> None:
    """UsageError unless an argument is what it has to be."""
    if not kind.fits(value):
        plain = isinstance(value, bool | float) or value is None or (isinstance(value, int) and abs(value) < 2**64)
        raise UsageError(f"{name} should be {kind.words}, not {value if plain else type(value).__name__}")


def is_whole(value: object) -> bool:
    """Whether a value is an integer, NumPy's too; True and False are none."""
    try:
        index(value)  # type: ignore[arg-type]  # whether it is one is the question
    except TypeError:
        return False
    return not isinstance(value, bool)


def is_text(value: object) -> bool:
    """Whether a value is a text that can be written down as UTF-8.

    Not where a half of a character pair stands alone, as JSON and NumPy leave it, and as Python makes of the bytes of a
    file's name that is no UTF-8.
    """
    return isinstance(value, str) and not any("\ud800" <= letter <= "\udfff" for letter in value)


def whole(least: int, most: int | None = None) -> Kind:
    """An integer from some number on, or to another."""
    words = f"an integer from {least} on" if most is None else f"an integer from {least} to {most}"
    last = math.inf if most is None else most
    return Kind(words, lambda value: is_whole(value) and least <= value <= last)  # type: ignore[operator]


def words(value: object) -> bool:
    """Whether a value is a sequence of texts, and not itself one."""
    return isinstance(value, Sequence) and not isinstance(value, str) and all(isinstance(one, str) for one in value)


NAME = Kind("a text", lambda value: isinstance(value, str))
NAME_OR_NONE = NAME.or_none()
PATH = Kind("a path", lambda value: isinstance(value, str | Path))
NAMES = Kind("a text or a list of texts", lambda value: isinstance(value, str) or (words(value) and bool(value)))
NAMES_OF_CLASSES = Kind(
    "a file, or a list of texts", lambda value: isinstance(value, str | Path) or words(value)
).or_none()
ARRAYS_BY_NAME = Kind(
    "arrays by name", lambda value: isinstance(value, Mapping) and all(isinstance(name, str) for name in value)
).or_none()
