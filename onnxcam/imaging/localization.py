"""Boxes around what a map points at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.intp]


@dataclass(frozen=True)
class Box:
    """A half-open pixel rectangle: x0 <= x < x1, y0 <= y < y1.

    Attributes:
        score: the share of the map's total heat that lies in the box's component, 0..1.
    """

    x0: int
    y0: int
    x1: int
    y1: int
    score: float


def boxes(heatmap: npt.NDArray[np.floating], *, threshold: float = 0.15) -> list[Box]:
    """Weakly supervised localization: a box around each connected region of at least `threshold` of the maximum.

    heatmap: (H, W), not negative. Regions are 8-connected; the one of most pixels comes first (ties: the first in
    scan order) and is the paper's box. Empty where nothing is above zero, or the map is not finite.
    Selvaraju et al. 2019 (Grad-CAM), section 4.1.
    """
    peak = heatmap.max(initial=0)
    if not (0 < peak < np.inf and np.isfinite(heatmap.min())):
        return []
    mask = (heatmap >= threshold * peak) & (heatmap > 0)
    rows, starts, ends = _runs(mask)
    region = _components(len(rows), *_touching(rows, starts, ends, mask.shape[1]))
    count = int(region.max()) + 1
    heat_before = np.concatenate([[0.0], np.cumsum(heatmap, dtype=np.float64)])
    at = rows * mask.shape[1]
    heat = np.bincount(region, heat_before[at + ends] - heat_before[at + starts], count) / heat_before[-1]
    x0, y0 = np.full((2, count), max(mask.shape))
    x1, y1 = np.zeros((2, count), np.intp)
    np.minimum.at(x0, region, starts)
    np.minimum.at(y0, region, rows)
    np.maximum.at(x1, region, ends)
    np.maximum.at(y1, region, rows + 1)
    order = np.argsort(-np.bincount(region, ends - starts, count), kind="stable")
    return [Box(int(x0[i]), int(y0[i]), int(x1[i]), int(y1[i]), float(heat[i])) for i in order]


def largest_box(heatmap: npt.NDArray[np.floating], threshold: float = 0.15) -> Box | None:
    """The box around the largest region, the paper's; None where nothing is above zero."""
    return next(iter(boxes(heatmap, threshold=threshold)), None)


def _runs(mask: npt.NDArray[np.bool_]) -> tuple[Indices, Indices, Indices]:
    """Row, first column and column behind the last of every horizontal run of True, in scan order."""
    edges = np.diff(np.pad(mask, ((0, 0), (1, 1))).astype(np.int8), axis=1)
    rows, starts = np.nonzero(edges == 1)
    return rows, starts, np.nonzero(edges == -1)[1]


def _touching(rows: Indices, starts: Indices, ends: Indices, width: int) -> tuple[Indices, Indices]:
    """Pairs of runs in neighbouring rows that share a side or a corner.

    Runs of a row are sorted, so those that a run touches in the row below are one stretch: from the first that ends
    at its start or later to the last that starts at its end or before.
    """
    pitch = width + 1
    first = np.searchsorted(rows * pitch + ends, (rows + 1) * pitch + starts, side="left")
    last = np.searchsorted(rows * pitch + starts, (rows + 1) * pitch + ends, side="right")
    counts = np.maximum(last - first, 0)
    above = np.repeat(np.arange(len(rows)), counts)
    within = np.arange(len(above)) - np.repeat(np.cumsum(counts) - counts, counts)
    return above, first[above] + within


def _components(count: int, one: Indices, other: Indices) -> Indices:
    """A number 0, 1, ... for each of `count` nodes: the component it is in, by its first node.

    Hook the larger root below the smaller along every edge, shorten the chains, repeat (Shiloach and Vishkin 1982).
    """
    root = np.arange(count)
    while np.any(unequal := root[one] != root[other]):
        a, b = root[one[unequal]], root[other[unequal]]
        np.minimum.at(root, np.maximum(a, b), np.minimum(a, b))
        while np.any(root[root] != root):
            root = root[root]
    return np.unique(root, return_inverse=True)[1].reshape(-1)
