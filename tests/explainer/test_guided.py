"""Guided backpropagation and Guided Grad-CAM against a slow network in NumPy, loops and all."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from onnxcam import Explainer, Explanation
from onnxcam.methods import resize
from tests.nets import Array, as_array, net, normal

K1, K2, W, B = normal(4, 3, 3, 3), normal(5, 4, 3, 3) / 4, normal(6, 5), normal(6)
WEIGHTS: dict[str, Array] = {
    "k1": K1,
    "k2": K2,
    "w": W,
    "b": B,
    "zero": np.array(0, np.float32),
    "six": np.array(6, np.float32),
    "minus": np.array(-1, np.float32),
}
X = 2 * normal(3, 9, 9)
ACTIVATIONS = {
    "Relu": ("Relu({})", 0.0, np.inf),
    "Relu6 as Clip": ("Clip({}, zero, six)", 0.0, 6.0),
    "Relu as Clip without maximum": ("Clip({}, zero)", 0.0, np.inf),
    "hardtanh": ("Clip({}, minus, six)", -1.0, 6.0),  # no rectifier: it cuts at -1
}


def model(activation: str) -> Explainer:
    op = ACTIVATIONS[activation][0]
    return Explainer(
        net(
            f"""(float[N, 3, 9, 9] x) => (float[N, 6] y) {{
            c1 = Conv<strides = [2, 2], pads = [1, 1, 1, 1]>(x, k1) a1 = {op.format("c1")}
            c2 = Conv<pads = [1, 1, 1, 1]>(a1, k2) a2 = {op.format("c2")}
            p = GlobalAveragePool(a2) f = Flatten(p) y = Gemm<transB = 1>(f, w, b) }}""",
            WEIGHTS,
        )
    )


# -- the same network, slowly ------------------------------------------------------------------------


@dataclass(frozen=True)
class Convolution:
    kernel: Array
    stride: int

    def taps(self, size: int) -> list[tuple[tuple[int, int], tuple[int, int], tuple[int, int]]]:
        """(output position, input position, kernel position), one pixel of padding around."""
        side = (size + 2 - 3) // self.stride + 1
        return [
            ((i, j), (i * self.stride + u - 1, j * self.stride + v - 1), (u, v))
            for i in range(side)
            for j in range(side)
            for u in range(3)
            for v in range(3)
            if 0 <= i * self.stride + u - 1 < size and 0 <= j * self.stride + v - 1 < size
        ]

    def forward(self, x: Array) -> Array:
        side = (x.shape[1] - 1) // self.stride + 1
        y = np.zeros((len(self.kernel), side, side))
        for at, source, tap in self.taps(x.shape[1]):
            y[:, *at] += self.kernel[:, :, *tap] @ x[:, *source]
        return y

    def backward(self, ct: Array, size: int) -> Array:
        dx = np.zeros((self.kernel.shape[1], size, size))
        for at, source, tap in self.taps(size):
            dx[:, *source] += self.kernel[:, :, *tap].T @ ct[:, *at]
        return dx


FIRST, SECOND = Convolution(K1.astype(np.float64), 2), Convolution(K2.astype(np.float64), 1)


def slow(x: Array, which: int, activation: str, *, guided: bool) -> tuple[Array, Array, Array]:
    """The last activations, the plain gradient there, and at the image the gradient, guided or plain."""
    _, low, high = ACTIVATIONS[activation]
    c1 = FIRST.forward(x.astype(np.float64))
    c2 = SECOND.forward(np.clip(c1, low, high))
    a2 = np.clip(c2, low, high)
    at_layer = np.broadcast_to((W[which] / a2[0].size)[:, None, None], a2.shape)

    def through(ct: Array, before: Array) -> Array:
        """The activation's adjoint: a rectifier, guided, lets through only what is positive."""
        ct = np.maximum(ct, 0) if guided and low == 0 else ct
        return np.where((before > low) & (before < high), ct, 0)

    ct = SECOND.backward(through(at_layer, c2), c1.shape[1])
    return a2, at_layer, FIRST.backward(through(ct, c1), x.shape[1])


def explained(activation: str, method: str, x: Array = X) -> list[Explanation]:
    found: list[Explanation] = model(activation)(x, target=range(6), method=method)
    return found


def relative(found: Array | None, expected: Array | None) -> float:
    return float(np.abs(as_array(found) - expected).max() / np.abs(as_array(expected)).max())


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_guided_backpropagation(activation: str) -> None:
    for which, e in enumerate(explained(activation, "guidedbackprop")):
        _, _, expected = slow(X, which, activation, guided=True)
        assert relative(e.attribution, expected) < 1e-5
        assert relative(e.map, expected.sum(axis=0)) < 1e-5


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_saliency_is_the_plain_gradient(activation: str) -> None:
    for which, e in enumerate(explained(activation, "saliency")):
        _, _, expected = slow(X, which, activation, guided=False)
        assert relative(e.attribution, expected) < 1e-5
        assert relative(e.map, np.abs(expected).max(axis=0)) < 1e-5


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_guided_grad_cam_is_the_enlarged_map_times_guided_backpropagation(activation: str) -> None:
    for which, e in enumerate(explained(activation, "guidedgradcam")):
        a, g, guided = slow(X, which, activation, guided=True)
        coarse = np.maximum((g.mean(axis=(1, 2), keepdims=True) * a).sum(axis=0), 0)
        assert coarse.shape == (5, 5)
        expected = resize(coarse[None], (9, 9))[0] * guided
        if np.any(expected):
            assert relative(e.attribution, expected) < 1e-5
            assert relative(e.map, expected.sum(axis=0)) < 1e-5
        else:
            assert e.status == "blank"


def test_the_rectifiers_make_a_difference_and_hardtanh_none() -> None:
    def apart(activation: str) -> float:
        pairs = zip(*(explained(activation, method) for method in ("guidedbackprop", "saliency")), strict=True)
        return max(relative(one.attribution, other.attribution) for one, other in pairs)

    assert min(apart(activation) for activation in ("Relu", "Relu6 as Clip", "Relu as Clip without maximum")) > 0.1
    assert apart("hardtanh") == 0


def test_the_six_of_relu6_is_reached_here() -> None:
    """Otherwise the rows above would say nothing of the upper bound."""
    assert (FIRST.forward(X.astype(np.float64)) > 6).any()


@pytest.mark.parametrize("method", ["guidedbackprop", "guidedgradcam"])
def test_rows_are_explained_by_themselves(method: str) -> None:
    x = 2 * normal(3, 3, 9, 9)
    for row, pair in zip(x, model("Relu")(x, target=[4, 0], method=method), strict=True):
        for e, alone in zip(pair, model("Relu")(row, target=[4, 0], method=method), strict=True):
            np.testing.assert_allclose(e.attribution, alone.attribution, rtol=0, atol=1e-5)
