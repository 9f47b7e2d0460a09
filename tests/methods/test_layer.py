"""Layer-level methods: maps worked out by hand, and the laws they obey."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

from onnxcam.errors import UsageError
from onnxcam.methods import Array, cam, counterfactual, grad_cam, grad_cam_plus_plus, hires_cam, layer_cam
from onnxcam.methods.arrays import spatial_mean

# Two channels on a 2 x 2 grid. Means of the gradients: 2/4 and -2/4. Sums of the activations: 10 and 2.
ACTIVATIONS = np.array([[[[1, 2], [3, 4]], [[0, 1], [1, 0]]]], np.float32)
GRADIENTS = np.array([[[[1, 0], [0, 1]], [[-2, -1], [0, 1]]]], np.float32)

FROM_GRADIENTS = [grad_cam, counterfactual, hires_cam, layer_cam, grad_cam_plus_plus]


@st.composite
def layers(draw: st.DrawFn) -> tuple[Array, Array]:
    """Activations as a ReLU leaves them, and gradients, float64, on one to three spatial axes."""
    shape = draw(st.lists(st.integers(1, 3), min_size=3, max_size=5))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return np.maximum(rng.normal(size=shape), 0), rng.normal(size=shape)


# -- by hand ----------------------------------------------------------------------------------


def test_grad_cam_by_hand() -> None:
    # 0.5 * [[1, 2], [3, 4]] - 0.5 * [[0, 1], [1, 0]]
    assert_array_equal(grad_cam(ACTIVATIONS, GRADIENTS), [[[0.5, 0.5], [1, 2]]])


def test_counterfactual_by_hand() -> None:
    assert_array_equal(counterfactual(ACTIVATIONS, GRADIENTS), [[[-0.5, -0.5], [-1, -2]]])


def test_cam_by_hand() -> None:
    # 2 * [[1, 2], [3, 4]] - 3 * [[0, 1], [1, 0]]
    assert_array_equal(cam(ACTIVATIONS, np.array([[2, -3]], np.float32)), [[[2, 1], [3, 8]]])


def test_grad_cam_of_means_that_cancel_is_nothing() -> None:
    """An instance normalization does not mind what is added to a channel everywhere: its mean gradient is rounding."""
    a = np.array([[[[3.0, 1]], [[1, 2]]]], np.float32)
    g = np.array([[[[1.0, -1]], [[-3, 3]]]], np.float32) + np.array(1e-6, np.float32)
    assert_array_equal(grad_cam(a, g), [[[0, 0]]])
    given = grad_cam(a, spatial_mean(g)[..., None, None])
    assert_allclose(given, [[[4e-6, 3e-6]]], rtol=0.05)  # of a mean alone that is not known
    g[0, 1] = 3e-6  # small, but all of it: no rounding
    assert_allclose(grad_cam(a, g), [[[1e-6 * 3 + 3e-6, 1e-6 + 3e-6 * 2]]], rtol=0.05)
    g[0, 0, 0, 1] += 0.1
    assert_allclose(grad_cam(a, g), [[[0.15, 0.05]]], atol=1e-5)


def test_a_mean_over_many_positions_stays_in_float32() -> None:
    """Of a constant every running sum rounds the same way: 1.5e-4 over a quarter of a million positions."""
    found = spatial_mean(np.full((1, 2, 512, 512), 0.1, np.float32))
    assert found.dtype == np.float32
    assert_allclose(found, [[0.1, 0.1]], rtol=3e-7)


def test_hires_cam_of_what_cancels_is_nothing() -> None:
    """A layer normalization does not mind how large a position is: sum_k g_k A_k is 0 there, up to rounding."""
    a = np.array([[[[3.0, 1]], [[1, 2]]]], np.float32)
    g = np.array([[[[1.0, 2]], [[-3, -1]]]], np.float32) + np.array(1e-6, np.float32)
    assert_array_equal(hires_cam(a, g), [[[0, 0]]])
    g[0, 0, 0, 1] += 0.1
    assert_allclose(hires_cam(a, g), [[[4e-6, 0.1 + 3e-6]]], atol=1e-6)


def test_hires_cam_by_hand() -> None:
    # [[1*1, 0*2], [0*3, 1*4]] + [[-2*0, -1*1], [0*1, 1*0]]
    assert_array_equal(hires_cam(ACTIVATIONS, GRADIENTS), [[[1, -1], [0, 4]]])


def test_layer_cam_by_hand() -> None:
    # As above, with the -2 and the -1 replaced by zero.
    assert_array_equal(layer_cam(ACTIVATIONS, GRADIENTS), [[[1, 0], [0, 4]]])


def test_grad_cam_plus_plus_by_hand() -> None:
    # Channel 0: a = 1/(2 + 10) at both ones, w = 2/12. Channel 1: a = 1/(2 + 2) at its one positive gradient, w = 1/4.
    expected = [[[1 / 6, 1 / 3 + 1 / 4], [1 / 2 + 1 / 4, 2 / 3]]]
    assert_allclose(grad_cam_plus_plus(ACTIVATIONS, GRADIENTS), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        (grad_cam, [3, 0, 6]),  # means 2 and -1:      2*(1, 0, 3) - 1*(-1, 0, 0) = (3, 0, 6)
        (hires_cam, [7, 0, 0]),  # 6*1 + (-1)*(-1), nothing else has a gradient beside an activation
        (layer_cam, [6, 0, 0]),
        (
            grad_cam_plus_plus,
            [6 / 26, 0, 18 / 26],
        ),  # channel 0: sum 4, a = 1/(2 + 4*6); channel 1: no positive gradient
    ],
)
def test_one_spatial_axis_and_negative_activations(
    method: Callable[[Array, Array], Array], expected: list[float]
) -> None:
    activations = np.array([[[1, 0, 3], [-1, 0, 0]]], np.float32)
    gradients = np.array([[[6, 0, 0], [-1, -2, 0]]], np.float32)
    assert_allclose(method(activations, gradients), [expected], rtol=1e-6)


@pytest.mark.parametrize("method", FROM_GRADIENTS)
def test_three_spatial_axes_are_the_flat_positions(method: Callable[[Array, Array], Array]) -> None:
    rng = np.random.default_rng(0)
    activations, gradients = rng.random((2, 5, 2, 3, 4)), rng.normal(size=(2, 5, 2, 3, 4))
    flat = method(activations.reshape(2, 5, 24), gradients.reshape(2, 5, 24))
    assert_allclose(method(activations, gradients), flat.reshape(2, 2, 3, 4), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("method", FROM_GRADIENTS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_rows_are_independent_and_keep_their_dtype(method: Callable[[Array, Array], Array], dtype: type) -> None:
    rng = np.random.default_rng(1)
    activations: Array = rng.random((3, 4, 2, 2)).astype(dtype)
    gradients: Array = rng.normal(size=(3, 4, 2, 2)).astype(dtype)
    together = method(activations, gradients)
    assert together.dtype == dtype
    for i in range(3):
        assert_allclose(together[i : i + 1], method(activations[i : i + 1], gradients[i : i + 1]), rtol=1e-6)


# -- laws -------------------------------------------------------------------------------------


@given(layers(), st.floats(-8, 8))
def test_grad_cam_is_linear_in_the_gradient(layer: tuple[Array, Array], factor: float) -> None:
    activations, gradients = layer
    other = np.roll(gradients, 1)
    expected = factor * grad_cam(activations, gradients) + grad_cam(activations, other)
    assert_allclose(grad_cam(activations, factor * gradients + other), expected, rtol=1e-9, atol=1e-12)


@given(layers())
def test_grad_cam_reads_the_mean_of_the_gradient_only(layer: tuple[Array, Array]) -> None:
    activations, gradients = layer
    mean = gradients.mean(axis=tuple(range(2, gradients.ndim)), keepdims=True)
    even = np.broadcast_to(mean, gradients.shape)
    assert_allclose(grad_cam(activations, even), grad_cam(activations, gradients), rtol=1e-9, atol=1e-12)


@given(layers())
def test_counterfactual_is_minus_grad_cam(layer: tuple[Array, Array]) -> None:
    assert_array_equal(counterfactual(*layer), -grad_cam(*layer))


@given(layers())
def test_behind_pooling_and_a_linear_layer_grad_cam_is_cam_over_z(layer: tuple[Array, Array]) -> None:
    """The paper's theorem: score = w . mean(A) + b, so d score / dA_k = w_k / Z everywhere."""
    activations, noise = layer
    weights = noise.reshape(*noise.shape[:2], -1)[..., 0]
    z = activations[0, 0].size
    gradients = np.broadcast_to((weights / z).reshape(*weights.shape, *[1] * (activations.ndim - 2)), activations.shape)
    expected = cam(activations, weights) / z
    assert_allclose(grad_cam(activations, gradients), expected, rtol=1e-9, atol=1e-12)
    assert_allclose(hires_cam(activations, gradients), expected, rtol=1e-9, atol=1e-12)


@given(layers(), st.floats(-5, 5))
def test_hires_cam_sums_to_the_score_of_a_linear_head(layer: tuple[Array, Array], bias: float) -> None:
    """The head flattens and multiplies: its gradient is its weights."""
    activations, weights = layer
    score = (activations * weights).reshape(len(activations), -1).sum(axis=1) + bias
    total = hires_cam(activations, weights).reshape(len(activations), -1).sum(axis=1)
    assert_allclose(total, score - bias, rtol=1e-9, atol=1e-9)


@given(layers())
def test_layer_cam_is_never_negative_behind_a_relu(layer: tuple[Array, Array]) -> None:
    assert layer_cam(*layer).min() >= 0


@given(layers(), st.floats(1e-6, 1e6))
def test_grad_cam_plus_plus_does_not_know_the_unit_of_the_layer(layer: tuple[Array, Array], unit: float) -> None:
    activations, gradients = layer
    expected = grad_cam_plus_plus(activations, gradients)
    assert_allclose(grad_cam_plus_plus(activations * unit, gradients / unit), expected, rtol=1e-9)


@given(layers())
def test_grad_cam_plus_plus_is_equation_19(layer: tuple[Array, Array]) -> None:
    """The printed form, an element at a time."""
    activations: Array = layer[0].reshape(*layer[0].shape[:2], -1)
    gradients: Array = layer[1].reshape(activations.shape)
    expected = np.zeros((len(activations), activations.shape[2]))
    for n, k in np.ndindex(*activations.shape[:2]):
        total = sum(activations[n, k])
        weight = sum(g**2 / (2 * g**2 + total * g**3) * max(g, 0) for g in gradients[n, k] if g > 0)
        expected[n] += weight * activations[n, k]
    assert_allclose(grad_cam_plus_plus(activations, gradients), expected, rtol=1e-9)


@pytest.mark.parametrize("scale", [1e-4, 1e-12, 1e-30])
def test_grad_cam_plus_plus_of_small_gradients_halves_them(scale: float) -> None:
    """No epsilon: where g is small, a = 1/2, whatever g is; g^2 and g^3 underflow in float32."""
    gradients = np.full((1, 1, 2), scale, np.float32)
    activations = np.array([[[1, 3]]], np.float32)
    assert_allclose(grad_cam_plus_plus(activations, gradients) / scale, [[1, 3]], rtol=1e-3)


def test_grad_cam_plus_plus_works_in_float64() -> None:
    rng = np.random.default_rng(2)
    activations: Array = rng.random((1, 64, 20, 20)).astype(np.float32)
    gradients: Array = rng.normal(size=(1, 64, 20, 20)).astype(np.float32)
    exact = grad_cam_plus_plus(activations.astype(np.float64), gradients.astype(np.float64))
    assert_array_equal(grad_cam_plus_plus(activations, gradients), exact.astype(np.float32))


def test_grad_cam_plus_plus_of_no_gradient_is_zero() -> None:
    assert_array_equal(grad_cam_plus_plus(ACTIVATIONS, np.zeros_like(GRADIENTS)), np.zeros((1, 2, 2)))


# -- refusals ---------------------------------------------------------------------------------


@pytest.mark.parametrize("method", FROM_GRADIENTS)
def test_shapes_that_would_broadcast_are_refused(method: Callable[[Array, Array], Array]) -> None:
    with pytest.raises(UsageError, match=r"activations \(1, 2, 2, 2\) and gradients \(1, 1, 2, 2\)"):
        method(ACTIVATIONS, GRADIENTS[:, :1])


def test_weights_of_another_number_of_channels_are_refused() -> None:
    with pytest.raises(UsageError, match=r"weights \(1, 3\) do not fit activations \(1, 2, 2, 2\)"):
        cam(ACTIVATIONS, np.ones((1, 3)))
