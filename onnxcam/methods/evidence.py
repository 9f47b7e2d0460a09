"""What a method may read."""

from __future__ import annotations

from dataclasses import dataclass

from onnxcam.methods.arrays import Array


@dataclass(frozen=True, eq=False, kw_only=True)
class Evidence:
    """Arrays for N rows, each explained on its own; None where nobody computed one.

    `score` below is one number per row: the explained entry (or functional) of the score tensor.

    Attributes:
        activations: (N, C, *S), the value at the target layer, channels first.
        gradients: (N, C, *S), d score / d activations.
        weights: (N, C), d score / d pooled feature, where the feature is the spatial mean of the activations.
        image: (N, C, *S), the model's input as it was fed (preprocessed), channels first.
        image_gradients: (N, C, *S), d score / d image.
        guided_gradients: (N, C, *S), as image_gradients, but from the guided rule for ReLU.
    """

    activations: Array | None = None
    gradients: Array | None = None
    weights: Array | None = None
    image: Array | None = None
    image_gradients: Array | None = None
    guided_gradients: Array | None = None
