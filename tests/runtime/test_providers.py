"""Execution providers: the one that was asked for, or an error that says how to get it."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

from onnxcam.errors import ProviderError
from onnxcam.runtime import providers, short_name
from onnxcam.runtime.providers import check_provider, full_name, load_onnxruntime, provider_list


def test_short_and_full_names() -> None:
    for short, full in providers.SHORT.items():
        assert full_name(short) == full_name(short.upper()) == full_name(full) == full
        assert short_name(full) == short
    assert full_name("MyExecutionProvider") == short_name("MyExecutionProvider") == "MyExecutionProvider"


def test_the_names_are_those_of_onnxruntime() -> None:
    import onnxruntime

    retired = {"ROCMExecutionProvider"}  # MIGraphX took its place in 1.23
    assert set(providers.SHORT.values()) - set(onnxruntime.get_all_providers()) <= retired


def built_with(monkeypatch: pytest.MonkeyPatch, *available: str) -> None:
    module = SimpleNamespace(get_available_providers=lambda: list(available))
    monkeypatch.setattr(providers, "load_onnxruntime", lambda: module)


CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"


def test_other_providers_leave_to_the_cpu_what_they_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    built_with(monkeypatch, CUDA, CPU)
    assert provider_list("cpu") == [CPU]
    assert provider_list("cuda") == provider_list(CUDA) == [CUDA, CPU]


def test_a_provider_that_is_not_built_in_names_the_cure(monkeypatch: pytest.MonkeyPatch) -> None:
    built_with(monkeypatch, "AzureExecutionProvider", CPU)
    with pytest.raises(ProviderError, match=r"'cuda' is not in .* \(it has cpu\): .*onnxcam\[cuda\]"):
        provider_list("cuda")
    with pytest.raises(ProviderError, match=r"'Nonsense' is not in .*\(it has .*cpu\)$"):
        provider_list("Nonsense")


def test_a_provider_that_runs_no_operators_is_refused() -> None:
    """It is in the session's list, in front, and every node is on the CPU."""
    with pytest.raises(ProviderError, match=r"^the provider 'AzureExecutionProvider' calls services .*--provider cpu$"):
        provider_list("AzureExecutionProvider")


def test_a_session_that_fell_back_is_refused() -> None:
    assert check_provider([CUDA, CPU], "cuda") == CUDA
    with pytest.raises(ProviderError, match=r"'cuda' cannot run on this machine .*fell back to cpu.*--provider cpu"):
        check_provider([CPU], "cuda")
    with pytest.raises(ProviderError, match="fell back to none"):
        check_provider([], "cuda")


def test_without_onnxruntime_the_extras_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ProviderError, match=r"pip install onnxcam\[cpu\]"):
        load_onnxruntime()


def test_what_two_wheels_leave_behind_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of onnxruntime and onnxruntime-gpu was uninstalled: a folder without a module in it."""
    monkeypatch.setitem(sys.modules, "onnxruntime", ModuleType("onnxruntime"))
    with pytest.raises(ProviderError, match="uninstall both, then install one"):
        load_onnxruntime()
