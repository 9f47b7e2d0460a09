"""Lists of sizes as PyTorch's exporters write them, which onnx's inference does not follow.

    Where(sizes == -1, 1, sizes)   in front of an Expand: -1 keeps a size there, which ONNX says by 1
    Reshape(sizes, [-1])           a list that is one already

A free batch axis would be lost there, and all sizes behind it found out anew for one layer after another. But what
comes of the size of a value is never below 0, so that only constants can be -1.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import numpy_helper

from onnxcam.graph.nodes import attributes, copied
from onnxcam.graph.types import COUNTS, Types, shape_in

Constant = Callable[[str], npt.NDArray[Any] | None]
Maker = Callable[[str], onnx.NodeProto | None]
PICKING = frozenset(["Gather", "Slice", "Squeeze", "Unsqueeze", "Reshape", "Identity"])  # some of a value's
COUNTING = frozenset(["Add", "Mul", "Div"])  # below 0 only if what they read is


def spell_lists_of_sizes(graph: onnx.GraphProto, types: Types, maker: Maker, constant: Constant) -> None:
    """In place: each of these as the Shape or Concat that makes its sizes, with 1 for -1 where that is put there.

    Args:
        types: as far as they are known; nothing is changed where the sizes may be broadcast, or of another rank.
    """
    for node in graph.node:
        sizes, length = sizes_of(node, maker, constant), shape_in(types, node.output[0])
        if sizes is None or length is None or shape_in(types, sizes.output[0]) != length:
            continue
        spelled = copied(sizes)
        spelled.output[0] = node.output[0]
        for i, part in enumerate(spelled.input if node.op_type == "Where" else ()):
            value = constant(part)
            if value is not None and (value == -1).any():
                spelled.input[i] = f"onnxcam/kept/{i}/{node.output[0]}"
                graph.initializer.append(numpy_helper.from_array(np.where(value == -1, 1, value), spelled.input[i]))
        node.CopyFrom(spelled)


def sizes_of(node: onnx.NodeProto, maker: Maker, constant: Constant) -> onnx.NodeProto | None:
    """The Shape or Concat whose sizes a node gives, or of which it puts 1 for -1; None of any other node."""
    if node.op_type == "Reshape" and not node.domain and is_all(-1, constant(node.input[1])):
        return list_made(node.input[0], maker)
    if node.op_type != "Where" or node.domain:
        return None
    asked, ones, sizes = node.input
    equal, last = maker(asked), maker(sizes)
    if equal is None or equal.op_type != "Equal" or sizes not in equal.input or last is None:
        return None
    if not (is_all(1, constant(ones)) and any(is_all(-1, constant(name)) for name in equal.input)):
        return None
    source = sizes_of(last, maker, constant) if last.op_type == "Reshape" else list_made(sizes, maker)
    if source is None or source.op_type == "Shape":
        return source
    computed = (name for name in source.input if constant(name) is None)
    return source if all(is_count(name, maker, constant) for name in computed) else None


def list_made(name: str, maker: Maker) -> onnx.NodeProto | None:
    """The node that makes a value, if it is one that makes lists of sizes."""
    source = maker(name)
    makes_lists = source is not None and not source.domain and source.op_type in ("Shape", "Concat")
    return source if makes_lists else None


def is_count(name: str, maker: Maker, constant: Constant) -> bool:
    """Whether a value is known to hold no number below 0: sizes, and what is counted of them."""
    waiting = [name]
    while waiting:
        value, node = constant(waiting[-1]), maker(waiting.pop())
        if value is not None and (value >= 0).all():
            continue
        if value is not None or node is None or node.domain:
            return False
        wide = node.op_type == "Cast" and attributes(node).get("to") in COUNTS
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
