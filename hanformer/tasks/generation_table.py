"""Results as text for a terminal. 结果的文本显示。"""

from __future__ import annotations

from collections.abc import Sequence

from hanformer.decode import TokenScore
from hanformer.tasks.generation import Generated
from hanformer.tasks.generation_files import token_name
from hanformer.text.vocabulary import Vocabulary


def table(results: Sequence[Generated], vocabulary: Vocabulary, scores: bool = False) -> str:
    """A line a result; with `scores` its score and what stopped it; below, the tokens that were traced.

    每个结果一行，可附得分、停止原因与逐词元对数概率。
    """
    lines = []
    for found in results:
        lines.append(f"{found.score:9.4f}  {found.stopped:6}  {found.text}" if scores else found.text)
        lines += [_token_line(each, vocabulary) for each in found.trace]
    return "\n".join(lines)


def _token_line(score: TokenScore, vocabulary: Vocabulary) -> str:
    beside = "  ".join(f"{token_name(vocabulary, token)} {value:.3f}" for value, token in score.alternatives)
    name = token_name(vocabulary, score.token)
    return f"    {score.log_probability:9.4f}  #{score.rank + 1:<5} {name:8} {beside}".rstrip()
