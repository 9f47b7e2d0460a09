"""Static sizes that onnx infers otherwise than ONNX Runtime computes them, corrected where they are made.

Pools that round up, SAME padding of dilated windows, transposed convolutions that pad both ways, and scales whose
product with a size is nearly whole: of each such node ONNX Runtime is asked what it makes of the size at hand, and
where onnx says otherwise the node is spelled in a way on which both agree. Only inference reads that spelling.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from onnxcam.errors import ModelError, OnnxCamError
from onnxcam.graph.nodes import attributes, described
from onnxcam.graph.types import Shape, Sizes, Types, shape_in
from onnxcam.runtime import oracle

Constant = Callable[[str], npt.NDArray[Any] | None]
LONGEST = 2**26  # elements along one axis that ONNX Runtime is asked about
MOST_WORK = 2**28  # of these, times the size of a window
POOLS = frozenset({"MaxPool", "AveragePool", "LpPool"})
SHAPING = frozenset({"auto_pad", "ceil_mode", "pads", "output_padding", "output_shape"})  # what sets a size, of windows


def same_padding(sizes: Sequence[int], strides: Sequence[int], kernel: Sequence[int]) -> list[int]:
    """The SAME padding of each axis as ONNX Runtime counts it: as if windows were not dilated.

    It is what ceil(size / stride) windows need; negative where they lie farther apart than they are long.
    """
    return [(-(-n // s) - 1) * s + k - n for n, s, k in zip(sizes, strides, kernel, strict=True)]


def same_in_front(auto: str, totals: Sequence[int]) -> list[int]:
    """The part of SAME padding in front: the odd pixel goes behind with SAME_UPPER."""
    return [total // 2 if auto == "SAME_UPPER" else total - total // 2 for total in totals]


def reach_and_strides(attrs: Mapping[str, Any], kernel: Sequence[int]) -> tuple[list[int], list[int]]:
    """How far the windows of a node reach, and how far apart they start, along each axis."""
    ones = [1] * len(kernel)
    dilations = attrs.get("dilations") or ones
    return [d * (k - 1) + 1 for k, d in zip(kernel, dilations, strict=True)], attrs.get("strides") or ones


@dataclass(frozen=True)
class Question:
    """What a node makes of these sizes.

    Attributes:
        rank: of its input.
        axes: those that it changes, as far as their sizes are known.
        sizes: of the input along them.
        kernel: of a convolution, an axis each.
        scales: of a resize, an axis each.
    """

    rank: int
    axes: Sizes
    sizes: Sizes
    kernel: Sizes = ()
    scales: tuple[float, ...] = ()


class Sizing:
    """A model as onnx's inference is to read it.

    Attributes:
        proto: the model itself, or a copy in which some nodes are spelled otherwise.
        misjudged: those nodes, what was asked of each the last time, and its right sizes.
    """

    def __init__(self, proto: onnx.ModelProto, constant: Constant) -> None:
        self.proto = proto
        self._constant = constant
        self._versions = {entry.domain: entry.version for entry in proto.opset_import}
        self._doubtful = {i: node for i, node in enumerate(proto.graph.node) if node.domain == "" and doubtful(node)}
        self._answers: dict[tuple[int, Question], Sizes | None] = {}
        self._spelled: set[tuple[int, Question]] = set()
        self.misjudged: dict[int, tuple[Question, Sizes]] = {}

    def correct(self, types: Types) -> bool:
        """Spell anew what these types show to be wrong; whether anything was."""
        wrong: dict[int, tuple[Question, Sizes]] = {}
        for i, node in self._doubtful.items():
            question = asked(node, types, self._constant)
            right = self._answer(i, node, question) if question is not None else None
            if question is None or right is None or (i, question) in self._spelled:
                continue
            if along(shape_in(types, node.output[0]), question.axes) != right:
                wrong[i] = (question, right)
                self._spelled.add((i, question))
        if wrong:
            copy = onnx.ModelProto()
            copy.CopyFrom(self.proto)
            for i, (question, right) in wrong.items():
                spell(copy.graph, i, self._doubtful[i], question, right)
            self.proto = copy
        self.misjudged |= wrong
        return bool(wrong)

    def doubts(self, i: int) -> bool:
        """Whether onnx and ONNX Runtime may infer another size of node i than is computed."""
        return i in self._doubtful

    def _answer(self, i: int, node: onnx.NodeProto, question: Question) -> Sizes | None:
        """What ONNX Runtime computes; None where it refuses."""
        key = (i, question)
        if key not in self._answers:
            check_work(node, question)
            try:
                self._answers[key] = computed(node, question, self._versions[""])
            except OnnxCamError:  # it will refuse the model too, and says why
                self._answers[key] = None
        return self._answers[key]


def doubtful(node: onnx.NodeProto) -> bool:
    """Whether onnx and ONNX Runtime may disagree on what a node makes of a size."""
    if node.op_type == "Resize":
        return len(node.input) == 3 and bool(node.input[2])
    if node.op_type not in POOLS | {"ConvTranspose"}:
        return False
    attrs = attributes(node)
    same = attrs.get("auto_pad", "NOTSET").startswith("SAME")
    if node.op_type in POOLS:
        return bool(attrs.get("ceil_mode")) or (same and any(d > 1 for d in attrs.get("dilations", [])))
    return "output_shape" in attrs or (same and any(attrs.get("output_padding", [])))


def asked(node: onnx.NodeProto, types: Types, constant: Constant) -> Question | None:
    """What to ask of a node: of the axes that it changes and whose size is known; None where there is none."""
    shape = shape_in(types, node.input[0])
    if shape is None:
        return None
    kernel: dict[int, int] = {}
    scales: dict[int, float] = {}
    changed: Iterable[int] = range(2, len(shape))
    if node.op_type == "Resize":
        found = constant(node.input[2])
        if found is None or found.ndim != 1 or found.dtype != np.float32:
            return None
        which = attributes(node).get("axes", range(len(shape)))
        scales = {axis % len(shape): float(scale) for axis, scale in zip(which, found, strict=False) if scale != 1}
        changed = sorted(scales)
    elif node.op_type == "ConvTranspose":
        weight = shape_in(types, node.input[1]) or ()
        kernel = {axis: dim for axis, dim in enumerate(weight) if axis > 1 and isinstance(dim, int)}
        if not len(kernel) + 2 == len(weight) == len(shape):
            return None
    axes = tuple(axis for axis in changed if isinstance(shape[axis], int))
    sizes = along(shape, axes)
    if not axes or sizes is None:
        return None
    kernels, times = (tuple(each[axis] for axis in axes if each) for each in (kernel, scales))
    return Question(len(shape), axes, sizes, tuple(map(int, kernels)), times)


def along(shape: Shape | None, axes: Sizes) -> Sizes | None:
    """The sizes along some axes; None unless all are known."""
    sizes = tuple(dim for axis in axes if shape and axis < len(shape) and isinstance(dim := shape[axis], int))
    return sizes if len(sizes) == len(axes) else None


def check_work(node: onnx.NodeProto, question: Question) -> None:
    """ModelError where asking would take more time or memory than any image does."""
    attrs = attributes(node)
    kernel = max(question.kernel or attrs.get("kernel_shape") or [1])
    strides = attrs.get("strides", []) if node.op_type == "ConvTranspose" else []
    times = max([1.0, *strides, *question.scales], key=lambda time: math.inf if math.isnan(time) else time)
    most = max(question.sizes) * times + kernel + max([*attrs.get("pads", []), *attrs.get("output_shape", []), 0])
    if not (most <= LONGEST and most * kernel <= MOST_WORK):
        raise ModelError(
            f"{described(node)} asks for windows or sizes larger than any image's, of {list(question.sizes)}: "
            "export the model again"
        )


def computed(node: onnx.NodeProto, question: Question, opset: int) -> Sizes:
    """The sizes that ONNX Runtime makes of these, each axis alone."""
    attrs = {name: value for name, value in attributes(node).items() if name not in ("group", "axes")}
    space = question.rank - 2
    windows = {name: value for name, value in attrs.items() if isinstance(value, list)}
    if any(len(value) != space * (1 + (name == "pads")) for name, value in windows.items()):
        raise ModelError(f"{described(node)} has windows of another rank than its input")
    found = []
    for i, size in enumerate(question.sizes):
        one = attrs | {name: value[question.axes[i] - 2 :: space] for name, value in windows.items()}
        if node.op_type == "Resize":
            x, axis = np.ones(question.rank, np.int64), question.axes[i]
            scales = np.ones(question.rank, np.float32)
            scales[axis] = question.scales[i]
            given, inputs = {"scales": scales}, ["x", "", "scales"]
        else:
            x, axis = np.ones(3, np.int64), 2
            given = {"w": np.array([1, 1, question.kernel[i]], np.int64)} if question.kernel else {}
            inputs = ["x", *given]
        x[axis] = size
        asked = helper.make_node(node.op_type, inputs, ["y"], **one)
        found.append(size_made(one_node(asked, {"x": x, **given}, opset), axis))
    return tuple(found)


def one_node(node: onnx.NodeProto, given: Mapping[str, npt.NDArray[Any]], opset: int) -> bytes:
    """A model that gives the shape of what one node makes of scales, and of zeros of given shapes."""
    shapes = [name for name in given if name != "scales"]
    zeros = [helper.make_node("ConstantOfShape", [f"{name}/shape"], [name]) for name in shapes]
    weights = [numpy_helper.from_array(v, f"{n}/shape" if n in shapes else n) for n, v in given.items()]
    shape = helper.make_tensor_value_info("shape", TensorProto.INT64, [len(given["x"])])
    nodes = [*zeros, node, helper.make_node("Shape", ["y"], ["shape"])]
    graph = helper.make_graph(nodes, "size", [], [shape], weights)
    proto = helper.make_model(graph, ir_version=8, opset_imports=[helper.make_opsetid("", opset)])
    return bytes(proto.SerializeToString())


@lru_cache(maxsize=1024)
def size_made(model: bytes, axis: int) -> int:
    """The size along one axis that such a model tells."""
    return int(oracle.evaluate(model)[0][axis])


def spell(graph: onnx.GraphProto, i: int, node: onnx.NodeProto, question: Question, right: Sizes) -> None:
    """Write node i of a graph so that onnx infers the right sizes: as `node`, with pads or scales that give them."""
    attrs = attributes(node)
    new = graph.node[i]
    new.CopyFrom(node)
    if node.op_type == "Resize":
        times = {axis: (r + 0.5) / size for axis, size, r in zip(question.axes, question.sizes, right, strict=True)}
        which = attrs.get("axes") or range(question.rank)
        scales = np.array([times.get(axis % question.rank, 1.0) for axis in which], np.float32)
        new.input[2] = f"onnxcam/scales/{i}/{'x'.join(map(str, right))}"
        graph.initializer.append(numpy_helper.from_array(scales, new.input[2]))
        return
    rests = ends(attrs, node.op_type, question, right)
    kept = {n: v for n, v in attrs.items() if n not in SHAPING}
    kept["pads"] = [0] * len(rests) + [max(rest, 0) for rest in rests]
    if node.op_type == "ConvTranspose":
        kept["output_padding"] = [max(-rest, 0) for rest in rests]
    fresh = helper.make_node(node.op_type, node.input, node.output, **kept)
    del new.attribute[:]
    new.attribute.extend(fresh.attribute)


def ends(attrs: Mapping[str, Any], op_type: str, question: Question, right: Sizes) -> list[int]:
    """How far the last window ends behind the last pixel along each spatial axis: of the input, of a transposed
    convolution's output. 0 where the size is not known.
    """
    axes = range(2, question.rank)
    known = {axis: i for i, axis in enumerate(question.axes)}
    kernel = attrs.get("kernel_shape") or [question.kernel[known[axis]] if axis in known else 1 for axis in axes]
    reach, strides = reach_and_strides(attrs, kernel)
    found = []
    for axis, r, s in zip(axes, reach, strides, strict=True):
        size, made = (question.sizes[known[axis]], right[known[axis]]) if axis in known else (1, 1)
        windows, pixels = (size, made) if op_type == "ConvTranspose" else (made, size)
        found.append((windows - 1) * s + r - pixels if axis in known else 0)
    return found
