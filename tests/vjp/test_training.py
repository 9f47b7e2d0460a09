"""Dropout in training mode: what was dropped in this very run, the mask tells."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

from onnxcam.vjp import differentiate
from tests.vjp.harness import session


@pytest.mark.parametrize(("ratio", "kept"), [(0.5, 2.0), (0.75, 4.0)])
def test_what_was_dropped_gets_nothing(ratio: float, kept: float) -> None:
    """The zeros of x must not be taken for dropped ones, nor the other way around."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> g (float[1000] x, bool t) => (float[1000] y, bool[1000] m)
        <float r = {{{ratio}}}> {{ y, m = Dropout(x, r, t) }}"""
    )
    result = differentiate(model, of="y", wrt="x")
    x, ct = np.arange(1000, dtype=np.float32) % 2, np.arange(1, 1001, dtype=np.float32)
    run = session(result.model).run
    names = ["y", "m", result.gradients["x"]]
    y, mask, dx = run(names, {"x": x, "t": np.array(True), result.seed: ct})
    assert 0 < mask.sum() < 1000
    np.testing.assert_allclose(y, np.where(mask, kept * x, 0))
    np.testing.assert_allclose(dx, np.where(mask, kept * ct, 0))
    np.testing.assert_allclose(run(names, {"x": x, "t": np.array(False), result.seed: ct})[2], ct)


@pytest.mark.parametrize("outputs", ["y", "y, "])
def test_a_dropout_without_a_mask_is_asked_for_it(outputs: str) -> None:
    """The name that it gets is nobody's, in a subgraph neither."""
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> g (float[1000] x, bool t) => (float[1000] z)
        <float r = {{0.5}}, float y_mask = {{1}}> {{ {outputs} = Dropout(x, r, t)
        z = If(t) <then_branch = g () => (float[1000] a) {{ y_mask_2 = Identity(y) a = Mul(y_mask, y_mask_2) }},
                   else_branch = g () => (float[1000] b) {{ b = Identity(y) }}> }}"""
    )
    result = differentiate(model, of="z", wrt="x")
    x, ct = np.ones(1000, np.float32), np.arange(1, 1001, dtype=np.float32)
    z, dx = session(result.model).run(["z", result.gradients["x"]], {"x": x, "t": np.array(True), result.seed: ct})
    assert set(z) == {0, 2}
    np.testing.assert_allclose(dx, z * ct)
