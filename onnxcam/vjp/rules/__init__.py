"""Rules by operator family; importing this package registers them all."""

from onnxcam.vjp.rules import (
    activation,
    arithmetic,
    convolution,
    guided,
    indexing,
    linear,
    normalization,
    pooling,
    quantization,
    reduction,
    resize,
    shape,
)

__all__ = [
    "activation", "arithmetic", "convolution", "guided", "indexing", "linear", "normalization", "pooling",
    "quantization", "reduction", "resize", "shape",
]  # fmt: skip
