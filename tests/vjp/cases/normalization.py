"""Normalizations."""

from __future__ import annotations

import numpy as np

from tests.vjp.case import Array, case, fed, held, normal, off, positive


def local_response(size: int, alpha: float = 1e-4, beta: float = 0.75, bias: float = 1.0):
    def truth(x: Array) -> Array:
        square = np.zeros_like(x)
        for c in range(x.shape[1]):
            first, last = max(0, c - (size - 1) // 2), min(x.shape[1], c + size // 2 + 1)
            square[:, c] = (x[:, first:last] ** 2).sum(1)
        return x / (bias + alpha / size * square) ** beta

    return truth


def grouped(groups: int, epsilon: float = 1e-5):
    def truth(x: Array, scale: Array, bias: Array) -> Array:
        parts = x.reshape(x.shape[0], groups, -1)
        normalized = (parts - parts.mean(-1, keepdims=True)) / np.sqrt(parts.var(-1, keepdims=True) + epsilon)
        channels, shape = x.shape[1], (1, -1, *[1] * (x.ndim - 2))
        if len(scale) == groups:  # opset 18: one per group
            scale, bias = scale.repeat(channels // groups), bias.repeat(channels // groups)
        return normalized.reshape(x.shape) * scale.reshape(shape) + bias.reshape(shape)

    return truth


def in_training(epsilon: float):
    """Batch normalization by the statistics of the batch."""

    def truth(x: Array, scale: Array, bias: Array, *_: Array) -> Array:
        axes = (0, *range(2, x.ndim))
        shape = (1, -1, *[1] * (x.ndim - 2))
        x_hat = (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + epsilon)
        return x_hat * scale.reshape(shape) + bias.reshape(shape)

    return truth


def running(statistic: str, place: int, momentum: float):
    """A running mean (input 3) or variance (input 4), moved towards that of the batch."""

    def truth(x: Array, *given: Array) -> Array:
        now = getattr(x, statistic)((0, *range(2, x.ndim)))
        return momentum * given[place - 1] + (1 - momentum) * now

    return truth


def standardized(*axes: int):
    return lambda x: (x - x.mean(axes, keepdims=True)) / x.std(axes, keepdims=True)


BATCH = held(normal(3)), held(normal(3)), held(normal(3)), held(positive(3))


def layer_mean(x: Array, scale: Array) -> Array:
    return x.mean(-1, keepdims=True)


def layer_inverse(x: Array, scale: Array) -> Array:
    return 1 / np.sqrt(x.var((1, 2), keepdims=True) + 0.1)


CASES = [
    case("BatchNormalization", normal("N", 3, 4, 2), *BATCH),
    case("BatchNormalization", normal("N", 3), *BATCH, epsilon=0.1),
    case("BatchNormalization", normal("N", 3, "H", "W"), normal(3), normal(3), fed(normal(3)), fed(positive(3))),
    case("BatchNormalization", normal("N", 3), normal(3), normal(3), fed(normal(3)), fed(positive(3)), epsilon=0.1),
    case("BatchNormalization", normal("N", 3, "L"), *BATCH, momentum=0.5),
    *(
        case(
            "BatchNormalization", x, *given, *BATCH[2:], training_mode=1, epsilon=0.1, outputs=3, truth=in_training(0.1)
        )
        for x in (normal(4, 3), normal("L", 3, 2, "H"))
        for given in ((normal(3), normal(3)), BATCH[:2])
    ),
    *(
        case(
            "BatchNormalization",
            normal(4, 3, *more),
            held(normal(3)),
            held(normal(3)),
            normal(3),
            positive(3),
            training_mode=1,
            momentum=0.7,
            outputs=3,
            of=of,
            truth=running(statistic, of + 2, 0.7),
        )
        for more in ((), (5, 2))
        for of, statistic in ((1, "mean"), (2, "var"))
    ),
    case("InstanceNormalization", normal("N", 2, 3, 4), normal(2), normal(2)),
    case("InstanceNormalization", normal("N", 2, "L"), held(normal(2)), held(normal(2)), epsilon=0.1),
    case("InstanceNormalization", normal("N", 2, "H", 2, "D"), normal(2), normal(2)),
    case("LayerNormalization", normal("N", 3, 4), normal(4), normal(4)),
    case("LayerNormalization", normal("N", 3, 4), held(normal(4)), epsilon=0.1),
    case("LayerNormalization", normal("N", 3, 4), normal(3, 4), normal(3, 4), axis=1),
    case("LayerNormalization", normal("N", "H", 4), normal(4), normal(4), axis=2),
    case("LayerNormalization", normal(2, 3), normal(2, 3), axis=0),
    case("LayerNormalization", normal("N", 3, 4), normal(4), outputs=3),
    case("LRN", normal("N", 7, 3, 2), size=3, truth=local_response(3)),
    case("LRN", normal("N", 5, "H", 2), size=5, alpha=0.5, beta=0.6, bias=1.5, truth=local_response(5, 0.5, 0.6, 1.5)),
    case("GroupNormalization", normal("N", 4, "H", 3), normal(4), normal(4), num_groups=2, opset=21, truth=grouped(2)),
    case(
        "GroupNormalization",
        normal("N", 6, 3, 2),
        held(normal(6)),
        held(normal(6)),
        num_groups=3,
        epsilon=0.1,
        opset=21,
        truth=grouped(3, 0.1),
    ),
    case(
        "GroupNormalization",
        normal("N", 4, "L"),
        normal(2),
        normal(2),
        num_groups=2,
        opset=18,
        until=20,
        truth=grouped(2),
    ),
    case("RMSNormalization", normal("N", 3, 4), normal(4), opset=23),
    case("RMSNormalization", normal("N", 3, 4), normal(3, 4), axis=1, epsilon=0.1, opset=23),
    case("LpNormalization", normal("N", 4)),
    case("LpNormalization", off([0], "N", "H", 2), axis=1, p=1, truth=lambda x: x / np.abs(x).sum(1, keepdims=True)),
    case("LpNormalization", normal("N", "H", 2), axis=-2, p=2),
    case("MeanVarianceNormalization", normal("N", 2, "H", 3), truth=standardized(0, 2, 3)),
    case("MeanVarianceNormalization", normal("N", 3, 4), axes=[-1, 1], truth=standardized(2, 1)),
    case("BatchNormalization", normal("N", 3, 4), normal(3), normal(3), normal(3), positive(3)),
    case("BatchNormalization", normal("N", 3), normal(3), normal(3), normal(3), positive(3), epsilon=0.1),
    case(
        "GroupNormalization", normal("N", "K", "W"), normal("K"), normal("K"), opset=21, num_groups=1, truth=grouped(1)
    ),
    case("LayerNormalization", normal("N", 3, 4), normal(4), outputs=3, of=1, truth=layer_mean),
    case(
        "LayerNormalization",
        normal("N", "H", 4),
        normal("H", 4),
        axis=1,
        outputs=3,
        of=2,
        epsilon=0.1,
        truth=layer_inverse,
    ),
]
