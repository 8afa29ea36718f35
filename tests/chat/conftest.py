"""A model that knows a few dialogues by heart, trained once."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from hanformer.chat.opening import OpenedChat, open_chat
from tests.chat.talks import learned


@pytest.fixture(scope="session")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("runs") / "chat"
    learned(folder)
    return folder


@pytest.fixture(scope="session")
def talker(run_folder: Path) -> OpenedChat:
    return open_chat(run_folder)
