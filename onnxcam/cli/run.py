"""`onnxcam run`: explain images."""

from __future__ import annotations

from typing import Any

import click

from onnxcam.arguments import MOST_THREADS
from onnxcam.cli.options import (
    as_number,
    as_numbers,
    as_size,
    as_width_and_height,
    feed_option,
    labels_option,
    layer_option,
    model_argument,
    preprocess_option,
    provider_option,
    read_by,
    score_option,
)

OVERRIDES = ("size", "crop", "channels", "scale", "mean", "std")  # options that change parts of the preprocessing


@click.command(short_help="Explain what a model says of images.")
@model_argument
@click.argument("images", metavar="IMAGE...", nargs=-1, required=True)
@click.option(
    "-m", "--method", metavar="NAME", multiple=True, default=["gradcam"], show_default=True,
    help="gradcam, cam, counterfactual, hirescam, gradcam++, layercam, saliency, inputxgradient, guidedbackprop or "
    "guidedgradcam; repeatable.",
)  # fmt: skip
@layer_option
@click.option(
    "-t", "--target", metavar="TARGET", multiple=True,
    help="An index, a label (label:7 where labels are numbers), top:K for the K best, 'A not B', OUTPUT[INDEX], "
    "CLASS@REGION, similar:IMAGE, ...: see docs/targets.md; repeatable; default the best class.",
)  # fmt: skip
@score_option
@feed_option
@click.option(
    "--gradient", type=click.Choice(["symbolic", "numeric", "auto"]), default="symbolic", show_default=True,
    help="symbolic: written into the graph; numeric: by differences; auto: numeric where an operator has no rule.",
)  # fmt: skip
@click.option(
    "-o", "--out", metavar="DIR", default="onnxcam_out", show_default=True,
    help="Folder for IMAGE.METHOD.png; with several targets IMAGE.INDEX.METHOD.png.",
)  # fmt: skip
@click.option("--npy", is_flag=True, help="Write the raw map too: float32 (h, w), signed, at the layer's size.")
@click.option("--json", is_flag=True, help="Print one JSON object per map and line instead of the summary.")
@click.option(
    "--top-k", metavar="N", type=click.IntRange(min=0), default=5, show_default=True, help="How many scores to list."
)
@click.option(
    "--boxes", is_flag=True, help="Draw and report the box around the largest region above 15 % of the maximum."
)
@click.option(
    "--colormap", metavar="NAME", default="viridis", show_default=True,
    help="viridis, jet, turbo, inferno or diverging, which maps of both signs always have.",
)  # fmt: skip
@provider_option
@click.option(
    "--threads", metavar="N", type=click.IntRange(0, MOST_THREADS), default=0,
    help="Threads per operator; 0, the default, lets ONNX Runtime choose.",
)  # fmt: skip
@labels_option
@click.option(
    "--max-pixels", metavar="N", type=click.IntRange(min=1),
    help="Refuse larger images; default 178,956,970, where Pillow suspects a bomb.",
)  # fmt: skip
@preprocess_option
@click.option(
    "--size", metavar="SIZE", callback=read_by(as_size),
    help="Resize to WIDTHxHEIGHT, or to one side. This and the next five change parts of the preprocessing.",
)  # fmt: skip
@click.option(
    "--crop", metavar="SIZE", callback=read_by(as_width_and_height),
    help="Then cut from the middle: WIDTHxHEIGHT, or the side of a square.",
)  # fmt: skip
@click.option(
    "--channels", metavar="RGB|BGR|L|Y", type=click.Choice(["RGB", "BGR", "L", "Y"], case_sensitive=False),
    help="The model's channels; L is grey, Y is luma.",
)  # fmt: skip
@click.option("--scale", metavar="NUMBER", callback=read_by(as_number), help="Multiply pixels by this, such as 1/255.")
@click.option(
    "--mean", metavar="NUMBERS", callback=read_by(as_numbers),
    help="Subtract this: one number, or one per channel separated by commas.",
)  # fmt: skip
@click.option("--std", metavar="NUMBERS", callback=read_by(as_numbers), help="Divide by this.")
@click.option("-q", "--quiet", is_flag=True, help="Print errors alone, and the JSON when it is asked for.")
def command(**options: Any) -> int:
    """Explain what MODEL says of every IMAGE: files, folders, glob patterns.

    Heat maps over the photos go to a folder; what the model says, and whether each map can be trusted, is printed.
    """
    from onnxcam.cli.batch import Request, explain_all

    overrides = {name: options.pop(name) for name in OVERRIDES}
    return explain_all(Request(overrides=overrides, **options))
