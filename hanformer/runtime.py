"""The machine: threads, allocator, number formats, seeds, device. Nothing here acts at import.

运行环境：线程、内存分配器、数值格式、随机种子与设备。
"""

from __future__ import annotations

import ctypes
import os
import platform
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache

import torch

from hanformer.errors import UserError

# The names that glibc gives the two settings (malloc.h).
_M_TRIM_THRESHOLD = -1
_M_MMAP_THRESHOLD = -3
_KEEP_BYTES = 1 << 30
#: What torch's allocators say: of a CPU, of a GPU, and where not even the number of bytes can be told.
_NO_MEMORY = re.compile(
    "can't allocate memory|[Cc]annot allocate memory|not enough memory|out of memory|ALLOC_FAILED|bad_alloc"
    "|Storage size calculation overflowed"
)
_ASKED = re.compile(r"tried to allocate ([\d.]+) ([KMGT]iB|bytes)", re.IGNORECASE)


def tune_cpu() -> bool:
    """Lets the process keep the memory of freed activations, so that they are not faulted in anew each time.

    调整 glibc 内存分配器：保留已释放的大块内存，避免反复缺页。

    glibc returns blocks above 128 KiB (at most 32 MiB) to the kernel when they are freed; each large activation
    then costs page faults again. Raising the mmap and trim thresholds to 1 GiB removes them: 1.2 to 2.5 times
    faster layers on a CPU. The price: the process keeps its peak memory until it ends. It changes the whole
    process, so it is a call and never a side effect of importing; the commands make it, and
    HANFORMER_TUNE_CPU=0 turns it off there. Without glibc it does nothing.

    Returns True where the settings were accepted.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    accepted = [
        library.mallopt(ctypes.c_int(name), ctypes.c_int(_KEEP_BYTES))
        for name in (_M_MMAP_THRESHOLD, _M_TRIM_THRESHOLD)
    ]
    return all(code == 1 for code in accepted)


def tune_cpu_unless_disabled() -> bool:
    """`tune_cpu`, unless the environment says HANFORMER_TUNE_CPU=0: what the commands call.

    除非环境变量 HANFORMER_TUNE_CPU=0，否则调用 tune_cpu。
    """
    return os.environ.get("HANFORMER_TUNE_CPU", "1") != "0" and tune_cpu()


@contextmanager
def within_memory(said: Callable[[str], str]) -> Iterator[None]:
    """Raises UserError where what happens inside finds no memory: `said` makes the sentence.

    内存或显存不足时给出可读的错误。

    It is given what was asked for at once, as " (12.5 GiB at once)", or nothing where the allocator does not tell.
    """
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not (isinstance(error, MemoryError) or _NO_MEMORY.search(str(error))):
            raise
        found = _ASKED.search(str(error))
        asked = f" ({_gibibytes(*found.groups())} at once)" if found else ""
        raise UserError(said(asked)) from None


def _gibibytes(number: str, unit: str) -> str:
    """A number of bytes, or one that has a unit."""
    return f"{float(number) / 2**30:,.1f} GiB" if unit == "bytes" else f"{number} {unit}"


def set_threads(count: int | None) -> int:
    """Sets the number of CPU threads (None: what OMP_NUM_THREADS says, else the cores this process may use).

    设置 CPU 线程数；None 表示 OMP_NUM_THREADS 的值，未设置时为本进程可用的全部核心。返回线程数。

    Raises UserError for a count below 1.
    """
    if count is None:
        named = os.environ.get("OMP_NUM_THREADS", "")
        count = int(named) if named.isdecimal() and int(named) else _usable_cores()
    most = 8 * (os.cpu_count() or 1)
    if not 1 <= count <= most:
        raise UserError(f"threads: expected 1 to {most} on this machine, got {count}")
    torch.set_num_threads(count)
    return count


def _usable_cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # macOS and Windows do not tell
        return os.cpu_count() or 1


def choose_device(word: str = "auto") -> torch.device:
    """The device of that name; 'auto' takes a GPU where there is one.

    选择设备；auto 表示有 GPU 就用 GPU。

    Raises UserError for a name that torch does not know, or a GPU that is not there.
    """
    if word == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(word)
    except RuntimeError:
        raise UserError(f"device: expected auto, cpu or cuda[:number], got {word!r}") from None
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device: expected auto, cpu or cuda[:number], got {word!r}")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device: {word!r} was asked for, but torch finds no GPU; use --device cpu")
    return device


def has_fast_bfloat16(device: torch.device) -> bool:
    """Whether bf16 matrix products are faster than fp32 there: AMX or AVX512-bf16 on a CPU, Ampere on a GPU.

    该设备上 bf16 矩阵乘法是否比 fp32 快。
    """
    if device.type == "cuda":
        return torch.cuda.get_device_capability(device)[0] >= 8
    if device.type != "cpu":
        return False
    capabilities = torch.backends.cpu.get_cpu_capability()
    return capabilities == "AVX512" and _cpu_flags() & {"amx_bf16", "avx512_bf16"} != set()


@cache
def _cpu_flags() -> set[str]:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("flags"):
                    return set(line.split(":", 1)[1].split())
    except OSError:
        return set()
    return set()


def choose_precision(word: str, device: torch.device) -> str:
    """'fp32', 'bf16' or 'fp16' for training: 'auto' takes bf16 where it is fast, fp16 on older GPUs, else fp32.

    选择训练精度；auto 在支持快速 bf16 的机器上用 bf16，老 GPU 用 fp16，否则 fp32。
    """
    if word not in ("auto", "fp32", "bf16", "fp16"):
        raise UserError(f"precision: expected auto, fp32, bf16 or fp16, got {word!r}")
    if word == "fp16" and device.type != "cuda":
        raise UserError("precision: fp16 with loss scaling needs a GPU; use bf16 or fp32 on a CPU")
    if word != "auto":
        return word
    if has_fast_bfloat16(device):
        return "bf16"
    return "fp16" if device.type == "cuda" else "fp32"


def inference_dtype(word: str, device: torch.device) -> torch.dtype:
    """The dtype of weights and activations in inference, by the same words.

    推理时权重与激活的数值类型。
    """
    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[
        choose_precision(word, device)
    ]


def seed_everything(seed: int) -> None:
    """Seeds torch on every device. 设置全部设备的随机种子。"""
    torch.manual_seed(seed)


@dataclass(frozen=True)
class Machine:
    """What a result was measured on. 测量所用的机器。"""

    processor: str
    cores: int
    threads: int
    fast_bfloat16: bool
    gpu: str
    torch: str
    python: str


def describe_machine() -> Machine:
    """The machine of this process, for run folders, reports and benchmarks.

    描述当前机器，写入运行目录、报告与基准测试。
    """
    return Machine(
        processor=_processor_name(),
        cores=os.cpu_count() or 1,
        threads=torch.get_num_threads(),
        fast_bfloat16=has_fast_bfloat16(torch.device("cpu")),
        gpu=torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        torch=torch.__version__,
        python=platform.python_version(),
    )


def _processor_name() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            for line in lines:
                if line.startswith("model name"):
                    return line.split(":", 1)[1].strip()
    except OSError:
        return platform.processor() or "unknown"
    return platform.processor() or "unknown"
