"""What each rule of decoding is worth for a model that rewrites texts: quality, repetition and speed side by side.

Writes the targets of some test sources by every search and sampling rule, and prints BLEU and chrF by character (with
sacrebleu's signatures), repetition beside that of the references, how many texts did not end, and characters a second;
then a few samples. Made for the translator from classical to modern Chinese:

    hanformer train seq2seq --data classical_modern/ --out runs/translator --optimizer muon --set learning_rate=2e-3
    python examples/translation_rules.py runs/translator classical_modern/ --count 300

Results: docs/experiments.md.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch

from hanformer.data.tables import find_splits
from hanformer.runtime import inference_dtype, set_threads, tune_cpu
from hanformer.tasks.generation import Generated, Writer, open_writer
from hanformer.tasks.generation_options import GenerationOptions
from hanformer.tasks.scoring import TextScores, score_texts
from hanformer.tasks.seq2seq.pairs import read_pairs
from hanformer.tasks.serving import spread

RULES: dict[str, dict[str, Any]] = {
    "greedy": {},
    "greedy, no 3-gram twice": {"no_repeat_ngram": 3},
    "greedy, repetition penalty 1.2": {"repetition_penalty": 1.2},
    "beam 3": {"rule": "beam", "beams": 3},
    "beam 3, stopping when full": {"rule": "beam", "beams": 3, "stopping": "full"},
    "beam 3, no 3-gram twice": {"rule": "beam", "beams": 3, "no_repeat_ngram": 3},
    "beam 8": {"rule": "beam", "beams": 8},
    "beam 3, bert4keras": {"rule": "bert4keras", "beams": 3},
    "diverse beam, 2 groups of 2": {"rule": "diverse", "beams": 4, "groups": 2},
    "contrastive": {"rule": "contrastive"},
    "sampling": {"rule": "sample"},
    "temperature 0.7": {"rule": "sample", "temperature": 0.7},
    "top-k 10": {"rule": "sample", "top_k": 10},
    "top-k 10, consistent": {"rule": "sample", "top_k": 10, "consistent": True},
    "nucleus 0.9": {"rule": "sample", "top_p": 0.9},
    "nucleus 0.9, consistent": {"rule": "sample", "top_p": 0.9, "consistent": True},
    "min-p 0.1": {"rule": "sample", "min_p": 0.1},
    "typical 0.9": {"rule": "sample", "typical": 0.9},
    "eta 0.001": {"rule": "sample", "eta": 0.001},
    "mirostat 3": {"rule": "sample", "mirostat": 3.0},
}
COLUMNS = ("BLEU", "chrF", "seq-rep-n", "not ended", "mean length", "characters/s")


def written_by(writer: Writer, sources: Sequence[str]) -> tuple[list[Generated], float]:
    """The best text of every source, and the seconds that they took; sources of like length together."""
    order = sorted(range(len(sources)), key=lambda place: len(sources[place]))
    began = time.monotonic()
    found = [rows[0] for rows in writer.write([sources[place] for place in order], batch=32)]
    seconds = time.monotonic() - began
    return [found[rank] for rank in sorted(range(len(order)), key=lambda rank: order[rank])], seconds


def line(name: str, found: Sequence[Generated], seconds: float, scores: TextScores) -> str:
    """One row of the table."""
    values = (
        f"{scores.corpus.bleu:.2f}",
        f"{scores.corpus.chrf:.2f}",
        f"{100 * scores.repetition.ngrams:.2f} %",
        f"{100 * sum(one.stopped != 'end' for one in found) / len(found):.1f} %",
        f"{sum(len(one.text) for one in found) / len(found):.1f}",
        f"{sum(len(one.text) for one in found) / seconds:,.0f}",
    )
    return f"| {name} | {' | '.join(values)} |"


def options_of(words: Mapping[str, Any], longest: int) -> GenerationOptions:
    """The options of a rule; greedy unless it says otherwise."""
    return GenerationOptions(**{"rule": "greedy", "maximum_length": longest, **words})


def main() -> None:
    """Reads the command line and prints the tables."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", help="a run of `hanformer train seq2seq`")
    parser.add_argument("data", help="a folder with a test file, or a file of pairs")
    parser.add_argument("--count", type=int, default=300, help="test pairs, spread evenly")
    parser.add_argument("--longest", type=int, default=80, help="tokens of a text at most")
    parser.add_argument("--samples", type=int, default=3, help="sources to show texts of")
    parser.add_argument("--only", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--precision", default="fp32")
    parser.add_argument("--threads", type=int)
    options = parser.parse_args()
    set_threads(options.threads)
    tune_cpu()
    splits = find_splits(options.data)
    pairs = spread(read_pairs(splits.get("test") or splits["train"]), options.count)
    sources, references = [pair.source for pair in pairs], [pair.target for pair in pairs]
    dtype = inference_dtype(options.precision, torch.device("cpu"))
    opened = open_writer(options.run, dtype=dtype)
    print(f"| rule | {' | '.join(COLUMNS)} |\n|---{'|---:' * len(COLUMNS)}|")
    said: dict[str, list[Generated]] = {}
    for name in options.only:
        writer = Writer(opened.model, opened.tokenizer, options_of(RULES[name], options.longest))
        said[name], seconds = written_by(writer, sources)
        scores = score_texts([one.text for one in said[name]], references)
        print(line(name, said[name], seconds, scores), flush=True)
    print(
        f"\nreferences: seq-rep-n {100 * scores.reference_repetition.ngrams:.2f} %, "
        f"mean length {sum(map(len, references)) / len(references):.1f}\n"
        f"{scores.corpus.bleu_signature}\n{scores.corpus.chrf_signature}"
    )
    for place in range(min(options.samples, len(pairs))):
        print(f"\n{sources[place]}\n  (reference) {references[place]}")
        for name, found in said.items():
            print(f"  ({name}) {found[place].text}")


if __name__ == "__main__":
    main()
