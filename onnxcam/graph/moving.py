"""Positions behind what moves elements and leaves them as they are: reshapes, slices, rolls, concatenations, pads."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import onnx

from onnxcam.graph.nodes import attributes, optional
from onnxcam.graph.paths import depends_on_input
from onnxcam.graph.positions import (
    LARGEST,
    Along,
    Known,
    Positions,
    Rule,
    compressed,
    kept,
    renewed,
    taken,
    together,
)
from onnxcam.graph.slicing import stretches
from onnxcam.graph.sliding import Windows, monotone, over, resized, spread, stretched
from onnxcam.graph.types import Sizes


def transposed(known: Known, node: onnx.NodeProto, i: int) -> Positions:
    """Axes in another order."""
    perm = attributes(node).get("perm")
    return kept(known.of(node.input[0]), lambda along: replace(along, at=along.at.transpose(perm)))


def reshaped(known: Known, node: onnx.NodeProto, i: int) -> Positions:
    """The same elements in row-major order under another shape."""
    old, new = known.sizes(node.input[0]), known.sizes(node.output[0])
    if old is None or new is None or math.prod(old) != math.prod(new):
        return {}
    return side_by_side(kept(known.of(node.input[0]), lambda along: in_shape(along, old, new)))


def side_by_side(here: Positions) -> Positions:
    """Copies of a cell that lie side by side share its stretch of image, as those of a nearest Resize do.

    Along an axis on which two coordinates change, what one repeats the other tells apart: these are no copies.
    """
    changing = [axis for along in here.values() for axis in along.axes]
    alone = {label for label, along in here.items() if [changing.count(axis) for axis in along.axes] == [1]}
    return {label: shared(along) if label in alone else along for label, along in here.items()}


def shared(along: Along) -> Along:
    """A line of cells, so many copies of each."""
    line, (axis,) = along.at.ravel(), along.axes
    lengths = np.diff([0, *(np.flatnonzero(np.diff(line)) + 1), len(line)])
    once = replace(along, at=along.at.take(np.arange(0, len(line), lengths[0]), axis))
    if lengths[0] == 1 or len(set(lengths)) > 1 or not monotone(once.at):
        return along
    return stretched(once, along.at.shape, spread) or along


def in_shape(along: Along, old: Sizes, new: Sizes) -> Along | None:
    """A coordinate of a value of shape `old` under the shape `new`; only groups of axes that it changes on unfold."""
    full, result = [1] * len(old), [1] * len(new)
    for before, behind in matched(old, new):
        if any(along.at.shape[axis] > 1 for axis in before):
            for axis in before:
                full[axis] = old[axis]
            for axis in behind:
                result[axis] = new[axis]
    if math.prod(full) > LARGEST:
        return None
    return replace(along, at=compressed(np.broadcast_to(along.at, full).reshape(result)))


def matched(old: Sizes, new: Sizes) -> list[tuple[list[int], list[int]]]:
    """The smallest groups of neighbouring axes that hold as many elements in one shape as in the other."""
    groups: list[tuple[list[int], list[int]]] = []
    i = j = 0
    while i < len(old) and j < len(new):
        before, behind, a, b = [i], [j], old[i], new[j]
        while a != b:
            if a < b:
                i += 1
                before.append(i)
                a *= old[i]
            else:
                j += 1
                behind.append(j)
                b *= new[j]
        groups.append((before, behind))
        i, j = i + 1, j + 1
    if groups:  # axes of size 1 at the end
        groups[-1][0].extend(range(i, len(old)))
        groups[-1][1].extend(range(j, len(new)))
    return groups


def depth_to_space(known: Known, node: onnx.NodeProto, i: int) -> Positions:
    """Channels spread out to a block of pixels each: where they have places of their own these, else shares of one."""
    here, old, attrs = known.of(node.input[0]), known.sizes(node.input[0]), attributes(node)
    new = known.sizes(node.output[0])
    if old is None or new is None or not any(along.at.shape[1] > 1 for along in here.values()):
        return resized(known, node, i)
    n, c, h, w = old
    block = attrs["blocksize"]
    crd = attrs.get("mode", "DCR") == "CRD"
    parted = (n, c // block**2, block, block, h, w) if crd else (n, block, block, c // block**2, h, w)
    order = (0, 1, 4, 2, 5, 3) if crd else (0, 3, 4, 1, 5, 2)
    return kept(here, lambda along: rearranged(along, old, parted, order, new))


def space_to_depth(known: Known, node: onnx.NodeProto, i: int) -> Positions:
    """The pixels of each block laid over each other in the channels."""
    old, new = known.sizes(node.input[0]), known.sizes(node.output[0])
    if old is None or new is None:
        return {}
    n, c, h, w = old
    block = attributes(node)["blocksize"]
    parted = (n, c, h // block, block, w // block, block)
    return kept(known.of(node.input[0]), lambda along: rearranged(along, old, parted, (0, 3, 5, 1, 2, 4), new))


def rearranged(along: Along, old: Sizes, parted: Sizes, order: Sizes, new: Sizes) -> Along | None:
    """A coordinate reshaped, transposed and reshaped again."""
    unfolded = in_shape(along, old, parted)
    if unfolded is None:
        return None
    turned = replace(unfolded, at=unfolded.at.transpose(order))
    return in_shape(turned, tuple(parted[axis] for axis in order), new)


def tiled(known: Known, node: onnx.NodeProto, i: int) -> Positions:
    """Repeated along axes."""
    times = known.graph.constant(node.input[1])
    if times is None:
        return {}

    def repeated(along: Along) -> Along:
        here = [int(t) if size > 1 else 1 for t, size in zip(times, along.at.shape, strict=True)]
        return replace(along, at=np.tile(along.at, here))

    return kept(known.of(node.input[0]), repeated)


def sliced(known: Known, node: onnx.NodeProto, i: int) -> Positions:
    """A stretch along some axes, every so many elements, perhaps backwards."""
    old, parts = known.sizes(node.input[0]), stretches(node, known.graph.constant)
    if old is None or parts is None:
        return {}
    here = known.of(node.input[0])
    for part in parts:
        at, step = part.axis % len(old), part.step
        index = np.arange(old[at])[part.of(old[at])]
        if step > 1 and len(index) and index[0] < step and index[-1] + step >= old[at]:  # as windows of one cell
            window = Windows(1, step, int(index[0]))
            here = kept(here, lambda a, at=at, window=window, index=index: over(a, at, window, len(index)))  # type: ignore[misc]
        else:
            here = kept(here, lambda a, at=at, index=index: taken(a, at, index))  # type: ignore[misc]
    return here


def gathered(known: Known, node: onnx.NodeProto, i: int) -> Positions:
    """Elements picked along an axis by fixed numbers."""
    old, index = known.sizes(node.input[0]), known.graph.constant(node.input[1])
    if old is None or index is None or node.input[0] not in known.found:
        return {}
    axis = attributes(node).get("axis", 0) % len(old)
    picked = np.asarray(index, np.intp) % old[axis]
    return side_by_side(kept(known.of(node.input[0]), lambda along: taken(along, axis, picked)))


def split_apart(known: Known, node: onnx.NodeProto, i: int) -> Positions:
    """Parts along an axis, one after the other."""
    axis = attributes(node).get("axis", 0)
    parts = [known.sizes(name) for name in node.output[: i + 1]]
    lengths = [part[axis] for part in parts if part is not None and -len(part) <= axis < len(part)]
    if len(lengths) <= i:
        return {}
    index = np.arange(sum(lengths[:-1]), sum(lengths))
    old = known.sizes(node.input[0]) or ()
    return kept(known.of(node.input[0]), lambda along: taken(along, axis % len(old), index))


def concatenated(known: Known, node: onnx.NodeProto, i: int) -> Positions:
    """Parts along an axis. Along the channels they lie over each other; along positions, what has none joins them.

    Bars beside an image, made of nothing that the model is fed, are padding.
    """
    names = node.input[2::3] if node.op_type == "QLinearConcat" else node.input  # scale and zero point behind each
    sizes, parts = [known.sizes(name) for name in names], [known.of(name) for name in names]
    rank = len(known.sizes(node.output[0]) or ())
    axis = attributes(node).get("axis", 0) % max(rank, 1)
    if any(size is None for size in sizes) or rank == 0:
        return {}
    placed = [part for part in parts if part]
    lengths = [size[axis] for size in sizes if size is not None]
    changing = [along.axes for part in placed for along in part.values() if along.axes]
    if not any(axis in axes for axes in changing) and (changing or not partly_placeless(placed)):
        over = together(placed, rank)
        if over:
            return over
    shown = [i for i, name in enumerate(names) if depends_on_input(known.graph, name)]
    if len(shown) == 1 and is_side(parts[shown[0]], axis):
        index = np.arange(-sum(lengths[: shown[0]]), sum(lengths[shown[0] :]))
        return kept(parts[shown[0]], lambda along: extended(along, axis, index, joint=False))
    labels = dict.fromkeys(label for part in parts for label in part)
    return {label: in_line([part.get(label) for part in parts], lengths, axis, rank) for label in labels}


def is_side(here: Positions, axis: int) -> bool:
    """Whether an axis is one of several along each of which another coordinate changes: of an image, not of tokens."""
    changing = [tuple(along.axes) for along in here.values()]
    return len(changing) > 1 and len(set(changing)) == len(changing) and (axis,) in changing


def partly_placeless(parts: Sequence[Positions]) -> bool:
    """Whether one of several parts has no places, and others have."""
    held = {along.placeless for part in parts for along in part.values()}
    return len(held) == 2


def in_line(parts: Sequence[Along | None], lengths: Sequence[int], axis: int, rank: int) -> Along:
    """One coordinate of parts side by side; NaN for those that have none."""
    held = [part for part in parts if part is not None]
    shape = np.broadcast_shapes(*((*part.at.shape[:axis], 1, *part.at.shape[axis + 1 :]) for part in held))
    blank = np.full([1] * rank, np.nan, np.float32)
    arrays = [
        np.broadcast_to(part.at if part is not None else blank, (*shape[:axis], length, *shape[axis + 1 :]))
        for part, length in zip(parts, lengths, strict=True)
    ]
    placed = [part for part in held if not part.placeless] or held
    up = placed[0].start <= placed[0].end
    starts, ends = [part.start for part in placed], [part.end for part in placed]
    first, last = (min(starts), max(ends)) if up else (max(starts), min(ends))
    return Along(
        compressed(np.concatenate(arrays, axis)), first, last, placed[0].step, all(part.firm for part in placed)
    )


def padded(known: Known, node: onnx.NodeProto, i: int) -> Positions:
    """Cells added around, going on as the outermost ones do (they show no image: the stretch stays), or cut away."""
    old = known.sizes(node.input[0])
    pads, chosen = known.graph.constant(node.input[1]), optional(node, 3)
    axes = known.graph.constant(chosen) if chosen else np.arange(len(old or ()))
    if old is None or pads is None or axes is None:
        return {}
    which = [int(axis) % len(old) for axis in axes.ravel()]
    here = known.of(node.input[0])
    joint = {axis for axis in range(len(old)) if sum(axis in along.axes for along in here.values()) > 1}
    for axis, before, behind in zip(which, pads[: len(which)], pads[len(which) :], strict=True):
        index = np.arange(-int(before), old[axis] + int(behind))
        here = kept(here, lambda a, axis=axis, index=index: extended(a, axis, index, joint=axis in joint))  # type: ignore[misc]
    return here


def extended(along: Along, axis: int, index: npt.NDArray[np.intp], *, joint: bool) -> Along:
    """Cells of a line that goes on beyond its ends; beyond those of a line of tokens (`joint`) there is no place."""
    size = along.at.shape[axis]
    if size == 1:
        return along
    at = along.at.take(np.clip(index, 0, size - 1), axis)
    shape = [-1 if i == axis else 1 for i in range(at.ndim)]
    over = (index - np.clip(index, 0, size - 1)).reshape(shape).astype(np.float32)
    at = np.where(over != 0, np.float32(np.nan), at) if joint else at + over * np.float32(along.step)
    if index[0] > 0 or index[-1] < size - 1:
        return renewed(along, at)
    first, last = (along.drift[0] + (along.drift[1] - along.drift[0]) * float(i) / (size - 1) for i in index[[0, -1]])
    return replace(along, at=at, drift=(first, last))


MOVES: dict[str, Rule] = {
    "Transpose": transposed, "Tile": tiled, "Slice": sliced, "Gather": gathered,
    "Split": split_apart, "Concat": concatenated, "QLinearConcat": concatenated, "Pad": padded,
    "DepthToSpace": depth_to_space, "SpaceToDepth": space_to_depth,
    **dict.fromkeys(["Reshape", "Flatten", "Squeeze", "Unsqueeze"], reshaped),
}  # fmt: skip
