"""Which input takes the picture, and how it lies in there."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import onnx
from onnx import TensorProto

from onnxcam.errors import ModelError
from onnxcam.graph.feeds import type_name
from onnxcam.graph.index import Graph
from onnxcam.graph.nodes import attributes
from onnxcam.graph.operators import CONVOLUTIONS
from onnxcam.graph.types import Shape, shown
from onnxcam.runtime.manifest import ImageInput

IMAGE_CHANNELS = (1, 3, 4)
VOLUMES = ("NCDHW", "NDHWC", "NDCHW")
IMAGE_TYPES = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT8)
TO_CHANNELS_FIRST = ([2, 0, 1], [0, 3, 1, 2])  # what a Transpose of such an input does
TURNED = {"NDHWC": [0, 4, 1, 2, 3], "NDCHW": [0, 2, 1, 3, 4]}  # the same of volumes
NEAR = 4  # steps from an input to the convolution that reads it: casts, scales, transposes, pads


def image_input(graph: Graph) -> ImageInput:
    """The input that takes the picture: the one that can, and of several the one that looks most like it.

    Raises:
        ModelError: there is none, or two are alike.
    """
    found = likeliest(graph)
    if len(found) == 1:
        return found[0]
    if found:
        problem = "several inputs that could take the image"
        cure = ": fix all but the image with --feed NAME=FILE.npy (in Python: feeds)"
    else:
        problem = "no input that takes an image"
        cure = cure_of_flat_input(graph) if graph.inputs else ": give the image itself no --feed"
    inputs = (f"'{name}' {type_name(graph, name)} {shown(graph.shape(name))}" for name in graph.inputs)
    raise ModelError(f"{graph.model.name} has {problem} (its inputs: {', '.join(inputs) or 'none'}){cure}")


def images(graph: Graph) -> list[ImageInput]:
    """The inputs that can take a picture."""
    return [image for value in graph.proto.graph.input if (image := as_image(graph, value)) is not None]


def likeliest(graph: Graph) -> list[ImageInput]:
    """Of the inputs that can take a picture those that look most like it: one, or some that are alike, or none."""
    found = images(graph)
    found = [image for image in found if image.channels in (3, None)] or found
    return [image for image in found if is_convolved(graph, image.name)] or found


def cure_of_flat_input(graph: Graph) -> str:
    """What to do with a file that takes its image as a row of numbers, and gives it its shape first."""
    for name in graph.inputs:
        nodes = [graph.nodes[i] for i in graph.consumers.get(name, [])]
        if len(nodes) == 1 and nodes[0].op_type == "Reshape":
            shape = graph.shape(nodes[0].output[0])
            if shape is not None and len(shape) == 4 and not {shape[1], shape[3]}.isdisjoint(IMAGE_CHANNELS):
                return f": '{name}' is flat and made {shown(shape)} first: declare the input so"
    return ""


def is_convolved(graph: Graph, name: str) -> bool:
    """Whether a convolution reads an input, directly or behind a few steps that keep its place."""
    return any(node.op_type in CONVOLUTIONS for node in readers(graph, name))


def readers(graph: Graph, name: str) -> Iterator[onnx.NodeProto]:
    """The nodes that read an input, directly or behind a few others."""
    names = [name]
    for _ in range(NEAR):
        found = [graph.nodes[i] for i in sorted({i for name in names for i in graph.consumers.get(name, [])})]
        yield from found
        names = [name for node in found for name in node.output]


def as_image(graph: Graph, value: onnx.ValueInfoProto) -> ImageInput | None:
    """An input read as a picture (or a volume), when it can be one."""
    shape = graph.shape(value.name)
    kind = value.type.tensor_type.elem_type
    if shape is None or len(shape) not in (3, 4, 5) or kind not in IMAGE_TYPES:
        return None
    layout = image_layout(graph, value.name, shape)
    if layout is None:
        return None
    sizes = dict(zip(layout, shape, strict=True))
    width, height, channels, batch = (
        size if isinstance(size := sizes.get(axis), int) and size > 0 else None for axis in "WHCN"
    )
    channels = channels if "C" in layout else 1
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).name
    return ImageInput(value.name, layout, (width, height), channels, dtype, batch if "N" in layout else 1)


def volume_layout(shape: Shape, turns: list[list[int]]) -> str:
    """The layout of five axes, a volume or the frames of a film: D, H and W.

    Where several fit it is told by what a Transpose does; else it is that of sides longer than the channels, of which
    three are likelier than four.
    """
    places = [layout for layout in VOLUMES if shape[layout.index("C")] in IMAGE_CHANNELS]
    turned = [layout for layout in places if TURNED.get(layout) in turns]

    def unlikely(layout: str) -> tuple[bool, bool]:
        sizes = dict(zip(layout, shape, strict=True))
        return not {sizes["H"], sizes["W"]}.isdisjoint(IMAGE_CHANNELS), sizes["C"] != 3

    return min(turned or places or VOLUMES, key=unlikely)


def image_layout(graph: Graph, name: str, shape: Shape) -> str | None:
    """Where the channels are: told by the sizes, and where these leave it open by what reads the input."""
    nodes = [graph.nodes[i] for i in graph.consumers.get(name, [])]
    turns = [list(attributes(node).get("perm") or []) for node in nodes]
    if len(shape) == 5:
        convolved = any(node.op_type in CONVOLUTIONS for node in nodes)
        return "NCDHW" if convolved else volume_layout(shape, turns)
    batch = "N" if len(shape) == 4 else ""
    first, last = shape[len(batch)], shape[-1]
    if first in IMAGE_CHANNELS and last not in IMAGE_CHANNELS:
        return f"{batch}CHW"
    if last in IMAGE_CHANNELS and first not in IMAGE_CHANNELS:
        return f"{batch}HWC"
    if any(turn in TO_CHANNELS_FIRST for turn in turns):
        return f"{batch}HWC"
    if batch or first in IMAGE_CHANNELS:
        return f"{batch}CHW"
    return "NHW" if not isinstance(first, int) and is_grey(graph, name, shape) else None


def is_grey(graph: Graph, name: str, shape: Shape) -> bool:
    """Whether rows of two axes each are grey images: squares, or soon given an axis of one channel.

    Others, a sequence of vectors each, are not.
    """
    height, width = shape[1:]
    given = [graph.shape(node.output[0]) for node in readers(graph, name) if node.op_type in ("Reshape", "Unsqueeze")]
    with_channel = any(found is not None and len(found) == 4 and 1 in (found[1], found[3]) for found in given)
    return with_channel or (isinstance(height, int) and height == width)
