"""The examples of the documents are true: commands have their options, snippets import and call what there is."""

from __future__ import annotations

import ast
import inspect
import re
import shlex
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import typer

import hanformer
from hanformer.arithmetic.recipe import DEFAULT
from hanformer.chat.recipe import ChatRecipe
from hanformer.cli import app
from hanformer.cli.options import read_assignments
from hanformer.cli.train import TASKS
from hanformer.lab import EXPERIMENTS
from hanformer.parsing.training import RecurrentRecipe
from hanformer.records import assign
from hanformer.tasks.classify import ClassifyRecipe
from hanformer.tasks.pair import PairRecipe
from hanformer.tasks.pretrain import PretrainRecipe
from hanformer.tasks.seq2seq import Seq2SeqRecipe
from hanformer.tasks.tag import TagRecipe
from hanformer.train.tricks import tricks_named

ROOT = Path(__file__).parents[1]
DOCUMENTS = [*sorted(ROOT.glob("README*.md")), *sorted((ROOT / "docs").rglob("*.md"))]
NAMES = [str(path.relative_to(ROOT)) for path in DOCUMENTS]
RECIPES: dict[str, Callable[[Mapping[str, str]], Any]] = {
    "arithmetic": DEFAULT.changed,
    "chat": ChatRecipe().changed,
    "classify": ClassifyRecipe().changed,
    "pair": PairRecipe().changed,
    "pretrain": PretrainRecipe().changed,
    "recurrent": lambda given: assign(RecurrentRecipe(), given),
    "seq2seq": Seq2SeqRecipe().changed,
    "tag": TagRecipe().changed,
}
#: What a task is told by an option of its own, which its recipe calls by the same name.
NAMED = ("start_from", "loss", "scheme", "head", "unlabelled", "optimizer", "average")
#: What ends a command of the shell.
ENDS = frozenset({"|", ">", "&&", ";", "#"})
BLOCK = re.compile(r"^```(\w*)\n(.*?)^```", re.MULTILINE | re.DOTALL)
SHELLS = ("sh", "bash", "console", "")
COMMAND = re.compile(r"(?:^|-m |[|$] |bin/)hanformer (.*)", re.MULTILINE)


def commands(text: str) -> Iterator[list[str]]:
    """The words after `hanformer` of every command in the blocks of a document."""
    fenced = [block for language, block in BLOCK.findall(text) if language in SHELLS]
    indented = re.findall(r"^    (hanformer .*)$", BLOCK.sub("", text), re.MULTILINE)
    for block in (*fenced, *indented):
        for line in COMMAND.findall(re.sub(r"\s*\\\n\s*", " ", block)):
            reader = shlex.shlex(line, posix=True, punctuation_chars="|>;")
            reader.whitespace_split = True
            words = list(reader)
            end = next((place for place, word in enumerate(words) if word in ENDS), len(words))
            if "..." not in words:
                yield words[:end]


def parsed(words: list[str]) -> Mapping[str, Any]:
    """What a command understands; raises click's error for an option that it has not, or one that is missing."""
    command, args = typer.main.get_command(app), list(words)
    while isinstance(command, typer.core.TyperGroup):
        command = command.commands[args.pop(0)]
    params: Mapping[str, Any] = command.make_context(words[0], args).params
    return params


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_commands_are_understood(document: Path) -> None:
    for words in commands(document.read_text(encoding="utf-8")):
        found = parsed(words)
        if words[0] == "train":
            own = {name: str(found[name]) for name in NAMED if found.get(name)}
            RECIPES[words[1]](own | read_assignments(found["assignments"] or ()))
            tricks_named(found.get("tricks") or ())
        elif words[0] == "lab" and found["name"]:
            room = import_module(EXPERIMENTS[found["name"]].target.partition(":")[0])
            assign(room.Options(), read_assignments(found["assignments"] or ()))


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_scripts_exist(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    scripts = re.findall(r"python (\w+/\w+\.py)", text)
    modules = [f"{name.replace('.', '/')}.py" for name in re.findall(r"python -m (benchmarks\.\w+)", text)]
    assert not [path for path in (*scripts, *modules) if not (ROOT / path).is_file()]


def test_pages_tell_of_every_experiment_and_task() -> None:
    lab, tasks = ((ROOT / "docs" / name).read_text(encoding="utf-8") for name in ("lab.md", "tasks.md"))
    assert not [name for name in EXPERIMENTS if f"\n| `{name}` |" not in lab]
    assert not [name for name in TASKS if f"`{name}`" not in tasks]


def test_a_wrong_command_is_seen() -> None:
    block = "```sh\nhanformer train pair --data a --out b --wrong c   # no\n```\n"
    (words,) = commands(block)
    assert words == ["train", "pair", "--data", "a", "--out", "b", "--wrong", "c"]
    with pytest.raises(Exception, match="--wrong"):
        parsed(words)
    assert not list(commands(block.replace("sh", "python")))


def snippets(text: str) -> Iterator[ast.Module]:
    """The blocks of Python of a document."""
    return (ast.parse(block) for language, block in BLOCK.findall(text) if language == "python")


def imported(tree: ast.Module) -> Mapping[str, Any]:
    """What the names of a snippet stand for that it imports from us; fails where there is no such thing."""
    found: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found |= {name.name: import_module(name.name) for name in node.names if name.name == "hanformer"}
        if isinstance(node, ast.ImportFrom) and str(node.module).partition(".")[0] == "hanformer":
            module = import_module(str(node.module))
            found |= {name.asname or name.name: getattr(module, name.name) for name in node.names}
    return found


def called(node: ast.expr, known: Mapping[str, Any]) -> Any:
    """What a snippet calls, where it is ours: `name`, `hanformer.name` or `Name.method`."""
    if isinstance(node, ast.Name):
        return known.get(node.id)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id in known:
        return getattr(known[node.value.id], node.attr)
    return None


def check(tree: ast.Module, known: Mapping[str, Any]) -> None:
    """Every call of ours has parameters for what it is given."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or (target := called(node.func, known)) is None:
            continue
        if any(isinstance(each, ast.Starred) for each in node.args):
            continue
        words = {str(word.arg): None for word in node.keywords}
        inspect.signature(target).bind(*node.args, **words)


@pytest.mark.parametrize("document", DOCUMENTS, ids=NAMES)
def test_snippets_call_what_there_is(document: Path) -> None:
    known: dict[str, Any] = {"hanformer": hanformer}
    for tree in snippets(document.read_text(encoding="utf-8")):
        known |= imported(tree)
        check(tree, known)


@pytest.mark.parametrize(
    "wrong",
    [
        "from hanformer import nothing",
        "hanformer.nothing()",
        "hanformer.load(paths=1)",
        "hanformer.save(1, 2, 3, 4, 5)",
    ],
)
def test_a_wrong_snippet_is_seen(wrong: str) -> None:
    (tree,) = snippets(f"```python\n{wrong}\n```\n")
    with pytest.raises((AttributeError, TypeError)):
        check(tree, {"hanformer": hanformer, **imported(tree)})
