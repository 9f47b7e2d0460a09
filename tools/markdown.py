"""Markdown, as the tools write it."""

from __future__ import annotations

from collections.abc import Iterable


def table(head: Iterable[str], rows: Iterable[Iterable[str]], *, figures: bool = False) -> str:
    """A table; with `figures` every column but the first is aligned to the right."""
    head = list(head)
    rule = ["---", *["---:" if figures else "---"] * (len(head) - 1)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))
