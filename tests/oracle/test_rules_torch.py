"""The rules against torch.autograd in float64: the rows of the table that have a counterpart, and its conventions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from tests.vjp.case import Case
from tests.vjp.cases import CASES
from tests.vjp.cases.known import KNOWN, Known
from tests.vjp.harness import Rewritten, build, draw

torch = pytest.importorskip("torch")
F = torch.nn.functional
pytestmark = pytest.mark.oracle

Tensor = Any
Attrs = dict[str, Any]


# -- sliding windows ------------------------------------------------------------------------------


def framed(x: Tensor, a: Attrs, kernel: list[int], value: float = 0.0) -> Tensor:
    """The input with its padding, auto_pad resolved as ONNX Runtime does: as if windows were not dilated."""
    rank = x.dim() - 2
    pads, auto = list(a.get("pads", [0] * 2 * rank)), a.get("auto_pad", "NOTSET")
    if auto.startswith("SAME"):
        for i in range(rank):
            stride = a.get("strides", [1] * rank)[i]
            total = max((-(-x.shape[i + 2] // stride) - 1) * stride + kernel[i] - x.shape[i + 2], 0)
            ends = (total // 2, total - total // 2)
            pads[i], pads[i + rank] = ends if auto == "SAME_UPPER" else ends[::-1]
    return F.pad(x, [pads[i + side * rank] for i in reversed(range(rank)) for side in (0, 1)], value=value)


def moves(a: Attrs, rank: int, *names: str) -> Attrs:
    spelled = {"strides": "stride", "dilations": "dilation", "group": "groups", "output_padding": "output_padding"}
    return {spelled[name]: a[name] for name in names if name in a}


def conv(a: Attrs, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    run = (F.conv1d, F.conv2d, F.conv3d)[x.dim() - 3]
    return run(framed(x, a, list(w.shape[2:])), w, b, **moves(a, x.dim(), "strides", "dilations", "group"))


def conv_transpose(a: Attrs, x: Tensor, w: Tensor, b: Tensor | None = None) -> Tensor:
    rank = x.dim() - 2
    run = (F.conv_transpose1d, F.conv_transpose2d, F.conv_transpose3d)[rank - 1]
    whole = run(x, w, b, **moves(a, rank, "strides", "dilations", "group", "output_padding"))
    pads = a.get("pads", [0] * 2 * rank)
    for i in range(rank):
        whole = whole.narrow(i + 2, pads[i], whole.shape[i + 2] - pads[i] - pads[i + rank])
    return whole


def max_pool(a: Attrs, x: Tensor) -> Tensor:
    kernel = a["kernel_shape"]
    run = (F.max_pool1d, F.max_pool2d, F.max_pool3d)[len(kernel) - 1]
    x = framed(x, a, kernel, -torch.inf)
    given = moves(a, len(kernel), "dilations")
    return run(x, kernel, a.get("strides", [1] * len(kernel)), ceil_mode=bool(a.get("ceil_mode")), **given)


def average_pool(a: Attrs, x: Tensor) -> Tensor:
    kernel, pads = a["kernel_shape"], a.get("pads")
    run = (F.avg_pool1d, F.avg_pool2d, F.avg_pool3d)[len(kernel) - 1]
    if pads and pads[: len(kernel)] == pads[len(kernel) :]:
        where = {"padding": pads[: len(kernel)], "count_include_pad": bool(a.get("count_include_pad"))}
    else:
        x, where = framed(x, a, kernel), {}
    return run(x, kernel, a.get("strides", [1] * len(kernel)), ceil_mode=bool(a.get("ceil_mode")), **where)


# -- the others -----------------------------------------------------------------------------------


def axes_of(a: Attrs, x: Tensor, axes: Tensor | None) -> list[int]:
    found = list(a.get("axes", [])) if axes is None else axes.tolist()
    return found or list(range(x.dim()))


def reduction(run: Callable[[Tensor, list[int], bool], Tensor]) -> Callable[..., Tensor]:
    return lambda a, x, axes=None: run(x, axes_of(a, x, axes), bool(a.get("keepdims", 1)))


def product_over(x: Tensor, axes: list[int], keep: bool) -> Tensor:
    for axis in sorted((axis % x.dim() for axis in axes), reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def gemm(a: Attrs, x: Tensor, w: Tensor, c: Tensor | float = 0.0) -> Tensor:
    x, w = x.T if a.get("transA") else x, w.T if a.get("transB") else w
    return a.get("alpha", 1.0) * (x @ w) + a.get("beta", 1.0) * c


def batch_norm(a: Attrs, x: Tensor, s: Tensor, b: Tensor, m: Tensor, v: Tensor) -> Tensor:
    if a.get("training_mode"):
        return F.batch_norm(x, None, None, s, b, training=True, eps=a.get("epsilon", 1e-5))
    s, b, m, v = (each.reshape(-1, *[1] * (x.dim() - 2)) for each in (s, b, m, v))  # F's holds m and v fixed
    return (x - m) / (v + a.get("epsilon", 1e-5)).sqrt() * s + b


def layer_norm(a: Attrs, x: Tensor, s: Tensor, b: Tensor | None = None) -> Tensor:
    return F.layer_norm(x, x.shape[a.get("axis", -1) % x.dim() :], s, b, a.get("epsilon", 1e-5))


def rms_norm(a: Attrs, x: Tensor, s: Tensor) -> Tensor:
    return F.rms_norm(x, x.shape[a.get("axis", -1) % x.dim() :], s, a.get("epsilon", 1e-5))


def group_norm(a: Attrs, x: Tensor, s: Tensor, b: Tensor) -> Tensor:
    return F.group_norm(x, a["num_groups"], s, b, a.get("epsilon", 1e-5))


def local_response_norm(a: Attrs, x: Tensor) -> Tensor:
    return F.local_response_norm(x, a["size"], a.get("alpha", 1e-4), a.get("beta", 0.75), a.get("bias", 1.0))


def pad(a: Attrs, x: Tensor, pads: Tensor, *_: Tensor) -> Tensor:
    modes = {"constant": "constant", "edge": "replicate", "reflect": "reflect", "wrap": "circular"}
    amounts = [
        int(pads[i + side * x.dim()]) for i in reversed(range(2 if a.get("mode") else 0, x.dim())) for side in (0, 1)
    ]
    return F.pad(x, amounts, modes[a.get("mode", "constant")])


def slices(
    a: Attrs, x: Tensor, starts: Tensor, ends: Tensor, axes: Tensor | None = None, steps: Tensor | None = None
) -> Tensor:
    for i, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True)):
        axis, step = i if axes is None else int(axes[i]), 1 if steps is None else int(steps[i])
        if step < 0:  # ONNX goes down from the first element where Python would from none
            start = max(start, -x.shape[axis])
        x = x.index_select(axis, torch.from_numpy(np.arange(x.shape[axis])[start:end:step].copy()))
    return x


def resize(a: Attrs, x: Tensor, _: Tensor | None, scales: Tensor | None, sizes: Tensor | None = None) -> Tensor:
    mode = {"nearest": "nearest", "linear": ("linear", "bilinear", "trilinear")[x.dim() - 3], "cubic": "bicubic"}[
        a.get("mode", "nearest")
    ]
    aligned = {} if mode == "nearest" else {"align_corners": a.get("coordinate_transformation_mode") == "align_corners"}
    if sizes is not None:
        return F.interpolate(x, size=sizes.tolist()[2:], mode=mode, **aligned)
    return F.interpolate(x, scale_factor=scales.tolist()[2:], mode=mode, recompute_scale_factor=False, **aligned)


def space_to_depth(a: Attrs, x: Tensor) -> Tensor:
    size = a["blocksize"]
    return x.unfold(2, size, size).unfold(3, size, size).permute(0, 4, 5, 1, 2, 3).flatten(1, 3)


def grid_sample(a: Attrs, x: Tensor, grid: Tensor) -> Tensor:
    mode = {"linear": "bilinear", "cubic": "bicubic"}.get(a.get("mode", "linear"), a.get("mode"))
    return F.grid_sample(x, grid, mode, a.get("padding_mode", "zeros"), bool(a.get("align_corners")))


def fourier(a: Attrs, x: Tensor, length: Tensor | None = None, axis: Tensor | None = None) -> Tensor:
    inverse, onesided = a.get("inverse", 0), a.get("onesided", 0)
    z = x[..., 0].to(torch.complex128) if x.shape[-1] == 1 else torch.view_as_complex(x.contiguous())
    n, along = None if length is None else int(length), a.get("axis", 1) if axis is None else int(axis)
    along -= x.dim() if along >= 0 else 0
    if onesided and inverse:
        return torch.fft.irfft(z, n, along + 1).unsqueeze(-1)
    run = torch.fft.ifft if inverse else torch.fft.rfft if onesided else torch.fft.fft
    return torch.view_as_real(run(z.real if onesided else z, n, along + 1))


def classification(log: bool) -> Callable[..., Tensor]:
    run = F.nll_loss if log else F.cross_entropy
    return lambda a, x, label, w=None: run(
        x, label.long(), w, ignore_index=a.get("ignore_index", -100), reduction=a.get("reduction", "mean")
    )


def elementwise(name: str) -> Callable[..., Tensor]:
    return lambda _, *x: getattr(torch, name)(*x)


def many(run: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def over(_: Attrs, first: Tensor, *rest: Tensor) -> Tensor:
        for other in rest:
            first = run(first, other)
        return first

    return over


SAME_NAME = [
    "Abs", "Neg", "Reciprocal", "Sqrt", "Exp", "Log", "Erf", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh",
    "Cosh", "Asinh", "Acosh", "Atanh", "Sigmoid", "Tanh", "Relu", "Selu", "Where",
]  # fmt: skip

TORCH: dict[str, Callable[..., Tensor]] = {
    **{op: elementwise(op.lower()) for op in SAME_NAME},
    "Add": many(torch.add), "Sub": many(torch.sub), "Mul": many(torch.mul), "Div": many(torch.div),
    "Sum": many(torch.add),
    "Max": many(torch.maximum), "Min": many(torch.minimum), "Pow": many(torch.pow), "Mod": many(torch.fmod),
    "MatMul": many(torch.matmul),
    "AveragePool": average_pool, "BatchNormalization": batch_norm, "Conv": conv, "ConvTranspose": conv_transpose,
    "Gemm": gemm, "GroupNormalization": group_norm, "LRN": local_response_norm, "LayerNormalization": layer_norm,
    "MaxPool": max_pool, "Pad": pad, "RMSNormalization": rms_norm, "Resize": resize, "Slice": slices,
    "Celu": lambda a, x: F.celu(x, a.get("alpha", 1.0)),
    "Clip": lambda a, x, low=None, high=None: x if low is None and high is None else x.clamp(low, high),
    "Concat": lambda a, *x: torch.cat(x, a["axis"]),
    "CumProd": lambda a, x, axis: x.cumprod(int(axis)),
    "CumSum": lambda a, x, axis: x.cumsum(int(axis)),
    "DFT": fourier,
    "Det": lambda a, x: torch.linalg.det(x),
    "DepthToSpace": lambda a, x: F.pixel_shuffle(x, a["blocksize"]),
    "Einsum": lambda a, *x: torch.einsum(a["equation"], *x),
    "Elu": lambda a, x: F.elu(x, a.get("alpha", 1.0)),
    "Expand": lambda a, x, shape: x.expand(torch.broadcast_shapes(tuple(x.shape), tuple(shape.tolist()))),
    "Flatten": lambda a, x: x.reshape(int(np.prod(x.shape[: a.get("axis", 1)])), -1),
    "Gather": lambda a, x, i: x.movedim(a.get("axis", 0), 0)[i.long()].movedim(
        list(range(i.dim())), [a.get("axis", 0) % x.dim() + j for j in range(i.dim())]),
    "GatherElements": lambda a, x, i: x.gather(a.get("axis", 0), i % x.shape[a.get("axis", 0)]),
    "Gelu": lambda a, x: F.gelu(x, approximate=a.get("approximate", "none")),
    "GlobalAveragePool": lambda a, x: x.mean(list(range(2, x.dim())), keepdim=True),
    "GlobalMaxPool": lambda a, x: x.flatten(2).max(2)[0].reshape(*x.shape[:2], *[1] * (x.dim() - 2)),
    "GridSample": grid_sample,
    "AffineGrid": lambda a, theta, size: F.affine_grid(theta, size.tolist(), bool(a.get("align_corners"))),
    "Col2Im": lambda a, x, size, block: F.fold(
        x, size.tolist(), block.tolist(), a.get("dilations", 1), stride=a.get("strides", 1)),
    "NegativeLogLikelihoodLoss": classification(True), "SoftmaxCrossEntropyLoss": classification(False),
    "HardSwish": lambda a, x: F.hardswish(x),
    "InstanceNormalization": lambda a, x, s, b: F.instance_norm(x, weight=s, bias=b, eps=a.get("epsilon", 1e-5)),
    "LeakyRelu": lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01)),
    "LogSoftmax": lambda a, x: x.log_softmax(a.get("axis", -1)),
    "LpNormalization": lambda a, x: F.normalize(x, a.get("p", 2), a.get("axis", -1)),
    "LpPool": lambda a, x: F.lp_pool2d(
        x.abs(), float(a.get("p", 2)), a["kernel_shape"], a.get("strides", 1), bool(a.get("ceil_mode"))),
    "Mish": lambda a, x: F.mish(x),
    "PRelu": lambda a, x, s: torch.where(x > 0, x, s * x),
    "ReduceL1": reduction(lambda x, axes, keep: x.abs().sum(axes, keep)),
    "ReduceL2": reduction(lambda x, axes, keep: torch.linalg.vector_norm(x, 2, axes, keep)),
    "ReduceLogSumExp": reduction(lambda x, axes, keep: x.logsumexp(axes, keep)),
    "ReduceMax": reduction(lambda x, axes, keep: x.amax(axes, keep)),
    "ReduceMean": reduction(lambda x, axes, keep: x.mean(axes, keep)),
    "ReduceMin": reduction(lambda x, axes, keep: x.amin(axes, keep)),
    "ReduceProd": reduction(product_over),
    "ReduceSum": reduction(lambda x, axes, keep: x.sum(axes, keep)),
    "Shrink": lambda a, x: torch.where(x.abs() > a.get("lambd", 0.5), x - x.sign() * a.get("bias", 0.0), 0),
    "Softmax": lambda a, x: x.softmax(a.get("axis", -1)),
    "Softplus": lambda a, x: F.softplus(x),
    "Softsign": lambda a, x: F.softsign(x),
    "SpaceToDepth": space_to_depth,
    "Swish": lambda a, x: x * (a.get("alpha", 1.0) * x).sigmoid(),
    "ThresholdedRelu": lambda a, x: F.threshold(x, a.get("alpha", 1.0), 0.0),
    "Tile": lambda a, x, repeats: x.tile(repeats.tolist()),
    "Transpose": lambda a, x: x.permute(a.get("perm", list(range(x.dim()))[::-1])),
    "Trilu": lambda a, x, k=None: (torch.triu if a.get("upper", 1) else torch.tril)(x, 0 if k is None else int(k)),
}  # fmt: skip


def has_counterpart(case: Case) -> bool:
    """Whether torch can be told what the attributes say; it gives the first output alone."""
    if case.of:
        return False
    a = case.attrs
    match case.op:
        case "AveragePool":
            return (
                "dilations" not in a
                and (a.get("pads") is None or a["pads"][::2] == a["pads"][1::2])
                and "SAME" not in a.get("auto_pad", "")
            )
        case "MaxPool":
            return not (a.get("ceil_mode") and "pads" in a)
        case "ConvTranspose":
            return "auto_pad" not in a and "output_shape" not in a
        case "LpPool":
            return len(a["kernel_shape"]) == 2 and not {"pads", "dilations", "auto_pad"} & set(a)
        case "CumSum" | "CumProd":
            return not a
        case "Col2Im":
            return "pads" not in a and len(case.args[1].shape) == 1 and case.args[1].shape[0] == 2
        case "DFT":
            return case.opset < 20
        case "SoftmaxCrossEntropyLoss" | "NegativeLogLikelihoodLoss":  # torch holds the weights fixed
            return all(arg is None or arg.role != "wrt" for arg in case.args[2:])
        case "Det":
            return any(isinstance(dim, str) for dim in case.args[0].shape)  # the other rows hold singular matrices
        case "DepthToSpace":
            return a.get("mode") == "CRD"
        case "Pad":
            return len(case.args) == 2 and ("mode" not in a or len(case.args[0].shape) == 4)
        case "Resize":
            convention, cubic = a.get("coordinate_transformation_mode", "half_pixel"), a.get("mode") == "cubic"
            plain = not {"axes", "antialias", "exclude_outside", "cubic_coeff_a"} & set(a) and not rounds_to_itself(
                case
            )
            if a.get("mode", "nearest") == "nearest":
                return plain and convention == "asymmetric" and a.get("nearest_mode") == "floor"
            return plain and convention in ("half_pixel", "align_corners") and not cubic
        case "Selu":
            return not a
        case "GroupNormalization":
            return case.opset >= 21
        case _:
            return not a.get("noop_with_empty_axes")


def rounds_to_itself(case: Case) -> bool:
    """Whether a Resize scales some axis by too little to change it: ONNX Runtime leaves it alone, torch resamples."""
    feeds = draw(case, 0)
    pairs = zip(feeds["x0"].shape, feeds.get("x2", ()), strict=False)
    return any(scale != 1 and int(size * scale) == size for size, scale in pairs)


ROWS = [case for case in CASES if case.op in TORCH and has_counterpart(case)]


@pytest.mark.parametrize("case", ROWS, ids=str)
def test_autograd_agrees(case: Case) -> None:
    feeds = draw(case, 0)
    wrt = [f"x{i}" for i, arg in enumerate(case.args) if arg and arg.role == "wrt"]
    found = Rewritten(build(case, feeds), f"y{case.of}", wrt).run(feeds)
    tensors = {name: torch.tensor(value) for name, value in feeds.items()}
    for name in wrt:
        tensors[name].requires_grad_()
    y = TORCH[case.op](case.attrs, *(tensors[f"x{i}"] if arg else None for i, arg in enumerate(case.args)))
    scale = max(1.0, float(np.max(np.abs(found.primal), initial=0)))
    np.testing.assert_allclose(
        found.primal / scale, y.detach().numpy() / scale, atol=1e-5, err_msg="torch computes something else"
    )
    y.backward(torch.tensor(found.seed))
    for name in wrt:
        expected = tensors[name].grad.numpy()
        bound = 2e-5 * max(1.0, float(np.max(np.abs(expected), initial=0)))
        np.testing.assert_allclose(found.gradients[name], expected, atol=bound, err_msg=name)


def test_enough_operators_are_compared() -> None:
    assert len({case.op for case in ROWS}) >= 60


# What torch does at the points of the table of known values; where torch has two conventions, the one that was chosen.
CONVENTIONS: dict[str, Callable[..., Tensor]] = {
    "Relu is 0 at 0": F.relu,
    "LeakyRelu is the slope at 0": lambda x: F.leaky_relu(x, 0.25),
    "PRelu is the slope at 0": F.prelu,
    "Elu is alpha at 0": lambda x: F.elu(x, 2.0),
    "Celu is 1 at 0": lambda x: F.celu(x, 2.0),
    "Selu at 0": F.selu,
    "Clip is 0 at both bounds": lambda x: F.hardtanh(x, -1, 6),
    "HardSwish is 0 at -3 and 1 at 3": F.hardswish,
    "Abs is 0 at 0": torch.abs,
    "Shrink is 0 at its bounds": lambda x: F.hardshrink(x, 1.0),
    "ThresholdedRelu is 0 at its threshold": lambda x: F.threshold(x, 1.0, 0.0),
    "Softsign at 0": F.softsign,
    "Max shares a tie of two": torch.maximum,
    "Min shares ties": torch.minimum,
    "ReduceMax shares ties": lambda x: x.amax(1, True),
    "ReduceMin shares ties": lambda x: x.amin(),
    "MaxPool takes the first": lambda x: F.max_pool1d(x, 2, 2),
    "MaxPool adds where windows meet": lambda x: F.max_pool1d(x, 3, 1),
    "MaxPool takes the first in rows": lambda x: F.max_pool2d(x, 2, 1),
    "GlobalMaxPool takes the first": lambda x: F.adaptive_max_pool2d(x, 1),
    "GridSample looks ahead": lambda x, z: F.grid_sample(x, z, align_corners=True),
    "GridSample stops at the border": lambda x, z: F.grid_sample(x, z, padding_mode="border", align_corners=True),
    "GridSample stops at the mirror": lambda x, z: F.grid_sample(x, z, padding_mode="reflection", align_corners=True),
    "GridSample rounds halves to even": lambda x, z: F.grid_sample(x, z, "nearest", align_corners=False),
    "a square at 0": lambda x: x**2,
    "a cube at 0": lambda x: x**3,
    "powers 0 and 1 at 0": lambda x: x ** torch.tensor([0.0, 1.0]),
    "ReduceL2 at 0": lambda x: torch.linalg.vector_norm(x, 2, 1, True),
    "ReduceProd with a zero": lambda x: x.prod(1, keepdim=True),
    "ReduceLogSumExp far out": lambda x: x.logsumexp(0, keepdim=True),
}


@pytest.mark.parametrize("row", [row for row in KNOWN if row.name in CONVENTIONS], ids=str)
def test_conventions_are_torchs(row: Known) -> None:
    tensors = {name: torch.tensor(value, requires_grad=True) for name, value in row.feeds.items()}
    y = CONVENTIONS[row.name](*tensors.values())
    y.backward(torch.ones_like(y) if row.seed is None else torch.tensor(row.seed, dtype=y.dtype))
    np.testing.assert_allclose(tensors["x"].grad.numpy(), row.dx, rtol=1e-5, atol=1e-6)
    if row.dz is not None:
        np.testing.assert_allclose(tensors["z"].grad.numpy(), row.dz, rtol=1e-5, atol=1e-6)


def test_every_convention_is_in_the_table() -> None:
    assert set(CONVENTIONS) <= {row.name for row in KNOWN}
