"""`onnxcam layers`: what can be explained."""

from __future__ import annotations

from collections.abc import Sequence

import click

from onnxcam.cli.options import feed_option, model_argument, score_option


@click.command(short_help="Show a model's input, score and layers.")
@model_argument
@score_option
@feed_option
def command(model: str, score: str | None, feed: Sequence[str]) -> None:
    """Show what of MODEL can be explained: its input, its score, and its layers, the best first.

    The layer marked with * is taken when --layer names none.
    """
    from onnxcam.cli.feeds import read_feeds
    from onnxcam.cli.table import table
    from onnxcam.explainer.advice import without_layer
    from onnxcam.graph import fixed, inspected, load, shown, type_name

    seen = inspected(fixed(load(model), read_feeds(feed)), score)
    graph, image, found = seen.graph, seen.image, seen.score
    kind = f"{found.kind} of a {found.squash}" if found.squash else found.kind
    kind += " that the model leaves out (a guess)" if found.guess else ""
    about = [
        ("input", image.name, shown(graph.shape(image.name)), f"{image.layout} {image.dtype}"),
        *(
            ("feed", name, shown(graph.shape(name)), type_name(graph, name))
            for name in graph.inputs
            if name != image.name
        ),
        ("score", found.name, shown(graph.shape(found.name)), kind),
    ]
    click.echo(table(about))
    rows = [
        (
            "*" if layer.automatic else "",
            layer.name,
            layer.op,
            shown(layer.shape),
            "unknown" if layer.grid is None else " x ".join(map(str, layer.grid)),
            layer.reason,
        )
        for layer in seen.layers
    ]
    click.echo()
    if rows:
        click.echo(table(rows, head=("", "layer", "made by", "shape", "grid", "why")))
    if not any(layer.automatic for layer in seen.layers):
        click.echo(
            "No layer with a grid of positions lies on all paths to the score"
            + without_layer(graph, image.name, found.name)
        )
