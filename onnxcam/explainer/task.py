"""One score of a model, explained by one method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from onnxcam.errors import LayerError, UnsupportedOpError, UsageError
from onnxcam.explainer import ultralytics
from onnxcam.explainer.explanation import Explanation, Item
from onnxcam.explainer.grids import to_grid
from onnxcam.explainer.recipes import label_counts
from onnxcam.explainer.regions import WHOLE, Mask, seen_region
from onnxcam.explainer.subject import Array, Ask, Seen, Subject, TargetLayer
from onnxcam.methods import Evidence, Method
from onnxcam.runtime import DETECTIONS, HIGHEST, short_name
from onnxcam.targets import Reading, Spec, Target, index_of, resolve

if TYPE_CHECKING:
    from onnxcam.explainer.core import Explainer


RULES_OF_NEED = {"image_gradients": "standard", "guided_gradients": "guided"}  # by which a need is had


@dataclass(frozen=True)
class Task:
    """One score of a model, explained by one method.

    Attributes:
        explainer: knows labels and preprocessing.
        subject: the model with that score.
        output: what the user called the score; None for the model's own.
        layer: as the user named it; None for the automatic choice.
        gradient: "symbolic"; "numeric" or "auto" for methods that read its mean alone.
    """

    explainer: Explainer
    subject: Subject
    output: str | None
    method: Method
    layer: str | None
    gradient: str

    def explain(self, items: Sequence[Item], specs: Sequence[Spec | None]) -> list[list[list[Explanation]]]:
        """Explanations by image, then by what was asked for, which may stand for several."""
        groups: dict[tuple[tuple[int, ...], int], list[int]] = {}
        for i, item in enumerate(items):
            alone = i if self.subject.score.axes == DETECTIONS else 0  # each image has its own number of rows
            groups.setdefault((item.row.shape, alone), []).append(i)
        found: dict[int, list[list[Explanation]]] = {}
        for (size, _), members in groups.items():  # images of one size share a run
            subject = self.subject.for_size(size)
            sized = self if subject is self.subject else replace(self, subject=subject)
            for i, explained in zip(members, sized._together([items[i] for i in members], specs), strict=True):
                found[i] = explained
        return [found[i] for i in range(len(items))]

    def _together(self, items: Sequence[Item], specs: Sequence[Spec | None]) -> list[list[list[Explanation]]]:
        """The same for images of one size.

        Which layer a part of a larger score depends on is known once the scores are; where it is that of the last image
        they share its run.
        """
        x = items[0].row[None] if len(items) == 1 else np.stack([item.row for item in items])
        found: list[list[list[Explanation]]] = [[[] for _ in specs] for _ in items]
        asked: dict[TargetLayer | None, list[tuple[int, int, Target]]] = {}
        expected, seen = self.first_look(x, specs)
        for i, item in enumerate(items):
            reading = self.reading(item, seen.scores[i])
            for which, spec in enumerate(specs):
                for target in resolve(spec, reading):
                    at = self.layer_of(target, seen, i, expected)
                    asked.setdefault(at, []).append((i, which, target))
        for at, rows in asked.items():
            ask = Ask([i for i, _, _ in rows], [target for _, _, target in rows])
            held = self.seen_at(at, seen, expected)
            for (i, which, _), e in zip(rows, self._results(items, held, at, ask), strict=True):
                found[i][which].append(e)
        return found

    # -- the layer, which the target may decide ---------------------------------------------------

    @property
    def target_decides(self) -> bool:
        """Whether the layer hangs on the target: an automatic one, of scores that are no row of classes."""
        return self.method.uses_layer and self.layer is None and bool(self.subject.score.axes)

    def first_look(self, x: Array, specs: Sequence[Spec | None]) -> tuple[TargetLayer | None, Seen]:
        """A forward run of images of one size, with layer and class as far as they are known before the scores."""
        size = x.shape[1:]
        try:
            at = (
                self.explainer.expected_layers.get(self._key(size)) if self.target_decides else self._target_layer(size)
            )
        except LayerError:
            self.subject.see(x, None, "")  # of an image that the model does not take nothing could be followed
            raise
        foreseen = None if len(specs) > 1 else HIGHEST if specs[0] is None else index_of(specs[0])
        return at, self.subject.see(x, at, self._route, foreseen)

    def layer_of(self, target: Target, seen: Seen, image: int, expected: TargetLayer | None) -> TargetLayer | None:
        """The layer at which a target of one image is explained: the expected one, unless the target decides."""
        if not self.target_decides:
            return expected
        values = {name: value[image : image + 1] for name, value in seen.values.items()}
        return self._target_layer(seen.x.shape[1:], target.cotangent(seen.scores[image]), values)

    def seen_at(self, at: TargetLayer | None, seen: Seen, expected: TargetLayer | None) -> Seen:
        """The run with a target's layer: another one where that was not expected, as the next first look will."""
        if at == expected:
            return seen
        again = self.subject.see(seen.x, at, self._route)
        self.explainer.expected_layers[self._key(seen.x.shape[1:])] = at  # not where it cannot be seen
        return again

    def _key(self, size: tuple[int, ...]) -> tuple[Any, ...]:
        """What images have in common whose targets most likely decide on one layer."""
        return self.output, self.method.name, self._route, size

    @property
    def _route(self) -> str:
        """The gradient that a run is made for, as `see` has it."""
        if "gradients" in self.method.needs:
            return self.gradient
        return next((RULES_OF_NEED[need] for need in self.method.needs if need in RULES_OF_NEED), "")

    def _target_layer(
        self, size: tuple[int, ...], cotangent: Array | None = None, seen: Mapping[str, Array] | None = None
    ) -> TargetLayer | None:
        """The target layer for images of a size; with a target's cotangent, and values, the one of what it depends on.

        None: the method reads none.
        """
        if not self.method.uses_layer:
            return None
        found = self.subject.target_layer(self.layer, self.method.name, cotangent, size, seen)
        if self.method.level == "input" and not found.layout.whole:
            raise UsageError(
                f"{self.method.name} lays a layer's map over the whole input, but '{found.name}' shows only a part of "
                "it (the model crops, pads or leaves a margin out): use gradcam, or an input-level method (saliency)"
            )
        return found.of_mean if self.method.mean_only else found

    def reading(self, item: Item, scores: Array) -> Reading:
        """One image's scores, and what targets may ask besides."""
        subject, score = self.subject, self.subject.score
        behind = ultralytics.behind(scores.shape, score.axes, subject.metadata)
        counts = label_counts(scores.shape, score.axes, behind, subject.metadata)
        labels = self.explainer.labels_for(counts, strict=self.output is None)
        return Reading(
            scores, score.axes, score.squash, labels.names, self.output or score.output,
            region=partial(region_of, subject, item, scores),
            scores_of=partial(self.explainer.scores_of, self.output), unfit=labels.unfit,
            probability=score.kind == "probability", behind=behind,
        )  # fmt: skip

    def _results(self, items: Sequence[Item], seen: Seen, at: TargetLayer | None, ask: Ask) -> Iterator[Explanation]:
        """An explanation for each row that is asked."""
        evidence, how = self._evidence(seen, at, ask)
        computed = self.method.compute(evidence)
        maps = self.method.to_map(computed)
        for row, (image, target) in enumerate(zip(ask.images, ask.targets, strict=True)):
            attribution = computed[row] if self.method.reduce else None
            yield self._result(items[image], seen.scores[image], target, maps[row], attribution, at, how)

    def _evidence(self, seen: Seen, at: TargetLayer | None, ask: Ask) -> tuple[Evidence, str]:
        """The arrays that the method reads, and which gradient they hold."""
        arrays: dict[str, Array] = {}
        found = "symbolic"
        for need in self.method.needs:
            arrays[need], how = self._array(need, seen, at, ask)
            found = found if how == "symbolic" else how
        return Evidence(**arrays), found

    def _array(self, need: str, seen: Seen, at: TargetLayer | None, ask: Ask) -> tuple[Array, str]:
        """One of the arrays, and how it was had."""
        match need, at:
            case "activations", TargetLayer() as layer:
                return ask.of(to_grid(seen.values[layer.name], layer.layout)), "symbolic"
            case "gradients", TargetLayer() as layer:
                return self._layer_gradient(seen, layer, ask)
            case "weights", TargetLayer() as layer:
                return self._class_weights(seen, layer, ask)
            case "image", _:
                return self._channels_first(ask.of(seen.x)).astype(np.float32), "symbolic"
            case (("image_gradients" | "guided_gradients"), _):
                return self._channels_first(self.subject.input_gradient(seen, ask, RULES_OF_NEED[need])), "symbolic"
        raise AssertionError(f"nothing gives {need} at {at}")

    def _layer_gradient(self, seen: Seen, at: TargetLayer, ask: Ask) -> tuple[Array, str]:
        """d target / d layer as (targets, C, *grid), or its mean as (targets, C, 1, ...), and how it was had."""
        if self.gradient != "numeric":
            try:
                return self.subject.layer_gradient(at, seen, ask), "symbolic"
            except UnsupportedOpError:
                if self.gradient != "auto":
                    raise
        mean = self.subject.numeric_mean(at, seen, ask)
        grid = to_grid(seen.values[at.name], at.layout).shape[2:]
        return mean.reshape(*mean.shape, *[1] * len(grid)), "numeric"

    def _class_weights(self, seen: Seen, at: TargetLayer, ask: Ask) -> tuple[Array, str]:
        """d target / d pooled feature, (targets, C), and how it was had. Such a feature is its channel's mean."""
        weights = self.subject.class_weights(at, seen, ask)
        if self.gradient != "numeric":
            return weights, "symbolic"
        positions = np.prod(to_grid(seen.values[at.name], at.layout).shape[2:], dtype=np.float32)
        return self.subject.numeric_mean(at, seen, ask) * positions, "numeric"

    def _channels_first(self, rows: Array) -> Array:
        axes = self.subject.image.row_axes
        return np.moveaxis(rows, axes.index("C") + 1, 1) if "C" in axes else rows[:, None]

    def _result(
        self, item: Item, scores: Array, target: Target, raw: Array, attribution: Array | None, at: TargetLayer | None,
        how: str,
    ) -> Explanation:  # fmt: skip
        subject = self.subject
        return Explanation(
            map=raw, attribution=attribution, target=target, label=self._label(target, scores),
            layer=at.name if at else subject.image.name, method=self.method,
            gradient=how, provider=short_name(subject.provider), scored=subject.score, scores=scores, item=item,
            channels_last=subject.image.layout.endswith("C"), model=subject.name,
            preprocess="array as given" if item.photo is None else self.explainer.preprocess.recipe.name,
            window=at.layout.window if at and self.method.level == "layer" else None,
            placed="followed" if at is None or at.layout.followed else "by shape",
        )  # fmt: skip

    def _label(self, target: Target, scores: Array) -> str | None:
        """The class name that a target bears, or that its class has."""
        if target.label is not None or target.index is None:
            return target.label
        labels = self.explainer.labels(len(scores), strict=False)
        return labels[target.index] if labels is not None else None


def region_of(subject: Subject, item: Item, scores: Array, where: tuple[float, ...] | str) -> Mask:
    """A region of the photo on the grid of scores that are maps, of a volume in every slice; others have one place."""
    sizes = dict(zip(subject.score.axes, scores.shape, strict=False))
    window = subject.score_window(item.row.shape) or WHOLE
    found = seen_region(item.geometry, (sizes.get("H", 1), sizes.get("W", 1)), where, window[-2:])
    slices = [sizes["D"]] if {"D", "H"} <= sizes.keys() else []  # of a volume, all alike
    return np.broadcast_to(found, (*slices, *found.shape))
