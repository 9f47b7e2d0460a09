"""`Explainer`: a model and how to feed it, wired to the floors below."""

from __future__ import annotations

import mmap
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxcam.arguments import NAME, NAMES_OF_CLASSES, require, whole
from onnxcam.errors import ImageError, ModelError, UnsupportedOpError, UsageError
from onnxcam.explainer.explanation import Explanation, Item
from onnxcam.explainer.grids import to_grid
from onnxcam.explainer.recipes import Chosen, choose_labels, choose_recipe
from onnxcam.explainer.subject import Array, Ask, Place, Seen, Subject
from onnxcam.imaging import Geometry, Photo, Preprocess, decode, prepare
from onnxcam.methods import Evidence, Method, get_method
from onnxcam.runtime import metadata as metadata_of
from onnxcam.runtime import read_manifest, short_name
from onnxcam.targets import Spec, Target, resolve

if TYPE_CHECKING:
    import onnx

Picture = str | Path | bytes | Photo | Array
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
        threads: int = 0,
        max_pixels: int | None = None,
    ) -> None:
        """Read a model.

        Args:
            model: a path, serialized bytes or a ModelProto; a file that `export` wrote needs no onnx.
            provider: "cpu", "cuda", ... or ONNX Runtime's own spelling; never another one in silence.
            preprocess: a recipe's name, a JSON file, its content, or None for the model's own or a guess.
            labels: a file, a line a class, or a sequence.
            score: the value to explain instead of the one found.
            threads: for one operator; 0 leaves it to ONNX Runtime.
            max_pixels: the largest photo that is decoded.

        Raises:
            OnnxCamError: one line on what is wrong.
        """
        require("provider", provider, NAME)
        require("threads", threads, whole(0))
        require("max_pixels", max_pixels, whole(1).or_none())
        require("labels", labels, NAMES_OF_CLASSES)
        self.subject: Subject = open_subject(model, provider=provider, threads=threads, score=score)
        self._preprocess_given, self._labels_given = preprocess, labels
        if preprocess is not None:
            _ = self.preprocess  # what does not fit is said now
        self._labels: tuple[list[str] | None, bool] | None = None
        self._decode_options = {} if max_pixels is None else {"max_pixels": max_pixels}

    @property
    def provider(self) -> str:
        """The execution provider in short; empty before the first run."""
        return short_name(self.subject.provider)

    @cached_property
    def preprocess(self) -> Chosen:
        """The recipe for photos: given, the model's own, or a guess. PreprocessError: none fits the model's input."""
        return choose_recipe(self._preprocess_given, self.subject.image, self.subject.metadata)

    @property
    def labels_guessed(self) -> bool:
        """Whether the class names are ImageNet's because there are 1,000 classes."""
        return self._labels is not None and self._labels[1]

    def labels(self, classes: int) -> list[str] | None:
        """Class names for a model of so many classes; None when there are none. TargetError: another number."""
        if self._labels is None:
            self._labels = choose_labels(self._labels_given, classes, self.subject.metadata)
        return self._labels[0]

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
            image: a path, encoded bytes, a PIL image, or an array in the model's own layout and range; a list of those,
                or an array of several rows, gives a list.
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
        several = isinstance(target, Sequence) and (not isinstance(target, str) or target.strip().startswith("top:"))
        shaped = [found if several else found[0] for found in results]
        return shaped if many else shaped[0]

    # -- images ----------------------------------------------------------------------------------

    def _items(self, image: Picture | Sequence[Picture]) -> tuple[list[Item], bool]:
        if isinstance(image, np.ndarray):
            rows, many = self._rows(image)
            return [self.item(row) for row in rows], many
        if isinstance(image, str | Path | bytes | Photo):
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
            return list(array), len(array) > 1
        return [array], False

    def item(self, image: Picture) -> Item:
        """One image, decoded and preprocessed.

        Raises:
            ImageError, PreprocessError: it cannot be read, or does not fit the model.
        """
        if isinstance(image, np.ndarray):
            row = self._as_input(image)
            layout = self.subject.image.layout.replace("N", "")
            size = row.shape[layout.index("W")], row.shape[layout.index("H")]
            return Item(row, None, Geometry.identity(*size), "array")
        if not isinstance(image, str | Path | bytes | Photo):
            raise no_image(image)
        name = str(image) if isinstance(image, str | Path) else "image"
        photo = decode(image, **self._decode_options)
        prepared = prepare(photo, self.preprocess.recipe)
        return Item(self._as_input(prepared.array[0]), photo, prepared.geometry, name)

    def _as_input(self, row: Array) -> Array:
        """One row, without batch axis, in the model's type; ImageError when it does not fit it."""
        spec = self.subject.image
        layout = spec.layout.replace("N", "")
        if row.ndim == len(layout) + 1 and len(row) == 1:
            row = row[0]
        width, height = spec.size
        wanted = {"C": spec.channels, "D": None, "H": height, "W": width}
        fits = row.ndim == len(layout) and all(wanted[a] in (None, n) for a, n in zip(layout, row.shape, strict=False))
        if not fits:
            shape = ", ".join(str(wanted[axis] or "any") for axis in layout)
            raise ImageError(
                f"the image has shape {list(row.shape)}, the model's input '{spec.name}' takes [{shape}] ({layout}): "
                "resize it, or give a preprocessing that does"
            )
        if row.dtype.kind not in "biuf":
            raise ImageError(
                f"the array holds {row.dtype}, the model's input '{spec.name}' takes numbers: {spec.dtype}"
            )
        with np.errstate(all="ignore"):  # what is not finite is told by the scores
            cast = np.ascontiguousarray(row, dtype=spec.dtype)
        if cast.dtype.kind in "iu" and not np.array_equal(cast, row):
            raise ImageError(
                f"the array holds {row.dtype} values that {spec.dtype}, the type of the model's input '{spec.name}', "
                "cannot hold: give pixel values as they are, not scaled"
            )
        return cast

    # -- explaining ------------------------------------------------------------------------------

    def explain_items(
        self, items: Sequence[Item], target: Targets, method: Method, layer: str | None, gradient: str
    ) -> list[list[Explanation]]:
        """Explanations by image, then by target."""
        if gradient not in GRADIENTS:
            raise UsageError(f"unknown gradient '{gradient}': choose {', '.join(GRADIENTS)}")
        subject = self.subject
        place = subject.place(layer, method.name) if uses_layer(method) else None
        place = place and replace(place, mean_only=method.mean_only)
        if place is None and layer is not None:
            raise UsageError(f"{method.name} explains the input: it takes no layer")
        if place is not None and place.layout.window is not None and method.level == "input":
            raise UsageError(
                f"{method.name} lays a layer's map over the whole input, but '{place.name}' shows only a part of it "
                "(the model crops or pads inside): use gradcam, or an input-level method (saliency)"
            )
        route = gradient if "gradients" in method.needs else ""
        groups: dict[tuple[int, ...], list[int]] = {}
        for i, item in enumerate(items):
            groups.setdefault(item.row.shape, []).append(i)
        found: list[list[Explanation]] = [[] for _ in items]
        for members in groups.values():  # images of one size share a run
            chosen = [items[i] for i in members]
            x = chosen[0].row[None] if len(chosen) == 1 else np.stack([item.row for item in chosen])
            with advised(subject, place):
                seen = subject.see(x, place, route)
                explained = list(self._explained(chosen, seen, place, target, method, gradient))
            for i, of_one in zip(members, explained, strict=True):
                found[i] = of_one
        return found

    def _explained(
        self, items: Sequence[Item], seen: Seen, place: Place | None, target: Targets, method: Method, gradient: str
    ) -> Iterator[list[Explanation]]:
        labels = self.labels(seen.scores.shape[1])
        specs: list[Any] = (
            list(target) if isinstance(target, Sequence) and not isinstance(target, str | bytes) else [target]
        )
        if not specs:
            raise UsageError("no targets to explain: the list is empty")
        by_image = [[t for spec in specs for t in resolve(spec, row, labels)] for row in seen.scores]
        ask = Ask(
            [i for i, targets in enumerate(by_image) for _ in targets], [t for targets in by_image for t in targets]
        )
        evidence, how = self._evidence(seen, place, ask, method, gradient)
        computed = method.compute(evidence)
        maps = method.to_map(computed)
        row = 0
        for i, targets in enumerate(by_image):
            results = []
            for one in targets:
                attribution = computed[row] if method.reduce else None
                results.append(
                    self._result(items[i], seen.scores[i], one, maps[row], attribution, method, place, how, labels)
                )
                row += 1
            yield results

    def _evidence(
        self, seen: Seen, place: Place | None, ask: Ask, method: Method, gradient: str
    ) -> tuple[Evidence, str]:
        """The arrays a method reads, and which gradient they hold."""
        arrays: dict[str, Array] = {}
        how = "symbolic"
        for need in method.needs:
            if need == "activations" and place is not None:
                arrays[need] = ask.of(to_grid(seen.values[place.name], place.layout))
            elif need == "gradients" and place is not None:
                arrays[need], how = self._layer_gradient(seen, place, ask, method, gradient)
            elif need == "weights" and place is not None:
                arrays[need], how = self._class_weights(seen, place, ask, gradient)
            elif need == "image":
                arrays[need] = self._channels_first(ask.of(seen.x)).astype(np.float32)
            else:
                rules = "guided" if need == "guided_gradients" else "standard"
                if gradient == "numeric":
                    raise UsageError(
                        f"{method.name} needs the gradient itself: a numeric one gives only its mean over positions"
                    )
                arrays[need] = self._channels_first(self.subject.input_gradient(seen, ask, rules))
        return Evidence(**arrays), how

    def _layer_gradient(self, seen: Seen, place: Place, ask: Ask, method: Method, gradient: str) -> tuple[Array, str]:
        """d target / d layer as (targets, C, *grid), or its mean as (targets, C, 1, ...), and how it was had."""
        if gradient == "numeric" and not method.mean_only:
            raise UsageError(
                f"{method.name} needs the gradient at every position: a numeric one gives only its mean (try gradcam)"
            )
        if gradient != "numeric":
            try:
                return self.subject.layer_gradient(place, seen, ask), "symbolic"
            except ModelError as error:
                if gradient != "auto" or not method.mean_only or not hasattr(error, "op"):
                    raise
        mean = self.subject.numeric_mean(place, seen, ask)
        grid = to_grid(seen.values[place.name], place.layout).shape[2:]
        return mean.reshape(*mean.shape, *[1] * len(grid)), "numeric"

    def _class_weights(self, seen: Seen, place: Place, ask: Ask, gradient: str) -> tuple[Array, str]:
        """d target / d pooled feature, (targets, C), and how it was had. Such a feature is its channel's mean."""
        weights = self.subject.class_weights(place, seen, ask)
        if gradient != "numeric":
            return weights, "symbolic"
        positions = np.prod(to_grid(seen.values[place.name], place.layout).shape[2:], dtype=np.float32)
        return self.subject.numeric_mean(place, seen, ask) * positions, "numeric"

    def _channels_first(self, rows: Array) -> Array:
        return np.moveaxis(rows, self.subject.image.layout.replace("N", "").index("C") + 1, 1)

    def _result(
        self, item: Item, scores: Array, target: Target, raw: Array, attribution: Array | None, method: Method,
        place: Place | None, how: str, labels: list[str] | None,
    ) -> Explanation:  # fmt: skip
        subject = self.subject
        return Explanation(
            map=raw, attribution=attribution, target=target,
            label=labels[target.index] if labels is not None and target.index is not None else None,
            layer=place.name if place and method.level == "layer" else subject.image.name, method=method, gradient=how,
            provider=short_name(subject.provider), scored=subject.score, scores=scores, item=item,
            channels_last=subject.image.layout.endswith("C"), model=subject.name,
            preprocess="array as given" if item.photo is None else self.preprocess.recipe.name,
            window=place.layout.window if place and method.level == "layer" else None,
        )  # fmt: skip


def no_image(given: object) -> ImageError:
    """The error for something that is no image, for the caller to raise."""
    return ImageError(f"an image is a path, bytes, a PIL image or an array, not {type(given).__name__}")


@contextmanager
def advised(subject: Subject, place: Place | None) -> Iterator[None]:
    """An operator that stops the gradient is told with advice that fits the model and what was asked of it."""
    try:
        yield
    except UnsupportedOpError as error:
        raise error.advising(subject.instead(place)) from error


def uses_layer(method: Method) -> bool:
    """Whether a method reads a target layer (Guided Grad-CAM does, though its map is the input's)."""
    return bool({"activations", "gradients", "weights"} & set(method.needs))


def open_subject(
    model: str | Path | bytes | onnx.ModelProto, *, provider: str, threads: int, score: str | None
) -> Subject:
    """The model behind its face: prepared by `export`, or rewritten here."""
    if isinstance(model, str | Path):
        path = Path(model)
        data = peek(path)
        manifest = read_manifest(data, str(path))
        if manifest is not None:
            from onnxcam.explainer.prepared import Prepared

            if score not in (None, manifest.score.name):
                raise UsageError(
                    f"{path} was exported for the score '{manifest.score.name}': use the original model for another"
                )
            return Prepared(path, manifest, data, provider=provider, threads=threads)
    from onnxcam.explainer.rewritten import Rewritten

    return Rewritten(model, provider=provider, threads=threads, score=score)


def peek(path: Path) -> dict[str, str]:
    """The metadata of a model file, read without onnx; empty when the file cannot be read or is no model."""
    try:
        with path.open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            return metadata_of(data)
    except (OSError, ValueError):  # `load` says what is wrong with it
        return {}


def explain(model: str | Path | bytes | onnx.ModelProto, image: Picture | Sequence[Picture], **options: Any) -> Any:
    """Explain with a model that is used once: `Explainer(model, ...)(image, ...)`, options to whichever takes them."""
    ours = {"target", "method", "layer", "gradient"}
    call = {key: options.pop(key) for key in list(options) if key in ours}
    return Explainer(model, **options)(image, **call)
