"""Regions of which there may be none when the model runs."""

from __future__ import annotations

import numpy as np
import onnx.parser
import pytest

from onnxcam.vjp import differentiate
from tests.vjp.harness import session

BODIES = {
    "average": "y = RoiAlign<output_height = 2, output_width = 2>(x, r, b)",
    "adaptive maximum": 'y = RoiAlign<output_height = 2, output_width = 2, mode = "max">(x, r, b)',
    "MaxRoiPool": "f = Cast<to = 1>(b) c = Unsqueeze(f, one) s = Concat<axis = 1>(c, r) "
    "y = MaxRoiPool<pooled_shape = [2, 2]>(x, s)",
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
def test_no_region_has_no_gradient(body: str) -> None:
    model = onnx.parser.parse_model(
        f"""<ir_version: 8, opset_import: ["" : 17]> g (float[2, 3, 6, 5] x, float[R, 4] r, int64[R] b) => (float[] y)
        <int64[1] one = {{1}}> {{ {body} }}"""
    )
    result = differentiate(model, of="y", wrt="x")
    run = session(result.model).run
    x = np.random.default_rng(0).normal(size=(2, 3, 6, 5)).astype(np.float32)
    for count in (0, 2, 0):
        rois = np.tile(np.array([[0.2, 0.3, 3.1, 4.2]], np.float32), (count, 1))
        feeds = {"x": x, "r": rois, "b": np.zeros(count, np.int64), result.seed: np.ones((count, 3, 2, 2), np.float32)}
        (dx,) = run([result.gradients["x"]], feeds)
        assert (dx[1] == 0).all()
        assert (np.abs(dx[0]).sum() > 0) == (count > 0)
