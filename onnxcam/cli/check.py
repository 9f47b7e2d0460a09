"""`onnxcam check`: is the rewritten model still the same, and is its gradient right."""

from __future__ import annotations

from collections.abc import Sequence

import click

from onnxcam.cli.limits import limited
from onnxcam.cli.options import (
    feed_option,
    labels_option,
    layer_option,
    model_argument,
    preprocess_option,
    provider_option,
    score_option,
)


@click.command(short_help="Check a model's explanation.")
@model_argument
@click.argument("image", required=False)
@layer_option
@click.option("-t", "--target", metavar="TARGET", help="As of `onnxcam run`; default what that explains by itself.")
@score_option
@labels_option
@provider_option
@preprocess_option
@feed_option
@limited
def command(
    model: str,
    image: str | None,
    layer: str | None,
    target: str | None,
    score: str | None,
    labels: str | None,
    provider: str,
    preprocess: str | None,
    feed: Sequence[str],
) -> int:
    """Check that MODEL's explanation can be trusted, on IMAGE or on noise.

    Holds the rewritten model's outputs against the original's, its gradient against differences, and the map against
    those of another image and of another class. The exit code is 1 when a check fails; what cannot be measured on this
    model is skipped.
    """
    from onnxcam import check
    from onnxcam.cli.feeds import read_feeds
    from onnxcam.cli.table import table

    results = check(
        model, image, provider=provider, score=score, layer=layer, target=target, preprocess=preprocess, labels=labels,
        feeds=read_feeds(feed),
    )  # fmt: skip
    rows = (("skip" if r.skipped else "ok" if r.ok else "FAIL", r.name, r.measured, r.limit, r.detail) for r in results)
    click.echo(table(rows, head=("", "check", "measured", "limit", "on")))
    measured = [result for result in results if not result.skipped]
    held = sum(result.ok for result in measured)
    skipped = len(results) - len(measured)
    click.echo(f"{held} of {len(measured)} checks hold" + (f", {skipped} could not be measured" if skipped else ""))
    return 0 if held == len(measured) else 1
