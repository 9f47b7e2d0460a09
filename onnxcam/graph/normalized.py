"""Which range of pixels a model wants, told from the normalization that its graph begins with.

Keras keeps the scaling of pixels inside many of its networks (EfficientNet, ConvNeXt, MobileNetV3), and others put it
in front of theirs before they export them: additions and multiplications by constants, somewhere among what only moves
pixels. What these make of black and of white tells which range they were written for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import onnx

from onnxcam.graph.image import IMAGE_CHANNELS
from onnxcam.graph.index import Graph
from onnxcam.graph.moving import MOVES
from onnxcam.graph.nodes import reads
from onnxcam.graph.scorekind import CHOOSING, KEEPING
from onnxcam.graph.source import JOINING
from onnxcam.runtime.manifest import WHITES

Array = npt.NDArray[Any]

KEPT = KEEPING | CHOOSING | MOVES.keys() | {"Resize", "Expand"}  # their first input's values, or about so
READING_SIZES = frozenset({"Shape", "Size"})
SPANS = {255: (250, 260), 1: (0.9, 12)}  # from black to white, of what networks compute with: pixels, or units
CENTRED, AT_THE_EDGE = 0.25, -0.05  # how far inside it zero lies at least, as a share of the span


class Line(NamedTuple):
    """What became of pixels: times a scale plus a shift, each one number, or one per channel in some order."""

    scale: Array
    shift: Array


def white_of(graph: Graph, image: str) -> float | None:
    """What an input takes for white, one of WHITES; None where the graph does not normalize it, or not clearly.

    A BatchNormalization does not count: what it learned says nothing of the range.
    """
    lines, arriving = {image: Line(np.ones(1), np.zeros(1))}, list[Line]()
    for node in graph.nodes:
        read = [lines[name] for name in operands(node) if name in lines]
        line = line_behind(graph, node, lines, read) if read else None
        if line is None:
            arriving += read
        else:
            lines |= dict.fromkeys(node.output, line)
    found = {fitting_white(line) for line in arriving}
    return found.pop() if len(found) == 1 else None


def operands(node: onnx.NodeProto) -> list[str]:
    """The values that a node computes with: not those that it takes but a shape or a type from."""
    if node.op_type in READING_SIZES:
        return []
    return list(node.input[:1]) if node.op_type in KEPT - JOINING.keys() else reads(node)


def line_behind(graph: Graph, node: onnx.NodeProto, lines: Mapping[str, Line], read: Sequence[Line]) -> Line | None:
    """What becomes of pixels behind a node that reads some; None where it does more than move, scale and shift them."""
    if node.op_type in KEPT:
        return joined(read)
    if node.op_type not in ("Add", "Sub", "Mul", "Div") or len(read) != 1:
        return None
    ahead = node.input[0] in lines
    given = graph.constant(node.input[1 if ahead else 0])
    if given is None or given.size not in IMAGE_CHANNELS:
        return None
    by, (scale, shift) = given.astype(np.float64).ravel(), read[0]
    if len({1, by.size, scale.size, shift.size}) > 2:
        return None
    with np.errstate(all="ignore"):
        match node.op_type, ahead:
            case "Add", _:
                return Line(scale, shift + by)
            case "Sub", True:
                return Line(scale, shift - by)
            case "Sub", False:
                return Line(-scale, by - shift)
            case "Mul", _:
                return Line(scale * by, shift * by)
            case "Div", True:
                return Line(scale / by, shift / by)
    return None


def joined(parts: Sequence[Line]) -> Line | None:
    """What became of pixels that lie together: the same of all, or of each part, a channel, its own."""
    if all(all(map(np.array_equal, part, parts[0])) for part in parts):
        return parts[0]
    if len(parts) not in IMAGE_CHANNELS or any(number.size != 1 for part in parts for number in part):
        return None
    return Line(*map(np.concatenate, zip(*parts, strict=True)))


def fitting_white(line: Line) -> float | None:
    """The white that, with black at 0, comes out as networks want it; None where neither does, or nothing is done.

    To bring pixels to units, or the other way, is a normalization; what leaves the span about as it was is one where it
    moves the middle to zero.
    """
    for white in WHITES:
        black_and_white = np.sort(np.broadcast_arrays(line.shift, line.scale * white + line.shift), axis=0)
        low, high = black_and_white
        span = high - low
        for size, (least, most) in SPANS.items():
            inside = (CENTRED if size == white else AT_THE_EDGE) * span
            if np.all((span >= least) & (span <= most) & (np.minimum(-low, high) >= inside)):
                return white
    return None
