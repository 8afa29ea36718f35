"""What the documents name exists: files, folders, names of the code, commands and targets of make."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from hanformer.arithmetic.recipe import Recipe as ArithmeticRecipe
from hanformer.chat.recipe import ChatRecipe
from hanformer.tasks.classify import ClassifyRecipe
from hanformer.tasks.pair import PairRecipe
from hanformer.tasks.pretrain import PretrainRecipe
from hanformer.tasks.seq2seq import Seq2SeqRecipe
from hanformer.tasks.tag import TagRecipe
from hanformer.train.sizes import USUAL

ROOT = Path(__file__).parents[1]
DOCUMENTS = [
    "README.md",
    "README.zh.md",
    "CONTRIBUTING.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs").rglob("*.md")),
]
PATH = re.compile(r"[\w.]*[\w/]*(/|\.(py|md))")
NAME = re.compile(r"(\w+\.)*([A-Za-z_]\w+)(\(.*\))?( -> .*)?")
#: Where a run writes.
OF_A_RUN = ("runs/", "best/", "last/")


def spans(document: str) -> list[str]:
    """What stands in `...`, blocks of code left out."""
    text = re.sub(r"```.*?```", "", (ROOT / document).read_text(encoding="utf-8"), flags=re.DOTALL)
    return [" ".join(span.split()) for span in re.findall(r"`([^`]+)`", text)]


@cache
def words() -> frozenset[str]:
    """Every word of the code, its build file included."""
    sources = [path for folder in ("hanformer", "tests") for path in (ROOT / folder).rglob("*.py")]
    own = Path(__file__).name
    texts = [path.read_text(encoding="utf-8") for path in sources if path.name != own]
    return frozenset(re.findall(r"\w+", "\n".join(texts)))


@pytest.mark.parametrize("document", DOCUMENTS)
def test_paths_exist(document: str) -> None:
    named = [span for span in spans(document) if PATH.fullmatch(span) and not span.startswith(OF_A_RUN)]
    lost = [span for span in named if not any((base / span).exists() for base in (ROOT, ROOT / "hanformer"))]
    assert not lost


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_lead_somewhere(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    links = [link for link in re.findall(r"\]\(([^)#]+)\)", text) if "://" not in link]
    assert not [link for link in links if not ((ROOT / document).parent / link).exists()]


def test_figures_are_shown() -> None:
    texts = "".join((ROOT / document).read_text(encoding="utf-8") for document in DOCUMENTS)
    assert [
        path.name for path in (ROOT / "docs" / "figures").iterdir() if f"figures/{path.name})" not in texts
    ] == []


@pytest.mark.parametrize("document", DOCUMENTS)
def test_names_exist(document: str) -> None:
    found = [match for span in spans(document) if (match := NAME.fullmatch(span))]
    assert not {match[2] for match in found} - words()


@pytest.mark.parametrize("document", DOCUMENTS)
def test_targets_of_make_exist(document: str) -> None:
    text = (ROOT / document).read_text(encoding="utf-8")
    targets = set(re.findall(r"\bmake (\w+)    #|`make (\w+)`", text))
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    assert all(f"\n{first or second}:" in makefile for first, second in targets)


def test_the_usual_sizes_are_those_of_the_tasks() -> None:
    text = (ROOT / "docs/tasks.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| (\S+) \| (\S+) \| (\S+) \|$", text, flags=re.MULTILINE)
    named = {name: columns for name, *columns in rows if name in USUAL.said}
    assert len(named) == 9
    columns = (
        (ClassifyRecipe(), TagRecipe(), PairRecipe(), ArithmeticRecipe()),
        (Seq2SeqRecipe(), ChatRecipe()),
        (PretrainRecipe(),),
    )
    for place, recipes in enumerate(columns):
        told = {name: values[place] for name, values in named.items()}
        for recipe in recipes:
            assert {name: str(recipe.usual_sizes.said[name]) for name in named} == told
