"""Normalizations. The variance is never E[x^2] - E[x]^2: that loses everything to rounding at a large mean."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from onnxcam.graph import MICROSOFT
from onnxcam.vjp.emitter import Emitter
from onnxcam.vjp.registry import ZERO, Cotangents, Node, RuleError, rule
from onnxcam.vjp.rules.pooling import spread_mean


def scaled_cotangent(g: Emitter, ct: str, x_hat: str, inverse: str, axes: list[int]) -> str:
    """d x for x_hat = x / root mean square over `axes`: inverse (ct - x_hat mean(ct x_hat))."""
    along = g.reduce("ReduceMean", g.op("Mul", ct, x_hat), axes)
    return g.op("Mul", inverse, g.op("Sub", ct, g.op("Mul", x_hat, along)))


def normalized_cotangent(g: Emitter, ct: str, x_hat: str, inverse: str, axes: list[int]) -> str:
    """d x for x_hat = (x - mean) / deviation over `axes`: inverse (ct - mean ct - x_hat mean(ct x_hat))."""
    return scaled_cotangent(g, g.op("Sub", ct, g.reduce("ReduceMean", ct, axes)), x_hat, inverse, axes)


def scaled(g: Emitter, x: str, axes: list[int], epsilon: str) -> tuple[str, str]:
    """x / root mean square over `axes`, and 1 / root mean square."""
    mean = g.reduce("ReduceMean", g.op("Mul", x, x), axes)
    inverse = g.op("Reciprocal", g.op("Sqrt", g.op("Add", mean, epsilon)))
    return g.op("Mul", x, inverse), inverse


def standardized(g: Emitter, n: Node, x: str, axes: list[int], epsilon: float, sizes: str = "") -> tuple[str, str]:
    """(x - mean) / deviation over `axes`, and 1 / deviation. `sizes`: theirs, where these are the last axes."""
    if not axes:
        raise RuleError("its input has no axes to normalize over")
    if sizes and n.elem_type == TensorProto.FLOAT and g.graph.opset >= 17:  # one kernel does it all
        x_hat, _, inverse = g.op(
            "LayerNormalization", x, g.op("Expand", n.array(1), sizes), outputs=3, axis=-len(axes), epsilon=epsilon
        )
        return x_hat, inverse
    return scaled(g, g.op("Sub", x, g.reduce("ReduceMean", x, axes)), axes, n.array(epsilon))


def through_inverse(g: Emitter, n: Node, ct: str, x_hat: str, inverse: str, axes: list[int]) -> str:
    """d x from the cotangent of `inverse`, 1 / deviation or 1 / root mean square: -ct inverse^2 x_hat / count."""
    falls = g.op("Mul", g.cast(ct, n.elem_type), g.op("Neg", g.op("Mul", inverse, inverse)))
    return g.op("Mul", spread_mean(g, n, falls, axes), x_hat)


@rule("BatchNormalization", versions=(15,))
def batch_normalization(g: Emitter, n: Node, ct: str | None, *running: str | None) -> Cotangents:
    """Inference: Y = s (X - m) / sqrt(v + e) + b;  dX = ct s / sqrt(v + e). Training: as InstanceNormalization."""
    if n.attr("training_mode", 0):
        return in_training(g, n, ct, *running)
    if ct is None:
        raise RuleError("its output is not used")
    spatial = list(range(1, n.rank() - 1))
    epsilon = n.attr("epsilon", 1e-5)
    scale, variance = n.const(1), n.const(4)
    if scale is not None and variance is not None:  # folded in float64
        slope = scale.astype(np.float64) / np.sqrt(variance.astype(np.float64) + epsilon)
        factor = n.array(slope.reshape(-1, *[1] * len(spatial)))
    else:
        root = g.op("Sqrt", g.op("Add", n.x(4), n.array(epsilon)))
        factor = g.op("Unsqueeze", g.op("Div", n.x(1), root), g.ints(*spatial))
    dx = g.op("Mul", ct, factor)
    if not any(n.wants(i) for i in range(1, 5)):
        return [dx]
    others = [0, *range(2, n.rank())]
    total = g.reduce("ReduceSum", ct, others, keepdims=0)
    centred = g.op("Sub", n.x(), g.op("Unsqueeze", n.x(3), g.ints(*spatial)))
    spread = g.op("Add", n.x(4), n.array(epsilon))
    root = g.op("Sqrt", spread)
    ds = g.op("Div", g.reduce("ReduceSum", g.op("Mul", ct, centred), others, keepdims=0), root)
    dm = g.op("Neg", g.op("Mul", total, g.op("Div", n.x(1), root)))
    dv = g.op("Mul", g.op("Div", g.op("Mul", ds, n.x(1)), spread), n.array(-0.5))
    return [dx, ds, total, dm, dv]


def in_training(
    g: Emitter, n: Node, ct: str | None, ct_mean: str | None = None, ct_variance: str | None = None
) -> Cotangents:
    """Normalized over the batch; besides m' = k m + (1 - k) mean X, v' = k v + (1 - k) var X, of all positions."""
    axes, kept = [0, *range(2, n.rank())], n.attr("momentum", 0.9)
    dx, ds, db = scaled_and_shifted(g, n, ct, axes) if ct else (ZERO, ZERO, ZERO)
    parts = [dx] if dx else []
    centred = g.op("Sub", n.x(), g.reduce("ReduceMean", n.x(), axes))
    for moved, slope in ((ct_mean, ""), (ct_variance, centred)):
        if moved:
            share = spread_mean(g, n, g.op("Unsqueeze", moved, g.ints(*axes)), axes)
            scaled = g.op("Mul", share, n.array((1 - kept) * (2 if slope else 1)))
            parts.append(g.op("Mul", scaled, slope) if slope else scaled)
    olds = [g.op("Mul", moved, n.array(kept)) if moved else ZERO for moved in (ct_mean, ct_variance)]
    return [g.add(parts) if parts else ZERO, ds, db, *olds]


@rule("InstanceNormalization", versions=(6, 22))
def instance_normalization(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = s X_hat + b, X_hat normalized over positions;  dX = s (ct - mean ct - X_hat mean(ct X_hat)) / deviation."""
    return scaled_and_shifted(g, n, ct, list(range(2, n.rank())))


def scaled_and_shifted(g: Emitter, n: Node, ct: str, axes: list[int]) -> Cotangents:
    """Y = s X_hat + b, X_hat normalized over `axes`, s and b (inputs 1 and 2) one per channel."""
    sizes = g.dims(n.input[0], *((axis, 1) for axis in axes)) if axes and axes[0] > 1 else ""
    x_hat, inverse = standardized(g, n, n.x(), axes, n.attr("epsilon", 1e-5), sizes)
    scale = g.op("Unsqueeze", n.x(1), g.ints(*range(1, n.rank() - 1)))
    dx = normalized_cotangent(g, g.op("Mul", ct, scale), x_hat, inverse, axes)
    found: list[str | None] = [dx, None, None]
    others = [0, *range(2, n.rank())]
    if n.wants(1):
        found[1] = g.reduce("ReduceSum", g.op("Mul", ct, x_hat), others, keepdims=0)
    if n.wants(2):
        found[2] = g.reduce("ReduceSum", ct, others, keepdims=0)
    return found


@rule("GroupNormalization", versions=(18, 21))
def group_normalization(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = s X_hat + b, X_hat normalized over groups of channels; s, b one per channel (opset 18: one per group)."""
    groups, channels = n.attr("num_groups"), n.size(1)
    channels_now = g.op("Div", g.dims(n.input[0], (1, 1)), g.ints(groups))
    together = channels_now if channels is None else channels // groups
    rows = g.dims(n.input[0], 0, groups, together, -1)
    each = g.dims(n.input[0], groups, together if g.graph.opset >= 21 else 1, 1)
    alike = [0, 3] if g.graph.opset >= 21 else [0, 2, 3]  # axes along which s and b are the same
    ct = g.op("Reshape", ct, rows)
    grouped = g.op("Reshape", n.x(), rows)
    sizes = g.op("Slice", g.op("Shape", grouped), g.ints(2), g.ints(4))
    x_hat, inverse = standardized(g, n, grouped, [2, 3], n.attr("epsilon", 1e-5), sizes)
    weighted = g.op("Mul", ct, g.op("Reshape", n.x(1), each))
    dx = g.reshape_to(normalized_cotangent(g, weighted, x_hat, inverse, [2, 3]), n.input[0])
    ds, db = (g.op("Reshape", g.reduce("ReduceSum", part, alike), g.ints(-1)) for part in (g.op("Mul", ct, x_hat), ct))
    return [dx, ds, db]


@rule("LayerNormalization", versions=(17,))
def layer_normalization(
    g: Emitter, n: Node, ct: str | None, ct_mean: str | None = None, ct_inverse: str | None = None
) -> Cotangents:
    """Y = s X_hat + b, X_hat normalized over the axes from `axis` on;  dX as of InstanceNormalization.

    Its mean and 1 / deviation may be used too: d mean = 1 / count, d inverse = -inverse^2 X_hat / count.
    """
    axis, rank = n.axis(), n.rank()
    axes, epsilon = list(range(axis, rank)), n.attr("epsilon", 1e-5)
    if n.elem_type == TensorProto.DOUBLE:  # the kernel gives these two in float32
        x_hat, inverse = standardized(g, n, n.x(), axes, epsilon)
    else:
        ones = g.op("Expand", n.array(1), g.shape_of(n.input[1]))
        x_hat, _, inverse = g.op("LayerNormalization", n.x(), ones, outputs=3, axis=axis - rank, epsilon=epsilon)
    parts = []
    if ct:
        parts.append(normalized_cotangent(g, g.op("Mul", ct, n.x(1)), x_hat, inverse, axes))
    if ct_mean:
        parts.append(spread_mean(g, n, g.cast(ct_mean, n.elem_type), axes))
    if ct_inverse:
        parts.append(through_inverse(g, n, ct_inverse, x_hat, inverse, axes))
    if not ct:
        return [g.add(parts), ZERO, ZERO]
    ds, db = (
        g.sum_to(part, n.shape(), n.input[i]) if n.wants(i) else None
        for i, part in ((1, g.op("Mul", ct, x_hat)), (2, ct))
    )
    return [g.add(parts), ds, db]


@rule("RMSNormalization", versions=(23,))
@rule("SimplifiedLayerNormalization", domain=MICROSOFT)
def rms_normalization(g: Emitter, n: Node, ct: str | None, ct_inverse: str | None = None) -> Cotangents:
    """Y = s X_hat, X_hat = X / root mean square over the axes from `axis` on.

    SimplifiedLayerNormalization gives 1 / root mean square, too.
    """
    axes = list(range(n.axis(), n.rank()))
    x_hat, inverse = scaled(g, n.x(), axes, n.array(n.attr("epsilon", 1e-5)))
    parts = [scaled_cotangent(g, g.op("Mul", ct, n.x(1)), x_hat, inverse, axes)] if ct else []
    parts += [through_inverse(g, n, ct_inverse, x_hat, inverse, axes)] if ct_inverse else []
    return [g.add(parts), g.sum_to(g.op("Mul", ct, x_hat), n.shape(), n.input[1]) if ct else ZERO]


@rule("MeanVarianceNormalization", versions=(13,))
def mean_variance_normalization(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = (X - mean) / deviation over `axes`."""
    if not n.rank():
        raise RuleError("its input has no axes")
    axes = [axis % n.rank() for axis in n.attr("axes", [0, 2, 3])]
    _, inverse = standardized(g, n, n.x(), axes, 0.0)
    return [normalized_cotangent(g, ct, n.y(), inverse, axes)]


@rule("LpNormalization", versions=(1, 22))
def lp_normalization(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = X / |X|;  dX = (ct - d|X|/dX sum(ct Y)) / |X| along the axis, 0 where the norm is 0."""
    l1, axes = n.attr("p", 2) == 1, [n.axis()]
    norm = g.reduce("ReduceL1" if l1 else "ReduceL2", n.x(), axes)
    slope = g.op("Sign", n.x()) if l1 else n.y()
    along = g.reduce("ReduceSum", g.op("Mul", ct, n.y()), axes)
    dx = g.op("Div", g.op("Sub", ct, g.op("Mul", slope, along)), norm)
    return [g.op("Where", g.op("Equal", norm, n.array(0)), n.array(0), dx)]


@rule("LRN", versions=(13,))
def local_response_normalization(g: Emitter, n: Node, ct: str) -> Cotangents:
    """Y = X d^-b, d = k + a/size sum of X^2 over a window of channels.

    dX = ct d^-b - 2 a b / size X sum' (ct X d^(-b-1)), sum' over the windows that hold the channel.
    """
    size, alpha, beta = n.attr("size"), n.attr("alpha", 1e-4), n.attr("beta", 0.75)
    before, after = (size - 1) // 2, size - 1 - (size - 1) // 2
    x = n.x()
    mean = channel_mean(g, n, g.op("Mul", x, x), size, before, after)
    d = g.op("Add", g.op("Mul", mean, n.array(alpha)), n.array(n.attr("bias", 1.0)))
    first = g.op("Mul", ct, g.op("Pow", d, n.array(-beta)))
    gathered = channel_mean(g, n, g.op("Mul", x, g.op("Div", first, d)), size, after, before)
    second = g.op("Mul", g.op("Mul", x, gathered), n.array(2 * alpha * beta))
    return [g.op("Sub", first, second)]


def channel_mean(g: Emitter, n: Node, value: str, size: int, before: int, after: int) -> str:
    """The mean over a sliding window of channels, what lies outside counted as 0."""
    rows = g.op("Reshape", value, g.dims(n.input[0], (0, 1), 1, (1, 1), -1))
    pooled = g.op(
        "AveragePool", rows, kernel_shape=[size, 1], strides=[1, 1], pads=[before, 0, after, 0], count_include_pad=1
    )
    return g.reshape_to(pooled, n.input[0])
