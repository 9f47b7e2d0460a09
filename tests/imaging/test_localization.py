from __future__ import annotations

import numpy as np
import pytest

from onnxcam.imaging import Box, boxes, largest_box


def flood_filled(mask: np.ndarray) -> list[tuple[int, int, int, int, int]]:
    """x0, y0, x1, y1 and size of each 8-connected region, pixel by pixel."""
    seen, found = np.zeros_like(mask), []
    for start in zip(*np.nonzero(mask), strict=True):
        if seen[start]:
            continue
        seen[start], stack, region = True, [start], []
        while stack:
            y, x = stack.pop()
            region.append((y, x))
            for near in ((y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)):
                inside = 0 <= near[0] < mask.shape[0] and 0 <= near[1] < mask.shape[1]
                if inside and mask[near] and not seen[near]:
                    seen[near] = True
                    stack.append(near)
        ys, xs = zip(*region, strict=True)
        found.append((int(min(xs)), int(min(ys)), int(max(xs)) + 1, int(max(ys)) + 1, len(region)))
    return sorted(found, key=lambda region: -region[4])


def test_the_largest_region_comes_first_though_another_is_hotter() -> None:
    heat = np.zeros((6, 8), np.float32)
    heat[0, 0] = 1.0
    heat[2:5, 3:7] = 0.25
    assert boxes(heat) == [Box(3, 2, 7, 5, 0.75), Box(0, 0, 1, 1, 0.25)]
    assert largest_box(heat) == Box(3, 2, 7, 5, 0.75)


def test_the_threshold_is_a_share_of_the_maximum_and_includes_it() -> None:
    heat = np.array([[2.0, 0.5, 0.25]])
    assert largest_box(heat, 0.25) == Box(0, 0, 2, 1, pytest.approx(2.5 / 2.75))  # type: ignore[arg-type]
    assert largest_box(heat, 0.26) == Box(0, 0, 1, 1, pytest.approx(2 / 2.75))  # type: ignore[arg-type]


def test_corners_connect() -> None:
    assert len(boxes(np.eye(5))) == 1
    assert len(boxes(np.eye(5)[:, ::-1])) == 1
    assert len(boxes(np.array([[1, 0, 1], [0, 0, 0], [1, 0, 1.0]]))) == 4


def test_nothing_above_zero_gives_no_box() -> None:
    for heat in (
        np.zeros((3, 4)),
        -np.ones((2, 2)),
        np.zeros((0, 0)),
        np.array([[1, np.nan]]),
        np.array([[1, np.inf]]),
    ):
        assert boxes(heat) == []
        assert largest_box(heat) is None


def test_a_threshold_of_zero_still_leaves_out_zeros() -> None:
    assert largest_box(np.array([[0, 1.0, 0]]), 0) == Box(1, 0, 2, 1, 1.0)


@pytest.mark.parametrize("density", [0.1, 0.35, 0.5, 0.9])
@pytest.mark.parametrize("seed", range(5))
def test_regions_are_those_of_a_flood_fill(density: float, seed: int) -> None:
    mask = np.random.default_rng(seed).random((17, 23)) < density
    found = boxes(mask.astype(np.float32))
    expected = flood_filled(mask)
    assert sorted((b.x0, b.y0, b.x1, b.y1, round(b.score * mask.sum())) for b in found) == sorted(expected)
    assert round(found[0].score * mask.sum()) == expected[0][4]


def test_a_spiral_is_one_region() -> None:
    mask = np.zeros((41, 41))
    y, x, heading, length = 20, 20, (0, 1), 2
    while 0 <= y < 41 and 0 <= x < 41:
        for _ in range(length):
            if 0 <= y < 41 and 0 <= x < 41:
                mask[y, x] = 1
            y, x = y + heading[0], x + heading[1]
        heading, length = (heading[1], -heading[0]), length + 2
    assert len(boxes(mask)) == 1
