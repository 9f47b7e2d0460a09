"""Names of what is written."""

from __future__ import annotations

import pytest

from onnxcam.cli.naming import FileStems, safe_stem, several, slug, unique_stems
from onnxcam.targets import ClassTarget, ElementTarget, WeightedTarget


@pytest.mark.parametrize(
    ("image", "stem"),
    [
        ("a/photo.of.me.png", "photo.of.me"),
        ("grün 日本.jpg", "grün 日本"),
        ('a<b>c:d"e|f?g*h.png', "a_b_c_d_e_f_g_h"),
        ("x\x1b[2J\u202e\udcff.png", "x_[2J__"),
        ("", "image"),
        (".png", ".png"),
        ("é" * 150 + ".png", "é" * 100),
    ],
)
def test_a_stem_is_what_every_file_system_takes(image: str, stem: str) -> None:
    assert safe_stem(image) == stem


def test_stems_are_unique_in_the_order_of_the_images() -> None:
    images = ["a/pic.png", "b/pic.png", "pic_2.png", "c/pic.png", "PIC.bmp", "other.png"]
    assert list(unique_stems(images)) == ["pic", "pic_2", "pic_2_2", "pic_3", "PIC_4", "other"]


def test_two_spellings_of_one_accent_are_one_name() -> None:
    assert list(unique_stems(["caf\u00e9.png", "cafe\u0301.png"])) == ["caf\u00e9", "cafe\u0301_2"]


@pytest.mark.parametrize(
    ("targets", "many"),
    [([], False), (["7"], False), (["top:1"], False), (["top:2"], True), (["top:10"], True), (["1", "2"], True)],
)
def test_the_index_belongs_into_the_name_where_more_may_come(targets: list[str], many: bool) -> None:
    assert several(targets) is many


def test_the_parts_of_a_name() -> None:
    assert FileStems("pic", with_target=False).of(ClassTarget(7, "cat"), "gradcam") == "pic.gradcam"
    assert FileStems("pic", with_target=True).of(ClassTarget(7, "cat"), "gradcam++") == "pic.7.gradcam++"


def test_names_alike_are_told_apart_the_same_way_for_every_method() -> None:
    stems = FileStems("pic", with_target=True)
    alike = [ElementTarget("1,2"), ElementTarget("1:2")]
    found = [stems.of(target, method) for method in ("gradcam", "saliency") for target in alike]
    assert found == [
        "pic.score-1-2.gradcam",
        "pic.score-1-2_2.gradcam",
        "pic.score-1-2.saliency",
        "pic.score-1-2_2.saliency",
    ]
    assert stems.of(ElementTarget("1,2"), "gradcam") == "pic.score-1-2.gradcam_2"  # another of the very same name


def test_a_target_without_index_goes_by_its_name() -> None:
    assert slug(WeightedTarget((1.0, -1.0), "Cats, not Dogs v1.0")) == "cats-not-dogs-v1-0"
    assert slug(WeightedTarget((1.0,), "猫")) == "target"
