"""`export`: the surgery as a tool. One file that any ONNX Runtime runs, or two: features and the head's gradient."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from onnxcam.arguments import NAMES_OF_CLASSES, PATH, require
from onnxcam.errors import ModelError, TargetError, UsageError
from onnxcam.explainer import TargetLayer, as_labels, choose_recipe
from onnxcam.explainer.advice import advised
from onnxcam.explainer.rewritten import Rewritten
from onnxcam.files import naming_output
from onnxcam.graph import (
    Graph,
    Model,
    data_of,
    declared,
    default_to,
    expose,
    features,
    forget_authors,
    made_up,
    rename,
    restore_interface,
    save,
    shown,
    without_idle_weights,
    write_metadata,
)
from onnxcam.runtime import DETECTIONS, HIGHEST, LABELS, MANIFEST, PREPROCESS, Manifest
from onnxcam.targets import check_labels
from onnxcam.vjp import CLASS, GRADIENT, class_gradient, whole_class_gradient

if TYPE_CHECKING:
    import onnx

SEPARATORS = tuple(filter(None, (os.sep, os.altsep)))


def export(
    model: str | Path | bytes | onnx.ModelProto,
    out: str | Path,
    *,
    layer: str | None = None,
    score: str | None = None,
    preprocess: str | Path | Mapping[str, object] | None = None,
    labels: str | Path | Sequence[str] | None = None,
    feeds: Mapping[str, Any] | None = None,
) -> Path:
    """Write one file with the original outputs, a layer's activations, their gradient, and a manifest that says which.

    The class is the optional int64 input `class`, [1] or one per row; -1, its default, stands for the highest score.
    Preprocessing and labels are stored when they are given or the model carries them, never guessed. What `feeds` gives
    to inputs besides the image becomes a part of the file.

    Returns:
        The path written.

    Raises:
        OnnxCamError: as `Explainer`, or UnsupportedOpError where the gradient has no rule.
    """
    require("out", out, PATH)
    if Path(out).is_dir() or str(out).endswith(SEPARATORS):
        raise UsageError(f"{out} is a folder, not a file: name one in it, such as {Path(out) / 'explained.onnx'}")
    subject = Rewritten(model, provider="cpu", threads=0, score=score, feeds=feeds)
    at = subject.target_layer(layer, "gradcam")
    graph = subject.graph
    with advised(subject, at):
        backward = whole_class_gradient(graph, subject.score.name, classes_along(subject), at.name)
    proto = backward.proto
    names = {CLASS: free(graph, "class"), GRADIENT: free(graph, "gradients")}
    rename(proto, names)
    default_to(proto, names[CLASS], HIGHEST)
    expose(graph, proto, [at.name, subject.score.name])
    restore_interface(graph, proto)
    forget_authors(proto)
    manifest = Manifest(
        image=subject.photo_input, score=subject.score, layer=at.name, layout=at.layout, activations=at.name,
        gradients=names[GRADIENT], scores=subject.score.name, class_input=names[CLASS],
        model=Path(subject.name).name if subject.model.path else "model",
    )  # fmt: skip
    write_metadata(proto, {MANIFEST: manifest.to_json(), **stored(subject, preprocess, labels)})
    subject.open(proto)  # nothing is written that ONNX Runtime does not load
    write(subject.model, {Path(out): without_idle_weights(proto)})
    return Path(out)


def split(
    model: str | Path | bytes | onnx.ModelProto,
    folder: str | Path,
    *,
    layer: str | None = None,
    score: str | None = None,
    feeds: Mapping[str, Any] | None = None,
) -> tuple[Path, Path]:
    """Write `features.onnx`, the model with a layer and the score exposed, and `head_vjp.onnx`, the gradient there.

    The head takes the layer's value and the int64 `onnxcam/class`, one per row, and gives d score[class] / d layer. It
    also takes what else it reads of the model, under the names by which `features.onnx` gives that out.

    Returns:
        Both paths.

    Raises:
        OnnxCamError: as `export`.
    """
    require("folder", folder, PATH)
    subject = Rewritten(model, provider="cpu", threads=0, score=score, feeds=feeds)
    at: TargetLayer = subject.target_layer(layer, "gradcam")
    head = subject.sessions.head(at)
    axis = classes_along(subject)
    if axis is None:
        raise ModelError(
            f"the head of '{subject.score.name}' gives one number for each image, and no class to choose: "
            "export without --split"
        )
    with advised(subject, at):
        backward = class_gradient(head, axis, taps=())
    if at.name not in backward.inputs:  # a linear head; files of one kind take the same inputs
        backward.proto.graph.input.insert(0, declared(head.graph, at.name))
    taps = [at.name, subject.score.name, *(name for name in backward.inputs if name in head.extra)]
    paths = Path(folder) / "features.onnx", Path(folder) / "head_vjp.onnx"
    front = features(subject.graph, taps)
    restore_interface(subject.graph, front)
    for proto in (front, backward.proto):
        forget_authors(proto)
        subject.open(proto)
    write(subject.model, dict(zip(paths, (front, backward.proto), strict=True)))
    return paths


def classes_along(subject: Rewritten) -> int | None:
    """The classes' axis of the score, None where that is one number for each image.

    ModelError: it is no row of classes, or only a run could tell.
    """
    shape = subject.graph.shape(subject.score.name)
    if subject.score.axes == DETECTIONS or (subject.score.axes and not any(map(made_up, shape or ()))):
        raise ModelError(
            f"an exported file explains a row of class scores, '{subject.score.name}' is {shown(shape)}: "
            "name another with --score, or explain with `onnxcam run`"
        )
    if len(shape or ()) == 1 and subject.score.rows:
        return None
    axis = subject.sessions.axis
    if axis is None:
        raise ModelError(
            f"which axis of the score '{subject.score.name}' holds the classes cannot be told before the model runs: "
            "name another with --score, or explain with `onnxcam run`, which sees"
        )
    return axis


def free(graph: Graph, name: str) -> str:
    """A name that the graph does not use."""
    while name in graph.names:
        name = f"onnxcam_{name}"
    return name


def stored(
    subject: Rewritten, preprocess: str | Path | Mapping[str, object] | None, labels: str | Path | Sequence[str] | None
) -> dict[str, str]:
    """Metadata entries of what was given for preprocessing and labels."""
    found = {}
    if preprocess is not None:
        chosen = choose_recipe(preprocess, subject.photo_input, {}, places=subject.answers_for_places)
        found[PREPROCESS] = json.dumps(chosen.recipe.to_json())
    if labels is not None:
        require("labels", labels, NAMES_OF_CLASSES)
        given, axis = as_labels(labels), classes_along(subject)
        count = 1 if axis is None else (subject.graph.shape(subject.score.name) or ())[axis]
        if isinstance(count, int):
            check_labels(given, count)
        if not given[-1]:
            raise TargetError("the last class has no name, which a file of names cannot say: name it")
        found[LABELS] = "\n".join(" ".join(label.splitlines()) for label in given)
    elif LABELS in subject.metadata:
        found[LABELS] = subject.metadata[LABELS]
    return found


def write(model: Model, made: Mapping[Path, onnx.ModelProto]) -> None:
    """Save what was made of a model, all of it read before anything is written.

    Raises:
        UsageError: a path is a file that the model consists of. OutputError: the disk says no.
    """
    for path in made:
        model.check_spared(path)
        model.check_spared(data_of(path))
    for proto in made.values():
        model.embed(proto)
    for path, proto in made.items():
        with naming_output(path):
            save(proto, path)
