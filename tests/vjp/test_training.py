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
