"""The result: one map, how it was made, and whether it can be trusted."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.errors import UsageError
from onnxcam.imaging import Box, Geometry, Photo, from_array, largest_box, overlay, place, printable, save_png
from onnxcam.methods import Method, normalize
from onnxcam.targets import Target

Array = npt.NDArray[Any]


@dataclass(frozen=True, eq=False)
class Explanation:
    """Why a model said what it said of one image.

    Attributes:
        map: float32 (h, w), raw: signed, at the layer's resolution (input-level methods: at the model's input).
        attribution: for input-level methods the signed array (C, h, w) before channels were reduced; else None.
        target: what is explained: `.name`, `.index`.
        label: its class name, where there is one.
        score: the target's value.
        probability: of the target's class, 0..1; None for a target that is no class.
        layer: name of the value the map is made of (input-level methods: the input's name).
        method: the row of the method's registry.
        gradient: "symbolic", "numeric", or "none" for methods without.
        status: "ok"; "blank" (nothing to show), "saturated" (a probability within 1e-6 of 0 or 1 was all there was),
            "not-finite".
        provider: the execution provider that ran.
        score_name, score_kind: the tensor explained; "logit", "probability" or "output".
        scores: all scores of the image, (classes,).
        given_photo: the upright photo; None where an array was given.
        input: the model's input, one row; `channels_last` says where its channels are.
        geometry: where the model's input lies on it.
        preprocess: what was done to the photo, in words.
        model, image: what the user called them.
    """

    map: npt.NDArray[np.float32]
    attribution: Array | None
    target: Target
    label: str | None
    score: float
    probability: float | None
    layer: str
    method: Method
    gradient: str
    status: str
    provider: str
    score_name: str
    score_kind: str
    scores: Array = field(repr=False)
    given_photo: Photo | None = field(repr=False)
    geometry: Geometry = field(repr=False)
    input: Array = field(repr=False)
    channels_last: bool = field(repr=False)
    preprocess: str
    model: str
    image: str

    @cached_property
    def photo(self) -> Photo:
        """The upright photo; for an array, its values stretched to a picture."""
        return self.given_photo or from_array(self.input, channels_last=self.channels_last)

    @cached_property
    def heatmap(self) -> npt.NDArray[np.float32]:
        """float32 (H, W) on the photo: 0..1, or -1..1 for a signed method; 0 where the model did not look."""
        finite = np.where(np.isfinite(self.map), self.map, np.float32(0))
        shown = normalize(finite[None], signed=self.method.signed)[0]
        return place(shown.astype(np.float32), self.geometry)

    def boxes(self) -> list[Box]:
        """Weakly supervised localization (the paper, 4.1): around the largest region above 15 % of the maximum."""
        found = largest_box(np.maximum(self.heatmap, 0)) if self.status == "ok" else None
        return [found] if found is not None else []

    def picture(self, *, colormap: str = "viridis", with_boxes: bool = False) -> Photo:
        """The photo with the map over it, a colour bar and a legend."""
        low, high = self._bar()
        return overlay(
            self.photo,
            self.heatmap,
            legend=self.legend(),
            bar=(low, high),
            colormap=colormap,
            signed=self.method.signed,
            boxes=self.boxes() if with_boxes else (),
        )

    def _bar(self) -> tuple[float, float]:
        finite = self.map[np.isfinite(self.map)]
        if self.method.signed:
            top = float(np.max(np.abs(finite), initial=0.0))
            return -top, top
        return 0.0, max(float(np.max(finite, initial=0.0)), 0.0)

    def legend(self) -> list[str]:
        """What the picture says beside the photo, a line each."""
        index = "" if self.target.index is None or not self.label else f" ({self.target.index})"
        lines = [f"{self.target.name}{index}", f"{self.score_kind} {self.score:.4g}"]
        if self.probability is not None and self.score_kind != "probability":
            lines.append(f"probability {self.probability:.3f}")
        lines += [self.method.title, f"layer {self.layer}"]
        if self.gradient == "numeric":
            lines.append("numeric gradient")
        if self.status != "ok":
            lines.append(f"status: {self.status}")
        return [printable(line) for line in lines]

    def save(self, path: str | Path, *, colormap: str = "viridis", with_boxes: bool = False) -> None:
        """Write the picture (.png), or the raw map (.npy); whole or not at all.

        Raises:
            UsageError: another suffix.
            ImageError: the file cannot be written.
        """
        path = Path(path)
        if path.suffix.lower() == ".npy":
            from onnxcam.explainer.files import save_array

            save_array(self.map, path)
        elif path.suffix.lower() == ".png":
            save_png(self.picture(colormap=colormap, with_boxes=with_boxes), path)
        else:
            raise UsageError(f"'{path.name}' should end in .png (a picture) or .npy (the raw map)")

    def _repr_png_(self) -> bytes:
        """The picture, for notebooks."""
        held = io.BytesIO()
        self.picture().save(held, "PNG")
        return held.getvalue()
