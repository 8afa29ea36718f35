"""What every test shares: the real-data folder, one thread budget, deterministic property tests."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

# Tiny models gain nothing from threads, and lose much where other programs want the cores. Subprocesses inherit it.
os.environ["OMP_NUM_THREADS"] = "1"

import pytest
import torch
from hypothesis import HealthCheck, settings

torch.set_num_threads(1)

settings.register_profile(
    "hanformer",
    derandomize=True,
    deadline=None,
    max_examples=60,
    suppress_health_check=[HealthCheck.too_slow],
)
settings.load_profile("hanformer")


def real_data() -> Path | None:
    """The folder named by HANFORMER_DATA, or None where the variable is unset or names no folder."""
    named = os.environ.get("HANFORMER_DATA", "")
    folder = Path(named)
    return folder if named and folder.is_dir() else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """One line that says whether tests on real data ran."""
    ran = real_data() is not None
    said = "ran" if ran else "did not run: HANFORMER_DATA names no folder"
    terminalreporter.write_line(f"tests that read real data {said}")


@pytest.fixture(scope="session")
def data_folder() -> Path:
    """The folder of real data; a test that asks for it is skipped where there is none."""
    folder = real_data()
    if folder is None:
        pytest.skip("HANFORMER_DATA names no folder of real data")
    return folder


@pytest.fixture(autouse=True, scope="session")
def same_precision_everywhere() -> Iterator[None]:
    """Precision "auto" means fp32 on every CPU that runs the suite, so that tests mean the same on all of them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("hanformer.runtime._cpu_flags", set)
        yield


@pytest.fixture(autouse=True)
def interruptible() -> Iterator[None]:
    """Ctrl-C acts as in a terminal, also where the suite itself was started in the background, which ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test starts from the same random state."""
    torch.manual_seed(0)
