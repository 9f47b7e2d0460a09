"""What nodes that measure a value give: all of its sizes, some of them, or how many elements it has."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx

from onnxcam.graph.nodes import attributes, optional
from onnxcam.graph.slicing import stretches
from onnxcam.graph.types import Shape

MOST_PICKS = 2  # channels put last, and one size of those: what reading a chain of them costs stays bounded

Dims = npt.NDArray[np.object_]


def measured(
    node: onnx.NodeProto,
    shape: Callable[[str], Shape | None],
    maker: Callable[[str], onnx.NodeProto | None],
    constant: Callable[[str], npt.NDArray[Any] | None],
    picks: int = MOST_PICKS,
) -> Dims | None:
    """What Shape, Gather or Slice of it, or Size gives: dimensions, as far as known; None for any other node.

    `picks`: as many Gathers and Slices may follow one another.
    """
    if node.domain or not node.input:
        return None
    if node.op_type in ("Shape", "Size"):
        return measures(node, shape(node.input[0]))
    source = maker(node.input[0]) if node.op_type in ("Gather", "Slice") and picks else None
    sizes = measured(source, shape, maker, constant, picks - 1) if source is not None else None
    if sizes is None or sizes.ndim != 1:
        return None
    if node.op_type == "Slice":
        parts = stretches(node, constant)
        return sizes[parts[0].of(len(sizes))] if parts is not None and len(parts) == 1 else None
    index = constant(optional(node, 1))
    if index is None or index.dtype.kind not in "iu" or not np.all((index >= -len(sizes)) & (index < len(sizes))):
        return None
    return np.asarray(sizes[index], object)


def measures(node: onnx.NodeProto, shape: Shape | None) -> Dims | None:
    """What Shape, its start and end heeded, or Size gives of a value of this shape."""
    if shape is None:
        return None
    if node.op_type == "Size":
        known = [dim for dim in shape if isinstance(dim, int)]
        return np.array(math.prod(known) if len(known) == len(shape) else None, object)
    attrs = attributes(node)
    return np.array(shape, object)[attrs.get("start", 0) : attrs.get("end", len(shape))]
