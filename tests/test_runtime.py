"""The machine: the allocator setting, and the choice of threads, device and number format."""

from __future__ import annotations

import ctypes
import platform
from collections.abc import Callable

import pytest
import torch

from hanformer import runtime
from hanformer.errors import UserError

CPU, GPU = torch.device("cpu"), torch.device("cuda")


class FakeLibrary:
    """A C library that records the settings and answers with `code`."""

    def __init__(self, code: int) -> None:
        self.code, self.calls = code, []

    def mallopt(self, name: ctypes.c_int, value: ctypes.c_int) -> int:
        self.calls.append((name.value, value.value))
        return self.code


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="no glibc here")
def test_allocator_setting_is_accepted_by_glibc() -> None:
    assert runtime.tune_cpu()


@pytest.mark.parametrize(("code", "accepted"), [(1, True), (0, False)])
def test_both_thresholds_are_raised(monkeypatch: pytest.MonkeyPatch, code: int, accepted: bool) -> None:
    library = FakeLibrary(code)
    monkeypatch.setattr(platform, "libc_ver", lambda: ("glibc", "2.36"))
    monkeypatch.setattr(ctypes, "CDLL", lambda name: library)
    assert runtime.tune_cpu() is accepted
    assert dict(library.calls) == {-1: 2**30, -3: 2**30}  # M_TRIM_THRESHOLD, M_MMAP_THRESHOLD


@pytest.mark.parametrize("libc", [("", ""), ("musl", "1.2")])
def test_no_setting_without_glibc(monkeypatch: pytest.MonkeyPatch, libc: tuple[str, str]) -> None:
    def refuse(name: object) -> None:
        raise AssertionError("no library may be opened")

    monkeypatch.setattr(platform, "libc_ver", lambda: libc)
    monkeypatch.setattr(ctypes, "CDLL", refuse)
    assert runtime.tune_cpu() is False


def test_the_environment_turns_it_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "tune_cpu", lambda: True)
    monkeypatch.setenv("HANFORMER_TUNE_CPU", "0")
    assert runtime.tune_cpu_unless_disabled() is False
    monkeypatch.delenv("HANFORMER_TUNE_CPU")
    assert runtime.tune_cpu_unless_disabled() is True


def test_threads() -> None:
    before = torch.get_num_threads()
    try:
        assert runtime.set_threads(1) == 1 == torch.get_num_threads()
        assert runtime.set_threads(None) == torch.get_num_threads() >= 1
        with pytest.raises(UserError, match="expected 1 to"):
            runtime.set_threads(0)
    finally:
        torch.set_num_threads(before)


def test_device(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert runtime.choose_device() == runtime.choose_device("cpu") == CPU
    with pytest.raises(UserError, match="finds no GPU"):
        runtime.choose_device("cuda:0")
    with pytest.raises(UserError, match="got 'abacus'"):
        runtime.choose_device("abacus")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    assert runtime.choose_device() == GPU and runtime.choose_device("cuda:1").index == 1


@pytest.mark.parametrize(
    ("device", "fast", "chosen"),
    [(CPU, True, "bf16"), (CPU, False, "fp32"), (GPU, True, "bf16"), (GPU, False, "fp16")],
)
def test_automatic_precision(
    monkeypatch: pytest.MonkeyPatch, device: torch.device, fast: bool, chosen: str
) -> None:
    monkeypatch.setattr(runtime, "has_fast_bfloat16", lambda device: fast)
    assert runtime.choose_precision("auto", device) == chosen
    assert runtime.choose_precision("fp32", device) == "fp32"
    assert runtime.choose_precision("bf16", device) == "bf16"


def test_precisions_that_cannot_be() -> None:
    with pytest.raises(UserError, match="needs a GPU"):
        runtime.choose_precision("fp16", CPU)
    with pytest.raises(UserError, match="got 'half'"):
        runtime.choose_precision("half", CPU)
    assert runtime.choose_precision("fp16", GPU) == "fp16"


@pytest.mark.parametrize(("word", "dtype"), [("fp32", torch.float32), ("bf16", torch.bfloat16)])
def test_inference_dtype(word: str, dtype: torch.dtype) -> None:
    assert runtime.inference_dtype(word, CPU) == dtype


@pytest.mark.parametrize(
    ("capability", "flags", "fast"),
    [
        ("AVX512", {"avx512f", "amx_bf16"}, True),
        ("AVX512", {"avx512_bf16"}, True),
        ("AVX512", {"avx512f"}, False),
        ("AVX2", {"amx_bf16"}, False),
        ("DEFAULT", set(), False),
    ],
)
def test_fast_bfloat16_on_a_cpu(
    monkeypatch: pytest.MonkeyPatch, capability: str, flags: set[str], fast: bool
) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: capability)
    monkeypatch.setattr(runtime, "_cpu_flags", lambda: flags)
    assert runtime.has_fast_bfloat16(CPU) is fast


@pytest.mark.parametrize(("capability", "fast"), [((7, 5), False), ((8, 0), True), ((9, 0), True)])
def test_fast_bfloat16_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], fast: bool
) -> None:
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert runtime.has_fast_bfloat16(GPU) is fast


def test_other_devices_have_no_fast_bfloat16() -> None:
    assert runtime.has_fast_bfloat16(torch.device("meta")) is False


def draw_after(seed: Callable[[int], None]) -> torch.Tensor:
    seed(3)
    return torch.randn(4)


def test_seeds() -> None:
    assert torch.equal(draw_after(runtime.seed_everything), draw_after(runtime.seed_everything))
    assert not torch.equal(draw_after(runtime.seed_everything), torch.randn(4))


def test_machine_is_described() -> None:
    machine = runtime.describe_machine()
    assert machine.processor and machine.cores >= 1 and machine.threads >= 1
    assert machine.torch == torch.__version__ and machine.python == platform.python_version()
