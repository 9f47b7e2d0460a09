"""A model whose graph is rewritten: what is found in it, and what its sessions say of images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxcam.arguments import ARRAYS_BY_NAME, NAME_OR_NONE, require
from onnxcam.errors import InputError, LayerError, ModelError
from onnxcam.explainer import ultralytics
from onnxcam.explainer.differences import numeric_mean
from onnxcam.explainer.grids import to_grid
from onnxcam.explainer.scores import checked_scores
from onnxcam.explainer.sessions import ClassGradient, Once, Part, Sessions
from onnxcam.explainer.subject import Array, Ask, Brought, Seen, TargetLayer, classes_of
from onnxcam.explainer.target_layer import chosen_layer
from onnxcam.graph import (
    Graph,
    Model,
    PerilError,
    any_class_row,
    behind_output,
    check_calls,
    check_fed,
    find_score,
    image_input,
    indices_of,
    layouts,
    line_height,
    load,
    of_one_image,
    of_size,
    read_layers,
    source_of,
    told_size,
    white_of,
    with_branches,
    with_feeds,
    without_idle_weights,
    zipped_names,
)
from onnxcam.runtime import DETECTIONS, LABELS, ImageInput, Score, Session
from onnxcam.vjp import CLASS, GRADIENT, SEED, rounding

if TYPE_CHECKING:
    import onnx

MOST_FORMS = 8  # image sizes whose form is kept


class Rewritten:
    """A Subject made from an ONNX model by graph surgery. Attributes as in `Subject`."""

    def __init__(
        self,
        source: str | Path | bytes | onnx.ModelProto | Graph,
        *,
        provider: str,
        threads: int,
        score: str | None = None,
        output: str | None = None,
        feeds: Mapping[str, Any] | None = None,
    ) -> None:
        """Read and inspect the model; no session is opened yet.

        `score`: the value to explain, or None for the one that the graph suggests, once it is asked for.
        `output`: instead of it, an output whose elements are asked for, see `behind_output`.
        `feeds`: values for the inputs besides the image.

        Raises:
            ModelError, LayerError, UsageError: as `load`, `with_feeds`, `image_input`, `find_score`.
        """
        require("score", score, NAME_OR_NONE)
        require("feeds", feeds, ARRAYS_BY_NAME)
        self._options: dict[str, Any] = {"provider": provider, "threads": threads}
        self.model: Model = source.model if isinstance(source, Graph) else with_feeds(load(source), feeds or {})
        self.name = self.model.name
        self._once = Once()
        self.sessions = Sessions(self)
        self.graph: Graph = source if isinstance(source, Graph) else self._checked_graph()
        self.graph = of_one_image(self.graph, image_input(self.graph))
        image = image_input(self.graph)
        self.image = replace(image, white=white_of(self.graph, image.name))
        check_fed(self.graph, self.image.name)
        self.metadata = {entry.key: entry.value for entry in self.model.proto.metadata_props}
        if names := zipped_names(self.graph):
            self.metadata.setdefault(LABELS, "\n".join(names))
        self._scored: dict[str, Any] = {"score": score, "output": output}
        if score is not None or output is not None:
            _ = self.score  # what does not fit is said now
        self._means: dict[tuple[str, tuple[int, ...]], dict[int, Array]] = {}
        self._forms: dict[tuple[int, ...], Rewritten] = {}
        self._of_size: tuple[tuple[int, ...], Graph] | None = None

    @cached_property
    def score(self) -> Score:
        """The score: given, or the one that the graph suggests. LayerError, ModelError: as `find_score`."""
        if (output := self._scored["output"]) is not None:
            return behind_output(self.graph, output, image=self.image)
        found = find_score(self.graph, self._scored["score"], image=self.image)
        if (self.image.batch or 1) > 1 and self._is_of_all(found):
            raise ModelError(
                f"{self.name} makes one score '{found.name}' of {self.image.batch} images together, and a map would be "
                "of one: onnxcam.differentiate gives its gradient at all of them"
            )
        is_output = any(value.name == found.name for value in self.graph.model.proto.graph.output)
        shape = self.graph.shape(found.name)
        return ultralytics.with_detections(found, shape, self.metadata) if is_output else found

    def _is_of_all(self, score: Score) -> bool:
        """Whether a row of class scores is that of all images of a batch: of bags, or a pair."""
        shape = self.graph.shape(score.name) or ()
        return "N" in self.image.layout and not score.axes and len(shape) > 1 and shape[0] == 1

    def joins(self, x: Array) -> bool:
        """Whether several images have one score together; not where the model does not run on several at all."""
        score = self.score_or_none
        if score is None or self.image.batch is not None or not self._is_of_all(score):
            return False
        rows, _ = self.sessions.features(None, "", {})
        try:
            (found,) = rows.session.run({self.image.name: x}, [score.name]).values()
        except InputError:
            return False
        return len(found) == 1

    @cached_property
    def score_or_none(self) -> Score | None:
        """The score; None where several may be meant, which is said when it is asked for: a target may choose one."""
        try:
            return self.score
        except ModelError:
            return None

    @property
    def answers_for_places(self) -> bool:
        """Whether the score, or each that a target may choose, is no row of classes."""
        score = self.score_or_none
        return bool(score.axes) if score else not any_class_row(self.graph, self.image)

    @cached_property
    def photo_input(self) -> ImageInput:
        """The image input, of the size that the model takes where it leaves both sides free but fits few.

        Lines of text have a height; a head of weights for each place takes images of one size.
        """
        if self.image.size != (None, None):
            return self.image
        score = self.score_or_none
        line = line_height(self.graph, score, self.image) if score else None
        return replace(self.image, size=(None, line) if line else told_size(self.graph, self.image))

    def explaining(self, name: str) -> Rewritten:
        """The same model with another of its outputs, or values, as the score."""
        return Rewritten(self.graph, **self._options, output=name)

    def for_size(self, size: tuple[int, ...]) -> Rewritten:
        """The same model for images of a size: with the branches that they take, where an If hangs on that.

        InputError: it takes no such images.
        """
        if size not in self._forms:
            try:
                graph = with_branches(self.graph, {self.image.name: self._with_rows(size)})
            except ModelError as error:
                raise InputError(f"the model does not run on an image of shape {list(size)}: {error}") from error
            alike = (form for form in (self, *self._forms.values()) if form.graph.proto == graph.proto)
            form = next(alike, None) or Rewritten(graph, **self._options, **self._scored)
            if len(self._forms) >= MOST_FORMS:  # each may hold sessions with all weights
                self._forms.pop(next(iter(self._forms)))
            self._forms[size] = form
        return self._forms[size]

    def _with_rows(self, size: tuple[int, ...]) -> list[int | None]:
        """The shape of the model's input for one image's: any number of rows."""
        return [*([None] if "N" in self.image.layout else []), *size]

    def _checked_graph(self) -> Graph:
        """The normalized graph. What nobody can read, ONNX Runtime often names best."""
        check_calls(self.model.proto, self.name)  # first: ONNX Runtime would unfold them without end
        try:
            graph = read_layers(self.model)
            _ = graph.types
        except PerilError:
            raise
        except ModelError:
            self.open(self.model.proto)
            raise
        if taken := sorted(graph.names & {CLASS, GRADIENT, SEED}):
            raise ModelError(f"{self.name} calls a value '{taken[0]}', as onnxcam calls one of its own: rename it")
        return graph

    @property
    def provider(self) -> str:
        """The execution provider that runs the forward pass."""
        forms = (form.sessions.provider for form in self._forms.values())
        return self.sessions.provider or next(filter(None, forms), "")

    @property
    def unsteady(self) -> str:
        """What makes the scores depend on more than the image; empty: nothing does."""
        return self.graph.unsteady

    def open(self, proto: onnx.ModelProto, *, optimize: bool = True, pack: bool = True) -> Session:
        """A session of a graph made from this model; options and errors as `Session`."""
        options = {**self._options, "optimize": optimize, "pack": pack}
        lean = without_idle_weights(proto)
        return Session(self.model.portable(lean), folder=self.model.folder, name=self.name, **options)

    # -- layer -----------------------------------------------------------------------------------

    def target_layer(
        self,
        layer: str | None,
        method: str,
        cotangent: Array | None = None,
        size: tuple[int, ...] | None = None,
        seen: Mapping[str, Array] | None = None,
    ) -> TargetLayer:
        """The target layer: the named one, or the automatic choice for a method, see `Subject`."""
        if layer is not None:
            require("layer", layer, NAME_OR_NONE)
        size = size if None in self.image.size else None
        source = self.score.name if cotangent is None else self._source(cotangent != 0, size, seen or {})
        key = ("target layer", layer, method == "cam", source, size)
        return self._once(key, lambda: chosen_layer(self, self._sized(size), source, layer, method))

    def score_window(self, size: tuple[int, ...]) -> tuple[tuple[float, float], ...] | None:
        """Where the grid of scores that are maps starts and ends on an image of a size; None: it spans the whole."""
        found = layouts(self._sized(size if None in self.image.size else None)).get(self.score.name)
        return found.window if found else None

    def _sized(self, size: tuple[int, ...] | None) -> Graph:
        """The graph for images of a size: where positions lie, and which head holds an element, may hang on it."""
        if size is None:
            return self.graph
        if self._of_size is None or self._of_size[0] != size:  # the last one is kept: a folder may hold many
            self._of_size = size, of_size(self.graph, {self.image.name: self._with_rows(size)}) or self.graph
        return self._of_size[1]

    def _source(self, chosen: Array, size: tuple[int, ...] | None, seen: Mapping[str, Array]) -> str:
        """The value nearest to the image that still holds all chosen elements of one image's scores."""
        name, axes = self.image.name, self.image.layout
        one = [1 if axis == "N" else None for axis in axes]
        graph = self._once(("one image", size), lambda: of_size(self._sized(size), {name: one}) or self._sized(size))
        bare = [name for name, has_rows in self._indices(size).items() if not has_rows]
        known = {**seen, **{name: seen[name][0] for name in bare if name in seen}}
        return source_of(graph, self.score.name, chosen[None] if self.score.rows else chosen, known)

    def _indices(self, size: tuple[int, ...] | None) -> dict[str, bool]:
        """Values that an image of a size decides, by which the rows of its score were picked, see `indices_of`."""
        if not (self.score.axes and self.score.rows):
            return {}
        of, alone = size if None in self.image.size else None, self.image.batch == 1 and self.score.axes == DETECTIONS
        return self._once(("indices", of), lambda: indices_of(self._sized(of), self.score.name, alone=alone))

    # -- runs ------------------------------------------------------------------------------------

    def see(self, x: Array, at: TargetLayer | None, gradient: str, foreseen: int | None = None) -> Seen:
        """One forward run of the deployed model, with the score, the layer and what its gradient reads exposed."""
        has_classes = at is None and bool(gradient) and self.sessions.axis is not None
        if has_classes and foreseen is not None and foreseen < self.sessions.classes:
            return self._with_gradient(x, gradient, foreseen)
        rows, taps = self.sessions.features(at, gradient, self._indices(x.shape[1:]))
        values = {**(rows.run({self.image.name: x}, taps) if taps else {}), self.image.name: x}
        scores = checked_scores(values[self.score.name], len(x), self.score)
        if at and len(values[at.name]) != len(x):
            raise LayerError(
                f"the layer '{at.name}' holds {len(values[at.name])} rows for {len(x)} image(s): "
                "the model makes several views of one image there; choose a layer in front of that"
            )
        if at and not values[at.name].size:
            raise LayerError(f"the layer '{at.name}' is empty: its shape is {list(values[at.name].shape)}")
        return Seen(x, scores, values)

    def _with_gradient(self, x: Array, rules: str, foreseen: int) -> Seen:
        """The same with the gradient at the image of the class that is foreseen: forward and backward in one run."""
        part, score = self.sessions.image_gradient(rules, of_class=True), self.score
        given = {self.image.name: x, CLASS: np.array([foreseen] * len(x))}
        values = part.rows.run(given, [score.name, part.graph.output])
        scores = checked_scores(values[score.name], len(x), score)
        brought = Brought(rules, classes_of(foreseen, scores), values.pop(part.graph.output))
        return Seen(x, scores, {**values, self.image.name: x}, brought)

    def fed(self, row: Array) -> Array:
        """One row as the model takes it."""
        return row[0] if self.image.name in self.sessions.bare else np.repeat(row, self.image.batch or 1, axis=0)

    def layer_gradient(self, at: TargetLayer, seen: Seen, ask: Ask) -> Array:
        """d target / d layer, (targets, C, *grid); where the mean will do, perhaps that: (targets, C, 1, ...)."""
        axis, indices = self.sessions.axis, ask.indices
        if axis is None or indices is None:
            part = self.sessions.seeded_gradient(at, seen)
            return to_grid(part.run_for(seen, ask, **{SEED: self._seeds(seen, ask)}), at.layout)
        gradient, held = self.sessions.class_gradient(at, axis), seen.values[at.name]
        if at.mean_only and gradient.of_class_alone:
            return self._class_means(at, gradient, indices, held)
        found = gradient.part.run_for(seen, ask, **{CLASS: np.array(indices, np.int64)})
        return gradient.read(found, held, at.layout)

    def _class_means(self, at: TargetLayer, found: ClassGradient, indices: list[int], held: Array) -> Array:
        """Means that nothing of the image but its size decides, a class each: each is made once."""
        known = self._means.setdefault((at.name, held.shape[1:]), {})
        if new := [which for which in dict.fromkeys(indices) if which not in known]:
            made = found.part.run({CLASS: np.array(new, np.int64)})
            known |= zip(new, found.read(made, held, at.layout)[:, None], strict=True)
        rows = [known[which] for which in indices]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def _wanted(self, part: Part, seen: Seen, ask: Ask) -> dict[str, Array]:
        """What is asked, as a graph takes it: classes, or a seed."""
        classes = ask.classes
        return {SEED: self._seeds(seen, ask)} if classes is None or SEED in part.graph.inputs else {CLASS: classes}

    def _seeds(self, seen: Seen, ask: Ask) -> Array:
        """Cotangents of the score, a row per target, in its own shape and type."""
        like = seen.values[self.score.name]
        rows = [target.cotangent(seen.scores[i]) for i, target in zip(ask.images, ask.targets, strict=True)]
        stacked = np.stack(rows) if len(rows) > 1 else np.asarray(rows[0])  # maps of many classes are large
        return stacked.reshape(len(rows), *like.shape[1:]).astype(like.dtype, copy=False)

    def rounding(self, at: TargetLayer) -> str:
        """The first node behind a layer that rounds; empty when none does."""
        return rounding(self.sessions.head(at))

    def numeric_mean(self, at: TargetLayer, seen: Seen, ask: Ask) -> Array:
        """The gradient's mean over positions, (targets, C), worked out by differences of the target's value."""
        return numeric_mean(self, at, seen, ask)

    def class_weights(self, at: TargetLayer, seen: Seen, ask: Ask) -> Array:
        """d target / d pooled feature, (targets, C): the class's weights, where the head is pooling and linear."""
        part = self.sessions.weights(at, of_class=ask.indices is not None)
        return part.run_for(seen, ask, **self._wanted(part, seen, ask)).reshape(len(ask.targets), -1)

    def input_gradient(self, seen: Seen, ask: Ask, rules: str) -> Array:
        """d target / d input, a row per target, in the input's layout: forward and backward in one graph."""
        if (brought := seen.gradient_of(rules, ask)) is not None:
            return brought
        part = self.sessions.image_gradient(rules, of_class=ask.indices is not None)
        return part.run_for(seen, ask, **self._wanted(part, seen, ask))
