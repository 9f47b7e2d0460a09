"""The result: one map, how it was made, and whether it can be trusted."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from onnxcam.arguments import PATH, require
from onnxcam.errors import TargetError, UsageError
from onnxcam.explainer.arrays import save_array
from onnxcam.imaging import Box, Geometry, Photo, from_array, largest_box, overlay, place, printable, save_png
from onnxcam.methods import Method, normalize, status
from onnxcam.runtime import Score
from onnxcam.targets import SATURATED, Target, check_class

Array = npt.NDArray[Any]
HARDLY = 1e-4  # the largest value of a map of probabilities that are certain
BRIGHTEST = 99  # per cent of an input-level map that its colours tell apart


@dataclass(frozen=True, eq=False)
class Item:
    """One image as the model takes it: a row of its input, and the photo it came from (None: it was given as an array).

    Attributes:
        row: without batch axis.
        geometry: where the row's pixels lie on the photo.
        name: what the user called it.
    """

    row: Array
    photo: Photo | None
    geometry: Geometry
    name: str


@dataclass(frozen=True, eq=False, kw_only=True)
class Explanation:
    """Why a model said what it said of one image, or volume.

    Attributes:
        map: float32 (h, w), of a volume (d, h, w), raw: signed, at the layer's resolution (input-level methods: at the
            model's input).
        attribution: for input-level methods the signed array (C, h, w) before channels were reduced; else None.
        target: what is explained: `.name`, `.index`.
        label: its class name, where there is one.
        layer: name of the value the map is made of: of Guided Grad-CAM the one that its coarse map lies at, of the
            other input-level methods the input.
        method: the row of the method's registry.
        gradient: "symbolic" or "numeric".
        provider: the execution provider that ran.
        scored: the tensor explained, and what the model makes of it.
        scores: all scores of the image: (classes,), or in the model's own layout where they are no row of classes.
        item: the model's input and the photo; `channels_last` says where the input's channels are.
        preprocess: what was done to the photo, in words.
        model: what the user called it.
        window: the stretch of the model's input that the map shows, (0 to 1) along height and width; None: all of it.
        placed: how that is known: "followed" through the model or, where that is not possible, "by shape" alone: such a
            map may be mirrored, moved or mean nothing.
    """

    map: npt.NDArray[np.float32] = field(repr=False)
    attribution: Array | None = field(repr=False)
    target: Target
    label: str | None
    layer: str
    method: Method
    gradient: str
    provider: str
    scored: Score
    scores: Array = field(repr=False)
    item: Item = field(repr=False)
    channels_last: bool = field(repr=False)
    preprocess: str
    model: str
    window: tuple[tuple[float, float], ...] | None = field(default=None, repr=False)
    placed: str = "followed"

    @property
    def is_volume(self) -> bool:
        """Whether the model takes volumes: the map has a depth, and there is no picture of it."""
        return self.map.ndim > 2

    @property
    def image(self) -> str:
        """What the user called the image."""
        return self.item.name

    @property
    def geometry(self) -> Geometry:
        """Where the model's input lies on the photo."""
        return self.item.geometry

    @property
    def score_name(self) -> str:
        """The value that holds the score."""
        return self.scored.name

    @cached_property
    def score(self) -> float:
        """The target's value."""
        return self.target.value(self.scores)

    def probability_of(self, index: int) -> float | None:
        """The probability of any class, 0..1; None where the model says none. TargetError: no such class."""
        if self.scores.ndim != 1:
            raise TargetError(f"the scores have shape {list(self.scores.shape)}: they are no row of classes")
        check_class(index, len(self.scores))
        s = self.scores.astype(np.float64)
        if self.scored.kind == "probability":
            return float(s[index])
        if self.scored.squash == "sigmoid":
            return float(np.exp(-np.logaddexp(0, -s[index])))
        if self.scored.squash == "softmax":
            return float(np.exp(s[index] - s.max()) / np.exp(s - s.max()).sum())
        return None

    @property
    def score_kind(self) -> str:
        """What the scores are: "logit", "probability", "embedding" or "output"."""
        return self.scored.kind

    @property
    def probability(self) -> float | None:
        """Of the target's class, 0..1; None for a target that is no class of a row, and where the model says none.

        Where `scored.guess`, the model holds no softmax, and this is the softmax of its raw outputs.
        """
        if self.target.index is None or self.scores.ndim != 1:
            return None
        return self.probability_of(self.target.index)

    @cached_property
    def status(self) -> str:
        """Whether the map can be trusted: "ok", "blank" (nothing to show), "saturated", "not-finite".

        Saturated: there was only a probability, within 1e-6 of 0 or 1, and its gradient is next to nothing, or nothing;
        or a cosine as near to its ends.
        """
        found = status(self.map, signed=self.method.signed)
        if found != "not-finite" and self.target.at_its_end(self.scores):
            return "saturated"
        return "saturated" if found in ("ok", "blank") and self._at_its_end() else found

    def _at_its_end(self) -> bool:
        """Whether all that is explained is probabilities next to 0 or 1, or numbers like them that hardly move."""
        if self.score_kind == "logit":
            return False
        if self.score_kind != "probability" and np.max(np.abs(self.map), initial=0.0) > HARDLY:
            return False
        read = self.scores[self.target.cotangent(self.scores) != 0].astype(np.float64)
        ends = np.minimum(np.abs(read), np.abs(1 - read)) < SATURATED
        if self.score_kind != "probability":
            ends &= read != 0  # as a sum of nothing is
        return read.size > 0 and bool(ends.all())

    @cached_property
    def photo(self) -> Photo:
        """The upright photo; for an array, its values stretched to a picture."""
        return self.item.photo or from_array(self.item.row, channels_last=self.channels_last)

    @cached_property
    def heatmap(self) -> npt.NDArray[np.float32]:
        """float32 (H, W) on the photo: 0..1, or -1..1 for a signed method; 0 where the model did not look.

        Raises:
            UsageError: the map is of a volume, (d, h, w).
        """
        self._refuse_volume()
        finite = np.where(np.isfinite(self.map), self.map, np.float32(0))
        shown = normalize(finite[None], signed=self.method.signed)[0]
        return place(shown.astype(np.float32), self.geometry.part(self.window))

    def _refuse_volume(self) -> None:
        """UsageError where the map is (d, h, w)."""
        if self.is_volume:
            raise UsageError(
                f"the map is a volume, {list(self.map.shape)}, which no photo shows: use .map, or save .npy"
            )

    def boxes(self) -> list[Box]:
        """Weakly supervised localization (the paper, 4.1): around the largest region above 15 % of the maximum."""
        flat_and_ok = self.status == "ok" and not self.is_volume
        found = largest_box(np.maximum(self.heatmap, 0)) if flat_and_ok else None
        return [found] if found is not None else []

    def picture(self, *, colormap: str = "viridis", with_boxes: bool = False) -> Photo:
        """The photo with the map over it, a colour bar and a legend.

        An input-level map is a few bright pixels among many: its colours end at the 99th percentile, as the bar says.

        Raises:
            UsageError: a volume has none.
        """
        self._refuse_volume()
        finite = self.map[np.isfinite(self.map)]
        shown = np.abs(finite) if self.method.signed else np.maximum(finite, 0)
        top = float(shown.max(initial=0.0))
        end = float(np.percentile(shown, BRIGHTEST)) if self.method.level == "input" and shown.size else top
        gain = top / end if 0 < end < top else 1.0
        return overlay(
            self.photo,
            np.clip(self.heatmap * np.float32(gain), -1, 1),
            legend=self.legend(),
            bar=(-top / gain if self.method.signed else 0.0, top / gain),
            colormap=colormap,
            signed=self.method.signed,
            boxes=self.boxes() if with_boxes else (),
        )

    def legend(self) -> list[str]:
        """What the picture says beside the photo, a line each."""
        index = "" if self.target.index is None or not self.label else f" ({self.target.index})"
        lines = [f"{self.target.name}{index}", f"{self.target.unit or self.score_kind} {self.score:.4g}"]
        if self.probability is not None and self.score_kind != "probability":
            lines.append(f"{'softmax' if self.scored.guess else 'probability'} {self.probability:.3f}")
        lines += [self.method.title, f"layer {self.layer}"]
        if self.gradient == "numeric":
            lines.append("numeric gradient")
        if self.placed != "followed":
            lines.append(f"placed {self.placed}")
        if self.status != "ok":
            lines.append(f"status: {self.status}")
        return [printable(line) for line in lines]

    def save(self, path: str | Path, *, colormap: str = "viridis", with_boxes: bool = False) -> None:
        """Write the picture (.png), or the raw map (.npy); whole or not at all.

        Raises:
            UsageError: another suffix.
            OutputError: the file cannot be written.
        """
        require("path", path, PATH)
        path = Path(path)
        if path.suffix.lower() == ".npy":
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
