"""`onnxcam layers`: what can be explained."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import click

from onnxcam.cli.options import feed_option, model_argument, score_option

if TYPE_CHECKING:
    from onnxcam.graph import Layer
    from onnxcam.graph.layers import Inspected


@click.command(short_help="Show a model's input, score and layers.")
@model_argument
@score_option
@feed_option
def command(model: str, score: str | None, feed: Sequence[str]) -> None:
    """Show what of MODEL can be explained: its input, its score, and its layers, the best first.

    The layer marked with * is taken when --layer names none; where the score is no row of classes (boxes, maps, steps)
    that of what is explained.
    """
    from onnxcam.cli.feeds import read_feeds
    from onnxcam.explainer.advice import without_layer
    from onnxcam.graph import inspected, load, with_feeds

    seen = inspected(with_feeds(load(model), read_feeds(feed)), score)
    click.echo(about(seen))
    click.echo()
    if seen.layers:
        click.echo(ranked(seen.layers))
    if not any(layer.automatic for layer in seen.layers):
        click.echo(
            "No layer with a grid of positions lies on all paths to the score"
            + without_layer(seen.graph, seen.image.name, seen.score.name)
        )


def about(seen: Inspected) -> str:
    """The model's input, what it is fed besides, and its score."""
    from onnxcam.cli.table import table
    from onnxcam.graph import shown, type_name

    graph, image, found = seen.graph, seen.image, seen.score
    kind = f"{found.kind} of a {found.squash}" if found.squash else found.kind
    kind += " that the model leaves out (a guess)" if found.guess else ""
    feeds = (name for name in graph.inputs if name != image.name)
    return table(
        [
            ("input", image.name, shown(graph.shape(image.name)), f"{image.layout} {image.dtype}"),
            *(("feed", name, shown(graph.shape(name)), type_name(graph, name)) for name in feeds),
            ("score", found.name, shown(graph.shape(found.name)), kind),
        ]
    )


def ranked(layers: Sequence[Layer]) -> str:
    """The layers, the best first."""
    from onnxcam.cli.table import table
    from onnxcam.graph import shown

    def row(layer: Layer) -> tuple[str, ...]:
        grid = "unknown" if layer.grid is None else " x ".join(map(str, layer.grid))
        return ("*" if layer.automatic else "", layer.name, layer.op, shown(layer.shape), grid, layer.reason)

    return table(map(row, layers), head=("", "layer", "made by", "shape", "grid", "why"))
