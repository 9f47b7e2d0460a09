"""The steps on maps, and the status of one."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from numpy.testing import assert_allclose, assert_array_equal

from onnxcam.errors import UsageError
from onnxcam.methods import Array, normalize, relu, resize, status

MAPS = npst.arrays(
    np.float32,
    npst.array_shapes(min_dims=2, max_dims=4, max_side=4),
    elements=st.floats(-4, 4, width=32).map(lambda v: 0.0 if abs(v) < 1e-30 else v),
)


def test_relu_by_hand() -> None:
    assert_array_equal(relu(np.array([[-1, 0, 2.5]])), [[0, 0, 2.5]])


# -- normalize --------------------------------------------------------------------------------


def test_normalize_divides_each_row_by_its_own_maximum() -> None:
    maps = np.array([[[1, 2], [4, 0]], [[10, 5], [0, -20]]], np.float32)
    assert_array_equal(normalize(maps), [[[0.25, 0.5], [1, 0]], [[1, 0.5], [0, 0]]])


def test_normalize_signed_divides_by_the_largest_magnitude() -> None:
    assert_array_equal(normalize(np.array([[2, -8, 4]], np.float32), signed=True), [[0.25, -1, 0.5]])


def test_normalize_leaves_a_flat_map_flat() -> None:
    scaled = normalize(np.array([[10.0, 10.1]]))
    assert_allclose(scaled, [[10 / 10.1, 1]])


@pytest.mark.parametrize("value", [0, -3])
def test_normalize_makes_zeros_of_a_row_without_anything_above_zero(value: float) -> None:
    maps = np.array([[value, value], [1, 2]], np.float32)
    assert_array_equal(normalize(maps), [[0, 0], [0.5, 1]])


def test_normalize_keeps_not_a_number_in_its_row() -> None:
    scaled = normalize(np.array([[np.nan, 1], [1, 2]]))
    assert np.isnan(scaled[0]).all()
    assert_array_equal(scaled[1], [0.5, 1])


@given(MAPS)
def test_normalize_has_maximum_one_or_nothing(maps: Array) -> None:
    for row, raw in zip(normalize(maps), maps, strict=True):
        assert row.max() == (1 if raw.max() > 0 else 0)
        assert row.min() >= 0
    for row, raw in zip(normalize(maps, signed=True), maps, strict=True):
        assert np.abs(row).max() == (1 if raw.any() else 0)
        assert_array_equal(np.sign(row[np.abs(raw) > 1e-30]), np.sign(raw[np.abs(raw) > 1e-30]))


@given(MAPS, st.integers(-8, 8))
def test_normalize_does_not_know_the_unit(maps: Array, exponent: int) -> None:
    assert_allclose(normalize(maps * np.float32(2.0**exponent)), normalize(maps), rtol=1e-6, atol=1e-30)


# -- resize -----------------------------------------------------------------------------------


def slow_resize(source: Array, shape: tuple[int, ...]) -> Array:
    """Multilinear interpolation of an array without batch axis, one output element at a time, in plain Python."""
    result = np.zeros(shape)
    for position in np.ndindex(*shape):
        sides = []
        for index, old, new in zip(position, source.shape, shape, strict=True):
            at = min(max((index + 0.5) * old / new - 0.5, 0), old - 1)
            low = math.floor(at)
            sides.append([(low, 1 - (at - low)), (min(low + 1, old - 1), at - low)])
        for corner in itertools.product(*sides):
            weight = math.prod(share for _, share in corner)
            result[position] += weight * source[tuple(index for index, _ in corner)]
    return result


def test_resize_by_hand() -> None:
    # Centres of four half-width samples over two: -0.25, 0.25, 0.75, 1.25; the outer ones are clamped.
    assert_array_equal(resize(np.array([[0, 8]], np.float32), (4,)), [[0, 2, 6, 8]])
    # Down from four to two: between the middles, 0.5 and 2.5, without antialiasing.
    assert_array_equal(resize(np.array([[0, 2, 6, 8]], np.float32), (2,)), [[1, 7]])
    # Two axes.
    assert_array_equal(
        resize(np.array([[[0, 4], [8, 12]]], np.float32), (4, 2)),
        [[[0, 4], [2, 6], [6, 10], [8, 12]]],
    )


@given(st.data(), st.integers(1, 3))
def test_resize_is_the_slow_loop(data: st.DataObject, axes: int) -> None:
    sizes = st.lists(st.integers(1, 5), min_size=axes, max_size=axes).map(tuple)
    old, new = data.draw(sizes), data.draw(sizes)
    maps = np.random.default_rng(data.draw(st.integers(0, 99))).normal(size=(2, *old))
    expected = np.stack([slow_resize(row, new) for row in maps])
    assert_allclose(resize(maps, new), expected, rtol=1e-9, atol=1e-12)


@given(MAPS)
def test_resize_to_its_own_shape_is_the_identity(maps: Array) -> None:
    assert_array_equal(resize(maps, maps.shape[1:]), maps)


@given(MAPS)
def test_resize_stays_between_minimum_and_maximum(maps: Array) -> None:
    resized = resize(maps, [7] * (maps.ndim - 1))
    assert resized.dtype == maps.dtype
    assert resized.min() >= maps.min() - 1e-6
    assert resized.max() <= maps.max() + 1e-6


def test_resize_of_integers_interpolates_too() -> None:
    assert_array_equal(resize(np.array([[0, 8]], np.uint8), (4,)), [[0, 2, 6, 8]])


@pytest.mark.parametrize(
    ("old", "new"), [((2,), (4, 4)), ((1, 2, 2), (0, 4)), ((1, 2, 2), (4, -1)), ((1, 0, 2), (4, 4))]
)
def test_resize_refuses_what_it_cannot_do(old: tuple[int, ...], new: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="cannot be resized"):
        resize(np.ones(old), new)


# -- status -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("raw", "signed", "expected"),
    [
        ([[0.5, -1], [0, 2]], False, "ok"),
        ([[0.5, -1], [0, 2]], True, "ok"),
        ([[0, -1], [-3, -2]], False, "blank"),
        ([[0, -1], [-3, -2]], True, "ok"),
        ([[0, 0], [0, 0]], False, "blank"),
        ([[0, 0], [0, 0]], True, "blank"),
        ([[7, 7], [7, 7]], False, "blank"),
        ([[-7, -7], [-7, -7]], True, "blank"),
        ([[np.nan, 1], [2, 3]], False, "not-finite"),
        ([[np.nan, 1], [2, 3]], True, "not-finite"),
        ([[np.inf, 1], [2, 3]], False, "not-finite"),
        ([[-np.inf, -1], [-2, -3]], False, "not-finite"),
    ],
)
def test_status_by_hand(raw: list[list[float]], signed: bool, expected: str) -> None:
    assert status(np.array(raw, np.float32), signed=signed) == expected


@given(MAPS)
def test_a_map_that_is_ok_has_something_to_show(maps: Array) -> None:
    for raw in maps:
        if status(raw, signed=False) == "ok":
            assert normalize(relu(raw[np.newaxis])).max() == 1
        if status(raw, signed=True) == "blank":
            assert status(raw, signed=False) == "blank"
