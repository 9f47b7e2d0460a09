"""Readers of lines of text, and the height of a line."""

from __future__ import annotations

from contextlib import suppress

from onnxcam.errors import ModelError
from onnxcam.graph.index import Graph
from onnxcam.graph.layers import at_usual_size
from onnxcam.graph.layout import LINES, layouts, of_size, usual_sizes
from onnxcam.graph.read import with_branches
from onnxcam.graph.scoreaxes import read_axes
from onnxcam.runtime.manifest import USUAL_SIDE, ImageInput, Score

STEPS = ("RC", "CR")


def line_height(graph: Graph, score: Score, image: ImageInput) -> int | None:
    """The height for a reader of lines whose input leaves both sides free: the first usual one that it takes.

    None for any other model, and where it takes none of these.
    """
    untold = graph.shape(score.name) is None  # an If may hang on the size
    if image.size != (None, None) or not (untold or score.axes in STEPS) or not reads_lines(graph, score, image):
        return None
    lines = [(height, USUAL_SIDE) for height in LINES]
    for height, sizes in zip(LINES, usual_sizes({image.name: image.layout}, None, lines), strict=True):
        with suppress(ModelError):
            if of_size(with_branches(graph, sizes), sizes) is not None:
                return height
    return None


def reads_lines(graph: Graph, score: Score, image: ImageInput) -> bool:
    """Whether scores are steps along the width of the image and not along its height, at a usual size."""
    _, sized = at_usual_size(graph, image)
    here = layouts(sized).positions.get(score.name, {})
    along_width = {label for label, along in here.items() if along.axes} == {"W"}
    return along_width and read_axes(sized, score, image).axes in STEPS
