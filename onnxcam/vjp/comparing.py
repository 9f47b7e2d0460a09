"""Comparisons of dequantized values, as those of their integers: a quarter of the bytes, and nothing to dequantize."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper

from onnxcam.graph import RANGES

COMPARED = frozenset({TensorProto.UINT8, TensorProto.INT8, TensorProto.UINT16, TensorProto.INT16})  # by ONNX Runtime


def integer_bound(
    op_type: str, reading: onnx.NodeProto, kind: int, bound: float, constant: Callable[[str], npt.NDArray[Any] | None]
) -> npt.NDArray[Any] | None:
    """The integer with which the integers that a DequantizeLinear reads are to be compared, in their type.

    None: another scale for each slice, or one that is not known; or all that they stand for are on one side.

    Args:
        op_type: Greater or Less.
        kind: the type of the integers.
        bound: the number that what they stand for is compared with.
        constant: the value of a name, where it is known.
    """
    scale, point = (constant(name) if name else None for name in (*reading.input[1:], "")[:2])
    known = point is not None or len(reading.input) < 3
    if kind not in COMPARED or not known or scale is None or scale.size != 1 or scale.dtype != np.float32 or scale <= 0:
        return None
    low, high = RANGES[kind]
    integers = np.arange(low, high + 1)
    numbers = (integers - (0 if point is None else point.ravel()[0])).astype(np.float32) * scale.ravel()
    rest = integers[numbers <= bound] if op_type == "Greater" else integers[numbers >= bound]
    if not rest.size:
        return None
    return np.array(rest[-1] if op_type == "Greater" else rest[0], helper.tensor_dtype_to_np_dtype(kind))
