"""What is known of a model once its graph was read, as plain data: with it an exported file runs without onnx."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, is_dataclass
from functools import cached_property
from itertools import starmap
from typing import Any, get_args, get_origin, get_type_hints

import numpy as np

from onnxcam.errors import ModelError

MANIFEST = "onnxcam.manifest"  # metadata key of an exported file
PREPROCESS = "onnxcam.preprocess"  # metadata keys that any model may carry: a recipe as JSON,
LABELS = "onnxcam.labels"  # and its class names, a line each
FORMAT = 1
HIGHEST = -1  # where a class may be asked for: the one that scores highest; ties: the lowest index
DTYPES = frozenset(np.dtype(code).name for code in "efdbBhHiIlLqQ")  # numbers
LARGEST = 2**20  # more than any size that runs: a grid's product stays a machine's integer
FAR = 1000.0  # images: further out no layer sees
LAYOUTS = ("NCHW", "NHWC", "CHW", "HWC", "NHW", "NCDHW", "NDHWC", "NDCHW")  # of an image, or a volume
WHITES = (255.0, 1.0)  # what pixels of models that normalize them reach to


@dataclass(frozen=True)
class Layout:
    """The meaning of each axis: N batch, C channels, D H W space, P positions of a grid in one axis, ? anything else.

    Attributes:
        axes: as in "NCHW" or "NPC".
        grid: for P, the (height, width) of the grid.
        prefix: tokens before the grid along P.
        window: where the grid starts and ends on the image, (0 to 1) for each of D, H, W; None: it spans the whole.
            What starts behind its end runs backwards, and cells of padding lie before 0 and behind 1.
        followed: whether it was told from where the elements lie on the image; else from the value's shape alone.
    """

    axes: str
    grid: tuple[int, ...] | None = None
    prefix: int = 0
    window: tuple[tuple[float, float], ...] | None = None
    followed: bool = True

    @property
    def channel(self) -> int:
        """The channels' axis."""
        return self.axes.index("C")

    @cached_property
    def whole(self) -> bool:
        """Whether the grid shows all of the image, forwards or backwards."""
        return all(sorted(side) == [0, 1] for side in self.window or ())


@dataclass(frozen=True)
class ImageInput:
    """The input that takes the picture, or a volume.

    Attributes:
        layout: one of LAYOUTS; without N where the model has no batch axis, without C where it is grey and has no axis
            for that, with D for a volume.
        size: (width, height); None for a free dimension.
        channels: None where the model leaves them open.
        dtype: NumPy's name.
        batch: the declared number of rows; None when it is free.
        white: what the model's own normalization of its input takes for white, one of WHITES; None where it has none.
    """

    name: str
    layout: str
    size: tuple[int | None, int | None]
    channels: int | None
    dtype: str
    batch: int | None
    white: float | None = None

    @cached_property
    def row_axes(self) -> str:
        """The axes of one image: the layout without that of the batch."""
        return self.layout.replace("N", "")

    @cached_property
    def row_shape(self) -> tuple[int | None, ...]:
        """The shape of one image; None along an axis of any size."""
        sizes = {"C": self.channels, "D": None, "H": self.size[1], "W": self.size[0]}
        return tuple(sizes[axis] for axis in self.row_axes)


USUAL_SIDE = 224  # pixels, of an image whose size the model leaves free
DETECTIONS = "RD"  # the axes of finished detections, see `Score`


@dataclass(frozen=True)
class Score:
    """The tensor whose elements are explained.

    Attributes:
        name: its value name.
        kind: "logit" before a softmax or sigmoid; "probability" made by one; "embedding" of length 1;
            "output" anything else.
        squash: "softmax", "sigmoid" or "": what turns it into probabilities.
        output: the model output it leads to.
        axes: what the axes of one image's scores mean, where they are no row of classes: C classes or channels, H W
            space, D depth beside these, R rows (boxes, steps), D behind R a finished detection's numbers (box, score,
            class), as in "CHW", "HWC", "CDHW", "RC", "CR", "HW", "RD"; empty for a row of classes, and where it
            cannot be told.
        rows: whether the first axis is the images'; without it the whole tensor is one image's.
        guess: whether the squash is a guess: the model holds none.
        alike: of how many outputs of one form it is the first, which nobody named.
    """

    name: str
    kind: str
    squash: str
    output: str
    axes: str = ""
    rows: bool = True
    guess: bool = False
    alike: int = 1


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
        data = json.loads(text)
        if data.pop("format") != FORMAT:
            raise ModelError(f"{name} was exported by another version of onnxcam: export it again")
        found: Manifest = built(Manifest, data)
        check(found)
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise ModelError(f"{name} carries a damaged onnxcam manifest: export it again") from error
    return found


def built(kind: Any, data: Any) -> Any:
    """JSON as a type: a dataclass, a tuple, something or None, a plain one. ValueError or TypeError when it is not."""
    parts = get_args(kind)
    if is_dataclass(kind):
        hints = get_type_hints(kind)
        return kind(**{key: built(hints[key], value) for key, value in data.items()})  # type: ignore[operator]
    if get_origin(kind) is tuple:
        kinds = parts[:1] * len(data) if parts[-1] is Ellipsis else parts
        return tuple(built(part, value) for part, value in zip(kinds, data, strict=True))
    if parts:
        return None if data is None else built(parts[0], data)
    if type(data) is not kind:
        raise ValueError(f"{data!r} is no {kind.__name__}")
    return data


def check(manifest: Manifest) -> None:
    """ValueError unless sizes, types and axes are such as may be."""
    image, layout = manifest.image, manifest.layout
    numbers = (*image.size, image.channels, image.batch, *(layout.grid or ()))
    if image.layout not in LAYOUTS or image.dtype not in DTYPES or image.white not in (None, *WHITES):
        raise ValueError("no image")
    if any(number is not None and not 0 < number <= LARGEST for number in numbers):
        raise ValueError("no size")
    spatial = "DHW" if "D" in image.layout else "HW"
    labels = sorted(layout.axes.replace("?", ""))
    if layout.axes[:1] != "N" or labels not in (sorted(f"NC{spatial}"), ["C", "N", "P"]):
        raise ValueError("no axes")
    flat = "P" in labels
    if flat != (layout.grid is not None) or len(layout.grid or spatial) != len(spatial):
        raise ValueError("no grid")
    if not 0 <= layout.prefix <= (LARGEST if flat else 0):
        raise ValueError("no prefix")
    if layout.window is not None and (len(layout.window) != len(spatial) or not all(starmap(shows, layout.window))):
        raise ValueError("no window")


def shows(start: float, end: float) -> bool:
    """Whether a stretch of a side, either way round, is as long as anything could be, and lies on the image."""
    low, high = min(start, end), max(start, end)
    return -FAR < low < 1 and 0 < high < FAR and high - low > 1 / FAR
