"""Rules by operator family; importing this package registers them all."""

from onnxcam.vjp.rules import (
    activation,
    arithmetic,
    attention,
    contrib,
    control,
    convolution,
    deformable,
    grid,
    guided,
    indexing,
    integer,
    linear,
    loops,
    loss,
    max_pooling,
    normalization,
    pooling,
    quantization,
    recurrent,
    reduction,
    regions,
    resize,
    rotary,
    scan,
    shape,
    signal,
)

__all__ = [
    "activation", "arithmetic", "attention", "contrib", "control", "convolution", "deformable", "grid", "guided",
    "indexing", "integer", "linear", "loops", "loss", "max_pooling", "normalization", "pooling", "quantization",
    "recurrent", "reduction", "regions", "resize", "rotary", "scan", "shape", "signal",
]  # fmt: skip
