"""A JSON object read key by key: every complaint names the key and what it should be."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from onnxcam.errors import PreprocessError, did_you_mean
from onnxcam.imaging.text import printable

_LEAST_SHARE = 0.01
_LARGEST = 1e30
_LARGEST_WHOLE = 1 << 31


class Fields:
    """The members of one JSON object; null counts as absent."""

    def __init__(self, data: object, where: str, prefix: str = "") -> None:
        """`where` names the file or recipe in messages, `prefix` the way to a nested object ("resize.")."""
        self.where, self.prefix = where, prefix
        if not isinstance(data, Mapping):
            raise self.error(f"{prefix.rstrip('.') or 'the content'} has to be an object, not {_shown(data)}")
        self.data: Mapping[str, object] = data

    def error(self, complaint: str) -> PreprocessError:
        """An error about this object, for the caller to raise."""
        return PreprocessError(printable(f"preprocessing {self.where}: {complaint}"))

    def wrong(self, key: str, wanted: str) -> PreprocessError:
        """An error about one key, for the caller to raise."""
        if not self.has(key):
            return self.error(f"{self.prefix}{key} is missing; it has to be {wanted}")
        return self.error(f"{self.prefix}{key} has to be {wanted}, not {_shown(self.data[key])}")

    def refuse_others(self, known: Iterable[str]) -> None:
        """Refuse keys outside `known`."""
        known = set(known)
        for key in self.data:
            if key not in known:
                raise self.error(f"unknown key {_shown(f'{self.prefix}{key}')}{did_you_mean(str(key), sorted(known))}")

    def has(self, key: str) -> bool:
        """Whether the key is there and not null."""
        return self.data.get(key) is not None

    def part(self, key: str) -> Fields:
        """The nested object under `key`; empty when absent."""
        return Fields(self.data[key] if self.has(key) else {}, self.where, f"{self.prefix}{key}.")

    def flag(self, key: str, default: bool) -> bool:
        """True or false."""
        value = self.data[key] if self.has(key) else default
        if not isinstance(value, bool):
            raise self.wrong(key, "true or false")
        return value

    def word(self, key: str, default: str | None = None) -> str:
        """A string."""
        value = self.data[key] if self.has(key) else default
        if not isinstance(value, str):
            raise self.wrong(key, "a string")
        return value

    def whole(self, key: str, default: int | None = None) -> int:
        """An integer."""
        value = self.data[key] if self.has(key) else default
        if not _is_whole(value):
            raise self.wrong(key, "a whole number")
        return value  # type: ignore[return-value]

    def number(self, key: str, default: float | None = None) -> float:
        """A finite number."""
        value = self.data[key] if self.has(key) else default
        if not _is_number(value):
            raise self.wrong(key, "a finite number")
        return float(value)  # type: ignore[arg-type]

    def share(self, key: str, default: float) -> float:
        """How much of a picture a crop leaves, 0.01 to 1."""
        value = self.number(key, default)
        if not _LEAST_SHARE <= value <= 1:
            raise self.wrong(key, f"a share from {_LEAST_SHARE} to 1")
        return value

    def numbers(self, key: str, count: int, default: float) -> tuple[float, ...]:
        """A finite number for each of `count` channels; a single number holds for all."""
        value = self.data[key] if self.has(key) else default
        values = value if isinstance(value, list | tuple) else [value] * count
        if not all(map(_is_number, values)):
            raise self.wrong(key, "a list of finite numbers")
        return tuple(map(float, values))

    def size(self, key: str) -> tuple[int, int]:
        """Width and height."""
        value = self.data.get(key)
        if not (isinstance(value, list | tuple) and len(value) == 2 and all(map(_is_whole, value))):
            raise self.wrong(key, "[width, height] in whole pixels")
        return value[0], value[1]


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and abs(value) < _LARGEST_WHOLE


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -_LARGEST < value < _LARGEST


def _shown(value: object) -> str:
    """A value in a message, cut where it is long."""
    try:
        text = repr(value) if not isinstance(value, int) or abs(value) < _LARGEST else "a huge number"
    except (ValueError, RecursionError):  # numbers without end in it, brackets without end
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else text[:57] + "..."
