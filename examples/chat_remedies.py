"""Endless and repeated replies of a chat model, with and without each remedy.

Replies to the last utterances of a test set by several rules, and prints how many replies have not ended by some
lengths, how long they are, how they repeat themselves, and how near they come to the real ones; then samples.
A second run, trained with a head that must stop, is compared where it is named.

    hanformer train chat --data LCCC-base_valid.json.gz --out runs/chat
    hanformer train chat --data LCCC-base_valid.json.gz --out runs/chat_stop --set stop.kind=non_monotonic
    python examples/chat_remedies.py runs/chat LCCC-base_test.json.gz --head runs/chat_stop --count 300

Results: docs/chat.md.
"""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from hanformer.chat.opening import OpenedChat, open_chat
from hanformer.chat.replies import Reply, reply_options
from hanformer.chat.service import ReplyScores, score_replies
from hanformer.data.dialogues import Dialogue, open_test
from hanformer.runtime import set_threads, tune_cpu
from hanformer.theory.termination import unfinished_curve

RULES: dict[str, dict[str, Any]] = {
    "greedy": {"rule": "greedy"},
    "greedy, no 3-gram twice": {"rule": "greedy", "no_repeat_ngram": 3},
    "greedy, repetition penalty 1.2": {"rule": "greedy", "repetition_penalty": 1.2},
    "greedy, urge to end from 16 on": {"rule": "greedy", "decay": (16, 1.1)},
    "beam 4": {"rule": "beam", "beams": 4},
    "beam 4, no 3-gram twice": {"rule": "beam", "beams": 4, "no_repeat_ngram": 3},
    "top-k 5": {"top_k": 5},
    "top-k 5, consistent": {"top_k": 5, "consistent": True},
    "nucleus 0.9": {"top_p": 0.9},
    "nucleus 0.9, consistent": {"top_p": 0.9, "consistent": True},
    "nucleus 0.9, consistent, no 3-gram twice": {"top_p": 0.9, "consistent": True, "no_repeat_ngram": 3},
}
HEAD_RULES = ("greedy", "beam 4", "top-k 5", "nucleus 0.9")
COLUMNS = ("tokens", "rep-w", "seq-rep-4", "rep-r", "distinct-2", "BLEU")


def replies_by(
    chat: OpenedChat, words: Mapping[str, Any], histories: Sequence[Dialogue], longest: int
) -> list[Reply]:
    """What a rule replies; `plain` leaves out what a chat adds on its own."""
    return chat.replier(reply_options({**words, "maximum_length": longest}, plain=True)).replies(histories)


def line(name: str, replies: Sequence[Reply], scores: ReplyScores, lengths: Sequence[int]) -> str:
    """One row of the table, shares in hundredths."""
    repetition = scores.texts.repetition
    ends = [len(reply.tokens) + 1 if reply.finished else None for reply in replies]
    values = (
        *(100 * share for share in unfinished_curve(ends, lengths)),
        scores.length,
        100 * repetition.in_window,
        100 * repetition.ngrams,
        100 * repetition.bigrams,
        100 * scores.distinct_2,
        scores.texts.corpus.bleu,
    )
    return f"| {name} | " + " | ".join(f"{value:.2f}" for value in values) + " |"


def main() -> None:
    """Reads the command line and prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run of `hanformer train chat`")
    parser.add_argument("data", help="dialogues with a test set, or all of them")
    parser.add_argument("--head", help="a run with a head that must stop")
    parser.add_argument("--count", type=int, default=200, help="dialogues to reply to")
    parser.add_argument("--longest", type=int, default=64, help="tokens of a reply at most")
    parser.add_argument("--samples", type=int, default=4, help="histories to show replies to")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    set_threads(options.threads)
    tune_cpu()
    asked = [turns for turns in open_test(options.data) if len(turns) > 1]
    asked = asked[:: max(1, len(asked) // options.count)][: options.count]
    histories, references = [turns[:-1] for turns in asked], [turns[-1] for turns in asked]
    chats = [("", open_chat(options.run), tuple(RULES))]
    if options.head:
        chats.append(("head that must stop: ", open_chat(options.head), HEAD_RULES))
    lengths = sorted({max(1, options.longest // 4), max(1, options.longest // 2), options.longest})
    columns = [*(f"not ended by {length}" for length in lengths), *COLUMNS]
    print(f"| rule | {' | '.join(columns)} |\n|---{'|---:' * len(columns)}|")
    said: dict[str, list[Reply]] = {}
    for prefix, chat, rules in chats:
        for rule in rules:
            replies = said[prefix + rule] = replies_by(chat, RULES[rule], histories, options.longest)
            print(line(prefix + rule, replies, score_replies(replies, references), lengths), flush=True)
    for place in range(min(options.samples, len(asked))):
        print(f"\n{' / '.join(histories[place])}\n  (real reply) {references[place]}")
        for name, replies in said.items():
            print(f"  ({name}) {replies[place].text}{'' if replies[place].finished else ' ...'}")


if __name__ == "__main__":
    main()
