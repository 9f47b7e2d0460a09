"""Pictures of arrays that were given instead of photos."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

Photo = Image.Image


def from_array(row: npt.NDArray[Any], *, channels_last: bool) -> Photo:
    """A picture of one row of a model's input: its range stretched to 0..255, NaN as 0.

    row (C, H, W), (H, W, C) or, grey, (H, W).
    """
    pixels = np.atleast_3d(row) if channels_last or row.ndim == 2 else np.moveaxis(row, 0, -1)
    shown = pixels[..., :3] if pixels.shape[-1] >= 3 else np.repeat(pixels[..., :1], 3, axis=-1)
    shown = np.nan_to_num(shown.astype(np.float64))
    low, high = float(shown.min()), float(shown.max())
    return Image.fromarray(np.uint8(np.round(255 * (shown - low) / (high - low or 1))))
