"""Adapters for operators that meant something else below opset 16, and for those that left ONNX.

The retired ones were experimental; ONNX Runtime still runs them below opset 10. They have no schema any more, so their
form is checked here.
"""

from __future__ import annotations

from typing import Any

from onnx import TensorProto

from onnxcam.graph.upgrade_patch import Patch, adapts

INT64_MAX = 2**63 - 1


@adapts("Softmax", "LogSoftmax", "Hardmax", below=13)
def over_all_from_axis(p: Patch) -> None:
    """All axes from `axis` on were taken as one; Flatten does that, unless only one of them can be longer than 1."""
    (x,) = p.node.input
    axis, shape = p.take("axis", 1), p.shape(x)
    last = [i for i in range(axis % len(shape), len(shape)) if shape[i] != 1] if shape else [axis]
    if len(last) <= 1 and (shape or axis == -1):
        p.put("axis", last[0] if last else axis)
    else:
        flat = p.op(p.node.op_type, p.op("Flatten", x, axis=axis), axis=-1)
        p.become("Reshape", flat, p.op("Shape", x))


@adapts("BatchNormalization", below=7)
def batch_norm_flag(p: Patch) -> None:
    """`is_test`, beside the number of outputs, said which statistics are used."""
    if p.take("is_test", 0):
        p.drop_outputs(keep=1)
    elif not any(p.node.output[1:]):
        raise p.refusal("without is_test it normalizes with the batch's statistics: set is_test=1 for the stored ones")


@adapts("BatchNormalization", below=9)
def batch_norm_spatial(p: Patch) -> None:
    """Statistics of every single position are gone."""
    if not p.take("spatial", 1):
        raise p.refusal("spatial=0 is no longer to be had: set spatial=1 if its parameters are vectors over channels")


@adapts("BatchNormalization", below=14)
def batch_norm_outputs(p: Patch) -> None:
    """More than one output meant the batch's statistics; two of them are gone."""
    if any(p.node.output[1:]):
        p.put("training_mode", 1)
        p.drop_outputs(keep=3)
    else:
        p.drop_outputs(keep=1)


@adapts("Dropout", below=7)
def dropout_flag(p: Patch) -> None:
    """Without `is_test` it was at work."""
    if not p.take("is_test", 0):
        raise p.refusal("without is_test it drops values at random: set is_test=1, or export the model for inference")


@adapts("Dropout", below=12)
def dropout_inference(p: Patch) -> None:
    """The identity from opset 7 to 11, as Dropout-12 without `training_mode` is; in ONNX Runtime the mask was 0."""
    p.take("ratio")
    mask = "".join(p.node.output[1:])
    if mask in p.facts.read:
        zeros = p.op("ConstantOfShape", p.op("Shape", p.node.input[0]))
        if p.opset < 10:
            p.op("CastLike", zeros, p.node.input[0], output=mask)
        else:
            p.op("Cast", zeros, output=mask, to=TensorProto.BOOL)
    del p.node.output[1:]


@adapts("RoiAlign", below=16)
def roi_align_grid(p: Patch) -> None:
    """Opset 16 shifts by half a pixel unless told not to."""
    p.put("coordinate_transformation_mode", "output_half_pixel")


@adapts("Scan", below=9)
def scan_with_batch(p: Patch) -> None:
    """Another operator of the same name."""
    raise p.refusal("Scan had a batch axis of its own at opset 8: export the model again at opset 9 or later")


# -- resizing -------------------------------------------------------------------------------------------


@adapts("Upsample", below=7)
def upsample_two_scales(p: Patch) -> None:
    """For images only."""
    p.put("scales", [1.0, 1.0, p.take("height_scale"), p.take("width_scale")])


@adapts("Upsample", below=9)
def upsample_scales(p: Patch) -> None:
    """An attribute that became an input."""
    p.node.input.append(p.tensor(TensorProto.FLOAT, p.take("scales")))


@adapts("Upsample", below=10)
def upsample(p: Patch) -> None:
    """Coordinates are x / scale; nearest takes the lower neighbour."""
    x, scales = p.node.input
    p.become("Resize", x, "", scales, **asymmetric(p))


@adapts("Resize", below=11)
def resize(p: Patch) -> None:
    """Nearest takes the lower neighbour where it enlarges, the upper one where it shrinks: two steps if both may be."""
    x, scales = p.node.input
    attributes, known = asymmetric(p), p.constant(scales)
    if attributes["mode"] == "nearest" and (known is None or (known < 1).any()):
        if known is None or (known > 1).any():
            one = p.tensor(TensorProto.FLOAT, 1.0)
            x, scales = p.op("Resize", x, "", p.op("Max", scales, one), **attributes), p.op("Min", scales, one)
        attributes["nearest_mode"] = "ceil"
    p.become("Resize", x, "", scales, **attributes)


def asymmetric(p: Patch) -> dict[str, Any]:
    """The attributes that resize as before opset 11 (onnx's own converter forgets them)."""
    mode = p.take("mode", "nearest")
    if mode == "nearest":
        return {"mode": mode, "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
    if mode in ("linear", "bilinear", "trilinear"):
        return {"mode": "linear", "coordinate_transformation_mode": "asymmetric"}
    raise p.refusal(f"mode '{mode}' is not defined there: use nearest or linear")


# -- retired --------------------------------------------------------------------------------------------


@adapts("Affine", below=10)
def affine(p: Patch) -> None:
    """alpha * x + beta."""
    x = only_input(p)
    alpha, beta = p.typed(p.take("alpha", 1.0), like=x), p.typed(p.take("beta", 0.0), like=x)
    p.become("Add", p.op("Mul", x, alpha), beta)


@adapts("Crop", below=10)
def crop(p: Patch) -> None:
    """Cuts `border` (left, top, right, bottom) off; `scale` (height, width), if there, decides on the far edges."""
    x, border, size = only_input(p), required(p, "border"), p.take("scale")
    if len(border) != 4 or (size and len(size) != 2):
        raise p.refusal("border needs four numbers and scale two: correct the attributes")
    left, top, right, bottom = border
    ends = [top + size[0], left + size[1]] if size else [-bottom or INT64_MAX, -right or INT64_MAX]
    p.become("Slice", x, p.int64([top, left]), p.int64(ends), p.int64([2, 3]))


@adapts("DynamicSlice", below=10)
def dynamic_slice(p: Patch) -> None:
    """Slice as of opset 10; without axes the first ones."""
    if not 3 <= len(p.node.input) <= 4:
        raise p.refusal("it needs data, starts, ends and perhaps axes: export the model again")
    x, starts, ends, *axes = p.node.input
    if not any(axes):
        starts, ends = (p.op("Cast", name, to=TensorProto.INT64) for name in (starts, ends))
        axes = [p.op("Range", p.int64(0), p.op("Size", starts), p.int64(1))]
    p.become("Slice", x, starts, ends, *axes)


@adapts("ImageScaler", below=10)
def image_scaler(p: Patch) -> None:
    """scale * x + bias per channel of NCHW."""
    x, bias = only_input(p), required(p, "bias")
    scaled = p.op("Mul", x, p.typed(p.take("scale", 1.0), like=x))
    p.become("Add", scaled, p.op("Unsqueeze", p.typed(bias, like=x), p.int64([1, 2])))


@adapts("MeanVarianceNormalization", below=9)
def mean_variance(p: Patch) -> None:
    """Per channel over batch and positions, or (`across_channels`) over everything; one spatial axis or two."""
    x = only_input(p)
    axes = [0, 1, 2] if p.take("across_channels", 0) else [0, 2]
    flat = p.op("Reshape", x, p.int64([0, 0, -1]))
    if p.take("normalize_variance", 1):
        done = p.op("MeanVarianceNormalization", flat, axes=axes)
    else:
        done = p.op("Sub", flat, p.op("ReduceMean", flat, axes=axes))
    p.become("Reshape", done, p.op("Shape", x))


@adapts("Scale", below=10)
def scale(p: Patch) -> None:
    """scale * x."""
    x = only_input(p)
    p.become("Mul", x, p.typed(p.take("scale", 1.0), like=x))


@adapts("ParametricSoftplus", below=10)
def parametric_softplus(p: Patch) -> None:
    """alpha * log(1 + exp(beta * x))."""
    scaled_function(p, "Softplus")


@adapts("ScaledTanh", below=10)
def scaled_tanh(p: Patch) -> None:
    """alpha * tanh(beta * x)."""
    scaled_function(p, "Tanh")


def scaled_function(p: Patch, op_type: str) -> None:
    """alpha * f(beta * x)."""
    x = only_input(p)
    alpha, beta = (p.typed(required(p, name), like=x) for name in ("alpha", "beta"))
    p.become("Mul", p.op(op_type, p.op("Mul", x, beta)), alpha)


def only_input(p: Patch) -> str:
    """The input of an operator that has one."""
    if len(p.node.input) != 1:
        raise p.refusal(f"it has {len(p.node.input)} inputs instead of 1: export the model again")
    name: str = p.node.input[0]
    return name


def required(p: Patch, attribute: str) -> Any:
    """An attribute without a default."""
    value = p.take(attribute)
    if value is None:
        raise p.refusal(f"its attribute `{attribute}` is missing: add it")
    return value
