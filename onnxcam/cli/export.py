"""`onnxcam export`: the surgery as a tool."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from onnxcam.cli.limits import limited
from onnxcam.cli.options import (
    feed_option,
    labels_option,
    layer_option,
    model_argument,
    preprocess_option,
    score_option,
)


@click.command(short_help="Write a model with its explanation inside.")
@model_argument
@click.option(
    "-o", "--out", metavar="OUT", help="File for outputs, activations and gradients; `onnxcam run` takes it as it is."
)
@click.option("--split", metavar="DIR", help="Folder for features.onnx and head_vjp.onnx, the model cut at the layer.")
@layer_option
@score_option
@preprocess_option
@labels_option
@feed_option
@limited
def command(
    model: str,
    out: str | None,
    split: str | None,
    layer: str | None,
    score: str | None,
    preprocess: str | None,
    labels: str | None,
    feed: Sequence[str],
) -> None:
    """Write MODEL with its explanation inside: one file, or two, that any ONNX Runtime runs."""
    if out is None and split is None:
        raise click.UsageError("nothing to write: give -o OUT, --split DIR, or both")
    if out is None and (preprocess or labels):
        raise click.UsageError("--preprocess and --labels are stored in the file of -o OUT")
    from onnxcam import exporting
    from onnxcam.cli.feeds import read_feeds

    written: list[Path] = []
    feeds = read_feeds(feed)
    if out is not None:
        written.append(
            exporting.export(model, out, layer=layer, score=score, preprocess=preprocess, labels=labels, feeds=feeds)
        )
    if split is not None:
        written += exporting.split(model, split, layer=layer, score=score, feeds=feeds)
    click.echo("\n\n".join(map(described, written)))


def described(path: Path) -> str:
    """A file that was written: its size, and what goes in and comes out."""
    from onnxcam.cli.errors import one_line
    from onnxcam.cli.table import table
    from onnxcam.runtime import Session
    from onnxcam.runtime.session import Port

    def rows(way: str, ports: Iterable[Port]) -> list[tuple[str, ...]]:
        return [(way, port.name, port.type, " x ".join(map(str, port.shape))) for port in ports]

    session = Session(path, name=str(path))
    size = path.stat().st_size
    title = one_line(f"{path}, {size / 1e6:.1f} MB" if size >= 1e6 else f"{path}, {size / 1e3:.0f} kB")
    return f"{title}\n{table([*rows('in', session.inputs), *rows('out', session.outputs)], indent='  ')}"
