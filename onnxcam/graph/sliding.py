"""Positions behind sliding windows and behind resizing.

Convolutions and pools with the usual padding cover what they read evenly, to half a cell: there a map is stretched over
the image, as everybody's Grad-CAM does. Where windows leave part of the image out, or pads lie far outside, each cell
gets the centre of its window. What windows without padding add up to is carried along as `drift`. A transposed
convolution is taken to cover its input evenly; Resize says where it reads.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import onnx

from onnxcam.graph.nodes import attributes
from onnxcam.graph.positions import Along, Array, Known, Positions, Rule, averaged, kept, renewed
from onnxcam.graph.sizing import reach_and_strides, same_in_front, same_padding


@dataclass(frozen=True)
class Windows:
    """Windows along one axis: how many cells they reach over, how far apart they start, where the first starts."""

    reach: int
    stride: int
    first: int

    def centres(self, count: int) -> npt.NDArray[np.float64]:
        """The centres of so many windows, in cells of the input: 0 is the centre of its first cell."""
        return np.arange(count, dtype=np.float64) * self.stride + ((self.reach - 1) / 2 + self.first)


def slid(known: Known, node: onnx.NodeProto, i: int) -> Positions:
    """A convolution or pool over the spatial axes: behind the second, or before the last where channels are there."""
    old, new = known.sizes(node.input[0]), known.sizes(node.output[i])
    windows = windows_of(known, node)
    if old is None or new is None or windows is None or len(old) != len(new):
        return {}

    def moved(along: Along) -> Along | None:
        first = first_spatial(node)
        stepped = averaged(along, 1 if first == 2 else along.at.ndim - 1) if "Conv" in node.op_type else along
        for axis, one in enumerate(windows, start=first):
            stepped = over(stepped, axis, one, new[axis]) if stepped is not None else None
        return stepped

    return kept(known.of(node.input[0]), moved)


def first_spatial(node: onnx.NodeProto) -> int:
    """The first spatial axis of what a node reads; com.microsoft has kernels with channels last."""
    return 1 if node.op_type.startswith("Nhwc") or attributes(node).get("channels_last", 0) else 2


def windows_of(known: Known, node: onnx.NodeProto) -> list[Windows] | None:
    """The windows of a node along its spatial axes; None when they are not known."""
    sizes, new, attrs = known.sizes(node.input[0]), known.sizes(node.output[0]), attributes(node)
    weight = known.sizes(node.input[3 if node.op_type == "QLinearConv" else 1]) if "Conv" in node.op_type else None
    kernel = attrs.get("kernel_shape") or (weight[2:] if weight else None)
    if sizes is None or new is None or kernel is None:
        return None
    first, space = first_spatial(node), len(sizes) - 2
    sizes, new = sizes[first : first + space], new[first : first + space]
    reach, strides = reach_and_strides(attrs, kernel)
    pads = attrs.get("pads") or [0] * (2 * space)
    auto = attrs.get("auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        pads = same_in_front(auto, [max(total, 0) for total in same_padding(sizes, strides, kernel)])
    return [Windows(r, s, -p) for r, s, p in zip(reach, strides, pads, strict=False)]


def over(along: Along, axis: int, windows: Windows, count: int) -> Along | None:
    """A coordinate behind windows along an axis; None when one window takes in all of it."""
    size = along.at.shape[axis]
    centres = windows.centres(count)
    if size == 1 or (count == size and np.array_equal(centres, np.arange(size))):
        return along
    if count == 1:
        return None
    at = sampled(along.at, axis, centres)
    if along.axes == [axis] and monotone(along.at):
        even, cell = evenly(along, count), float((along.end - along.start) / count)
        slack = abs(along.step) * ((windows.reach + windows.stride) / 2 - 0.5)
        if np.abs(at.ravel() - even).max() <= slack:
            behind = np.linspace(*along.drift, size, dtype=np.float32).reshape(along.at.shape)
            drift = sampled(along.at + behind, axis, centres).ravel() - even
            return replace(along, at=even.reshape(at.shape), step=cell, drift=(float(drift[0]), float(drift[-1])))
    return renewed(replace(along, step=along.step * windows.stride), at)


def monotone(at: Array) -> bool:
    """Whether a line of cells goes one way over the image, so that only its ends say where it lies."""
    steps = np.diff(at.ravel())
    return bool((steps > 0).all() or (steps < 0).all())


def evenly(along: Along, count: int) -> Array:
    """So many cells spread evenly over the stretch of image that a value shows."""
    spread = along.start + (np.arange(count) + 0.5) / count * (along.end - along.start)
    return spread.astype(np.float32)


def sampled(at: Array, axis: int, where: npt.NDArray[np.float64]) -> Array:
    """A coordinate read between its cells, and beyond its ends as it goes on there."""
    size = at.shape[axis]
    before = np.clip(np.floor(where), 0, size - 2).astype(np.intp)
    shape = [-1 if i == axis else 1 for i in range(at.ndim)]
    part = (where - before).reshape(shape).astype(np.float32)
    low = at.take(before, axis)
    return np.asarray(low + (at.take(before + 1, axis) - low) * part, np.float32)


Line = npt.NDArray[np.float64]
Where = Callable[[Line, int, int], Line]  # (cells of a resized axis, its old size, its new) -> cells of the old axis


def spread(cell: Line, old: int, new: int) -> Line:
    """Over the same stretch of image."""
    return (cell + 0.5) * old / new - 0.5


def asymmetric(cell: Line, old: int, new: int) -> Line:
    """From the centre of the first cell on, as TensorFlow 1 did."""
    return cell * old / new


def align_corners(cell: Line, old: int, new: int) -> Line:
    """From the centre of the first cell to that of the last."""
    return cell * (old - 1) / (new - 1)


CONVENTIONS = {"asymmetric": asymmetric, "align_corners": align_corners}  # the others keep the stretch


def resized(known: Known, node: onnx.NodeProto, i: int) -> Positions:
    """Every axis stretched to its new size; the copies that "nearest" makes of a cell share its stretch of image."""
    old, new, attrs = known.sizes(node.input[0]), known.sizes(node.output[0]), attributes(node)
    convention = attrs.get("coordinate_transformation_mode", "half_pixel")
    if old is None or new is None or len(old) != len(new) or convention == "tf_crop_and_resize":
        return {}
    where = spread if attrs.get("mode", "nearest") == "nearest" else CONVENTIONS.get(convention, spread)
    return kept(known.of(node.input[0]), lambda along: stretched(along, new, where))


def stretched(along: Along, new: Sequence[int], where: Where) -> Along | None:
    """A coordinate whose cells are as many as `new` says."""
    for axis in along.axes:
        size, count = along.at.shape[axis], new[axis]
        if count == size:
            continue
        if count == 1:
            return None
        at = sampled(along.at, axis, where(np.arange(count, dtype=np.float64), size, count))
        coarse = max(along.coarse, abs(along.step)) if count > size else along.coarse
        along = replace(along, step=along.step * size / count, drift=(0.0, 0.0), coarse=coarse)
        along = replace(along, at=at) if where is spread else renewed(along, at)
    return along


SLIDING: dict[str, Rule] = {
    **dict.fromkeys(
        ["Conv", "MaxPool", "AveragePool", "LpPool", "ConvInteger", "QLinearConv", "DeformConv", "FusedConv",
         "QLinearAveragePool", "NhwcMaxPool"], slid),
    **dict.fromkeys(["ConvTranspose", "Resize"], resized),
}  # fmt: skip
