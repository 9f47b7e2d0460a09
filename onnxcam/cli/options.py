"""Options that several commands share, and how texts become their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click

model_argument = click.argument("model")
layer_option = click.option(
    "-l",
    "--layer",
    metavar="NAME",
    help="Target layer: a value or node name (see `onnxcam layers`); default automatic.",
)
score_option = click.option(
    "--score", metavar="NAME", help="The value to explain; default the scores before the final softmax or sigmoid."
)
feed_option = click.option(
    "--feed", metavar="NAME=FILE.npy", multiple=True, help="A value for an input besides the image; repeatable."
)
provider_option = click.option(
    "--provider",
    metavar="NAME",
    default="cpu",
    show_default=True,
    help="Execution provider: cpu, cuda, or any other that is installed.",
)
preprocess_option = click.option(
    "--preprocess",
    metavar="NAME|FILE",
    help="imagenet, caffe, tf, unit, raw, clip, or a JSON file (Hugging Face's and timm's too); default what the model "
    "says, else a guess.",
)
labels_option = click.option(
    "--labels",
    metavar="FILE",
    help="Class names: a text file with one per line, or a .json with a list, or an object from index to name.",
)


def as_number(text: str) -> float:
    """A number, or a fraction such as 1/255; BadParameter for anything else."""
    over, _, under = text.partition("/")
    try:
        return float(over) / float(under or 1)
    except (ValueError, ZeroDivisionError) as error:
        raise click.BadParameter(f"{text!r} is no number, nor a fraction such as 1/255") from error


def as_numbers(text: str) -> tuple[float, ...]:
    """Numbers with commas between them; BadParameter for anything else."""
    return tuple(as_number(part.strip()) for part in text.split(","))


def as_size(text: str) -> int | tuple[int, int]:
    """A side in pixels, or WIDTHxHEIGHT; BadParameter for anything else."""
    sides = text.lower().split("x")
    if len(sides) > 2 or not all(side.isascii() and side.isdigit() and len(side) <= 6 for side in sides):
        raise click.BadParameter(f"{text!r} is no size: 224, or 320x240 (width x height)")
    return int(sides[0]) if len(sides) == 1 else (int(sides[0]), int(sides[1]))


def as_width_and_height(text: str) -> tuple[int, int]:
    """A size, one side standing for a square; BadParameter for anything else."""
    size = as_size(text)
    return (size, size) if isinstance(size, int) else size


def read_by(reader: Callable[[str], Any]) -> Callable[[click.Context, click.Parameter, str | None], Any]:
    """A callback for an option's text, where there is one."""
    return lambda context, parameter, text: None if text is None else reader(text)
