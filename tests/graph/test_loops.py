"""Shapes of what loops give out."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from onnxcam.graph import Shape
from tests.graph.building import graph_of
from tests.nets import net, normal, run

GIVEN: dict[str, Any] = {"n": np.array(3), "t": np.array(True), "w": normal(3, 3), "one": normal(1, 3)}


def model(body: str, size: str = "2,3") -> onnx.ModelProto:
    """A loop over state x that `body` makes e of, and a product behind it."""
    return net(f"""(float[{size}] x) => (float[A,B] y) {{
  s = Loop (n, t, x) <body = step (int64 i, bool c, float[P,Q] a) => (bool d, float[R,S] e) {{
    d = Identity(c)
    {body}
  }}>
  y = MatMul(s, w)
}}""", GIVEN)  # fmt: skip


@pytest.mark.parametrize(
    ("body", "size", "state", "product"),
    [
        ("e = Tanh(a)", "2,3", (2, 3), (2, 3)),
        ("e = Tanh(a)", "N,3", ("N", 3), ("N", 3)),
        ("e = MatMul(a, w)", "N,3", ("N", 3), ("N", 3)),
        ("e = Concat<axis=0>(a, one)", "2,3", (None, 3), (None, 3)),
        ("e = Concat<axis=0>(a, one)", "N,3", (None, 3), (None, 3)),
        ("z = Sub(i, i) e = Gather<axis=0>(a, z)", "2,3", None, None),  # loses an axis in every step
    ],
)
def test_a_state_has_the_sizes_that_no_step_changes(
    body: str, size: str, state: Shape | None, product: Shape | None
) -> None:
    def settled(name: str) -> Shape | None:
        shape = graph.shape(name)
        return shape and tuple(None if str(dim).startswith("unk__") else dim for dim in shape)

    graph = graph_of(model(body, size))
    assert (settled("s"), settled("y")) == (state, product)


def test_the_sizes_are_those_that_are_computed() -> None:
    assert run(model("e = MatMul(a, w)"), {"x": normal(2, 3)})["y"].shape == (2, 3)
    assert run(model("e = Concat<axis=0>(a, one)"), {"x": normal(2, 3)})["y"].shape == (5, 3)


def test_a_loop_behind_a_loop_starts_with_what_the_first_leaves() -> None:
    step = "step{0} (int64 i{0}, bool c{0}, float[P,Q] a{0}) => (bool d{0}, float[R,S] e{0}) {{ d{0} = Identity(c{0})"
    text = f"""(float[N,3] x) => (float[A,B] y) {{
  h = Concat<axis=0>(x, one)
  s = Loop (n, t, h) <body = {step.format(1)} e1 = Exp(a1) }}>
  y = Loop (n, t, s) <body = {step.format(2)} e2 = Concat<axis=0>(a2, x) }}>
}}"""
    graph = graph_of(net(text, GIVEN))
    assert [(graph.shape(name) or ())[1:] for name in "hsy"] == [(3,)] * 3
    assert len({(graph.shape(name) or ())[0] for name in "xy"}) == 2


@pytest.mark.parametrize(
    ("steps", "go", "made", "shape"),
    [
        ("n", "t", "Tanh(x)", (2, 3)),
        ("", "t", "Tanh(x)", (2, 3)),
        ("n", "", "Add(a, x)", (2, 3)),
        ("n", "t", "Unsqueeze(a, axis)", None),  # another rank in every step
        ("never", "t", "Tanh(x)", None),  # gives out the placeholder
        ("n", "f", "Tanh(x)", None),
        ("k", "t", "Tanh(x)", None),  # may be no step
    ],
)
def test_a_placeholder_gets_the_rank_that_the_first_step_gives_it(
    steps: str, go: str, made: str, shape: Shape | None
) -> None:
    text = f"""(float[2,3] x, int64 k) => (float[] s) {{
  s = Loop ({steps}, {go}, zero) <body = step (int64 i, bool c, float a) => (bool d, float[R,S] e) {{
    d = Greater(one_step, i)
    e = {made}
  }}>
}}"""
    given = {**GIVEN, "zero": np.array(0, np.float32), "never": np.array(0), "f": np.array(False)}
    given |= {"axis": np.array([0]), "one_step": np.array(1)}
    assert graph_of(net(text, given)).shape("s") == shape
