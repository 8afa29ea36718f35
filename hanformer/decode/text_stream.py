"""Text as it grows: tokens in, the characters that are certain out."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from hanformer.decode.search import Search
from hanformer.decode.stopping import Decode, checked_strings, cut_at
from hanformer.errors import UserError

_UNFINISHED = "\ufffd"


class TextStream:
    """Gives out text that later tokens cannot change: whole characters, and no beginning of a stop string.

    流式文本：只输出不会再变的字符；多字节字符拼全之后、停止串排除之后才输出。

    What was given out, joined, is the text of all tokens, cut before the first stop string; `stopped` says
    that one came. Where `decode` changes what it gave before (a cleaned-up space), text is held back until it
    agrees again. Raises UserError for an empty stop string.
    """

    def __init__(self, decode: Decode, stops: Sequence[str] = ()) -> None:
        self.decode, self.stops = decode, checked_strings(stops)
        self.tokens: list[int] = []
        self.given = ""
        self.stopped = False

    def push(self, token: int) -> str:
        """The text that has become certain by one more token."""
        if self.stopped:
            return ""
        self.tokens.append(token)
        text = self._text()
        return self._give(text if self.stopped else text[: len(text) - self._uncertain(text)])

    def finish(self) -> str:
        """What was held back: an unfinished character, the beginning of a stop string that did not come."""
        return "" if self.stopped else self._give(self._text())

    def _text(self) -> str:
        text = self.decode(self.tokens)
        cut = cut_at(text, self.stops)
        self.stopped = len(cut) < len(text)
        return cut

    def _uncertain(self, text: str) -> int:
        """How many last characters may still change or begin a stop string."""
        whole = text.rstrip(_UNFINISHED)
        begun = [
            size
            for stop in self.stops
            for size in range(1, min(len(stop), len(whole) + 1))
            if whole.endswith(stop[:size])
        ]
        return len(text) - len(whole) + max(begun, default=0)

    def _give(self, text: str) -> str:
        if not text.startswith(self.given):
            return ""
        fresh = text[len(self.given) :]
        self.given = text
        return fresh


def stream_text(
    searches: Iterable[Sequence[Search]], decode: Decode, stops: Sequence[str] = ()
) -> Iterator[str]:
    """The text of one prompt's one path, piece by piece, from `stream` with a greedy or sampling rule.

    逐段返回文本（单个提示、单条路径）。

    Ends at a stop string without asking for another token. Raises UserError for several prompts or paths.
    """
    text = TextStream(decode, stops)
    for current in searches:
        paths = [path for search in current for path in (*search.live, *search.finished)]
        if len(current) != 1 or len(paths) != 1:
            raise UserError(
                "expected one prompt and a rule of one path (greedy, or one sample), "
                f"got {len(current)} prompts and {len(paths)} paths"
            )
        if paths[0].tokens[-1] != current[0].limits.end_id:
            yield text.push(paths[0].tokens[-1])
        if text.stopped:
            return
    yield text.finish()
