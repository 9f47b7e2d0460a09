"""What is explained: the score behind what a model gives out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import accumulate

from onnxcam.errors import LayerError, ModelError, did_you_mean
from onnxcam.graph.detections import outputs_of_detections, rows_of_detections
from onnxcam.graph.imagesfirst import batch, images_first
from onnxcam.graph.index import Graph
from onnxcam.graph.layout import fully_sized
from onnxcam.graph.nodes import attributes
from onnxcam.graph.paths import moved_by, weighted_behind
from onnxcam.graph.quantized import dequantized
from onnxcam.graph.scoreaxes import class_axis, read_axes
from onnxcam.graph.scorekind import KEEPING, first_holder, has_unit_length, is_probability, is_product
from onnxcam.graph.squashing import before_display, squash_of, squashed_score
from onnxcam.graph.types import Shape, shown
from onnxcam.runtime.manifest import DETECTIONS, ImageInput, Score

REORDERING = frozenset({"Transpose", "TopK", "ArgMax", "ZipMap", "ArrayFeatureExtractor", "Normalizer"})
PASSING = KEEPING | REORDERING  # between the score and what the model gives out
CORNERS, ROWS_OF_BOXES = 4, 3  # numbers of a box; axes of boxes: images, boxes, these
LOGITS, BOTH = "logits", 2
ROWS = "output0"  # what Ultralytics calls its first output
LENGTHY = 190  # characters of names in a message


def find_score(graph: Graph, named: str | None = None, *, image: ImageInput | None = None) -> Score:
    """The score a caller named (a value or an output), or the one that the graph suggests, with its axes read.

    Class scores come before all else, several of them before a single number (an age); of other outputs the one with a
    softmax or sigmoid behind it. Boxes beside scores of as many rows are none; with a class for each these are
    detections, which come before all else.

    Raises:
        LayerError: no value of that name. ModelError: no output, or several, can be the score.
    """
    rows = rows_of_detections(graph)
    if rows is not None and named in (None, rows):
        of = listed(outputs_of_detections(graph, rows))
        return Score(rows, "output", "", of, axes=DETECTIONS, rows=graph.rank(rows) == ROWS_OF_BOXES)
    named = main_output(graph) if named is None else named
    score = suggested(graph, image) if named is None else exactly(graph, named)
    return read_axes(graph, score, image)


def main_output(graph: Graph) -> str | None:
    """The output of Ultralytics' segmenters that holds the rows: a second one is there to make masks of them."""
    said = {entry.key: entry.value for entry in graph.model.proto.metadata_props}
    return ROWS if "stride" in said and said.get("task") == "segment" and ROWS in graph.outputs else None


def exactly(graph: Graph, named: str) -> Score:
    """A value as the score; LayerError when there is none of that name, or it is not floating point."""
    if named not in graph:
        near = did_you_mean(named, [*graph.outputs, *graph.producer])
        outputs = listed([f"'{name}' {shown(graph.shape(name))}" for name in graph.outputs])
        raise LayerError(f"the model has no value '{named}' to explain{near or f' (its outputs: {outputs})'}")
    if named in graph.inputs:
        raise LayerError(f"'{named}' is an input of the model: choose something that it works out as the score")
    named = dequantized(graph, named) or named
    if not graph.is_float(named):
        raise LayerError(f"the value '{named}' is not floating point: it cannot be explained")
    squash = squash_of(graph, named)
    return Score(named, "logit" if squash else kind_of(graph, named), squash, named)


def kind_of(graph: Graph, name: str) -> str:
    """What the numbers of a score are that no softmax or sigmoid reads."""
    if is_probability(graph, name):
        return "probability"
    return "embedding" if has_unit_length(graph, name) else "output"


def suggested(graph: Graph, image: ImageInput | None) -> Score:
    """The score that nobody named; ModelError when there is none, or several are alike."""
    scores = without_boxes(graph, moved(graph, traced(graph), image), image)
    classes = [score for score in scores if is_class_row(seen_shape(graph, score), image)]
    if any(score.squash for score in classes):  # a single number beside it is an age, an uncertainty
        classes = [score for score in classes if score.squash or not is_single(seen_shape(graph, score))]
    others = called_logits(graph, scores)
    squashed = [score for score in others if score.squash]
    likely = without_features(graph, next(filter(None, (classes, squashed, others)), []), image)
    ranked = sorted(likely, key=lambda score: (bool(score.squash), begins_with_images(graph, score)))
    distinct = {first_holder(graph, score.name): score for score in ranked}  # of one that is given out twice the last
    if not distinct:
        what = listed([f"'{name}' {shown(graph.shape(name))}" for name in graph.outputs])
        raise ModelError(f"{graph.model.name} has no output of floating-point numbers to explain (its outputs: {what})")
    if len(distinct) > 1 and not alike(graph, distinct.values(), image):
        choices = list(dict.fromkeys(choice(graph, score) for score in scores))
        if sum(map(len, choices)) > LENGTHY:
            choices = [f"'{score.output}' {shown(graph.shape(score.output))}" for score in scores]
        what = listed(choices)
        raise ModelError(
            f"{graph.model.name} has several outputs that could be explained: choose with --score NAME; for a map, "
            f"--target NAME[INDEX] says what of which ({what})"
        )
    return replace(told(graph, next(iter(distinct.values())), image), alike=len(distinct))


def moved(graph: Graph, scores: Sequence[Score], image: ImageInput | None) -> list[Score]:
    """Those that depend on the images: not the embedding of a text that is fed, nor noise; all where none does."""
    values = moved_by(graph, graph.inputs if image is None else [image.name])
    return [score for score in scores if score.name in values] or list(scores)


def called_logits(graph: Graph, scores: Sequence[Score]) -> list[Score]:
    """The one that the model calls its logits, as Hugging Face's do, in whatever form it gives it out; else all."""
    held = {first_holder(graph, score.name) for score in scores if score.output == LOGITS}
    return [score for score in scores if first_holder(graph, score.name) in held] or list(scores)


def without_features(graph: Graph, scores: Sequence[Score], image: ImageInput | None) -> list[Score]:
    """Scores without hidden states and embeddings of length 1: what weights make others of.

    What has a softmax or sigmoid, and a row that may be of classes, is more than that: a confidence may be made of it.
    """
    holders = {score.name: first_holder(graph, score.name) for score in scores}
    behind = weighted_behind(graph, *holders.values())

    def is_feature(score: Score) -> bool:
        classes = is_class_row(seen_shape(graph, score), image) and not has_unit_length(graph, score.name)
        return not score.squash and not classes and behind[holders[score.name]]

    return [score for score in scores if not is_feature(score)]


def without_boxes(graph: Graph, scores: Sequence[Score], image: ImageInput | None) -> list[Score]:
    """Scores without the boxes, where there is one other, hidden states aside (DETR).

    Boxes are rows of four, sigmoids or so named, beside as many rows of others.
    """
    last = scores if len(scores) == BOTH else without_features(graph, scores, image)
    shapes = [seen_shape(graph, score) or () for score in last]
    if len(last) != BOTH or len(shapes[0]) != ROWS_OF_BOXES or shapes[0][:-1] != shapes[1][:-1]:
        return list(scores)
    told = [score.squash == "sigmoid" or "box" in score.output.lower() for score in last]
    boxes = [
        score for score, shape, is_told in zip(last, shapes, told, strict=True) if shape[-1] == CORNERS and is_told
    ]
    return [score for score in scores if score not in boxes or len(boxes) == BOTH]


def is_single(shape: Shape | None) -> bool:
    """Whether a score is one number for each image."""
    return shape is not None and all(size == 1 for size in shape[1:])


def any_class_row(graph: Graph, image: ImageInput) -> bool:
    """Whether one of the outputs is a row of classes for each image."""
    return any(is_class_row(seen_shape(graph, score), image) for score in traced(graph))


def alike(graph: Graph, scores: Iterable[Score], image: ImageInput | None) -> bool:
    """Whether scores are maps of one channel and size: the first, and those given at every depth besides (U2-Net)."""
    sized = graph if image is None else fully_sized(graph, {image.name: image.layout})
    forms = {((sized.shape(score.name) or ())[1:], score.squash) for score in scores}
    shapes = [shape for shape, _ in forms if len(shape) == 3]
    return len(forms) == len(shapes) == 1 and sum(size == 1 for size in shapes[0]) == 1


def seen_shape(graph: Graph, score: Score) -> Shape | None:
    """The shape of a score as it will be read: with the images first."""
    return graph.shape(images_first(graph, score.name))


def begins_with_images(graph: Graph, score: Score) -> bool:
    """Whether the first axis of a score, as it is read, is the images'."""
    images = batch(graph)
    return images is not None and (seen_shape(graph, score) or (None,))[0] == images


def choice(graph: Graph, score: Score) -> str:
    """A score as one of several to choose from: its own name, because the output may be its probability."""
    behind = f" before the {score.squash} of '{score.output}'" if score.squash else ""
    return f"'{score.name}' {shown(graph.shape(score.name))}{behind}"


def listed(names: Sequence[str]) -> str:
    """So many names that a message stays a line, one at least."""
    ends = accumulate(len(name) for name in names)
    fitting = max(sum(end <= LENGTHY for end in ends), 1)
    more = f" and {len(names) - fitting} more" if len(names) > fitting else ""
    return ", ".join(names[:fitting]) + more


def told(graph: Graph, score: Score, image: ImageInput | None) -> Score:
    """A score that nobody named, its kind told where no softmax or sigmoid reads it.

    A row of classes that is a matrix product is taken for the logits of a softmax that was left out: a guess.
    """
    if score.squash:
        return score
    if (kind := kind_of(graph, score.name)) != "output":
        return replace(score, kind=kind)
    shape = seen_shape(graph, score)
    axis = class_axis(shape) if is_class_row(shape, image) else None
    classes = shape[axis] if shape is not None and axis is not None else None
    if isinstance(classes, int) and classes > 1 and is_product(graph, score.name):
        return replace(score, kind="logit", squash="softmax", guess=True)
    return score


def behind_output(graph: Graph, name: str, *, image: ImageInput | None = None) -> Score:
    """The score behind an output whose elements a caller indexes: before its softmax or sigmoid, where these leave
    every element in its place; else the output (or any other value) itself. Errors as `find_score`.
    """
    score = trace(graph, name) if name in graph.outputs else None
    if score is not None and score.squash and in_place(graph, name, score.name):
        score, exact = read_axes(graph, score, image), read_axes(graph, exactly(graph, name), image)
        if one_image(graph, score) == one_image(graph, exact):
            return score
    return find_score(graph, name, image=image)


def zipped_names(graph: Graph) -> list[str]:
    """The names that a ZipMap, the last node of ONNX-ML's classifiers, gives the model's only score; empty: none."""
    given = [attributes(node).get("classlabels_strings", []) for node in graph.nodes if node.op_type == "ZipMap"]
    if len(given) != 1 or len({score.name for score in traced(graph)}) != 1:
        return []
    names = [" ".join(name.split()) for name in given[0]]
    return names if all(names) else []


def in_place(graph: Graph, output: str, score: str) -> bool:
    """Whether nothing between a score and an output moves elements but reshaping, which keeps their order."""
    name = output
    while name != score and name in graph.producer:
        node = graph.nodes[graph.producer[name]]
        if node.op_type in REORDERING:
            return False
        name = before_display(graph, node) or node.input[0]
    return name == score


def one_image(graph: Graph, score: Score) -> Shape | None:
    """The shape of one image's scores."""
    shape = graph.shape(score.name)
    return shape if shape is None or not score.rows else shape[1:]


def traced(graph: Graph) -> list[Score]:
    """The scores behind the outputs, in their order."""
    return [score for name in graph.outputs if (score := trace(graph, name)) is not None]


def trace(graph: Graph, output: str) -> Score | None:
    """From an output back to the score behind it; None when there is no float tensor on the way.

    What a sigmoid makes of one number may be any quantity once it is scaled (an age, a rating): that stays what it is.
    """
    name: str | None = output
    best: str | None = None
    scaled = False
    while name is not None:
        if best is None and graph.is_float(name):
            best = name
        node = graph.maker(name)
        if node is None or not node.input:
            break
        if (found := squashed_score(graph, node)) is not None:
            if scaled and found[1] == "sigmoid":
                break
            return Score(found[0], "logit", found[1], output)
        scaled |= node.op_type in ("Mul", "Div")
        name = node.input[0] if node.op_type in PASSING else before_display(graph, node)
    return Score(best, "output", "", output) if best is not None else None


def is_class_row(shape: Shape | None, image: ImageInput | None) -> bool:
    """Whether a score is a row of classes for each image."""
    if shape is None or class_axis(shape) is None:
        return False
    images = None if image is None else image.batch
    return len(shape) == 1 or images is None or not isinstance(shape[0], int) or shape[0] == images
