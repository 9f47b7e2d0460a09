"""Text that is safe to print and fits its column."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable

_MOST_CHARACTERS = 400
_FONT = {*map(chr, range(ord(" "), ord("~") + 1)), *"«»°±·…™\u2018\u2019\u201c\u201d"}  # what Pillow's own font holds


def printable(text: str) -> str:
    """`text` on one line: white space becomes a space, every other control or format character '?'."""
    if text.isprintable():  # nearly always, and told at once of a label of megabytes
        return text
    return "".join(" " if c.isspace() else c if c.isprintable() else "?" for c in text)


def drawable(text: str) -> str:
    """`text` in the characters that Pillow's built-in font draws: accents are dropped, other scripts become '?'."""
    return "".join(c if c in _FONT else _nearest(c) for c in printable(text))


def _nearest(character: str) -> str:
    if unicodedata.category(character) == "Pd":  # dashes
        return "-"
    plain = (c for c in unicodedata.normalize("NFKD", character) if not unicodedata.combining(c))
    return "".join(c if c in _FONT else "?" for c in plain)


def wrap(text: str, width: float, measure: Callable[[str], float]) -> list[str]:
    """Break `text` into lines of at most `width` as `measure` has it: between words, within a word too long for a line.

    A text of more than 400 characters is cut there. At least one line; a line holds at least one character.
    """
    if len(text) > _MOST_CHARACTERS:
        text = text[: _MOST_CHARACTERS - 3] + "..."
    lines = [""]
    for word in text.split():
        joined = f"{lines[-1]} {word}".lstrip()
        if measure(joined) <= width:
            lines[-1] = joined
            continue
        pieces = _pieces(word, width, measure)
        lines[-1:] = [lines[-1], *pieces] if lines[-1] else pieces
    return lines


def _pieces(word: str, width: float, measure: Callable[[str], float]) -> list[str]:
    pieces = [word[:1]]
    for character in word[1:]:
        if measure(pieces[-1] + character) <= width:
            pieces[-1] += character
        else:
            pieces.append(character)
    return pieces


def clip(lines: list[str], count: int) -> list[str]:
    """The first `count` lines, the last of them ending in dots where lines were left out."""
    if len(lines) <= count:
        return lines
    return [*lines[: count - 1], lines[count - 1][:-3] + "..."]
