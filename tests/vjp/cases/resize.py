"""Resampling: every mode, coordinate convention and rounding."""

from __future__ import annotations

from tests.vjp.case import Case, case, fed, held, ints, normal, values


def scaled(scales: list[float], *shape: int | str, opset: int = 17, **attrs: object) -> Case:
    return case("Resize", normal(*shape), None, held(values(scales)), opset=opset, **attrs)


def sized(sizes: list[int], *shape: int | str, opset: int = 17, **attrs: object) -> Case:
    return case("Resize", normal(*shape), None, None, ints(*sizes), opset=opset, **attrs)


def cropped(roi: list[float], scales: list[float], *shape: int | str, **attrs: object) -> Case:
    return case(
        "Resize", normal(*shape), held(values(roi)), held(values(scales)), mode="linear",
        coordinate_transformation_mode="tf_crop_and_resize", **attrs,
    )  # fmt: skip


CASES = [
    scaled([1, 1, 2, 2], "N", 2, 3, 4),
    scaled([1, 1, 2, 2], "N", 2, "H", "W", coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    scaled([1, 1, 0.5, 1.5], "N", 2, 6, 4, coordinate_transformation_mode="asymmetric", nearest_mode="floor"),
    scaled([1, 1, 1.7, 0.6], "N", 2, 5, 5, nearest_mode="ceil"),
    scaled([1, 1, 1.7, 0.6], "N", 2, 5, 5, nearest_mode="round_prefer_ceil"),
    scaled([1, 1, 2, 2], "N", 2, "H", "W", mode="linear"),
    scaled([1, 1, 1.7, 2.3], "N", 1, 4, 5, mode="linear"),
    scaled([1, 1, 0.6, 0.4], "N", 1, 6, "W", mode="linear"),
    scaled([1, 1, 2, 3], "N", 1, "H", 4, mode="linear", coordinate_transformation_mode="asymmetric"),
    scaled([1, 1, 2, 3], "N", 1, "H", 4, mode="linear", coordinate_transformation_mode="align_corners"),
    scaled([1, 1, 2, 0.6], "N", 1, "H", 4, mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
    scaled([1, 1, 2, 1.6], "N", 1, "H", 4, mode="cubic"),
    scaled([1, 1, 2, 1.6], "N", 1, 5, 4, mode="cubic", cubic_coeff_a=-0.5, exclude_outside=1),
    scaled([1, 1, 2, 2], "N", 1, 5, 4, mode="cubic", coordinate_transformation_mode="align_corners"),
    scaled([1, 1, 0.5, 0.6], "N", 1, 8, 7, mode="linear", antialias=1, opset=18),
    scaled([1, 1, 0.5, 0.6], "N", 1, 8, 7, mode="cubic", antialias=1, opset=18),
    scaled([2, 0.5], "N", 1, 4, 6, mode="linear", axes=[2, 3], opset=18),
    scaled([2, 0.5], "N", 1, 4, 6, mode="linear", axes=[3, 2], opset=18),
    scaled(
        [1, 1, 1.7, 2.3], "N", 1, 4, 5, mode="linear", coordinate_transformation_mode="half_pixel_symmetric", opset=19
    ),
    # an axis that keeps its size is still resampled when another one changes
    scaled([1, 1, 1.1, 1.6], "N", 1, 5, 4, mode="linear"),
    scaled([1, 1, 1.1, 1.6], "N", 1, "H", "W", mode="cubic"),
    scaled([1, 1, 1.15, 2], "N", 1, 6, 4, nearest_mode="floor", coordinate_transformation_mode="asymmetric"),
    case("Resize", normal("N", 1, "H", "W"), None, fed(values([1, 1, 1.1, 1.5])), mode="linear"),
    scaled([1, 1, 1.1, 1.1], 1, 1, 5, 4, mode="linear", truth=lambda x, *_: x),  # as ONNX Runtime: a copy
    scaled([1, 1, 0.3, 2], "N", 1, 8, 1, mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
    sized([1, 1, 1, 1], 1, 1, 4, 3, mode="linear", coordinate_transformation_mode="align_corners"),
    sized([1, 1, 1, 6], 1, 1, 4, 3, mode="linear", coordinate_transformation_mode="pytorch_half_pixel"),
    scaled([2, 0.4], "N", 1, 4, 6, nearest_mode="ceil", axes=[3, 2], opset=18),
    scaled([1, 1, 0.7, 0.45], "N", 1, 6, 7, nearest_mode="floor"),
    scaled([1, 1, 0.7, 0.45], "N", 1, 6, 7, nearest_mode="round_prefer_ceil"),
    scaled([1, 1, 0.7, 1.3], "N", 1, 6, 7, mode="cubic", cubic_coeff_a=-0.6),
    scaled([1, 1, 0.7, 1.3], "N", 1, 6, 7, mode="linear", antialias=1, exclude_outside=1, opset=18),
    sized([1, 1, 3, 9], 1, 1, 7, 5, mode="linear", antialias=1, opset=18),
    # the sizes make one scale, by which each axis is rounded
    *(
        sized([7, 8], "N", 2, 3, 5, axes=[2, 3], opset=18, keep_aspect_ratio_policy=policy, mode=mode)
        for policy in ("not_larger", "not_smaller")
        for mode in ("nearest", "linear", "cubic")
    ),
    sized([8, 7], 2, 1, "H", "W", axes=[3, 2], opset=19, keep_aspect_ratio_policy="not_larger", mode="linear"),
    sized([1, 1, 3, 5], 1, 1, 2, 4, opset=19, keep_aspect_ratio_policy="not_smaller", nearest_mode="floor"),
    sized([1, 1, 3, 5], 1, 1, 2, 4, opset=19, keep_aspect_ratio_policy="not_larger", nearest_mode="ceil"),
    sized([1, 1, 3, 9], 1, 1, 7, 5, mode="linear", coordinate_transformation_mode="half_pixel_symmetric", opset=19),
    cropped([0, 0, 0.2, -0.3, 1, 1, 0.9, 1.4], [1, 1, 1.6, 2], "N", 1, 5, 4),
    cropped([0, 0, 0.1, 0.4, 1, 1, 1.2, 0.6], [1, 1, 0.5, 1.5], "N", 1, 6, 4, extrapolation_value=3.0),
    scaled([1, 1, 2], "N", 2, "L", mode="linear"),
    scaled([1, 1, 2, 1, 1.5], "N", 1, 2, 3, 4, mode="linear"),
    scaled([1, 1, 2, 2, 2], "N", 1, "D", 3, 2),
    sized([1, 2, 7, 9], 1, 2, 4, 5, mode="linear"),
    sized([1, 2, 7, 9], 1, 2, "H", "W", mode="linear", coordinate_transformation_mode="align_corners"),
    sized([1, 2, 7, 3], 1, 2, "H", "W"),
    sized([5, 7], "N", 2, "H", "W", mode="linear", axes=[2, 3], opset=18),
    case("Resize", normal("N", 1, "H", "W"), None, fed(values([1, 1, 2, 1.5])), mode="linear"),
    case("Resize", normal(1, 1, "H", "W"), None, None, fed(ints(1, 1, 7, 3)), mode="linear"),
    case("Resize", normal(1, 1, "H", "W"), held(values([])), None, fed(ints(1, 1, 7, 3)), mode="cubic"),
]
