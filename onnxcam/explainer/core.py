"""`Explainer`: a model and how to feed it, wired to the floors below."""

from __future__ import annotations

import mmap
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import numpy as np

from onnxcam.arguments import MOST_THREADS, NAME, NAMES_OF_CLASSES, require, whole
from onnxcam.errors import ImageError, UsageError
from onnxcam.explainer.arrays import read_array
from onnxcam.explainer.explanation import Explanation, Item
from onnxcam.explainer.inputs import as_input
from onnxcam.explainer.recipes import Chosen, Labels, check_size, choose_labels, choose_recipe
from onnxcam.explainer.subject import Array, Subject, TargetLayer
from onnxcam.explainer.task import Task
from onnxcam.files import check_regular
from onnxcam.imaging import Geometry, Photo, Preprocess, decode, prepare
from onnxcam.methods import Method, get_method
from onnxcam.runtime import metadata as metadata_of
from onnxcam.runtime import read_manifest, short_name
from onnxcam.targets import Spec, named_output

if TYPE_CHECKING:
    import onnx

Picture = str | Path | bytes | Photo | Array
FROM_PHOTO = (str, Path, bytes, Photo)
Targets = Spec | Sequence[Spec] | None
GRADIENTS = ("symbolic", "numeric", "auto")


class Explainer:
    """Explains what one model says of images.

    Attributes:
        subject: the model behind its face (see `Subject`).
        provider: the execution provider, in onnxcam's short spelling (known once something ran).
        preprocess: the recipe, `.recipe`, and whether it is a `.guess`.
    """

    def __init__(
        self,
        model: str | Path | bytes | onnx.ModelProto,
        *,
        provider: str = "cpu",
        preprocess: str | Path | Mapping[str, Any] | Preprocess | None = None,
        labels: str | Path | Sequence[str] | None = None,
        score: str | None = None,
        feeds: Mapping[str, Any] | None = None,
        threads: int = 0,
        max_pixels: int | None = None,
    ) -> None:
        """Read a model.

        Args:
            model: a path, serialized bytes or a ModelProto; a file that `export` wrote needs no onnx.
            provider: "cpu", "cuda", ... or ONNX Runtime's own spelling; never another one in silence.
            preprocess: a recipe's name, a JSON file, its content, or None for the model's own or a guess.
            labels: a file (a line per class, or .json), or a sequence.
            score: the value to explain instead of the one found.
            feeds: a value for every input besides the image, by name: the same for all images.
            threads: for one operator; 0 leaves it to ONNX Runtime.
            max_pixels: the largest photo that is decoded.

        Raises:
            OnnxCamError: one line on what is wrong.
        """
        require("provider", provider, NAME)
        require("threads", threads, whole(0, MOST_THREADS))
        require("max_pixels", max_pixels, whole(1).or_none())
        require("labels", labels, NAMES_OF_CLASSES)
        self.subject: Subject = open_subject(model, provider=provider, threads=threads, score=score, feeds=feeds)
        self._preprocess_given, self._labels_given = preprocess, labels
        if preprocess is not None:
            _ = self.preprocess  # what does not fit is said now
        self._labels: dict[tuple[tuple[int, ...] | None, bool], Labels] = {}
        self._subjects: dict[str | None, Subject] = {None: self.subject}  # by the output that is their score
        self._others: dict[tuple[str | None, str], Array] = {}
        self.expected_layers: dict[tuple[Any, ...], TargetLayer | None] = {}  # the last ones, by what was asked
        self._decode_options = {} if max_pixels is None else {"max_pixels": max_pixels}

    @property
    def provider(self) -> str:
        """The execution provider in short; empty before the first run."""
        ran = [subject.provider for subject in self._subjects.values() if subject.provider]
        return short_name(ran[0]) if ran else ""

    @cached_property
    def preprocess(self) -> Chosen:
        """The recipe for photos: given, the model's own, or a guess. PreprocessError: none fits the model's input."""
        subject = self.subject
        return choose_recipe(
            self._preprocess_given, subject.photo_input, subject.metadata, places=subject.answers_for_places
        )

    @property
    def labels_guessed(self) -> bool:
        """Whether the class names are ImageNet's because there are 1,000 classes."""
        return any(found.guess for found in self._labels.values())

    @property
    def labels_unfit(self) -> int:
        """How many class names there are that fit no axis of the model's score; 0: none is left out."""
        return max((found.unfit for (_, strict), found in self._labels.items() if strict), default=0)

    def labels(self, *counts: int, strict: bool = True) -> list[str] | None:
        """Class names for a model of so many classes, or one of several numbers that fit; None when there are none.

        TargetError: another number of them was given, and `strict`.
        """
        return self.labels_for(counts, strict=strict).names

    def labels_for(self, counts: tuple[int, ...] | None, *, strict: bool) -> Labels:
        """The same with what is known of them."""
        key = (counts, strict)
        if key not in self._labels:
            self._labels[key] = choose_labels(self._labels_given, counts, self.subject.metadata, strict=strict)
        return self._labels[key]

    def __call__(
        self,
        image: Picture | Sequence[Picture],
        target: Targets = None,
        method: str = "gradcam",
        layer: str | None = None,
        gradient: str = "symbolic",
    ) -> Any:
        """Explain one image, or several.

        Args:
            image: a path, encoded bytes, a PIL image, or an array (or the path of a .npy) in the model's own layout and
                range; a list of those, or an array of several rows, gives a list.
            target: None for the highest score, an index, a label, "top:3", a Target; or a list of those.
            method: a name that `list_methods` knows.
            layer: a value or node name; None for the automatic choice.
            gradient: "symbolic"; "numeric" by differences; "auto": numeric where an operator has no rule and the method
                needs the gradient's mean alone.

        Returns:
            An Explanation; a list where several targets were asked for (also "top:3"); for several images, a list of
            what each gives.

        Raises:
            OnnxCamError: one line on what is wrong.
        """
        items, many = self._items(image)
        results = self.explain_items(items, target, get_method(method), layer, gradient)
        several = target.strip().startswith("top:") if isinstance(target, str) else is_list(target)
        shaped = [found if several else found[0] for found in results]
        return shaped if many else shaped[0]

    # -- images ----------------------------------------------------------------------------------

    def _items(self, image: Picture | Sequence[Picture]) -> tuple[list[Item], bool]:
        if isinstance(image, np.ndarray):
            rows, many = self._rows(image)
            return [self.item(row) for row in rows], many
        if isinstance(image, FROM_PHOTO):
            return [self.item(image)], False
        if not isinstance(image, Sequence):
            raise no_image(image)
        if not image:
            raise UsageError("no images to explain: the list is empty")
        pictures: Sequence[Any] = image
        return [self.item(one) for one in pictures], True

    def _rows(self, array: Array) -> tuple[list[Array], bool]:
        """The rows of an array in the model's layout, and whether there were several."""
        batched = "N" in self.subject.image.layout
        if array.ndim == len(self.subject.image.layout) and batched:
            if len(array) == 0:
                raise ImageError("the array holds no image: its first axis has size 0")
            if len(array) > 1 and self.subject.joins(array):
                raise ImageError(
                    f"the model makes one score of the {len(array)} images together, and a map would be of one: "
                    "onnxcam.differentiate has the gradient at all of them"
                )
            return list(array), len(array) > 1
        return [array], False

    def item(self, image: Picture) -> Item:
        """One image, decoded and preprocessed.

        Raises:
            ImageError, PreprocessError: it cannot be read, or does not fit the model.
        """
        if isinstance(image, np.ndarray):
            return self._array(image, "array")
        if not isinstance(image, FROM_PHOTO):
            raise no_image(image)
        name = str(image) if isinstance(image, str | Path) else "image"
        if isinstance(image, str | Path) and Path(image).suffix.lower() == ".npy":
            return self._array(read_array(Path(name)), name)
        check_size(self.preprocess.recipe, self.subject.image)
        photo = decode(image, **self._decode_options)
        prepared = prepare(photo, self.preprocess.recipe)
        return Item(as_input(prepared.array[0], self.subject.image), photo, prepared.geometry, name)

    def _array(self, array: Array, name: str) -> Item:
        """An image that is given as the model takes it."""
        image = self.subject.image
        row, axes = as_input(array, image), image.row_axes
        return Item(row, None, Geometry.identity(row.shape[axes.index("W")], row.shape[axes.index("H")]), name)

    # -- explaining ------------------------------------------------------------------------------

    def explain_items(
        self, items: Sequence[Item], target: Targets, method: Method, layer: str | None, gradient: str
    ) -> list[list[Explanation]]:
        """Explanations by image, then by target."""
        if gradient not in GRADIENTS:
            raise UsageError(f"unknown gradient '{gradient}': choose {', '.join(GRADIENTS)}")
        if layer is not None and not method.uses_layer:
            raise UsageError(f"{method.name} explains the input: it takes no layer")
        if gradient == "numeric" and not method.mean_only:
            raise UsageError(
                f"{method.name} needs the gradient itself: a numeric one gives only its mean over positions "
                "(try gradcam)"
            )
        if not method.mean_only:
            gradient = "symbolic"
        specs: list[Any] = list(target) if is_list(target) else [target]
        if not specs:
            raise UsageError("no targets to explain: the list is empty")
        outputs: dict[str | None, list[int]] = {}
        for at, spec in enumerate(specs):
            outputs.setdefault(named_output(spec), []).append(at)
        found: list[dict[int, list[Explanation]]] = [{} for _ in items]
        for output, members in outputs.items():
            task = Task(self, self.with_score(output), output, method, layer, gradient)
            for i, by_spec in enumerate(task.explain(items, [specs[at] for at in members])):
                found[i] |= dict(zip(members, by_spec, strict=True))
        return [[e for at in range(len(specs)) for e in by_spec[at]] for by_spec in found]

    def with_score(self, output: str | None) -> Subject:
        """The model with an output as its score; None for the one that it was opened with."""
        if output not in self._subjects:
            self._subjects[output] = self.subject.explaining(str(output))
        return self._subjects[output]

    def scores_of(self, output: str | None, image: str) -> Array:
        """The scores of another image's file, without the axis of images; worked out once."""
        if (output, image) not in self._others:
            row = self.item(image).row
            subject = self.with_score(output).for_size(row.shape)
            self._others[output, image] = subject.see(row[None], None, "").scores[0]
        return self._others[output, image]


def is_list(target: Targets) -> TypeGuard[Sequence[Spec]]:
    """Whether several targets are given."""
    return target is not None and not isinstance(target, str | bytes) and isinstance(target, Sequence)


def no_image(given: object) -> ImageError:
    """The error for something that is no image, for the caller to raise."""
    return ImageError(f"an image is a path, bytes, a PIL image or an array, not {type(given).__name__}")


def open_subject(
    model: str | Path | bytes | onnx.ModelProto,
    *,
    provider: str,
    threads: int,
    score: str | None,
    feeds: Mapping[str, Any] | None,
) -> Subject:
    """The model behind its face: prepared by `export`, or rewritten here."""
    if isinstance(model, str | Path):
        path = Path(model)
        data = peek(path)
        manifest = read_manifest(data, str(path))
        if manifest is not None:
            from onnxcam.explainer.prepared import Prepared

            if feeds:
                raise UsageError(
                    f"{path} is an exported file, which has no inputs to feed: use the model it was made from, "
                    f"{manifest.model}"
                )
            if score not in (None, manifest.score.name):
                raise UsageError(
                    f"{path} was exported for the score '{manifest.score.name}': for another use the model it was made "
                    f"from, {manifest.model}"
                )
            return Prepared(path, manifest, data, provider=provider, threads=threads)
    from onnxcam.explainer.rewritten import Rewritten

    return Rewritten(model, provider=provider, threads=threads, score=score, feeds=feeds)


def peek(path: Path) -> dict[str, str]:
    """The metadata of a model file, read without onnx; empty when the file cannot be read or is no model."""
    try:
        check_regular(path)
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return metadata_of(data)
    except (OSError, ValueError):  # `load` says what is wrong with it
        return {}


def explain(model: str | Path | bytes | onnx.ModelProto, image: Picture | Sequence[Picture], **options: Any) -> Any:
    """Explain with a model that is used once: `Explainer(model, ...)(image, ...)`, options to whichever takes them."""
    ours = {"target", "method", "layer", "gradient"}
    call = {key: options.pop(key) for key in list(options) if key in ours}
    return Explainer(model, **options)(image, **call)
