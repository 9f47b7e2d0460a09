"""Plain text tables."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

WIDEST, LONGEST = 60, 1000  # characters of a cell, on a terminal and elsewhere; the last of a row may be longer


def table(rows: Iterable[Sequence[object]], *, head: Sequence[str] = (), indent: str = "") -> str:
    """Left-aligned columns, numbers to the right; every cell printable. Empty for no rows.

    Names that a terminal has no room for are cut there; a program or a file gets them whole.
    """
    from onnxcam.imaging import printable

    body = [list(row) for row in rows]
    if not body:
        return ""
    texts = [[printable(str(cell)) for cell in row] for row in ([list(head)] if head else []) + body]
    widest = WIDEST if sys.stdout is not None and sys.stdout.isatty() else LONGEST
    lines = [[*(_cut(cell, widest) for cell in row[:-1]), row[-1]] for row in texts]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    right = [all(isinstance(cell, int | float) for cell in column) for column in zip(*body, strict=True)]
    return "\n".join(
        (indent + "  ".join(_aligned(*cell) for cell in zip(line, widths, right, strict=True))).rstrip()
        for line in lines
    )


def _cut(cell: str, widest: int) -> str:
    return cell if len(cell) <= widest else f"{cell[: widest - 3]}..."


def _aligned(cell: str, width: int, right: bool) -> str:
    return cell.rjust(width) if right else cell.ljust(width)
