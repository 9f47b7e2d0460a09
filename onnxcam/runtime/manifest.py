"""What is known of a model once its graph was read, as plain data: with it an exported file runs without onnx."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from onnxcam.errors import ModelError

MANIFEST = "onnxcam.manifest"  # metadata key of an exported file
PREPROCESS = "onnxcam.preprocess"  # metadata keys that any model may carry: a recipe as JSON,
LABELS = "onnxcam.labels"  # and its class names, a line each
FORMAT = 1


@dataclass(frozen=True)
class Layout:
    """The meaning of each axis: N batch, C channels, D H W space, P positions of a grid in one axis, ? anything else.

    Attributes:
        axes: as in "NCHW" or "NPC".
        grid: for P, the (height, width) of the grid.
        prefix: tokens before the grid along P.
    """

    axes: str
    grid: tuple[int, ...] | None = None
    prefix: int = 0

    @property
    def channel(self) -> int:
        """The channels' axis."""
        return self.axes.index("C")


@dataclass(frozen=True)
class ImageInput:
    """The input that takes the picture.

    Attributes:
        layout: "NCHW", "NHWC", or without N where the model has no batch axis.
        size: (width, height); None for a free dimension.
        channels: None where the model leaves them open.
        dtype: NumPy's name.
        batch: the declared number of rows; None when it is free.
    """

    name: str
    layout: str
    size: tuple[int | None, int | None]
    channels: int | None
    dtype: str
    batch: int | None


@dataclass(frozen=True)
class Score:
    """The tensor whose elements are explained.

    Attributes:
        name: its value name.
        kind: "logit" before a softmax or sigmoid; "output" when the model applies neither.
        squash: "softmax", "sigmoid" or "": what the model turns it into probabilities with.
        output: the model output it leads to.
    """

    name: str
    kind: str
    squash: str
    output: str


@dataclass(frozen=True)
class Manifest:
    """An exported file: which of its values are what."""

    image: ImageInput
    score: Score
    layer: str
    layout: Layout
    activations: str
    gradients: str
    scores: str
    class_input: str
    model: str
    gradient: str = "symbolic"

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps({"format": FORMAT, **asdict(self)}, separators=(",", ":"))


def read_manifest(metadata: Mapping[str, str], name: str) -> Manifest | None:
    """The manifest in a model's metadata; None when it has none, ModelError when it cannot be understood."""
    text = metadata.get(MANIFEST)
    if text is None:
        return None
    try:
        data: dict[str, Any] = json.loads(text)
        if data.pop("format") != FORMAT:
            raise ModelError(f"{name} was exported by another version of onnxcam: export it again")
        layout = dict(data.pop("layout"))
        layout["grid"] = tuple(layout["grid"]) if layout["grid"] else None
        image = dict(data.pop("image"))
        image["size"] = tuple(image["size"])
        score = Score(**data.pop("score"))
        return Manifest(image=ImageInput(**image), score=score, layout=Layout(**layout), **data)
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise ModelError(f"{name} carries a damaged onnxcam manifest: export it again") from error
