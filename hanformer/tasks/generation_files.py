"""A whole file of prompts, one JSON line each, that can be cut at any byte and goes on where it was.

整个文件的生成：每个提示一行 JSON，可在任意字节处中断并续做。
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from hanformer.data.files import iterate_json_records
from hanformer.errors import UserError
from hanformer.similarity.vector_files import read_texts
from hanformer.tasks.generation import Generated, Writer
from hanformer.text.vocabulary import Vocabulary
from hanformer.weights.atomic import saving, write_text

#: Prompts are sorted by length within so many batches, and saved together.
BATCHES_TOGETHER: Final = 8


@dataclass(frozen=True)
class Job:
    """What is to be written: the prompts, by which writer, in what batches; `origin` says where both came from.

    一项任务：提示、写作者、批大小与来源说明。
    """

    writer: Writer
    prompts: Sequence[str]
    batch: int
    origin: Mapping[str, Any]

    def plan(self) -> dict[str, Any]:
        """What must be the same for a job to be taken up again."""
        digest = hashlib.sha256()
        for prompt in self.prompts:
            digest.update(prompt.encode("utf-8", "surrogatepass") + b"\n")
        options = json.loads(json.dumps(self.writer.options.chosen()))
        return {
            **{name: str(value) for name, value in self.origin.items()},
            "input": f"{len(self.prompts)} prompts, SHA-256 {digest.hexdigest()}",
            "batch": self.batch,
            "options": options,
        }

    def lines(self, first: int) -> list[str]:
        """The lines of the prompts from number `first` on that are sorted together."""
        last = min(first + BATCHES_TOGETHER * self.batch, len(self.prompts))
        wrong = {number: told for number in range(first, last) if (told := self._complaint(number))}
        good = [number for number in range(first, last) if number not in wrong]
        try:
            texts = [self.prompts[number] for number in good]
            written = self.writer.write(texts, batch=self.batch, numbers=good)
        except UserError:
            return [self._alone(number) for number in range(first, last)]
        found = dict(zip(good, written, strict=True))
        return [
            error_line(self.prompts[number], wrong[number])
            if number in wrong
            else self._line(number, found[number])
            for number in range(first, last)
        ]

    def _alone(self, number: int) -> str:
        """The line of one prompt, among which one has no result: a constraint that nothing satisfies, say."""
        try:
            (found,) = self.writer.write([self.prompts[number]], numbers=[number])
            return self._line(number, found)
        except UserError as error:
            return error_line(self.prompts[number], str(error).removeprefix("prompt 1: "))

    def _line(self, number: int, found: Sequence[Generated]) -> str:
        return line(self.prompts[number], found, self.writer.tokenizer.vocabulary)

    def _complaint(self, number: int) -> str:
        try:
            self.writer.prompter(self.prompts[number])
        except UserError as error:
            return str(error)
        return ""


def line(prompt: str, results: Sequence[Generated], vocabulary: Vocabulary) -> str:
    """The JSON line of one prompt: {"prompt", "results": [{"text", "score", "stopped"[, "tokens"]}]}.

    一个提示的 JSON 行。
    """
    found = [_result(each, vocabulary) for each in results]
    return json.dumps({"prompt": prompt, "results": found}, ensure_ascii=False) + "\n"


def error_line(prompt: str, told: str) -> str:
    """The JSON line of a prompt that cannot be continued. 无法生成的提示对应的行。"""
    return json.dumps({"prompt": prompt, "error": told}, ensure_ascii=False) + "\n"


def read_written(source: str, field: str | None = None) -> list[str]:
    """The texts of a file as `read_texts` gives them; of what `write_file` wrote, without a field, the first result of
    each line, empty for an error.

    读取生成的文本；generate --out 的结果文件无需字段名，取每个提示的第一条结果（出错者为空文本）。

    Errors are those of `read_texts`.
    """
    if field is None and source.endswith((".jsonl", ".jsonl.gz")):
        records: list[Any] = [record for _, record in iterate_json_records(source)]
        if records and all(map(_is_line, records)):
            return ["" if "error" in record else record["results"][0]["text"] for record in records]
    return read_texts(source, field)


def _is_line(record: Any) -> bool:
    if not isinstance(record, dict) or "prompt" not in record:
        return False
    results = record.get("results")
    first = results[0] if isinstance(results, list) and results else None
    return "error" in record or (isinstance(first, dict) and isinstance(first.get("text"), str))


def _result(found: Generated, vocabulary: Vocabulary) -> dict[str, Any]:
    values: dict[str, Any] = {"text": found.text, "score": found.score, "stopped": found.stopped}
    if found.trace:
        values["tokens"] = [
            {
                "token": token_name(vocabulary, each.token),
                "log_probability": each.log_probability,
                "rank": each.rank,
                "alternatives": [
                    [token_name(vocabulary, token), value] for value, token in each.alternatives
                ],
            }
            for each in found.trace
        ]
    return values


def token_name(vocabulary: Vocabulary, number: int) -> str:
    """The token of an id; <number> where a model has more rows than tokens. 编号对应的词元。"""
    return vocabulary.tokens[number] if number < len(vocabulary) else f"<{number}>"


def write_file(
    out: str | Path, job: Job, progress: Callable[[int], object] = lambda done: None
) -> tuple[int, int]:
    """Writes the lines of all prompts, in their order; returns how many there were already, and how many failed.

    按原顺序写出全部结果；返回已有行数与失败行数。

    Beside `out` lies `out` + ".resume.json" until the job is done: with it the same call goes on after the last whole
    line, and the file becomes what it would have been without the break. Raises UserError where `out` exists and was
    not begun by this job, and where it cannot be written.
    """
    target = Path(out)
    notes = target.with_name(f"{target.name}.resume.json")
    done = _begin(target, notes, job.plan())
    progress(done)
    together = BATCHES_TOGETHER * job.batch
    with saving(target), open(target, "ab") as file:
        for first in range(done - done % together, len(job.prompts), together):
            fresh = job.lines(first)[max(done - first, 0) :]
            file.write("".join(fresh).encode("utf-8", "surrogatepass"))
            file.flush()
            os.fsync(file.fileno())
            progress(len(fresh))
    failed = sum(1 for text in target.open("rb") if b'"error"' in text and "error" in json.loads(text))
    notes.unlink()
    return done, failed


def _begin(target: Path, notes: Path, plan: Mapping[str, Any]) -> int:
    """How many whole lines are there already; what a cut has left of another one is removed."""
    if not notes.exists():
        if target.exists():
            raise UserError(f"{target}: exists already; choose another name for --out, or remove it")
        write_text(notes, json.dumps(plan, ensure_ascii=False, indent=1) + "\n")
        target.write_bytes(b"")
        return 0
    begun = _read_notes(notes)
    changed = sorted(name for name in {*plan, *begun} if plan.get(name) != begun.get(name))
    if changed:
        raise UserError(
            f"{target}: was begun with another {', '.join(changed)}; give the same words to go on, or remove "
            f"{target.name} and {notes.name} to begin anew"
        )
    return _whole_lines(target)


def _read_notes(notes: Path) -> dict[str, Any]:
    try:
        found = json.loads(notes.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UserError(f"{notes}: cannot be read ({error}); remove it to begin anew") from None
    return found if isinstance(found, dict) else {}


def _whole_lines(target: Path) -> int:
    if not target.exists():
        target.write_bytes(b"")
        return 0
    content = target.read_bytes()
    whole = content.rfind(b"\n") + 1
    with open(target, "r+b") as file:
        file.truncate(whole)
    return content.count(b"\n")
