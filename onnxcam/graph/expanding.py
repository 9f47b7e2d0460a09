"""The sizes that a tensor is expanded to, as PyTorch's exporter writes them: Where(sizes == -1, 1, sizes).

-1 keeps a size there, which ONNX says by 1. onnx's inference follows sizes through no Where: a free batch axis would be
lost, and all sizes behind it found out anew for one layer after another. But what comes of the size of a value is never
below 0, so that only constants can be -1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, numpy_helper

from onnxcam.graph.nodes import attributes, copied, optional
from onnxcam.graph.types import Types, shape_in

Constant = Callable[[str], npt.NDArray[Any] | None]
Maker = Callable[[str], onnx.NodeProto | None]
PICKING = frozenset(["Gather", "Slice", "Squeeze", "Unsqueeze", "Reshape", "Identity"])  # some of a value's
COUNTING = frozenset(["Add", "Mul", "Div"])  # below 0 only if what they read is


def spell_expansions(graph: onnx.GraphProto, types: Types, maker: Maker, constant: Constant) -> None:
    """In place: such a Where as what makes its sizes, with 1 for the constants that are -1.

    Args:
        types: as far as they are known; nothing is changed where the sizes may be broadcast.
    """
    for node in graph.node:
        sizes, length = sizes_to_expand(node, maker, constant), shape_in(types, node.output[0])
        if sizes is None or length is None or shape_in(types, sizes.output[0]) != length:
            continue
        spelled = copied(sizes)
        spelled.output[0] = node.output[0]
        for i, part in enumerate(spelled.input):
            value = constant(part)
            if value is not None and (value == -1).any():
                spelled.input[i] = f"onnxcam/kept/{i}/{node.output[0]}"
                graph.initializer.append(numpy_helper.from_array(np.where(value == -1, 1, value), spelled.input[i]))
        node.CopyFrom(spelled)


def sizes_to_expand(node: onnx.NodeProto, maker: Maker, constant: Constant) -> onnx.NodeProto | None:
    """The Shape or Concat of whose sizes a node puts 1 for -1; None of any other node."""
    if node.op_type != "Where" or node.domain:
        return None
    asked, ones, sizes = node.input
    equal, source = maker(asked), maker(sizes)
    if equal is None or equal.op_type != "Equal" or sizes not in equal.input or source is None:
        return None
    if not (is_all(1, constant(ones)) and any(is_all(-1, constant(name)) for name in equal.input)):
        return None
    if source.op_type == "Reshape" and is_all(-1, constant(optional(source, 1))):
        source = maker(source.input[0])
    if source is None or source.domain or source.op_type not in ("Shape", "Concat"):
        return None
    computed = (name for name in source.input if constant(name) is None)
    return source if source.op_type == "Shape" or all(is_count(name, maker, constant) for name in computed) else None


def is_count(name: str, maker: Maker, constant: Constant) -> bool:
    """Whether a value is known to hold no number below 0: sizes, and what is counted of them."""
    waiting = [name]
    while waiting:
        value, node = constant(waiting[-1]), maker(waiting.pop())
        if value is not None and (value >= 0).all():
            continue
        if value is not None or node is None or node.domain:
            return False
        wide = node.op_type == "Cast" and attributes(node).get("to") in (TensorProto.INT64, TensorProto.INT32)
        if node.op_type in PICKING or wide:
            waiting.append(node.input[0])
        elif node.op_type in COUNTING:
            waiting += node.input
        elif node.op_type != "Shape":
            return False
    return True


def is_all(number: int, value: npt.NDArray[Any] | None) -> bool:
    """Whether a constant holds this number alone."""
    return value is not None and bool((value == number).all())
