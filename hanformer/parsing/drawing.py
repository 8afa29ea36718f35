"""A tree as text for a terminal, and as an SVG picture."""

from __future__ import annotations

import unicodedata
from html import escape

from hanformer.parsing.brackets import Brackets, Span
from hanformer.parsing.scoring import parts_of

_SIZE = 16
_GAP, _RISE, _EDGE = 14.0, 26.0, 12.0


def as_text(tree: Brackets) -> str:
    """One word a line, its brackets drawn before it; wide characters need no care.

    终端文本：每行一个词，左侧画出括号结构。
    """
    parts = parts_of(tree)
    columns: list[list[str]] = [[] for _ in tree.words]
    for span in tree.ordered():
        for number, part in enumerate(parts[span]):
            last = number == len(parts[span]) - 1
            first_line = "┬─" if number == 0 else "└─" if last else "├─"
            for place in range(*part):
                columns[place].append(first_line if place == part[0] else "  " if last else "│ ")
    lead = "─" if tree.spans else ""
    lines = []
    for place, (signs, word) in enumerate(zip(columns, tree.words, strict=True)):
        lines.append(f"{lead if place == 0 else ' ' * len(lead)}{''.join(signs)} {word}".rstrip())
    return "\n".join(line if tree.spans else line.strip() for line in lines)


def as_svg(tree: Brackets) -> str:
    """A picture that needs nothing else: words below, every bracket a fork above its parts.

    SVG 图：词在下方，括号为上方的分叉。
    """
    middles, width = _middles(tree)
    heights: dict[Span, int] = dict.fromkeys(middles, 0)
    parts, lines = parts_of(tree), []
    for span in sorted(parts, key=lambda span: span[1] - span[0]):
        heights[span] = 1 + max(heights[part] for part in parts[span])
        middles[span] = (middles[parts[span][0]] + middles[parts[span][-1]]) / 2
    floor = _EDGE + _RISE * max(heights.values(), default=0)
    for span, inside in parts.items():
        top = floor - _RISE * heights[span]
        for part in inside:
            lines.append(
                f'<path d="M{middles[span]:.1f} {top:.1f}H{middles[part]:.1f}V{floor - _RISE * heights[part]:.1f}"/>'
            )
    words = [
        f'<text x="{middles[place, place + 1]:.1f}" y="{floor + _SIZE + 2:.1f}">{escape(word)}</text>'
        for place, word in enumerate(tree.words)
    ]
    size = f"{width:.0f} {floor + 2 * _SIZE:.0f}"
    return _PAGE.format(size=size, lines="".join(lines), words="".join(words), font=_SIZE)


def _middles(tree: Brackets) -> tuple[dict[Span, float], float]:
    """Where each word stands, by an estimate of its width, and the width of the picture."""
    middles: dict[Span, float] = {}
    reached = _EDGE
    for place, word in enumerate(tree.words):
        width = _width(word)
        middles[place, place + 1] = reached + width / 2
        reached += width + _GAP
    return middles, reached - _GAP + _EDGE if tree.words else 2 * _EDGE


def _width(word: str) -> float:
    wide = sum(unicodedata.east_asian_width(character) in "WF" for character in word)
    return _SIZE * (wide + 0.58 * (len(word) - wide))


_PAGE = (
    '<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size}" font-size="{font}" text-anchor="middle" '
    "font-family=\"system-ui,'Noto Sans SC','PingFang SC','Microsoft YaHei',sans-serif\">"
    '<g fill="none" stroke="#557" stroke-width="1.5">{lines}</g><g fill="#222">{words}</g></svg>\n'
)
