"""Samples far off the image, and none at all."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import onnx
import onnx.parser
import pytest

from onnxcam.vjp import differentiate
from tests.vjp.harness import session

Array = npt.NDArray[np.float32]


def gradients(points: Array, image: str = "float[1, 2, 4, 4]", **attrs: str) -> tuple[Array, Array]:
    """d image and d points of the sum of all samples of a 4 x 4 image."""
    given = ", ".join(f'{name} = "{value}"' for name, value in attrs.items())
    model = onnx.parser.parse_model(
        f"""<ir_version: 9, opset_import: ["" : 20]> g ({image} x, float[1, 1, P, 2] p) => (float[1, 2, 1, P] y)
        {{ y = GridSample<{given}>(x, p) }}"""
    )
    result = differentiate(model, of="y", wrt=["x", "p"])
    x = np.arange(32, dtype=np.float32).reshape(1, 2, 4, 4)
    feeds = {"x": x, "p": points[None, None], result.seed: np.ones((1, 2, 1, len(points)), np.float32)}
    dx, dp = session(result.model).run([result.gradients["x"], result.gradients["p"]], feeds)
    return dx, dp[0, 0]


@pytest.mark.parametrize("mode", ["linear", "cubic"])
@pytest.mark.parametrize("image", ["float[1, 2, 4, 4]", "float[1, C, H, W]"])
def test_points_far_off_read_the_pixel_at_the_border(mode: str, image: str) -> None:
    points = np.array([[1e4, 0.25], [-1e4, 0.25], [1e4, 1e4]], np.float32)
    dx, dp = gradients(points, image, mode=mode, padding_mode="border")
    np.testing.assert_allclose(dx.sum((2, 3)), 3, rtol=1e-5)
    np.testing.assert_allclose(dx[0, 0, :, 1:3], 0, atol=1e-6)
    assert dx[0, 0, 3, 3] >= 1
    np.testing.assert_allclose(dp[:, 0], 0, atol=1e-4)  # along the row, past its end
    assert (np.abs(dp[:2, 1]) > 1).all()
    np.testing.assert_allclose(dp[2], 0, atol=1e-4)


@pytest.mark.parametrize("padding", ["zeros", "border", "reflection"])
@pytest.mark.parametrize("far", [1e12, np.inf, -np.inf])
def test_points_beyond_all_measure_leave_others_alone(padding: str, far: float) -> None:
    points = np.array([[0.1, 0.3], [far, far]], np.float32)
    (dx, dp), (alone, moved) = (gradients(some, padding_mode=padding) for some in (points, points[:1]))
    assert np.isfinite(dx).all()
    np.testing.assert_allclose(dp[0], moved[0], rtol=1e-6)
    assert (dx - alone >= -1e-6).all()


@pytest.mark.parametrize("image", ["float[1, 2, 4, 4]", "float[1, C, H, W]"])
def test_no_points_have_no_gradient(image: str) -> None:
    dx, dp = gradients(np.zeros((0, 2), np.float32), image, mode="linear")
    assert dx.shape == (1, 2, 4, 4)
    assert (dx == 0).all()
    assert dp.shape == (0, 2)
