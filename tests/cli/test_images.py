"""Files, folders and patterns become images in the order of the arguments."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from onnxcam.cli.images import expand
from onnxcam.errors import ImageError
from onnxcam.imaging import decode, save_png


@pytest.fixture(autouse=True)
def tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in ("in/b.png", "in/a.JPG", "in/notes.txt", "in/.hidden.png", "in/deep/c.webp", "odd[1]*.png", "odd1.png"):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    Path("none").mkdir()
    Path("in/folder.png").mkdir()


def paths(*arguments: str) -> list[str]:
    return [str(found).replace("\\", "/") for found in expand(arguments)]


def test_files_are_taken_as_named_even_when_they_are_missing() -> None:
    assert paths("in/notes.txt", "missing.png") == ["in/notes.txt", "missing.png"]


def test_a_folder_gives_its_images_by_name_and_no_others() -> None:
    assert paths("in") == ["in/a.JPG", "in/b.png"]


def test_a_link_in_a_circle_is_one_of_a_folders_images() -> None:
    """Which is refused when it is read; the others go on."""
    Path("in/circle.png").symlink_to("circle.png")
    assert paths("in") == ["in/a.JPG", "in/b.png", "in/circle.png"]
    with pytest.raises(ImageError, match=r"circle\.png is a link that leads to no file"):
        decode("in/circle.png")


def test_a_pattern_gives_files_in_order_whatever_they_are() -> None:
    assert paths("in/*") == ["in/a.JPG", "in/b.png", "in/notes.txt"]
    assert paths("in/*.png", "in/?.JPG") == ["in/b.png", "in/a.JPG"]


def test_two_stars_reach_into_folders() -> None:
    assert paths("in/**/*.webp") == ["in/deep/c.webp"]


def test_a_pattern_of_folders_gives_their_images() -> None:
    assert paths("i[n]") == ["in/a.JPG", "in/b.png"]


def test_a_name_that_exists_wins_over_the_pattern_it_spells() -> None:
    assert paths("odd[1]*.png") == ["odd[1]*.png"]


@pytest.mark.parametrize("argument", ["none", "in/x*.png", "non[e]"])
def test_where_there_is_none_the_error_stands_in_its_place(argument: str) -> None:
    first, error, last = expand(["odd1.png", argument, "in/b.png"])
    assert (first, last) == ("odd1.png", "in/b.png")
    assert isinstance(error, ImageError)
    assert argument in str(error)


def test_what_onnxcam_wrote_is_left_out_unless_it_is_named() -> None:
    save_png(Image.new("RGB", (4, 4)), "in/b.gradcam.png")
    Path("ours").mkdir()
    save_png(Image.new("RGB", (4, 4)), "ours/b.gradcam.png")
    assert paths("in") == ["in/a.JPG", "in/b.png"]
    assert paths("in/*.png") == ["in/b.png"]
    assert paths("in/b.gradcam.png") == ["in/b.gradcam.png"]
    assert [str(error).partition(":")[0] for error in expand(["ours", "ours/*"])] == [
        "the folder ours holds no image but onnxcam's own", "no image matches ours/*",
    ]  # fmt: skip
