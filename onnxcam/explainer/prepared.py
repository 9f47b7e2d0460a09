"""A file that `export` prepared: activations and gradients are outputs, and the manifest in its metadata says which."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from onnxcam.arguments import NAME_OR_NONE, require
from onnxcam.errors import LayerError, ModelError, UsageError
from onnxcam.explainer.grids import to_grid
from onnxcam.explainer.scores import finite
from onnxcam.explainer.subject import Array, Ask, Brought, Seen, TargetLayer, classes_of
from onnxcam.runtime import HIGHEST, ImageInput, Manifest, Rows, Session
from onnxcam.runtime.session import Port


def is_numeric(port: Port) -> bool:
    """Whether an output is a tensor of numbers: no text, no truth values, no sequence."""
    return port.type.startswith("tensor(") and port.type not in ("tensor(string)", "tensor(bool)")


class Prepared:
    """A Subject made of one session; onnx is not needed. Attributes as in `Subject`."""

    def __init__(
        self, path: Path, manifest: Manifest, metadata: dict[str, str], *, provider: str, threads: int
    ) -> None:
        """Open the file; errors as `Session`."""
        self.name, self.metadata, self._manifest = str(path), metadata, manifest
        self._original = f"use the model that {self.name} was made from ({manifest.model})"
        self.unsteady = ""  # the manifest does not say
        self.image, self.score = manifest.image, manifest.score
        self.score_or_none = manifest.score
        session = Session(path, provider=provider, threads=threads, name=self.name)
        self.provider: str = session.provider
        there = {port.name for port in session.inputs}, {port.name for port in session.outputs if is_numeric(port)}
        said = {self.image.name, manifest.class_input}, {manifest.activations, manifest.gradients, manifest.scores}
        lacking = sorted((said[0] - there[0]) | (said[1] - there[1]))
        if lacking or len(said[0]) == 1:
            promised = lacking[0] if lacking else "an input for the class"
            raise ModelError(f"{self.name} lacks what its onnxcam manifest promises ({promised}): export it again")
        scores = next(port.shape for port in session.outputs if port.name == manifest.scores)
        sizes = [size for size in scores[1:] if isinstance(size, int)]
        self._classes = math.prod(sizes) if len(sizes) == len(scores) - 1 else 0  # as far as the file tells
        bare = {manifest.scores} if len(scores) == 1 else set()
        if "N" not in self.image.layout:
            bare.add(self.image.name)
        self._rows = Rows(session, may_batch=self.image.batch is None, bare=bare, copies=self.image.batch or 1)

    def explaining(self, name: str) -> Prepared:
        """Itself, for the score that it was exported for."""
        if name not in (self.score.name, self.score.output):
            raise UsageError(f"an exported file explains '{self.score.name}' alone: for '{name}' {self._original}")
        return self

    @property
    def answers_for_places(self) -> bool:
        """Whether the score is no row of classes."""
        return bool(self.score.axes)

    def joins(self, x: Array) -> bool:
        """No: each has a row."""
        return False

    @property
    def photo_input(self) -> ImageInput:
        """The image input itself."""
        return self.image

    def score_window(self, size: tuple[int, ...]) -> tuple[tuple[float, float], ...] | None:
        """None: its scores are no maps."""
        return None

    def for_size(self, size: tuple[int, ...]) -> Prepared:
        """Itself: what hangs on sizes is left in the file."""
        return self

    def target_layer(
        self,
        layer: str | None,
        method: str,
        cotangent: Array | None = None,
        size: tuple[int, ...] | None = None,
        seen: Mapping[str, Array] | None = None,
    ) -> TargetLayer:
        """The layer it was exported for."""
        require("layer", layer, NAME_OR_NONE)
        if layer not in (None, self._manifest.layer):
            raise LayerError(
                f"an exported file explains one layer, here '{self._manifest.layer}': for '{layer}' {self._original}"
            )
        return TargetLayer(self._manifest.layer, self._manifest.layout)

    def see(self, x: Array, at: TargetLayer | None, gradient: str, foreseen: int | None = None) -> Seen:
        """One run; the gradient of the class that is foreseen, or of the highest score, comes with it."""
        said = self._manifest
        which = foreseen if foreseen is not None and foreseen < self._classes else HIGHEST
        values = self._run(x, np.full(len(x), which, np.int64), [said.scores, said.activations, said.gradients])
        scores, held, slopes = values[said.scores], values[said.activations], values[said.gradients]
        if (
            held.shape != slopes.shape
            or held.ndim != len(said.layout.axes)
            or len(held) != len(x)
            or any(size != 1 for size, label in zip(held.shape, said.layout.axes, strict=True) if label == "?")
            or scores.size < len(x)
            or not held.size
        ):
            raise ModelError(f"{self.name} does not give what its onnxcam manifest promises: export it again")
        rows = finite(scores.reshape(len(x), -1), self.score.name)
        brought = Brought(at, classes_of(which, rows), to_grid(slopes, at.layout)) if at else None
        return Seen(x, rows, {said.layer: held}, brought)

    def _run(self, x: Array, classes: Array, outputs: list[str]) -> dict[str, Array]:
        feeds = {self.image.name: x, self._manifest.class_input: classes}
        return self._rows.run(feeds, outputs)

    def layer_gradient(self, at: TargetLayer, seen: Seen, ask: Ask) -> Array:
        """d target / d layer, (targets, C, *grid)."""
        classes = ask.classes
        if classes is None:
            raise UsageError(f"an exported file explains classes only: for other targets {self._original}")
        if (brought := seen.gradient_of(at, ask)) is not None:
            return brought
        gradients = self._manifest.gradients
        return to_grid(self._run(ask.of(seen.x), classes, [gradients])[gradients], at.layout)

    def numeric_mean(self, at: TargetLayer, seen: Seen, ask: Ask) -> Array:
        """Not to be had."""
        raise UsageError(f"an exported file holds its gradient: for a numeric one {self._original}")

    def class_weights(self, at: TargetLayer, seen: Seen, ask: Ask) -> Array:
        """Not to be had."""
        raise UsageError(f"cam reads the weights of the head: {self._original}")

    def input_gradient(self, seen: Seen, ask: Ask, rules: str) -> Array:
        """Not to be had."""
        raise UsageError(f"input-level methods need the whole graph: {self._original}")
