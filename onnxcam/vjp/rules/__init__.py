"""Rules by operator family; importing this package registers them all."""

from onnxcam.vjp.rules import (
    activation,
    arithmetic,
    contrib,
    control,
    convolution,
    guided,
    indexing,
    linear,
    loops,
    max_pooling,
    normalization,
    pooling,
    quantization,
    reduction,
    resize,
    shape,
)

__all__ = [
    "activation", "arithmetic", "contrib", "control", "convolution", "guided", "indexing", "linear",
    "loops", "max_pooling", "normalization", "pooling", "quantization", "reduction", "resize", "shape",
]  # fmt: skip
