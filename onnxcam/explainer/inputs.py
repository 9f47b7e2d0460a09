"""Images as arrays, as a model takes them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from onnxcam.errors import ImageError
from onnxcam.explainer.subject import Array
from onnxcam.runtime import ImageInput


def as_input(row: Array, image: ImageInput) -> Array:
    """One image, without batch axis, in the model's type; ImageError when it does not fit the model's input."""
    wanted = image.row_shape
    if row.ndim == len(wanted) + 1 and len(row) == 1:
        row = row[0]
    if row.shape != wanted and not fits(row.shape, wanted):
        raise misfit(row, image)
    dtype = np.dtype(image.dtype)
    if row.dtype == dtype:
        return np.ascontiguousarray(row)
    if row.dtype.kind not in "biuf":
        raise ImageError(f"the array holds {row.dtype}, the model's input '{image.name}' takes numbers: {image.dtype}")
    if row.dtype == np.uint8 and dtype.kind == "f":
        raise ImageError(
            f"the array holds uint8 pixels, the model's input '{image.name}' takes {image.dtype} values in a range "
            "of its own: give those, or the image's path or a PIL image, which is preprocessed"
        )
    with np.errstate(all="ignore"):  # what is not finite is told by the scores
        cast = np.ascontiguousarray(row, dtype=dtype)
    if cast.dtype.kind in "iu" and not np.array_equal(cast, row):
        raise ImageError(
            f"the array holds {row.dtype} values that {image.dtype}, the type of the model's input '{image.name}', "
            "cannot hold: give pixel values as they are, not scaled"
        )
    return cast


def misfit(row: Array, image: ImageInput) -> ImageError:
    """The error for an image of another shape than the model takes, for the caller to raise."""
    axes, wanted = image.row_axes, image.row_shape
    shape = ", ".join(str(size or "any") for size in wanted)
    told = f"the image has shape {list(row.shape)}, the model's input '{image.name}' takes [{shape}] ({axes})"
    if row.ndim == len(wanted) + 1:
        return ImageError(f"{told}: it holds {len(row)} of them; give one per file, or the array itself from Python")
    turned = (*row.shape[-1:], *row.shape[:-1]) if axes[0] == "C" else (*row.shape[1:], *row.shape[:1])
    if "C" in axes and fits(turned, wanted):
        return ImageError(f"{told}: its channels are {'last' if axes[0] == 'C' else 'first'}, move that axis")
    return ImageError(f"{told}: resize it")


def fits(shape: Sequence[int], wanted: Sequence[int | None]) -> bool:
    """Whether a shape is the wanted one, where None stands for any size."""
    return len(shape) == len(wanted) and all(want in (None, size) for want, size in zip(wanted, shape, strict=True))
