"""What tools/parity.py makes of its sheets."""

from __future__ import annotations

from typing import Any

import parity


def file(state: str, why: str = "", **more: Any) -> dict[str, Any]:
    return {"state": state, "why": why, **more}


def costs(gradient: float, torch: float) -> dict[str, Any]:
    return {"gradient_ms": gradient, "forward_ms": 2.0, "torch_ms": torch, "nodes": 10, "added": 25, "build_s": 0.5}


SHEETS = [
    {
        "net": "own.b",
        "files": {
            "ts": file(
                "right", onnx_ad="wrong", errors={"image": 1e-6, "layer a b": 0.0, "layer c": 0.0}, **costs(4.0, 8.0)
            ),
            "ts free": file("right", onnx_ad="refused: Conv needs a declared input shape", **costs(10.0, 8.0)),
        },
    },
    {
        "net": "own.a",
        "files": {
            "ts": file("wrong", "image 3e-02, bound 1e-04", onnx_ad="right", **costs(6.0, 4.0)),
            "ts free": file("not exported", "TypeError: no"),
        },
    },
]


def test_states_costs_and_exceptions_are_gathered() -> None:
    figures = parity.gathered(SHEETS)
    assert figures["nets"] == 2
    assert figures["states"] == {"ts": {"right": 1, "wrong": 1}, "ts free": {"right": 1, "not exported": 1}}
    assert figures["peer"] == {"ts": {"right": 1, "wrong": 1}, "ts free": {"refused": 1}}
    assert figures["costs"] == {
        "gradient / forward": {"median": 3.0, "worst": 5.0},  # 4/2, 6/2, 10/2
        "gradient / torch": {"median": 1.25, "worst": 1.5},  # 4/8, 10/8, 6/4
        "nodes added / nodes": {"median": 2.5, "worst": 2.5},
        "build, s": {"median": 0.5, "worst": 0.5},
    }
    assert figures["compared"] == {"image": 1, "layer": 2}
    assert figures["exceptions"] == ["own.a, ts: wrong, image 3e-02, bound 1e-04"]


def test_the_tables_show_every_state_that_occurs() -> None:
    text = parity.markdown(parity.gathered(SHEETS))
    head = "| export | right | wrong | not exported | onnx-ad right | onnx-ad wrong | onnx-ad refused |"
    assert head in text
    assert "| ts | 1 | 1 | 0 | 1 | 1 | 0 |" in text
    assert "| ts free | 1 | 0 | 1 | 0 | 0 | 1 |" in text
    assert "| gradient / forward | 3.00 | 5.00 |" in text
    assert "2 networks, onnxcam " in text
    assert "Compared: image 1, layer 2." in text
    assert "- own.a, ts: wrong, image 3e-02, bound 1e-04" in text
