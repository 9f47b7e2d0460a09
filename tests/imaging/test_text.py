from __future__ import annotations

from PIL import ImageFont

from onnxcam.imaging import text
from onnxcam.imaging.text import clip, drawable, printable, wrap


def test_control_characters_and_bidirectional_marks_do_not_survive() -> None:
    assert printable("a\x1b[31mb\nc\u202ed\x9b\t") == "a?[31mb c?d? "


def test_the_font_gets_only_what_it_can_draw() -> None:
    assert drawable("Brabançon griffon 日本") == "Brabancon griffon ??"
    assert drawable("e\u0301té \u2013 Straße, 20 °C \u2018œuf\u2019") == "ete - Stra?e, 20 °C \u2018?uf\u2019"


def test_the_font_has_a_glyph_for_all_that_it_gets() -> None:
    font = ImageFont.load_default(size=20)
    missing = bytes(font.getmask("\uffff"))
    assert bytes(font.getmask("é")) == missing
    assert [c for c in text._FONT if bytes(font.getmask(c)) == missing] == []


def test_wrap_breaks_between_words_and_within_long_ones() -> None:
    assert wrap("one two three", 7, len) == ["one two", "three"]
    assert wrap("a abcdefgh", 3, len) == ["a", "abc", "def", "gh"]
    assert wrap("", 3, len) == [""]
    assert wrap("ab", 0, len) == ["a", "b"]
    assert wrap("x" * 500, 1000, len) == ["x" * 397 + "..."]


def test_clip_says_that_something_is_missing() -> None:
    assert clip(["one", "two"], 2) == ["one", "two"]
    assert clip(["one", "two two", "three"], 2) == ["one", "two ..."]


def test_what_is_printable_is_not_taken_apart() -> None:
    text = "größe 日本 " * 3
    assert printable(text) is text
