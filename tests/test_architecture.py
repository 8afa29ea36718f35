"""The house stands: imports point down only, nothing runs what it reads, importing stays light."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import hanformer

PACKAGE = Path(hanformer.__file__).parent

#: Every room of the package and its floor. A new folder or module at the top must be placed here;
#: a folder inside a room belongs to it. Imports may go down, or across within a floor without circles.
FLOORS: dict[str, int] = {
    # 1 ground
    "errors": 1,
    "records": 1,
    "mechanisms": 1,
    "dialects": 1,
    "config": 1,
    "runtime": 1,
    "nn.functional": 1,
    # 2 matter
    "text": 2,
    "weights": 2,
    "data": 2,
    # 3 parts
    "nn.layers": 3,
    "nn.attention": 3,
    # 4 families
    "models": 4,
    # 5 work
    "decode": 5,
    "train": 5,
    "theory": 5,
    # 6 subjects
    "arithmetic": 6,
    "chat": 6,
    "similarity": 6,
    "lab": 6,
    "parsing": 6,
    "tasks": 6,
    # 7 faces
    "cli": 7,
    "__main__": 7,
}
#: Names without a room: the package itself, and folders that only hold rooms. They import nothing of ours.
PORCHES = ("", "nn")

SOURCES = sorted(path for path in PACKAGE.rglob("*.py"))
NAMES = [str(path.relative_to(PACKAGE)) for path in SOURCES]


def module_name(path: Path) -> str:
    """The dotted name below the package: nn.layers.block; a package's own file is named like its folder."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def room(module: str) -> str | None:
    """The room that a module (its dotted name below the package) belongs to; None for a porch or a stranger."""
    parts = module.split(".")
    names = (".".join(parts[:count]) for count in range(len(parts), 0, -1))
    return next((name for name in names if name in FLOORS), None)


@cache
def tree(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name below the package of everything of ours that a file imports, wherever it does."""
    package = path.relative_to(PACKAGE.parent).parent.parts
    for node in ast.walk(tree(path)):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = ".".join(package[: len(package) + 1 - node.level]) if node.level else ""
            stem = ".".join(part for part in (base, node.module or "") if part)
            names = [f"{stem}.{alias.name}" for alias in node.names]
        else:
            continue
        for name in names:
            head, _, rest = name.partition(".")
            if head == PACKAGE.name:
                yield node.lineno, rest


def test_every_module_has_its_place() -> None:
    lost = [name for path, name in zip(SOURCES, NAMES, strict=True) if _is_lost(module_name(path))]
    assert not lost, f"place these in FLOORS of {Path(__file__).name}: {lost}"


def test_every_room_is_there() -> None:
    missing = [name for name in FLOORS if not _exists(PACKAGE.joinpath(*name.split(".")))]
    assert not missing, f"FLOORS names rooms that are not there: {missing}"


def _exists(place: Path) -> bool:
    return (place / "__init__.py").is_file() or place.with_suffix(".py").is_file()


def test_the_page_of_the_floors_names_every_room() -> None:
    """One row a floor, from the highest down; the folders inside a room may be named beside it."""
    page = (PACKAGE.parent / "docs" / "architecture.md").read_text(encoding="utf-8")
    rows = [line.split("|")[2] for line in page.splitlines() if re.match(r"\| \w+ \| `", line)]
    table = rows[: max(FLOORS.values())]
    named = [{name.removesuffix(".py").strip("/") for name in re.findall(r"`([^`]+)`", row)} for row in table]
    told = [{room(name.replace("/", ".")) for name in names} for names in named]
    floors = sorted(set(FLOORS.values()), reverse=True)
    assert told == [{name for name in FLOORS if FLOORS[name] == floor} - {"__main__"} for floor in floors]


def _is_lost(module: str) -> bool:
    return module not in PORCHES and room(module) is None


def test_every_package_folder_is_a_package() -> None:
    folders = {path.parent for path in SOURCES}
    missing = sorted(str(folder) for folder in folders if not (folder / "__init__.py").is_file())
    assert not missing, f"without __init__.py they are left out of the installed package: {missing}"


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_imports_point_down_only(path: Path) -> None:
    own = room(module_name(path))
    for line, target in imports(path):
        place = f"{path.name}:{line} imports {target or PACKAGE.name}"
        if target.startswith("__version__"):
            continue
        assert own is not None, f"{place}: a porch imports nothing of ours"
        aim = room(target)
        assert aim is not None, f"{place}: import from the room that holds it, not from the porch"
        assert FLOORS[aim] <= FLOORS[own], (
            f"{place}: {own} (floor {FLOORS[own]}) may not use {aim} ({FLOORS[aim]})"
        )


def test_rooms_of_one_floor_have_no_circles() -> None:
    uses: dict[str, set[str]] = {name: set() for name in FLOORS}
    for path in SOURCES:
        own = room(module_name(path))
        aims = {room(target) for _, target in imports(path)}
        if own is not None:
            uses[own] |= {aim for aim in aims if aim is not None and aim != own}
    while free := [name for name, below in uses.items() if not below]:
        uses = {name: below - set(free) for name, below in uses.items() if name not in free}
    assert not uses, f"these rooms use each other in a circle: {uses}"


def test_the_checks_can_see(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The reader of imports understands every form of them."""
    monkeypatch.setattr(sys.modules[__name__], "PACKAGE", tmp_path / "hanformer")
    path = tmp_path / "hanformer" / "nn" / "layers" / "x.py"
    path.parent.mkdir(parents=True)
    path.write_text(
        "import torch, hanformer.models.loading\nfrom . import block\nfrom ..attention import softmax\n"
        "def f():\n    from hanformer import cli\n    from hanformer.data.files import read\n",
        encoding="utf-8",
    )
    assert [name for _, name in imports(path)] == [
        "models.loading",
        "nn.layers.block",
        "nn.attention.softmax",
        "cli",
        "data.files.read",
    ]
    assert room("nn.layers.block.Block") == "nn.layers" and room("nn.other") is None


#: What may not be called or imported, and why.
FORBIDDEN_CALLS = {
    "eval": "nothing runs what it reads",
    "exec": "nothing runs what it reads",
    "hasattr": "no guessing",
}
FORBIDDEN_MODULES = {"pickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_nothing_forbidden(path: Path) -> None:
    for node in ast.walk(tree(path)):
        place = f"{path.name}:{getattr(node, 'lineno', 0)}"
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            assert node.func.id not in FORBIDDEN_CALLS, f"{place}: {FORBIDDEN_CALLS[node.func.id]}"
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "torch.load":
            words = {word.arg: ast.unparse(word.value) for word in node.keywords}
            assert words.get("weights_only") == "True", f"{place}: torch.load needs weights_only=True"
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            names = (
                [alias.name for alias in node.names] if isinstance(node, ast.Import) else [node.module or ""]
            )
            assert not {name.split(".")[0] for name in names} & FORBIDDEN_MODULES, f"{place}: no unpickling"
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            assert node.args.kwarg is None, f"{place}: name the arguments instead of **{node.args.kwarg.arg}"


@pytest.mark.parametrize("path", SOURCES, ids=NAMES)
def test_files_stay_readable(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    assert len(lines) <= 450, "cut the file in two"
    for node in ast.walk(tree(path)):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            start = node.body[1 if ast.get_docstring(node) and len(node.body) > 1 else 0].lineno
            length = (node.end_lineno or start) - start + 1
            assert length <= 60, f"{path.name}:{node.lineno}: {node.name} has {length} lines"


def test_public_names_exist() -> None:
    assert all(getattr(hanformer, name) is not None for name in hanformer.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        hanformer.nothing  # noqa: B018


IMPORT = """
import sys, time
start = time.process_time()
import hanformer
spent = time.process_time() - start
heavy = {"torch", "numpy", "safetensors", "tokenizers", "huggingface_hub", "matplotlib", "transformers"}
print(spent, *(heavy & set(sys.modules)))
"""


def test_importing_is_light() -> None:
    """CPU seconds, so that a busy machine does not decide."""
    run = subprocess.run([sys.executable, "-c", IMPORT], capture_output=True, text=True, check=True)
    spent, *heavy = run.stdout.split()
    assert float(spent) < 0.3 and not heavy
