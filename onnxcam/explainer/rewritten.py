"""A model whose graph is rewritten: features, head and gradients, each a session opened when first asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from onnxcam.arguments import ARRAYS_BY_NAME, NAME_OR_NONE, require
from onnxcam.errors import InputError, LayerError, ModelError, UnsupportedOpError
from onnxcam.explainer import ultralytics
from onnxcam.explainer.advice import advised
from onnxcam.explainer.differences import numeric_mean
from onnxcam.explainer.grids import grid_axes, to_grid
from onnxcam.explainer.scores import checked_scores
from onnxcam.explainer.subject import Array, Ask, Seen, TargetLayer
from onnxcam.explainer.target_layer import chosen_layer
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
    indices_of,
    layouts,
    line_height,
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
from onnxcam.runtime import LABELS, Layout, Rows, Score, Session
from onnxcam.vjp import (
    CLASS,
    GRADIENT,
    GUIDED,
    SEED,
    STANDARD,
    RowGraph,
    all_scores,
    class_gradient,
    class_score,
    rounding,
    seeded_gradient,
    whole_seeded_gradient,
)

if TYPE_CHECKING:
    import onnx

RULES = {"standard": STANDARD, "guided": GUIDED}
MOST_FORMS = 8  # image sizes whose form is kept
Opened = tuple[Rows, RowGraph]  # a graph of a head or of the model, in its session
T = TypeVar("T")


@dataclass(frozen=True)
class ClassGradient:
    """The gradient of a class's score at a layer, in its session.

    Attributes:
        of: "whole"; "mean": its mean over positions; "pooled": the gradient of the layer's mean, where that is all that
            is read of it: the layer's is that divided by the number of positions.
    """

    rows: Rows
    backward: RowGraph
    of: str

    @cached_property
    def of_class_alone(self) -> bool:
        """Whether nothing of the image decides, as behind global pooling and a matrix."""
        return self.backward.inputs == [CLASS]

    def read(self, gradient: Array, layout: Layout, grid: tuple[int, ...]) -> Array:
        """What was given out as the gradient of a layer, (targets, C, *grid), or its mean, (targets, C, 1, ...)."""
        if self.of == "whole":
            return to_grid(gradient, layout)
        means = gradient.reshape(len(gradient), -1, *[1] * len(grid))
        return means if self.of == "mean" else means / np.float32(math.prod(grid))


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
        self._made: dict[Hashable, Any] = {}
        self._provider = ""
        self.graph: Graph = source if isinstance(source, Graph) else self._checked_graph()
        self.image = image_input(self.graph)
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
        named = self._scored["score"]
        if named is None:
            named = ultralytics.main_output(self.metadata, self.graph.outputs)
        found = find_score(self.graph, named, image=self.image)
        is_output = any(value.name == found.name for value in self.graph.model.proto.graph.output)
        shape = self.graph.shape(found.name)
        return ultralytics.with_detections(found, shape, self.metadata) if is_output else found

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

    @property
    def line_height(self) -> int | None:
        """The height for lines of text, of a model that reads these at any; else None."""
        score = self.score_or_none
        return line_height(self.graph, score, self.image) if score else None

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
        except ModelError:
            self.open(self.model.proto)
            raise
        if taken := sorted(graph.names & {CLASS, GRADIENT, SEED}):
            raise ModelError(f"{self.name} calls a value '{taken[0]}', as onnxcam calls one of its own: rename it")
        return graph

    @property
    def provider(self) -> str:
        """The execution provider that runs the forward pass."""
        return self._provider or next((form._provider for form in self._forms.values() if form._provider), "")

    @property
    def unsteady(self) -> str:
        """What makes the scores depend on more than the image; empty: nothing does."""
        return self.graph.unsteady

    def open(self, proto: onnx.ModelProto, *, optimize: bool = True, pack: bool = True) -> Session:
        """A session of a graph made from this model; options and errors as `Session`."""
        options = {**self._options, "optimize": optimize, "pack": pack}
        lean = without_idle_weights(proto)
        return Session(self.model.portable(lean), folder=self.model.folder, name=self.name, **options)

    def _once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` gives, made when it is first asked for."""
        if key not in self._made:
            self._made[key] = make()
        found: T = self._made[key]
        return found

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
        return source_of(self._sized(size), self.score.name, chosen[None] if self.score.rows else chosen, seen)

    def _indices(self, size: tuple[int, ...]) -> list[str]:
        """Indices that an image of a size decides, by which the rows of its score were picked."""
        if not (self.score.axes and self.score.rows):
            return []
        of = size if None in self.image.size else None
        return self._once(("indices", of), lambda: indices_of(self._sized(of), self.score.name))

    def head(self, at: TargetLayer) -> Head:
        """The graph from a layer to the score."""
        return self._once(("head", at.name), lambda: head(self.graph, at.name, self.score.name))

    # -- forward ---------------------------------------------------------------------------------

    def see(self, x: Array, at: TargetLayer | None, gradient: str) -> Seen:
        """One forward run of the deployed model, with the score, the layer and what its gradient reads exposed."""
        rows, taps = self._view(at, gradient, self._indices(x.shape[1:]))
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

    def _view(self, at: TargetLayer | None, gradient: str, indices: Sequence[str]) -> tuple[Rows, list[str]]:
        """The session of the features and what is read from it."""

        def opened() -> tuple[Rows, list[str]]:
            names = [self.score.name, *indices] + ([at.name, *self._head_inputs(at, gradient)] if at else [])
            taps = list(dict.fromkeys(name for name in names if name not in (self.image.name, CLASS)))
            still = self.head(at).still if at else ()
            return self._once(("features", *taps), lambda: self._features(taps, still)), taps

        return self._once(("view", gradient, *((at.name, at.mean_only) if at else ()), *indices), opened)

    def _head_inputs(self, at: TargetLayer, gradient: str) -> Sequence[str]:
        """What the head, or its gradient, reads of the features."""
        extra = self.head(at).extra
        axis = self._axis
        if gradient in ("", "numeric") or axis is None:
            return extra
        try:
            return [*extra, *self._class_gradient(at, axis).backward.inputs]
        except UnsupportedOpError:
            if gradient != "auto":
                raise
            return extra

    def _class_gradient(self, at: TargetLayer, axis: int) -> ClassGradient:
        """The gradient of a class's score at a layer, or of its mean where that is all that is wanted."""

        def made() -> ClassGradient:
            part, pooled = self.head(at), None
            if at.mean_only:
                pooled = global_mean(self.graph, at.name, at.layout)
            mean = grid_axes(at.layout) if at.mean_only and not pooled else ()
            wrt, of = pooled or at.name, "pooled" if pooled else "mean" if mean else "whole"
            return ClassGradient(
                *self._backward((of, wrt), lambda: class_gradient(part, axis, wrt=wrt, mean=mean), at), of
            )

        return self._once(("class gradient", at.name, at.mean_only), made)

    def _features(self, taps: Sequence[str], still: Collection[str]) -> Rows:
        """The session of the deployed model with some values exposed; `still`: those that have no axis of rows."""
        bare = (self._bare | set(still)).intersection([self.image.name, *taps])
        rows = self._rows(self.open(features(self.graph, taps)), bare, may_batch=self.image.batch is None)
        self._provider = rows.session.provider
        return rows

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

    def _backward(self, key: tuple[str, ...], build: Callable[[], RowGraph], at: TargetLayer | None) -> Opened:
        """The session of a backward graph, of the head behind a layer or of the whole graph.

        The key: what for, with respect to what, and what else decides.

        Raises:
            UnsupportedOpError: an operator stops the gradient; what to do instead is worked out once.
        """

        def made() -> Opened | UnsupportedOpError:
            try:
                with advised(self, at):
                    backward = build()
            except UnsupportedOpError as error:
                return error
            # without gain a weight of all rows would be held a third time
            return self._opened(backward, key[1], at, pack=at is None or packing_pays(self.head(at).graph))

        found = self._once(key, made)
        if isinstance(found, UnsupportedOpError):
            raise found.with_traceback(None)
        return found

    def _opened(self, graph: RowGraph, wrt: str, at: TargetLayer | None, *, pack: bool = True) -> Opened:
        """A graph in its session."""
        bare = self._bare | (self.head(at).still if at else set())
        without_rows = bare.intersection([*graph.inputs, graph.output])
        without_rows |= {graph.output} if wrt in bare else set()
        return self._rows(self.open(graph.proto, pack=pack), without_rows), graph

    def _run(self, rows: Rows, backward: RowGraph, seen: Seen, ask: Ask, **others: Array) -> Array:
        feeds = {name: others[name] if name in others else ask.of(seen.values[name]) for name in backward.inputs}
        return rows.run(feeds, [backward.output])[backward.output]

    def _seeds(self, seen: Seen, ask: Ask) -> Array:
        """Cotangents of the score, a row per target, in its own shape and type."""
        like = seen.values[self.score.name]
        rows = [target.cotangent(seen.scores[i]) for i, target in zip(ask.images, ask.targets, strict=True)]
        stacked = np.stack(rows) if len(rows) > 1 else np.asarray(rows[0])  # maps of many classes are large
        return stacked.reshape(len(rows), *like.shape[1:]).astype(like.dtype, copy=False)

    def layer_gradient(self, at: TargetLayer, seen: Seen, ask: Ask) -> Array:
        """d target / d layer, (targets, C, *grid); where the mean will do, perhaps that: (targets, C, 1, ...)."""
        axis, indices = self._axis, ask.indices
        if axis is None or indices is None:
            part, key = self.head(at), ("seed", at.name, *sorted(seen.values))  # other features, other taps
            rows, backward = self._backward(key, lambda: seeded_gradient(part, taps=set(seen.values)), at)
            return to_grid(self._run(rows, backward, seen, ask, **{SEED: self._seeds(seen, ask)}), at.layout)
        found, grid = self._class_gradient(at, axis), to_grid(seen.values[at.name], at.layout).shape[2:]
        if at.mean_only and found.of_class_alone:
            return self._class_means(at, found, indices, grid)
        gradient = self._run(found.rows, found.backward, seen, ask, **{CLASS: np.array(indices, np.int64)})
        return found.read(gradient, at.layout, grid)

    def _class_means(self, at: TargetLayer, found: ClassGradient, indices: list[int], grid: tuple[int, ...]) -> Array:
        """Means that nothing of the image decides, a class each: each is made once."""
        known = self._means.setdefault((at.name, grid), {})
        if new := [which for which in dict.fromkeys(indices) if which not in known]:
            output = found.backward.output
            made = found.rows.run({CLASS: np.array(new, np.int64)}, [output])[output]
            known |= zip(new, found.read(made, at.layout, grid)[:, None], strict=True)
        rows = [known[which] for which in indices]
        return rows[0] if len(rows) == 1 else np.concatenate(rows)

    def rounding(self, at: TargetLayer) -> str:
        """The first node behind a layer that rounds; empty when none does."""
        return rounding(self.head(at))

    def numeric_mean(self, at: TargetLayer, seen: Seen, ask: Ask) -> Array:
        """The gradient's mean over positions, (targets, C), worked out by differences of the target's value."""
        return numeric_mean(self, at, seen, ask)

    def forward(self, at: TargetLayer, index: int | None) -> Opened:
        """The head's forward pass: to the score of one class where that is the target, else to all scores."""
        part, axis = self.head(at), self._axis
        chosen = None if index is None else axis
        key = ("forward", at.name, chosen)
        if chosen is None:
            return self._once(key, lambda: self._opened(all_scores(part), at.name, at))
        return self._once(key, lambda: self._opened(class_score(part, chosen), at.name, at))

    def class_weights(self, at: TargetLayer, seen: Seen, ask: Ask) -> Array:
        """d target / d pooled feature, (targets, C): the class's weights, where the head is pooling and linear."""
        pooled = pooled_value(self.graph, at.name, at.layout, self.score.name)
        if pooled is None:
            raise LayerError(
                f"cam needs a layer that goes straight into global average pooling and linear layers, "
                f"'{at.name}' does not: use gradcam, or another layer"
            )
        part = self.head(at)
        axis, classes = self._axis, ask.classes
        if axis is not None and classes is not None:
            key = ("weights", at.name)
            rows, backward = self._backward(key, lambda: class_gradient(part, axis, wrt=pooled, taps=()), at)
            weights = self._run(rows, backward, seen, ask, **{CLASS: classes})
        else:
            key = ("seed weights", at.name)
            rows, backward = self._backward(key, lambda: seeded_gradient(part, wrt=pooled, taps=()), at)
            weights = self._run(rows, backward, seen, ask, **{SEED: self._seeds(seen, ask)})
        return weights.reshape(len(ask.targets), -1)

    def input_gradient(self, seen: Seen, ask: Ask, rules: str) -> Array:
        """d target / d input, a row per target, in the input's layout: forward and backward in one graph."""
        score, image = self.score.name, self.image.name
        rows, backward = self._backward(
            (rules, image), lambda: whole_seeded_gradient(self.graph, score, image, rules=RULES[rules]), None
        )
        return self._run(rows, backward, seen, ask, **{SEED: self._seeds(seen, ask)})
