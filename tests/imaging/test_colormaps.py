from __future__ import annotations

import pytest

from onnxcam.errors import UsageError
from onnxcam.imaging import COLORMAPS, colormap


@pytest.mark.parametrize(
    ("name", "at", "rgb"),
    [
        # as matplotlib 3.11 has them
        ("viridis", 0, (68, 1, 84)),
        ("viridis", 64, (59, 82, 139)),
        ("viridis", 128, (33, 145, 140)),
        ("viridis", 255, (253, 231, 37)),
        ("jet", 64, (0, 128, 255)),
        ("jet", 128, (125, 255, 122)),
        ("jet", 200, (255, 119, 0)),
        ("turbo", 64, (40, 188, 235)),
        ("turbo", 128, (164, 252, 60)),
        ("turbo", 200, (244, 102, 23)),
        ("inferno", 128, (188, 55, 84)),
        ("inferno", 200, (251, 157, 7)),
    ],
)
def test_colours_are_those_known_by_the_name(name: str, at: int, rgb: tuple[int, int, int]) -> None:
    assert max(abs(int(a) - b) for a, b in zip(colormap(name)[at], rgb, strict=True)) <= 3


@pytest.mark.parametrize("name", COLORMAPS)
def test_a_table_has_256_colours(name: str) -> None:
    table = colormap(name)
    assert table.shape == (256, 3)
    assert table.dtype == "uint8"


def test_diverging_is_blue_below_white_at_and_red_above_zero() -> None:
    table = colormap("diverging").astype(int)
    assert (table[127:129] == 255).all()
    assert (table[:127, 2] > table[:127, 0]).all()
    assert (table[129:, 0] > table[129:, 2]).all()


def test_an_unknown_name_is_refused_with_the_names() -> None:
    with pytest.raises(UsageError, match=r"'virdis'; did you mean viridis\?.*jet, turbo"):
        colormap("virdis")
