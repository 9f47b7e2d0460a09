"""A model whose graph is rewritten: features, head and gradients, each a session opened when first asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxcam.arguments import ARRAYS_BY_NAME, NAME_OR_NONE, require
from onnxcam.errors import InputError, LayerError, ModelError, UnsupportedOpError, VerificationError
from onnxcam.explainer import ultralytics
from onnxcam.explainer.advice import instead, instead_of_differences
from onnxcam.explainer.grids import from_grid, grid_axes, to_grid
from onnxcam.explainer.placing import chosen_place
from onnxcam.explainer.scores import as_rows, checked_scores
from onnxcam.explainer.subject import Array, Ask, Place, Seen
from onnxcam.graph import (
    Graph,
    Head,
    Model,
    any_class_row,
    behind_output,
    check_calls,
    check_fed,
    class_axis,
    features,
    find_score,
    fixed,
    global_mean,
    head,
    image_input,
    load,
    of_size,
    packing_pays,
    pooled_value,
    read_layers,
    source_of,
    with_branches,
    without_idle_weights,
    zipped_names,
)
from onnxcam.runtime import LABELS, Rows, Score, Session, apart_from_differences, mean_gradient
from onnxcam.targets import Target
from onnxcam.vjp import (
    CLASS,
    DECONVNET,
    GRADIENT,
    GUIDED,
    SEED,
    STANDARD,
    Backward,
    all_scores,
    class_gradient,
    class_score,
    rounding,
    seeded_gradient,
    whole_seeded_gradient,
)

if TYPE_CHECKING:
    import onnx

RULES = {"standard": STANDARD, "guided": GUIDED, "deconvnet": DECONVNET}
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
            ModelError, LayerError, UsageError: as `load`, `fixed`, `image_input`, `find_score`.
        """
        require("score", score, NAME_OR_NONE)
        require("feeds", feeds, ARRAYS_BY_NAME)
        self._options: dict[str, Any] = {"provider": provider, "threads": threads}
        self.model: Model = source.model if isinstance(source, Graph) else fixed(load(source), feeds or {})
        self.name = self.model.name
        self._feature_sessions: dict[tuple[str, ...], Rows] = {}
        self._heads: dict[Any, Any] = {}
        self.graph: Graph = source if isinstance(source, Graph) else self._checked_graph()
        self.image = image_input(self.graph)
        check_fed(self.graph, self.image.name)
        self.metadata = {entry.key: entry.value for entry in self.model.proto.metadata_props}
        if names := zipped_names(self.graph):
            self.metadata.setdefault(LABELS, "\n".join(names))
        self._scored: dict[str, Any] = {"score": score, "output": output}
        if score is not None or output is not None:
            _ = self.score  # what does not fit is said now
        self._running = ""
        self._means: dict[str, dict[int, Array]] = {}
        self._forms: dict[tuple[int, ...], Rewritten] = {}
        self._of_size: tuple[tuple[int, ...], Graph] | None = None

    @cached_property
    def score(self) -> Score:
        """The score: given, or the one that the graph suggests. LayerError, ModelError: as `find_score`."""
        if (output := self._scored["output"]) is not None:
            return behind_output(self.graph, output, image=self.image)
        named = self._scored["score"] or ultralytics.main_output(self.metadata, self.graph.outputs)
        found = find_score(self.graph, named, image=self.image)
        is_output = any(value.name == found.name for value in self.graph.model.proto.graph.output)
        shape = self.graph.shape(found.name)
        return ultralytics.with_detections(found, shape, self.metadata) if is_output else found

    @property
    def placed(self) -> bool:
        """Whether the score, or each that a target may choose, is no row of classes."""
        try:
            return bool(self.score.axes)
        except ModelError:  # several may be meant: said when it is asked for
            return not any_class_row(self.graph, self.image)

    def explaining(self, name: str) -> Rewritten:
        """The same model with another of its outputs, or values, as the score."""
        key = ("explaining", name)
        if key not in self._heads:
            self._heads[key] = Rewritten(self.graph, **self._options, output=name)
        found: Rewritten = self._heads[key]
        return found

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
        except ModelError:
            self.open(self.model.proto)
            raise
        if taken := sorted(graph.names & {CLASS, GRADIENT, SEED}):
            raise ModelError(f"{self.name} calls a value '{taken[0]}', as onnxcam calls one of its own: rename it")
        return graph

    @property
    def provider(self) -> str:
        """The execution provider that runs the forward pass."""
        return next((form._running for form in (self, *self._forms.values()) if form._running), "")

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

    def place(
        self,
        layer: str | None,
        method: str,
        cotangent: Array | None = None,
        size: tuple[int, ...] | None = None,
    ) -> Place:
        """The target layer: the named one, or the automatic choice for a method, see `Subject`."""
        require("layer", layer, NAME_OR_NONE)
        size = size if None in self.image.size else None
        source = self.score.name if cotangent is None else self._source(cotangent != 0, size)
        key = ("place", layer, method == "cam", source, size)
        if key not in self._heads:
            self._heads[key] = chosen_place(self, self._sized(size), source, layer, method)
        found: Place = self._heads[key]
        return found

    def _sized(self, size: tuple[int, ...] | None) -> Graph:
        """The graph for images of a size: where positions lie, and which head holds an element, may hang on it."""
        if size is None:
            return self.graph
        if self._of_size is None or self._of_size[0] != size:  # the last one is kept: a folder may hold many
            self._of_size = size, of_size(self.graph, {self.image.name: self._with_rows(size)}) or self.graph
        return self._of_size[1]

    def _source(self, chosen: Array, size: tuple[int, ...] | None) -> str:
        """The value nearest to the image that still holds all chosen elements of one image's scores."""
        return source_of(self._sized(size), self.score.name, chosen[None] if self.score.rows else chosen)

    def instead(self, place: Place | None) -> str:
        """What to do where an operator stops the gradient on its way to a layer, or to the image."""
        return instead(self, place)

    def head(self, place: Place) -> Head:
        """The graph from a layer to the score."""
        key = ("head", place.name)
        if key not in self._heads:
            self._heads[key] = head(self.graph, place.name, self.score.name)
            self._bare |= self._heads[key].still
        found: Head = self._heads[key]
        return found

    # -- forward ---------------------------------------------------------------------------------

    def see(self, x: Array, place: Place | None, gradient: str) -> Seen:
        """One forward run of the deployed model, with the score, the layer and what its gradient reads exposed."""
        rows, taps = self._view(place, gradient)
        values = rows.run({self.image.name: x}, taps)
        scores = checked_scores(values[self.score.name], len(x), self.score)
        if place and len(values[place.name]) != len(x):
            raise LayerError(
                f"the layer '{place.name}' holds {len(values[place.name])} rows for {len(x)} image(s): "
                "the model makes several views of one image there; choose a layer in front of that"
            )
        return Seen(x, scores, {**values, self.image.name: x})

    def _view(self, place: Place | None, gradient: str) -> tuple[Rows, list[str]]:
        """The session of the features and what is read from it."""
        key = ("view", gradient, *((place.name, place.mean_only) if place else ()))
        if key not in self._heads:
            names = [self.score.name] + ([place.name, *self._head_inputs(place, gradient)] if place else [])
            taps = list(dict.fromkeys(name for name in names if name not in (self.image.name, CLASS)))
            self._heads[key] = self._features(tuple(taps)), taps
        found: tuple[Rows, list[str]] = self._heads[key]
        return found

    def _head_inputs(self, place: Place, gradient: str) -> Sequence[str]:
        """What the head, or its gradient, reads of the features."""
        extra = self.head(place).extra
        axis = self._axis
        if gradient in ("", "numeric") or axis is None:
            return extra
        try:
            return [*extra, *self._class_backward(place, axis)[1].inputs]
        except UnsupportedOpError:
            if gradient != "auto":
                raise
            return extra

    def _class_backward(self, place: Place, axis: int) -> tuple[Rows, Backward]:
        """The gradient of a class's score at the layer, or of its mean, where that is all that is wanted."""
        part = self.head(place)
        if not place.mean_only:
            return self._backward(("class", place.name), lambda: class_gradient(part, axis), part)
        wrt, mean = self._pooled(place) or place.name, grid_axes(place.layout)
        mean = () if wrt != place.name else mean
        return self._backward(("mean", wrt), lambda: class_gradient(part, axis, wrt=wrt, mean=mean), part)

    def _pooled(self, place: Place) -> str | None:
        """The layer's mean over positions, when that is all that is read of it: its gradient is Z times the mean."""
        key = ("pooled", place.name)
        if key not in self._heads:
            self._heads[key] = global_mean(self.graph, place.name, place.layout)
        found: str | None = self._heads[key]
        return found

    def _features(self, taps: tuple[str, ...]) -> Rows:
        if taps not in self._feature_sessions:
            session = self.open(features(self.graph, taps))
            self._running = session.provider
            self._feature_sessions[taps] = self._rows(
                session, self._bare.intersection([self.image.name, *taps]), may_batch=self.image.batch is None
            )
        return self._feature_sessions[taps]

    def _rows(self, session: Session, bare: Collection[str], *, may_batch: bool = True) -> Rows:
        return Rows(session, may_batch=may_batch, bare=bare, copies=self.image.batch or 1)

    @cached_property
    def _bare(self) -> set[str]:
        """Values without an axis of rows: in a model that takes no batch, the image; scores that are one image's."""
        image = set() if "N" in self.image.layout else {self.image.name}
        return image | (set() if self.score.rows else {self.score.name, SEED})

    @cached_property
    def _axis(self) -> int | None:
        """The classes' axis of a row of class scores, where the graph tells it; else targets are explained by a dense
        seed.
        """
        shape = self.graph.shape(self.score.name)
        images_alone = shape is not None and len(shape) == 1 and self.score.rows
        return None if self.score.axes or images_alone else class_axis(shape)

    def fed(self, row: Array) -> Array:
        """One row as the model takes it."""
        return row[0] if self.image.name in self._bare else np.repeat(row, self.image.batch or 1, axis=0)

    # -- backward --------------------------------------------------------------------------------

    def _backward(
        self, key: tuple[str, ...], build: Callable[[], Backward], part: Head | None = None
    ) -> tuple[Rows, Backward]:
        """The session of a backward graph, built when first asked for, of a head or of the whole graph.

        The key: what for, with respect to what, and what else decides.
        """
        if key not in self._heads:
            backward = build()
            bare = self._bare.intersection([*backward.inputs, backward.output])
            bare |= {backward.output} if key[1] in self._bare else set()
            pack = part is None or packing_pays(part.graph)  # else a weight of all rows would be held a third time
            self._heads[key] = (self._rows(self.open(backward.proto, pack=pack), bare), backward)
        found: tuple[Rows, Backward] = self._heads[key]
        return found

    def _run(self, rows: Rows, backward: Backward, seen: Seen, ask: Ask, **others: Array) -> Array:
        feeds = {name: others[name] if name in others else ask.of(seen.values[name]) for name in backward.inputs}
        return rows.run(feeds, [backward.output])[backward.output]

    def _seeds(self, seen: Seen, ask: Ask) -> Array:
        """Cotangents of the score, a row per target, in its own shape and type."""
        like = seen.values[self.score.name]
        rows = [target.cotangent(seen.scores[i]) for i, target in zip(ask.images, ask.targets, strict=True)]
        return np.stack(rows).reshape(len(rows), *like.shape[1:]).astype(like.dtype)

    def layer_gradient(self, place: Place, seen: Seen, ask: Ask) -> Array:
        """d target / d layer, (targets, C, *grid); where the mean will do, perhaps that: (targets, C, 1, ...)."""
        part = self.head(place)
        axis, classes = self._axis, ask.classes
        if axis is None or classes is None:
            key = ("seed", place.name, *sorted(seen.values))  # what is tapped hangs on what the features were read for
            rows, backward = self._backward(key, lambda: seeded_gradient(part, taps=set(seen.values)), part)
            return to_grid(self._run(rows, backward, seen, ask, **{SEED: self._seeds(seen, ask)}), place.layout)
        rows, backward = self._class_backward(place, axis)
        if place.mean_only and list(backward.inputs) == [CLASS]:
            gradient = self._class_means(place, rows, backward, classes)
        else:
            gradient = self._run(rows, backward, seen, ask, **{CLASS: classes})
        pooled, axes = place.mean_only and self._pooled(place), grid_axes(place.layout)
        if not pooled and place.mean_only and axes:
            return gradient.reshape(len(gradient), -1, *[1] * len(axes))
        if not pooled:
            return to_grid(gradient, place.layout)
        positions = to_grid(seen.values[place.name], place.layout).shape[2:]
        return gradient.reshape(len(gradient), -1, *[1] * len(positions)) / np.float32(math.prod(positions))

    def _class_means(self, place: Place, rows: Rows, backward: Backward, classes: Array) -> Array:
        """Means that nothing of the image decides (behind global pooling and a matrix), a class: each is made once."""
        known = self._means.setdefault(place.name, {})
        asked = classes.tolist()
        if new := [which for which in dict.fromkeys(asked) if which not in known]:
            made = rows.run({CLASS: np.array(new, classes.dtype)}, [backward.output])[backward.output]
            known |= zip(new, made, strict=True)
        return np.array([known[which] for which in asked])

    def rounding(self, place: Place) -> str:
        """The first node behind a layer that rounds; empty when none does."""
        return rounding(self.head(place))

    def numeric_mean(self, place: Place, seen: Seen, ask: Ask) -> Array:
        """The gradient's mean over positions, (targets, C), worked out by differences of the target's value."""
        if node := self.rounding(place):
            raise VerificationError(
                f"no numeric gradient over {node}, which rounds: {instead_of_differences(self, place)}"
            )
        found = []
        for image, target in zip(ask.images, ask.targets, strict=True):
            grid, values = self._differenced(place, seen, image, target)
            found.append(mean_gradient(values, grid, 0))
        return np.stack(found)

    def apart_from_differences(self, place: Place, seen: Seen, ask: Ask, gradient: Array) -> tuple[float, int]:
        """How far the first target's gradient (C, *grid) is from differences: see `runtime.apart_from_differences`."""
        grid, values = self._differenced(place, seen, ask.images[0], ask.targets[0])
        return apart_from_differences(values, grid, 0, gradient)

    def _differenced(
        self, place: Place, seen: Seen, image: int, target: Target
    ) -> tuple[Array, Callable[[Array], Array]]:
        """The layer's grid in one image, (C, *grid), and the target's values for other grids."""
        one = {name: value[image : image + 1] for name, value in seen.values.items()}
        return to_grid(one[place.name], place.layout)[0], partial(self._values_at, place, one, target)

    def _values_at(self, place: Place, one: dict[str, Array], target: Target, grids: Array) -> Array:
        """The target's value for one image whose layer has other grids, a row each."""
        rows, forward = self._forward(self.head(place), target.index)
        count = len(grids)
        feeds = {place.name: from_grid(grids, one[place.name], place.layout)}
        if target.index is not None:
            feeds[CLASS] = np.full(count, target.index, np.int64)
        feeds |= {n: np.repeat(one[n], count, axis=0) for n in forward.inputs if n not in feeds}
        values = rows.run({name: feeds[name] for name in forward.inputs}, [forward.output])[forward.output]
        if forward.output != self.score.name:
            return values.reshape(count)
        return np.array([target.value(row) for row in as_rows(values, self.score)])

    def _forward(self, part: Head, index: int | None) -> tuple[Rows, Backward]:
        """The head's forward pass: to the score of one class where that is the target, else to all scores."""
        axis = self._axis
        if axis is None or index is None:
            return self._backward(("forward", part.layer), lambda: all_scores(part))
        return self._backward((f"forward along {axis}", part.layer), lambda: class_score(part, axis))

    def class_weights(self, place: Place, seen: Seen, ask: Ask) -> Array:
        """d target / d pooled feature, (targets, C): the class's weights, where the head is pooling and linear."""
        pooled = pooled_value(self.graph, place.name, place.layout, self.score.name)
        if pooled is None:
            raise LayerError(
                f"cam needs a layer that goes straight into global average pooling and linear layers, "
                f"'{place.name}' does not: use gradcam, or another layer"
            )
        part = self.head(place)
        axis, classes = self._axis, ask.classes
        if axis is not None and classes is not None:
            rows, backward = self._backward(
                ("weights", place.name), lambda: class_gradient(part, axis, wrt=pooled, taps=())
            )
            weights = self._run(rows, backward, seen, ask, **{CLASS: classes})
        else:
            rows, backward = self._backward(
                ("seed weights", place.name), lambda: seeded_gradient(part, wrt=pooled, taps=())
            )
            weights = self._run(rows, backward, seen, ask, **{SEED: self._seeds(seen, ask)})
        return weights.reshape(len(ask.targets), -1)

    def input_gradient(self, seen: Seen, ask: Ask, rules: str) -> Array:
        """d target / d input, a row per target, in the input's layout: forward and backward in one graph."""
        rows, backward = self._backward(
            (rules, self.image.name),
            lambda: whole_seeded_gradient(self.graph, self.score.name, self.image.name, rules=RULES[rules]),
        )
        return self._run(rows, backward, seen, ask, **{SEED: self._seeds(seen, ask)})
