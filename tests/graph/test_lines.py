"""Readers of lines of text: at which height a photo is fed where the file leaves it open."""

from __future__ import annotations

import pytest

from onnxcam.graph import find_score, image_input, line_height, load, read_graph
from tests.nets import net, normal

STEPS = "m = ReduceMean<axes=[2],keepdims=0>(r) s = Transpose<perm=[0,2,1]>(m) logits = MatMul(s, fc)"
ONE_ROW = "m = Squeeze(r, two) s = Transpose<perm=[0,2,1]>(m) logits = MatMul(s, fc)"
EVERYWHERE = "f = Reshape(r, flat) s = Transpose<perm=[0,2,1]>(f) logits = MatMul(s, fc)"
WEIGHTS = {"w": normal(4, 3, 3, 3), "fc": normal(4, 5), "two": [2], "flat": [0, 4, -1]}


def height(size: str, conv: str, head: str) -> int | None:
    """The height of lines for a model: a strided convolution, a Relu, and a head of steps."""
    text = f"(float[N,3,{size}] x) => (float[] y) {{ c = Conv<{conv}>(x, w) r = Relu(c) {head} y = Softmax(logits) }}"
    graph = read_graph(load(net(text, WEIGHTS)))
    image = image_input(graph)
    return line_height(graph, find_score(graph, image=image), image)


@pytest.mark.parametrize(
    ("size", "head", "expected"),
    [
        ("H,W", STEPS, 48),
        ("40,W", STEPS, None),  # the file says it
        ("H,100", STEPS, None),
        ("H,W", EVERYWHERE, None),  # a detector's rows
    ],
)
def test_steps_along_the_width_are_a_line(size: str, head: str, expected: int | None) -> None:
    assert height(size, "strides=[2,2]", head) == expected


def test_the_first_height_that_the_model_takes() -> None:
    """Rows 32 pixels apart: a line of 48 has two, which are no single one to squeeze."""
    assert height("H,W", "strides=[32,1],pads=[0,1,0,1]", ONE_ROW) == 32
