"""Small pieces of what is printed: tables, options, numbers, clauses."""

from __future__ import annotations

import json
import math
from typing import Any

import click
import pytest

from onnxcam.cli.options import as_number, as_numbers, as_size, as_width_and_height
from onnxcam.cli.record import finite, json_line
from onnxcam.cli.summary import made, percent, steps
from onnxcam.cli.table import table
from onnxcam.imaging import named_preprocess


def test_a_table_aligns_words_left_and_numbers_right() -> None:
    text = table([("cat", 7, "x"), ("a dog", 123, "")], head=("who", "n", "why"), indent="  ")
    assert text == "  who      n  why\n  cat      7  x\n  a dog  123"


@pytest.mark.parametrize(("on_a_terminal", "width"), [(True, 60), (False, 1000)])
def test_a_table_is_printable_and_keeps_its_shape(
    monkeypatch: pytest.MonkeyPatch, on_a_terminal: bool, width: int
) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: on_a_terminal, raising=False)
    lines = table([("\x1b[31m", 1), ("y" * 2000, 2)]).splitlines()
    assert lines[0].startswith("?[31m ")
    assert [len(line) for line in lines] == [width + 3, width + 3]
    assert "..." in lines[1]
    assert table([]) == ""


def test_names_are_whole_where_no_terminal_shows_them() -> None:
    assert table([("layer" * 30, "why")]) == "layer" * 30 + "  why"


@pytest.mark.parametrize(("text", "value"), [("0.5", 0.5), ("1/255", 1 / 255), ("-3", -3), ("1e-2", 0.01)])
def test_numbers_and_fractions(text: str, value: float) -> None:
    assert as_number(text) == value


def test_numbers_of_channels_and_sizes() -> None:
    assert as_numbers("0.5, 1/4,2") == (0.5, 0.25, 2)
    assert as_size("224") == 224
    assert as_size("320X240") == (320, 240)
    assert as_width_and_height("224") == (224, 224)
    assert as_width_and_height("3x2") == (3, 2)


@pytest.mark.parametrize("text", ["", "1x", "x", "1x2x3", "-1", "1.5", "²", "9999999"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter, match="no size"):
        as_size(text)


@pytest.mark.parametrize("text", ["", "a", "1/0", "1/2/3"])
def test_what_is_no_number(text: str) -> None:
    with pytest.raises(click.BadParameter, match="no number"):
        as_number(text)


def test_json_has_no_nan_and_no_control_characters() -> None:
    assert [finite(value) for value in (1.5, math.nan, math.inf, None)] == [1.5, None, None, None]
    line = json_line({"label": "\x1b\x7f\udcff é"})
    assert line.isascii()
    assert line.isprintable()
    assert json.loads(line) == {"label": "\x1b\x7f\udcff é"}
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_line({"score": math.nan})


def record(**changes: Any) -> dict[str, Any]:
    target = {"name": "class 7", "index": 7, "label": None, "score": 1.0, "probability": None}
    base = {
        "method": "gradcam",
        "layer": "relu5",
        "map": {"shape": [7, 7], "min": -1.0, "max": 0.0},
        "target": target,
        "top": [target],
        "status": "ok",
    }
    return {**base, "gradient": "symbolic", "placed": "followed", **changes}


def test_a_map_is_told_with_what_to_think_of_it() -> None:
    assert made(record()) == "Grad-CAM of class 7 at relu5, 7 x 7: ok"
    assert made(record(placed="by shape")).endswith("at relu5, 7 x 7, placed by shape: ok")
    assert made(record(status="blank")).endswith(": blank: no position speaks for it at this layer")
    zero, even = ({"shape": [7, 7], "min": value, "max": value} for value in (0.0, 2.0))
    for method in ("gradcam", "saliency", "guidedbackprop"):  # a sum over channels may cancel: more is not known
        told = made(record(status="blank", method=method, map=zero))
        assert ": blank: the map is zero everywhere: no gradient, as where a probability is certain" in told
        assert told.endswith(", or its parts cancel: try another method or layer")
    assert made(record(status="blank", map=even)).endswith(": blank: the map is the same everywhere")
    assert "probability within 1e-6 of 0 or 1" in made(record(status="saturated"))
    assert made(record(status="not-finite", gradient="numeric")) == (
        "Grad-CAM of class 7 at relu5, 7 x 7, numeric gradient: not-finite: the map holds NaN or infinity"
    )


def test_what_is_explained_has_its_number_where_no_row_says_it() -> None:
    assert made(record(top=[])) == "Grad-CAM of class 7 = 1 at relu5, 7 x 7: ok"
    likely = {"name": "cat (8)", "index": None, "label": None, "score": 123.456, "probability": 0.875}
    assert made(record(target=likely)) == "Grad-CAM of cat (8) = 123.5, 87.5 %, at relu5, 7 x 7: ok"
    assert made(record(target={**likely, "score": None})) == "Grad-CAM of cat (8) at relu5, 7 x 7: ok"


def test_percentages() -> None:
    assert [percent(value) for value in (None, 0.7653, 1.0)] == ["", "76.5 %", "100.0 %"]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "imagenet",
            "short side 256 bilinear, crop 224x224, RGB, 0..1, minus 0.485 0.456 0.406, over 0.229 0.224 0.225",
        ),
        ("tf", "exact 224x224 bilinear, RGB, times 0.00784314, minus 1"),
        ("raw", "exact 224x224 bilinear, RGB, 0..255"),
    ],
)
def test_a_recipe_in_words(name: str, text: str) -> None:
    assert steps(named_preprocess(name, size=(224, 224), channels=3)) == text
