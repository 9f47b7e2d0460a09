"""The registry: complete, consistent, and forgiving about names."""

from __future__ import annotations

import dataclasses
import inspect
import re
from collections.abc import Callable
from types import ModuleType

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from onnxcam.errors import UsageError
from onnxcam.methods import METHODS, REDUCTIONS, Array, Evidence, Method, get_method, image, layer, list_methods, status

NAMES = [
    "gradcam",
    "cam",
    "counterfactual",
    "hirescam",
    "gradcam++",
    "layercam",
    "saliency",
    "inputxgradient",
    "guidedbackprop",
    "guidedgradcam",
]
EVIDENCE = Evidence(
    activations=np.array([[[1, 3]]]),
    gradients=np.array([[[0.0, 4.0]]]),
    weights=np.array([[5.0]]),
    image=np.array([[[1, 2], [3, 4]]]),
    image_gradients=np.array([[[1.0, -2.0], [0.5, 1.0]]]),
    guided_gradients=np.array([[[1.0, 2.0], [-3.0, 4.0]]]),
)


def public_functions(module: ModuleType) -> set[Callable[..., Array]]:
    """The functions that a module defines itself, private ones and reductions aside."""
    return {
        function
        for name, function in inspect.getmembers(module, inspect.isfunction)
        if function.__module__ == module.__name__ and not name.startswith("_") and function not in REDUCTIONS.values()
    }


def test_names_and_order() -> None:
    assert list(METHODS) == NAMES
    assert [method.name for method in list_methods()] == NAMES


def test_every_function_has_exactly_one_row() -> None:
    functions = [method.function for method in list_methods()]
    assert len(set(functions)) == len(functions)
    assert set(functions) == public_functions(layer) | public_functions(image)


@pytest.mark.parametrize("method", list_methods(), ids=lambda method: method.name)
class TestRow:
    def test_reads_fields_of_evidence(self, method: Method) -> None:
        assert method.needs
        assert set(method.needs) <= {field.name for field in dataclasses.fields(Evidence)}

    def test_level_says_where_the_function_lives_and_whether_channels_are_reduced(self, method: Method) -> None:
        assert (
            (method.level == "input") == (method.reduce is not None) == (method.function.__module__ == image.__name__)
        )
        assert method.reduce in {None, *REDUCTIONS}

    def test_name_is_fit_for_files(self, method: Method) -> None:
        assert re.fullmatch(r"[a-z+]+", method.name)

    def test_title_and_source_are_given(self, method: Method) -> None:
        assert method.title
        assert re.search(r"20\d\d", method.paper)

    def test_lacking_evidence_is_named(self, method: Method) -> None:
        with pytest.raises(UsageError, match=f"needs {' and '.join(method.needs)}"):
            method.compute(Evidence())

    def test_not_a_number_is_told_by_the_status(self, method: Method) -> None:
        arrays = {need: getattr(EVIDENCE, need) for need in method.needs}
        broken = Evidence(**{need: np.full(array.shape, np.nan) for need, array in arrays.items()})
        assert status(method.to_map(method.compute(broken))[0], signed=method.signed) == "not-finite"


def test_every_input_level_reduction_is_used() -> None:
    assert {method.reduce for method in list_methods()} == {None, *REDUCTIONS}


def test_mean_only_methods() -> None:
    assert {method.name for method in list_methods() if method.mean_only} == {"gradcam", "cam", "counterfactual"}


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("gradcam", [2, 6]),
        ("cam", [5, 15]),
        ("counterfactual", [-2, -6]),
        ("hirescam", [0, 12]),
        ("gradcam++", [4 / 18, 12 / 18]),  # sum of A 4, a = 1/(2 + 4*4), w = 4/18
        ("layercam", [0, 12]),
        ("saliency", [1, 2]),
        ("inputxgradient", [1 + 1.5, -4 + 4]),
        ("guidedbackprop", [-2, 6]),
        ("guidedgradcam", [2 * -2, 6 * 6]),
    ],
)
def test_maps_through_the_registry_by_hand(name: str, expected: list[float]) -> None:
    method = get_method(name)
    computed = method.compute(EVIDENCE)
    assert computed.shape == ((1, 2, 2) if method.level == "input" else (1, 2))
    raw = method.to_map(computed)
    assert raw.dtype == np.float32
    assert_array_equal(raw, np.array([expected], np.float32))


@pytest.mark.parametrize(
    ("spelling", "name"),
    [
        ("Grad-CAM", "gradcam"),
        ("grad_cam", "gradcam"),
        ("Grad-CAM++", "gradcam++"),
        ("gradcampp", "gradcam++"),
        ("gradcam-plus-plus", "gradcam++"),
        ("HiResCAM", "hirescam"),
        ("layer cam", "layercam"),
        ("input-x-gradient", "inputxgradient"),
        ("input*gradient", "inputxgradient"),
        ("guided-backprop", "guidedbackprop"),
        ("guided_backpropagation", "guidedbackprop"),
        ("Guided Grad-CAM", "guidedgradcam"),
    ],
)
def test_spellings(spelling: str, name: str) -> None:
    assert get_method(spelling) is METHODS[name]


@pytest.mark.parametrize("method", list_methods(), ids=lambda method: method.name)
def test_names_and_titles_and_functions_all_find_the_row(method: Method) -> None:
    for spelling in (method.name, method.title, method.function.__name__):
        assert get_method(spelling) is method


@pytest.mark.parametrize(
    ("wrong", "said"), [("gradkam", "did you mean gradcam"), ("xyz", "there are gradcam, cam"), ("", "there are")]
)
def test_an_unknown_name_is_refused_with_the_nearest(wrong: str, said: str) -> None:
    with pytest.raises(UsageError, match=said):
        get_method(wrong)


def test_a_name_with_control_characters_is_quoted() -> None:
    with pytest.raises(UsageError) as caught:
        get_method("grad\x1b[2Jcam\n!")
    assert str(caught.value).isprintable()
