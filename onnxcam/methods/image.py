"""Attributions to the model's input: gradients (N, C, *S) at the image -> attribution (N, C, *S), channels kept.

The map (N, *S) is the attribution under one of REDUCTIONS; which one belongs to a method stands in its registry row.
Arrays are float32 or float64, and so is the result. Shapes that do not belong together raise UsageError.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from onnxcam.errors import UsageError
from onnxcam.methods.arrays import Array, require_same_shape
from onnxcam.methods.layer import grad_cam
from onnxcam.methods.steps import relu, resize


def saliency(image_gradients: Array) -> Array:
    """Saliency: d score / d image; its map is the maximum of |g| over the channels.

    image_gradients (N, C, *S).  Returns the same, signed: the magnitude is taken by the reduction.
    Simonyan et al. 2013, section 3.1.
    """
    return image_gradients


def input_x_gradient(image: Array, image_gradients: Array) -> Array:
    """Input x gradient: x * d score / d x, the score's first-order loss when an element goes to zero.

    image, image_gradients (N, C, *S), the image as it was fed.  Returns (N, C, *S), signed.
    Shrikumar et al. 2016.
    """
    require_same_shape(image=image, image_gradients=image_gradients)
    product: Array = image * image_gradients
    return product


def guided_backpropagation(guided_gradients: Array) -> Array:
    """Guided backpropagation: the input gradient of a reverse sweep in which a ReLU passes positive cotangents only.

    guided_gradients (N, C, *S).  Returns the same: the work is done by the rule set that made them.
    Springenberg et al. 2015.
    """
    return guided_gradients


def guided_grad_cam(activations: Array, gradients: Array, guided_gradients: Array) -> Array:
    """Guided Grad-CAM: relu(Grad-CAM), resized bilinearly to the image, times guided backpropagation.

    activations, gradients (N, C, *S) at the layer, guided_gradients (N, C, *S) at the image, with as many spatial axes.
    Returns (N, C, *S) of the image, signed.
    Selvaraju et al. 2020, section on Guided Grad-CAM.
    """
    if (len(activations), activations.ndim) != (len(guided_gradients), guided_gradients.ndim):
        raise UsageError(
            f"activations {activations.shape} do not fit guided_gradients {guided_gradients.shape}: "
            "bring both to (N, C, *positions) with the same rows and as many spatial axes"
        )
    coarse = relu(grad_cam(activations, gradients))
    mask = resize(coarse, guided_gradients.shape[2:])
    product: Array = mask[:, np.newaxis] * guided_gradients
    return product


def channel_sum(attribution: Array) -> Array:
    """(N, C, *S) -> (N, *S): the sum over the channels, signed."""
    summed: Array = attribution.sum(axis=1)
    return summed


def channel_max_abs(attribution: Array) -> Array:
    """(N, C, *S) -> (N, *S): the largest magnitude over the channels, never negative."""
    largest: Array = np.abs(attribution).max(axis=1)
    return largest


REDUCTIONS: dict[str, Callable[[Array], Array]] = {
    "sum": channel_sum,
    "max of absolute values": channel_max_abs,
}
