"""`onnxcam ops`: which operators a gradient passes, and what blocks which layer."""

from __future__ import annotations

from collections.abc import Sequence

import click

from onnxcam.cli.options import feed_option, score_option


@click.command(short_help="List the operators with a gradient rule, or what stops a model's.")
@click.argument("model", required=False)
@score_option
@feed_option
def command(model: str | None, score: str | None, feed: Sequence[str]) -> None:
    """List the operators and whether a gradient passes them.

    With MODEL those between its image and its score, and what stops the gradient on its way to each layer.
    """
    if model is None and (score is not None or feed):
        raise click.UsageError("--score and --feed go with a MODEL")
    click.echo(supported() if model is None else of_model(model, score, feed))


def supported() -> str:
    """Every operator of ONNX, and what becomes of it."""
    from onnxcam import list_operators
    from onnxcam.cli.table import table

    return table(
        ((o.name, o.domain or "ai.onnx", " ".join(map(str, o.versions)), o.support, o.note) for o in list_operators()),
        head=("operator", "domain", "versions", "support", "note"),
    )


def of_model(model: str, score: str | None, feed: Sequence[str] = ()) -> str:
    """The operators of one model, and its layers."""
    from onnxcam.cli.feeds import read_feeds
    from onnxcam.cli.table import table
    from onnxcam.vjp.coverage import blocking_operators

    found = blocking_operators(model, score, feeds=read_feeds(feed))
    operators = table(
        ((use.name, use.opset, use.count, "yes" if use.rule else "NO") for use in found.operators),
        head=("operator", "opset", "nodes", "rule"),
    )
    layers = table(
        (
            ("*" if row.layer.automatic else "", row.layer.name, f"stopped by {row.blocker}" if row.blocker else "ok")
            for row in found.layers
        ),
        head=("", "layer", "gradient"),
    )
    return "\n\n".join(part for part in (operators, layers) if part)
