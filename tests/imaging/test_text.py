from __future__ import annotations

from onnxcam.imaging.text import clip, drawable, printable, wrap


def test_control_characters_and_bidirectional_marks_do_not_survive() -> None:
    assert printable("a\x1b[31mb\nc\u202ed\x9b\t") == "a?[31mb c?d? "


def test_the_font_gets_only_what_it_can_draw() -> None:
    assert drawable("Brabançon griffon 日本") == "Brabancon griffon ??"


def test_wrap_breaks_between_words_and_within_long_ones() -> None:
    assert wrap("one two three", 7, len) == ["one two", "three"]
    assert wrap("a abcdefgh", 3, len) == ["a", "abc", "def", "gh"]
    assert wrap("", 3, len) == [""]
    assert wrap("ab", 0, len) == ["a", "b"]
    assert wrap("x" * 500, 1000, len) == ["x" * 397 + "..."]


def test_clip_says_that_something_is_missing() -> None:
    assert clip(["one", "two"], 2) == ["one", "two"]
    assert clip(["one", "two two", "three"], 2) == ["one", "two ..."]
