"""Class activation maps: activations (N, C, *S) of one layer, and their gradients or weights -> map (N, *S).

Every map here is raw: signed, at the layer's resolution, before the ReLU with which the papers end. `relu`,
`normalize` and `resize` are functions of their own (steps.py). Below, A_k is channel k of the activations,
g_k = d score / d A_k, Z the number of positions; sums without an index run over the positions. Arrays are float32 or
float64, and so is the result. Shapes that do not belong together raise UsageError.
"""

from __future__ import annotations

import numpy as np

from onnxcam.errors import UsageError
from onnxcam.methods.arrays import Array, positions, require_same_shape, spatial_mean, unless_cancelled


def cam(activations: Array, weights: Array) -> Array:
    """CAM: sum_k w_k A_k, w_k the class's weight for channel k in the linear layer behind global average pooling.

    activations (N, C, *S), weights (N, C).  Returns (N, *S), signed.
    Zhou et al. 2016, eq. 2.
    """
    if weights.shape != activations.shape[:2]:
        raise UsageError(
            f"weights {weights.shape} do not fit activations {activations.shape}: give (N, C), one per channel"
        )
    summed: Array = np.einsum("nc,nc...->n...", weights, activations)  # in this thread: see `spatial_mean`
    return summed


def grad_cam(activations: Array, gradients: Array) -> Array:
    """Grad-CAM: sum_k w_k A_k, w_k the spatial mean of g_k.

    activations, gradients (N, C, *S); only the mean of the gradient matters, so (N, C, 1, ...) will do.  Returns
    (N, *S), signed: behind global average pooling and a linear layer, CAM / Z.  Where a normalization over positions
    follows, which does not mind what is added to all of them, each channel's mean cancels: what is below 1e-4 of its
    terms is rounding, and where all means are that the map is zeros.
    Selvaraju et al. 2020, eq. 1-2.
    """
    weights = spatial_mean(gradients)
    if gradients.shape != (*activations.shape[:2], *[1] * (activations.ndim - 2)):
        require_same_shape(activations=activations, gradients=gradients)
        weights = unless_cancelled(weights, spatial_mean(np.abs(gradients)))
    return cam(activations, weights)


def counterfactual(activations: Array, gradients: Array) -> Array:
    """Counterfactual Grad-CAM, the regions that speak against the class: w_k is the spatial mean of -g_k.

    activations, gradients as for Grad-CAM.  Returns (N, *S), signed: Grad-CAM's map with the other sign.
    Selvaraju et al. 2020, section on counterfactual explanations.
    """
    return grad_cam(activations, -gradients)


def hires_cam(activations: Array, gradients: Array) -> Array:
    """HiResCAM: sum_k g_k A_k, each position weighted by its own gradient.

    activations, gradients (N, C, *S).  Returns (N, *S), signed.  Where only linear layers follow, it sums over the
    positions to score - bias; Grad-CAM does so only where the gradient is the same at all positions.  Where a layer
    normalization follows, which does not mind how large a position is, the sum cancels at each: what is below 1e-4 of
    its terms is rounding, and a map of nothing else is returned as zeros.
    Draelos and Carin 2020.
    """
    require_same_shape(activations=activations, gradients=gradients)
    return unless_cancelled(_weighted(activations, gradients), _weighted(np.abs(activations), np.abs(gradients)))


def layer_cam(activations: Array, gradients: Array) -> Array:
    """LayerCAM: sum_k relu(g_k) A_k, each position weighted by its own gradient where that is positive.

    activations, gradients (N, C, *S).  Returns (N, *S), never negative where the activations are not.  Neither the
    tanh scaling for shallow layers nor the fusion of layers is applied.
    Jiang et al. 2021.
    """
    require_same_shape(activations=activations, gradients=gradients)
    return _weighted(activations, np.maximum(gradients, 0))


def grad_cam_plus_plus(activations: Array, gradients: Array) -> Array:
    """Grad-CAM++: sum_k w_k A_k, w_k = sum a_k relu(g_k), a_k = g_k^2 / (2 g_k^2 + (sum A_k) g_k^3), 0/0 = 0.

    activations, gradients (N, C, *S).  Returns (N, *S), signed.  Eq. 19 as printed: no epsilon, which would outweigh
    g^2 ~ 1e-7 behind a pooling layer, and no division of a_k by its sum; so the map stays as it is when the layer
    changes its unit (A * s, g / s).  It assumes that the explained quantity is exp(score) and that everything above
    the layer is piecewise linear; exp(score) itself, one factor a row, is left out.  The map depends on the scale of
    the score, and where activations may be negative a_k has a pole.
    Chattopadhay et al. 2018, eq. 19.
    """
    require_same_shape(activations=activations, gradients=gradients)
    # Where g != 0, a = 1 / (2 + sum(A) g); relu(g) drops the rest, so neither 0/0 nor an underflowing g^3 comes up.
    positive = np.maximum(gradients, 0)
    mass = activations.sum(axis=positions(activations), keepdims=True, dtype=np.float64)
    weights = (positive / (2 + mass * positive)).sum(axis=positions(activations))
    return cam(activations, weights).astype(np.result_type(activations, gradients))


def _weighted(activations: Array, weights: Array) -> Array:
    """sum_k w_k A_k with a weight for every position: (N, C, *S) twice -> (N, *S)."""
    summed: Array = np.einsum("nc...,nc...->n...", weights, activations)
    return summed
