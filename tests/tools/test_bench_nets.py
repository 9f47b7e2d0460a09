"""The networks to time are valid, finite from end to end, and tell their inputs apart."""

from __future__ import annotations

from pathlib import Path

import bench_nets
import numpy as np
import onnx
import onnxruntime
import pytest

MEGABYTES = {"resnet18": (46, 48), "mobilenetv2": (13, 15), "vgg11": (130, 200)}


@pytest.mark.slow
@pytest.mark.parametrize("name", bench_nets.NETS)
def test_a_net_is_finite_and_its_logits_spread(name: str, tmp_path: Path) -> None:
    path = bench_nets.NETS[name](tmp_path)
    low, high = MEGABYTES[name]
    assert low < path.stat().st_size / 1e6 < high

    model = onnx.load(path)
    assert [(imported.domain, imported.version) for imported in model.opset_import] == [("", 18)]
    inner = [node.output[0] for node in model.graph.node if node.output[0] != "logits"]
    model.graph.output.extend(onnx.ValueInfoProto(name=value) for value in inner)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    x = np.random.default_rng(0).standard_normal((2, 3, 224, 224), np.float32)
    logits, *values = session.run(["logits", *inner], {"input": x})

    assert logits.shape == (2, 1000)
    assert 0.5 < logits.std(axis=1).min() < logits.std(axis=1).max() < 10
    assert np.abs(logits[0] - logits[1]).max() > 0.05
    for value, array in zip(inner, values, strict=True):
        assert np.isfinite(array).all(), value
        assert 0.1 < array.std() < 10, value


@pytest.mark.slow
def test_the_weights_are_the_same_on_every_run(tmp_path: Path) -> None:
    (tmp_path / "again").mkdir()
    once, again = bench_nets.build_mobilenetv2(tmp_path), bench_nets.build_mobilenetv2(tmp_path / "again")
    assert once.read_bytes() == again.read_bytes()
