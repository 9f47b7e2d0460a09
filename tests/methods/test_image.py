"""Input-level methods: attributions and their maps worked out by hand."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from onnxcam.errors import UsageError
from onnxcam.methods import (
    channel_max_abs,
    channel_sum,
    guided_backpropagation,
    guided_grad_cam,
    input_x_gradient,
    saliency,
)

# One row, two channels, three positions.
IMAGE = np.array([[[1, 2, -1], [0, 3, 5]]], np.float32)
GRADIENTS = np.array([[[2, -4, 1], [7, 1, -2]]], np.float32)


def test_saliency_by_hand() -> None:
    attribution = saliency(GRADIENTS)
    assert_array_equal(attribution, GRADIENTS)
    assert_array_equal(channel_max_abs(attribution), [[7, 4, 2]])


def test_input_x_gradient_by_hand() -> None:
    attribution = input_x_gradient(IMAGE, GRADIENTS)
    assert_array_equal(attribution, [[[2, -8, -1], [0, 3, -10]]])
    assert_array_equal(channel_sum(attribution), [[2, -5, -11]])


def test_input_x_gradient_of_a_linear_model_sums_to_the_score() -> None:
    rng = np.random.default_rng(0)
    image, weights = rng.normal(size=(3, 3, 4, 5)), rng.normal(size=(3, 3, 4, 5))
    total = channel_sum(input_x_gradient(image, weights)).sum(axis=(1, 2))
    assert_allclose(total, np.einsum("nchw,nchw->n", image, weights), rtol=1e-12)


def test_input_x_gradient_takes_an_image_of_bytes() -> None:
    attribution = input_x_gradient(np.array([[[200, 255]]], np.uint8), np.array([[[2, -1]]], np.float32))
    assert_array_equal(attribution, [[[400, -255]]])
    assert attribution.dtype == np.float32


def test_guided_backpropagation_by_hand() -> None:
    attribution = guided_backpropagation(GRADIENTS)
    assert_array_equal(attribution, GRADIENTS)
    assert_array_equal(channel_sum(attribution), [[9, -3, -1]])


def test_guided_grad_cam_by_hand() -> None:
    # Grad-CAM: mean gradient 2, so (8, -8); relu (8, 0); at four positions 8, 3/4 * 8, 1/4 * 8, 0.
    activations = np.array([[[4, -4]]], np.float32)
    gradients = np.array([[[1, 3]]], np.float32)
    guided = np.array([[[1, 1, 1, 1], [-1, 2, 0.5, 9]]], np.float32)
    attribution = guided_grad_cam(activations, gradients, guided)
    assert_array_equal(attribution, [[[8, 6, 2, 0], [-8, 12, 1, 0]]])
    assert_array_equal(channel_sum(attribution), [[0, 18, 3, 0]])


def test_guided_grad_cam_in_two_and_three_dimensions_has_the_image_shape() -> None:
    for axes in (2, 3):
        layer, image = (2, 5, *[2] * axes), (2, 3, *[5] * axes)
        attribution = guided_grad_cam(np.ones(layer), np.ones(layer), np.ones(image))
        assert_array_equal(attribution, np.full(image, 5.0))


def test_an_image_of_another_shape_is_refused() -> None:
    with pytest.raises(UsageError, match=r"image \(1, 2, 3\) and image_gradients \(1, 1, 3\)"):
        input_x_gradient(IMAGE, GRADIENTS[:, :1])


@pytest.mark.parametrize("guided", [(2, 3, 8, 8), (1, 3, 8), (1, 3, 8, 8, 8)])
def test_a_layer_without_the_image_axes_is_refused(guided: tuple[int, ...]) -> None:
    layer = np.ones((1, 4, 2, 2))
    with pytest.raises(UsageError, match="as many spatial axes"):
        guided_grad_cam(layer, layer, np.ones(guided))
