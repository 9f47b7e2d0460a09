"""Which input takes the picture, and how it lies in there."""

from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto

from onnxcam.errors import ModelError
from onnxcam.graph.index import Graph, attributes
from onnxcam.graph.types import Shape, shown
from onnxcam.runtime.manifest import ImageInput

IMAGE_CHANNELS = (1, 3, 4)
VOLUMES = ("NCDHW", "NDHWC", "NDCHW")
IMAGE_TYPES = (TensorProto.FLOAT, TensorProto.DOUBLE, TensorProto.FLOAT16, TensorProto.UINT8, TensorProto.INT8)


def image_input(graph: Graph) -> ImageInput:
    """The input that takes the picture; ModelError when there is none or several."""
    typed = {value.name: value for value in graph.proto.graph.input}
    found = [image for name in graph.inputs if (image := as_image(graph, typed[name])) is not None]
    if len(found) != 1:
        what = ", ".join(f"'{name}' {shown(graph.shape(name))}" for name in graph.inputs) or "none"
        problem = "no input that takes an image" if not found else "several inputs that could take the image"
        raise ModelError(f"{graph.model.name} has {problem} (its inputs: {what})")
    others = [name for name in graph.inputs if name != found[0].name]
    if others:
        raise ModelError(
            f"{graph.model.name} needs more than an image: also {', '.join(map(repr, others))}; "
            "fix those inputs in the model, or use onnxcam.differentiate"
        )
    return found[0]


def as_image(graph: Graph, value: onnx.ValueInfoProto) -> ImageInput | None:
    """An input read as a picture, when it can be one."""
    shape = graph.shape(value.name)
    kind = value.type.tensor_type.elem_type
    if shape is None or len(shape) not in (3, 4, 5) or kind not in IMAGE_TYPES:
        return None
    layout = image_layout(graph, value.name, shape)
    if layout is None:
        return None
    sizes = dict(zip(layout, shape, strict=True))
    width, height, channels = (size if isinstance(size := sizes[axis], int) and size > 0 else None for axis in "WHC")
    batch = sizes.get("N", 1)
    dtype = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(kind)).name
    return ImageInput(
        value.name, layout, (width, height), channels, dtype, batch if isinstance(batch, int) and batch > 0 else None
    )


def image_layout(graph: Graph, name: str, shape: Shape) -> str | None:
    """Where the channels are: told by the sizes, and where these leave it open by what reads the input.

    Five axes are a volume, or the frames of a film: D, H and W.
    """
    if len(shape) == 5:
        places = [layout for layout in VOLUMES if shape[layout.index("C")] in IMAGE_CHANNELS]
        return places[0] if len(places) == 1 else VOLUMES[0]
    batch = "N" if len(shape) == 4 else ""
    first, last = shape[len(batch)], shape[-1]
    if first in IMAGE_CHANNELS and last not in IMAGE_CHANNELS:
        return f"{batch}CHW"
    if last in IMAGE_CHANNELS and first not in IMAGE_CHANNELS:
        return f"{batch}HWC"
    for i in graph.consumers.get(name, []):
        node = graph.nodes[i]
        if node.op_type == "Transpose" and list(attributes(node).get("perm") or []) in ([0, 3, 1, 2], [2, 0, 1]):
            return f"{batch}HWC"
    return f"{batch}CHW" if len(shape) == 4 or first in IMAGE_CHANNELS else None
