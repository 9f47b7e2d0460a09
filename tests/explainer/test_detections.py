"""Detectors that give out boxes, scores and classes apart, as torchvision's and TensorFlow's do."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from onnxcam import Explainer, differentiate
from onnxcam.errors import InputError, ModelError
from onnxcam.graph import find_score, read_layers
from onnxcam.graph.detections import rows_of_detections
from onnxcam.graph.load import load
from tests.nets import net, normal, run, tapped

BODY = """
  c = Conv<pads = [1, 1, 1, 1], strides = [4, 4]>({image}, w)
  a = Relu(c)
  h = Conv(a, v)
  flat = Reshape(h, to)
  rows = Transpose<perm = [0, 2, 1]>(flat)
  corners, logits = Split<axis = 2>(rows, parts)
  p = Sigmoid(logits)
  best = ReduceMax<axes = [2], keepdims = 0>(p)
  kind = ArgMax<axis = 2, keepdims = 0>(p)
  sure, order = TopK<axis = 1>(best, three)
  which = GatherElements<axis = 1>(kind, order)
  wide = Unsqueeze(order, last)
  four = Expand(wide, like)
  box = GatherElements<axis = 1>(corners, four)"""
ONE_BY_ONE = "x1 = Unsqueeze(image, zero)"
WEIGHTS = {
    "w": normal(6, 3, 3, 3), "v": normal(7, 6, 1, 1, seed=1) / 3, "to": np.array([0, 7, -1]), "parts": np.array([4, 3]),
    "three": np.array([3]), "last": np.array([2]), "like": np.array([1, 1, 4]), "zero": np.array([0]),
}  # fmt: skip
X = normal(3, 16, 24, seed=4)


def torchvisions(threshold: float = 0.0) -> onnx.ModelProto:
    """A picture without an axis of images; as many boxes, scores and classes as are surer than a threshold."""
    body = f"""{ONE_BY_ONE}{BODY.format(image="x1")}
  most = Squeeze(sure, zero)
  kept = Greater(most, threshold)
  found = NonZero(kept)
  at = Squeeze(found, zero)
  s = Gather(most, at)
  k = Squeeze(which, zero)
  labels = Gather(k, at)
  b = Squeeze(box, zero)
  boxes = Gather(b, at)"""
    outputs = "float[D, 4] boxes, int64[D] labels, float[D] s"
    text = f"(float[3, H, W] image) => ({outputs}) {{ {body} }}"
    return net(text, WEIGHTS | {"threshold": np.float32(threshold)})


def tensorflows(suffix: str = "", more: str = "") -> onnx.ModelProto:
    """Three rows each, the classes as floats, told by the names alone."""
    body = BODY.format(image="x") + f" detection_classes{suffix} = Cast<to = 1>(which)"
    body = body.replace("sure, order", f"detection_scores{suffix}, order").replace("box = G", f"boxes{suffix} = G")
    outputs = [f"float[N, 3, 4] boxes{suffix}", f"float[N, 3] detection_scores{suffix}"]
    outputs += [f"float[N, 3] detection_classes{suffix}", *([more] if more else [])]
    body += " sure_too = Neg(detection_scores)" if more else ""
    return net(f"(float[N, 3, 16, 24] x) => ({', '.join(outputs)}) {{ {body} }}", WEIGHTS)


def half_batched() -> onnx.ModelProto:
    """torchvision's with an axis of images before the boxes alone."""
    made = torchvisions()
    last = made.graph.node[-1]
    made.graph.node.remove(next(node for node in made.graph.node if node.output[0] == "b"))
    made.graph.node.append(helper.make_node("Gather", ["box", last.input[1]], ["boxes"], axis=1))
    made.graph.node.remove(last)
    made.graph.output[0].CopyFrom(helper.make_tensor_value_info("boxes", TensorProto.FLOAT, [1, "D", 4]))
    return made


@pytest.mark.parametrize(
    ("model", "names"),
    [
        (torchvisions(), ("boxes", "s", "labels")),
        (half_batched(), ("boxes", "s", "labels")),
        (tensorflows(), ("boxes", "detection_scores", "detection_classes")),
        (tensorflows("_0"), ("boxes_0", "detection_scores_0", "detection_classes_0")),
        (tensorflows(more="float[N, 3] sure_too"), ("boxes", "detection_scores", "detection_classes")),
    ],
    ids=["torchvision", "half batched", "tensorflow", "tf2onnx", "more scores"],
)
def test_the_surest_row_is_explained_or_that_of_a_class(model: onnx.ModelProto, names: tuple[str, str, str]) -> None:
    image = model.graph.input[0]
    given = run(model, {image.name: X if image.name == "image" else X[None]})
    columns = [np.reshape(given[name], (3, -1)) for name in names]
    explainer = Explainer(model, labels=["ant", "bee", "cat", "dog"])
    e = explainer(X, layer="a")
    assert e.scored.axes == "RD"
    np.testing.assert_allclose(e.scores, np.concatenate(columns, 1), rtol=1e-6)
    kinds = columns[2][:, 0].astype(int)
    labels = ["ant", "bee", "cat", "dog"]
    assert (e.target.name, e.label) == (f"{labels[kinds[0]]} in row 0", labels[kinds[0]])
    for row, which in enumerate(kinds):
        if which not in kinds[:row]:
            found, same = (explainer(X, target=target, layer="a") for target in (int(which), f"{names[1]}[{row}]"))
            assert found.target.name == f"{labels[which]} in row {row}"
            np.testing.assert_allclose(found.map, same.map, rtol=1e-5)
            assert found.map.any()
    missing = next(which for which in range(4) if which not in kinds)
    with pytest.raises(InputError, match=r"^the model detects no .* in this image: name another class$"):
        explainer(X, target=missing)


def test_fewer_labels_than_classes_name_those_that_they_have() -> None:
    kinds = np.asarray(run(torchvisions(), {"image": X})["labels"])
    one = Explainer(torchvisions(), labels=["ant"])(X, layer="a")
    assert one.label == ("ant" if kinds[0] == 0 else None)
    assert Explainer(torchvisions())(X, layer="a").target.name == f"class {kinds[0]} in row 0"


def test_where_nothing_is_detected_there_is_nothing_to_explain() -> None:
    with pytest.raises(InputError, match=r"^the model detects nothing in this image$"):
        Explainer(torchvisions(threshold=2.0))(X)


def test_images_have_their_own_numbers_of_detections() -> None:
    images = [normal(3, 16, 24, seed=seed) for seed in range(4, 8)]
    scores = np.stack([run(torchvisions(), {"image": x})["s"] for x in images])
    model = torchvisions(threshold=float(np.median(scores[:, 1:])))
    together = Explainer(model)(images, layer="a")
    assert len({len(e.scores) for e in together}) > 1
    for x, e in zip(images, together, strict=True):
        alone = Explainer(model)(x, layer="a")
        assert e.target.name == alone.target.name
        np.testing.assert_array_equal(e.map, alone.map)


def test_a_named_output_is_itself() -> None:
    explainer = Explainer(torchvisions(), score="s")
    assert explainer.subject.score.axes == ""
    assert Explainer(torchvisions(), score="detections")(X, layer="a").scored.axes == "RD"


@pytest.mark.parametrize(
    ("outputs", "body"),
    [
        ("float[N, 3, 4] boxes, float[N, 3] sure", ""),  # no classes
        ("float[N, 3, 4] boxes, float[N, 3] sure, float[N, 3] more", "more = Neg(sure)"),  # which are the classes?
        ("float[N, 3, 4] boxes, float[N, 3] sure, float[N, 3] class_conf", "class_conf = Neg(sure)"),
        ("float[N, 3, 4] boxes, int64[N, 3] which", ""),  # no scores
        ("float[N, 3, 4] boxes, float[N, 3, 4] b, float[N, 3] sure, int64[N, 3] which", "b = Neg(boxes)"),
        ("float[N, 3, 4] boxes, float[N, 3] sure, int64[N, 3] keep_index", "keep_index = Identity(order)"),
        ("float[N, 3, 4] boxes, float[N, 3] sure, int64[N, 3] which, int64[N, 3] order", ""),
    ],
)
def test_what_is_no_set_of_detections_stays_as_it_is(outputs: str, body: str) -> None:
    model = net(
        f"(float[N, 3, 16, 24] x) => ({outputs}) {{ {BODY.format(image='x').replace('box = G', 'boxes = G')} {body} }}",
        WEIGHTS,
    )
    graph = read_layers(load(model))
    assert "detections" not in graph.names
    try:
        found: Any = find_score(graph)
    except ModelError:
        return
    assert found.axes != "RD"


def test_a_value_that_is_called_so_already_keeps_its_name() -> None:
    model = torchvisions()
    for node in model.graph.node:
        node.output[:] = ["detections" if name == "p" else name for name in node.output]
        node.input[:] = ["detections" if name == "p" else name for name in node.input]
    e = Explainer(model)(X, layer="a")
    assert (e.scored.name, e.scored.axes) == ("detections_", "RD")


@pytest.mark.parametrize("of", ["last", "boxes/column", "s/typed", "labels/column"])
def test_values_that_are_called_as_what_is_put_in_keep_their_names(of: str) -> None:
    taken, model = f"onnxcam/surfaced/detections/{of}", torchvisions()
    for node in model.graph.node:
        node.output[:] = [taken if name == "p" else name for name in node.output]
        node.input[:] = [taken if name == "p" else name for name in node.input]
    assert Explainer(model)(X, layer="a").scored.axes == "RD"


@pytest.mark.parametrize("shape", ["N, 3", "N, P, 3", "N, 3, H, W"])
def test_a_node_that_only_bears_such_a_name_shows_no_detections(shape: str) -> None:
    axes = shape.count(",") + 1
    body = {2: "f = GlobalAveragePool(a) g = Flatten(f)", 3: "g = Reshape(a, to)", 4: "g = Identity(a)"}[axes]
    model = net(
        f"(float[N, 3, 8, 8] x) => (float[{shape}] y) {{ c = Conv(x, w) a = Relu(c) {body} y = Concat<axis = 1>(g) }}",
        {"w": normal(3, 3, 1, 1), "to": np.array([0, -1, 3])},
    )
    for node in model.graph.node:
        node.name = f"onnxcam/surfaced/{node.output[0]}"
    explainer = Explainer(model)
    assert explainer.subject.score.axes != "RD"
    assert explainer(normal(3, 8, 8), target={2: None, 3: "y[0,0]", 4: "y[0,0,0]"}[axes], layer="a").map.shape == (8, 8)


def test_classes_keep_their_numbers_beside_narrow_boxes() -> None:
    model = torchvisions()
    far = "far = Add(kind, many) which = GatherElements<axis = 1>(far, order)"
    body = onnx.parser.parse_graph(
        f"g (int64[N, P] kind, int64[N, 3] order, int64 many) => (int64[N, 3] which) {{ {far} }}"
    )
    nodes = []
    for node in model.graph.node:
        nodes += list(body.node) if node.output[0] == "which" else [node]
        if node.output[0] == "boxes":
            node.output[0] = "broad"
            nodes.append(onnx.helper.make_node("Cast", ["broad"], ["boxes"], to=onnx.TensorProto.FLOAT16))
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array(70001), "many"))
    model.graph.output[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    kinds = np.asarray(run(model, {"image": X})["labels"])
    assert kinds[0] > 70000
    assert Explainer(model)(X, layer="a").target.name == f"class {kinds[0]} in row 0"


@pytest.mark.parametrize(("images", "batch"), [("N", "N"), ("1", "1"), ("4", "4")])
def test_a_classifier_of_four_is_no_detector(images: str, batch: str) -> None:
    """Its row of classes, the highest of them, and which that is."""
    body = """c = Conv(x, w) a = Relu(c) f = GlobalAveragePool(a) logits = Flatten(f) p = Softmax(logits)
      confidence = ReduceMax<axes = [1], keepdims = 0>(p) label = ArgMax<axis = 1, keepdims = 0>(p)"""
    outputs = f"float[{batch}, 4] logits, float[{batch}] confidence, int64[{batch}] label"
    model = net(f"(float[{images}, 3, 16, 24] x) => ({outputs}) {{ {body} }}", {"w": normal(4, 3, 3, 3)})
    found = find_score(read_layers(load(model)))
    assert (found.name, found.axes) == ("logits", "")


def test_a_count_beside_a_single_class_is_no_class() -> None:
    model = torchvisions()
    del model.graph.output[1]
    model.graph.output.append(onnx.helper.make_tensor_value_info("n", onnx.TensorProto.INT64, [1]))
    model.graph.node.append(onnx.helper.make_node("Size", ["s"], ["size"]))
    model.graph.node.append(onnx.helper.make_node("Unsqueeze", ["size", "zero"], ["n"]))
    assert "detections" not in read_layers(load(model)).names


def test_raw_boxes_beside_are_not_those_that_were_chosen() -> None:
    raw = "float[N, P, 4] raw_boxes"
    model = tensorflows(more="float[N, 3] sure_too")
    model.graph.output.extend(
        onnx.parser.parse_graph(f"g (float[N] x) => ({raw}) {{ raw_boxes = Identity(x) }}").output
    )
    model.graph.node.append(onnx.helper.make_node("Identity", ["corners"], ["raw_boxes"]))
    assert Explainer(model)(X, layer="a").scored.axes == "RD"


def test_boxes_with_their_scores_behind() -> None:
    """As mmdetection gives them: dets [N, D, 5] and labels."""
    body = (
        f"{BODY.format(image='x')} s = Unsqueeze(sure, last) dets = Concat<axis = 2>(box, s) labels = Identity(which)"
    )
    model = net(f"(float[N, 3, 16, 24] x) => (float[N, 3, 5] dets, int64[N, 3] labels) {{ {body} }}", WEIGHTS)
    e = Explainer(model)(X, layer="a")
    assert e.scored.axes == "RD"
    np.testing.assert_allclose(e.map, Explainer(model)(X, target="dets[0,4]", layer="a").map, rtol=1e-5)


def test_an_angle_behind_the_box_is_no_score() -> None:
    body = f"{BODY.format(image='x')} turn = Neg(sure) t = Unsqueeze(turn, last) rboxes = Concat<axis = 2>(box, t)"
    outputs = "float[N, 3, 5] rboxes, float[N, 3] sure, int64[N, 3] which"
    explainer = Explainer(net(f"(float[N, 3, 16, 24] x) => ({outputs}) {{ {body} }}", WEIGHTS))
    e = explainer(X, layer="a")
    assert e.scores.shape == (3, 6)
    np.testing.assert_allclose(e.map, explainer(X, target="sure[0]", layer="a").map, rtol=1e-5)


@pytest.mark.parametrize("squash", ["Sigmoid", "Softmax<axis = 2>", "Identity"])
def test_rows_of_four_classes_with_the_highest_are_no_boxes(squash: str) -> None:
    body = f"""c = Conv<strides = [4, 4], pads = [1, 1, 1, 1]>(x, w) f = Reshape(c, to)
      logits = Transpose<perm = [0, 2, 1]>(f) p = {squash}(logits)
      conf = ReduceMax<axes = [2], keepdims = 0>(p) label = ArgMax<axis = 2, keepdims = 0>(logits)"""
    outputs = "float[N, P, 4] p, float[N, P] conf, int64[N, P] label"
    held = {"w": normal(4, 3, 3, 3), "to": np.array([0, 4, -1])}
    graph = read_layers(load(net(f"(float[N, 3, 16, 24] x) => ({outputs}) {{ {body} }}", held)))
    assert rows_of_detections(graph) is None


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (("batch_boxes", "batch_scores", "batch_labels"), True),
        (("boxes", "track_scores", "labels"), True),
        (("boxes", "scores", "track_ids"), False),
        (("boxes", "scores", "ids"), False),
        (("boxes", "scores", "class_ids"), True),
    ],
)
def test_what_outputs_are_called(names: tuple[str, str, str], expected: bool) -> None:
    model = torchvisions()
    for output, name in zip(model.graph.output, (names[0], names[2], names[1]), strict=True):
        model.graph.node.append(onnx.helper.make_node("Identity", [output.name], [f"{name}_out"]))
        output.name = f"{name}_out" if name not in ("ids",) else name
        model.graph.node[-1].output[0] = output.name
    graph = read_layers(load(model))
    assert (rows_of_detections(graph) is not None) == expected


def test_the_deployed_model_is_differentiated_as_it_is() -> None:
    made = differentiate(torchvisions(), of="s", wrt="image").model
    assert "detections" not in {name for node in made.graph.node for name in node.output}


def joined(columns: str, width: int, behind: str) -> onnx.ModelProto:
    """Rows of one output, of some columns in some order."""
    body = f"""{BODY.format(image="x")}
  s = Unsqueeze(sure, last)
  k = Unsqueeze(which, last)
  kf = Cast<to = 1>(k)
  none = Sub(k, k)
  number = Cast<to = 1>(none)
  p3 = GatherElements<axis = 1>(p, wider)
  wider = Expand(wide, like3)
  all = Concat<axis = 2>({columns})
  {behind}"""
    images, axes = ("1", f"D, {width}") if "Reshape" in behind else ("N", f"N, 3, {width}")
    held = {"pairs": np.array([-1, width]), "like3": np.array([1, 1, 3])}
    return net(f"(float[{images}, 3, 16, 24] x) => (float[{axes}] out) {{ {body} }}", WEIGHTS | held)


@pytest.mark.parametrize(
    ("columns", "width", "behind", "order"),
    [
        ("box, s, kf", 6, "out = Identity(all)", [0, 1, 2, 3, 4, 5]),
        ("kf, s, box", 6, "out = Identity(all)", [2, 3, 4, 5, 1, 0]),  # PaddleDetection
        ("kf, s, box", 6, "out = Reshape(all, pairs)", [2, 3, 4, 5, 1, 0]),
        ("number, box, kf, s", 7, "out = Slice(all, zero, three, zero)", [1, 2, 3, 4, 6, 5]),  # YOLOv7
        ("box, s, kf, p3", 9, "out = Identity(all)", [0, 1, 2, 3, 4, 5]),  # with what is for a mask
    ],
)
def test_one_output_of_finished_detections(columns: str, width: int, behind: str, order: list[int]) -> None:
    model = joined(columns, width, behind)
    given = np.asarray(run(model, {"x": X[None]})["out"]).reshape(3, width)
    e = Explainer(model, labels=["ant", "bee", "cat"])(X, layer="a")
    assert e.scored.axes == "RD"
    np.testing.assert_allclose(e.scores[:, :6], given[:, order], rtol=1e-6)
    assert e.target.name == f"{['ant', 'bee', 'cat'][int(given[0, order[5]])]} in row 0"
    same = Explainer(model)(X, target=f"out[0,{order[4]}]", layer="a")
    np.testing.assert_allclose(e.map, same.map, rtol=1e-5)


@pytest.mark.parametrize(
    ("columns", "width", "behind"),
    [
        ("box, s, s", 6, "out = Identity(all)"),  # nothing says which is a class
        ("box, kf, kf", 6, "out = Identity(all)"),
        ("box, box, s, kf", 10, "out = Identity(all)"),
        ("box, s, kf", 6, "out = Gather<axis = 2>(all, turned)"),
        ("box, s, kf", 6, "out = Transpose<perm = [0, 2, 1]>(all)"),
    ],
)
def test_rows_that_nothing_tells_are_no_detections(columns: str, width: int, behind: str) -> None:
    model = joined(columns, width, behind)
    model.graph.initializer.append(onnx.numpy_helper.from_array(np.array([5, 4, 3, 2, 1, 0]), "turned"))
    graph = read_layers(load(model))
    assert rows_of_detections(graph) is None


SUPPRESSED = """(float[1,3,16,24] x) => (float[1,D,6] out) {
  f = Conv<pads = [1, 1, 1, 1], strides = [4, 4]>(x, w)
  fine = Relu(f)
  g = Conv<strides = [2, 2]>(fine, u)
  coarse = Relu(g)
  a = Conv(fine, v)
  b = Conv(coarse, v)
  a_flat = Reshape(a, to)
  b_flat = Reshape(b, to)
  both = Concat<axis = 2>(a_flat, b_flat)
  table = Transpose<perm = [0, 2, 1]>(both)
  corners, logits = Split<axis = 2>(table, parts)
  p = Sigmoid(logits)
  best = ReduceMax<axes = [2]>(p)
  kind = ArgMax<axis = 2>(p)
  kind_too = Cast<to = 1>(kind)
  all = Concat<axis = 2>(corners, best, kind_too)
  turned = Transpose<perm = [0, 2, 1]>(best)
  kept = NonMaxSuppression(corners, turned, most)
  which = Gather<axis = 1>(kept, last)
  out = Gather<axis = 1>(all, which)
}"""


def test_a_detection_that_was_not_suppressed_is_explained_at_its_own_head() -> None:
    more = {"u": normal(6, 6, 1, 1, seed=3), "most": np.array([5]), "last": np.array(2)}
    explainer = Explainer(net(SUPPRESSED, WEIGHTS | more), labels=["ant", "bee", "cat"])
    scores = explainer(X[None], target="p[:]").scores.max(1)
    rows = run(explainer.subject.graph.proto, {"x": X[None]})["out"][0]
    found = explainer(X[None], target=[f"out[{row},4]" for row in range(len(rows))])
    for e, row in zip(found, rows, strict=True):
        assert e.scored.axes == "RD"
        at = int(np.flatnonzero(np.isclose(scores, row[4], rtol=1e-6))[0])
        assert e.layer == ("fine" if at < 24 else "coarse")
    assert {e.layer for e in found} == {"fine", "coarse"}


TOWERS = """(float[1,3,16,24] x) => (float[1,D,6] out) {
  f = Conv<pads = [1, 1, 1, 1], strides = [4, 4]>(x, w)
  stem = Relu(f)
  g = Conv(stem, u)
  tower = Relu(g)
  a = Conv(tower, classes)
  b = Conv(stem, box)
  a_flat = Reshape(a, threes)
  b_flat = Reshape(b, fives)
  scores = Transpose<perm = [0, 2, 1]>(a_flat)
  boxes = Transpose<perm = [0, 2, 1]>(b_flat)
  corners, there = Split<axis = 2>(boxes, four_one)
  line = Reshape(there, rest)
  over = Greater(line, low)
  found = NonZero(over)
  kept = Reshape(found, rest)
  p = Sigmoid(scores)
  pk = Gather<axis = 1>(p, kept)
  bk = Gather<axis = 1>(corners, kept)
  best = ReduceMax<axes = [2]>(pk)
  kind = ArgMax<axis = 2>(pk)
  kind_too = Cast<to = 1>(kind)
  out = Concat<axis = 2>(bk, best, kind_too)
}"""


def test_the_places_that_another_tower_chose_are_given_to_the_head_as_they_are() -> None:
    """They have no axis of images, and the head of the class's tower reads them."""
    more = {
        "u": normal(6, 6, 1, 1, seed=3), "classes": normal(3, 6, 1, 1), "box": normal(5, 6, 1, 1, seed=5),
        "threes": np.array([0, 3, -1]), "fives": np.array([0, 5, -1]), "four_one": np.array([4, 1]),
        "rest": np.array([-1]), "low": np.float32(0),
    }  # fmt: skip
    explainer = Explainer(net(TOWERS, WEIGHTS | more), labels=["ant", "bee", "cat"])
    e = explainer(X[None])
    assert (e.layer, e.scored.axes) == ("tower", "RD")
    row = int(e.target.name.rpartition(" ")[2])
    result = differentiate(explainer.subject.graph.proto, of="out", wrt="tower")
    seed = np.zeros((1, *e.scores.shape), np.float32)
    seed[0, row, 4] = 1
    values = run(tapped(result.model, "tower"), {"x": X[None], result.seed: seed})
    weights, held = values[result.gradients["tower"]].mean((2, 3)), values["tower"][0]
    wanted = np.maximum(np.tensordot(weights[0], held, 1), 0)
    np.testing.assert_allclose(e.map.clip(0), wanted, rtol=1e-3, atol=1e-7)
