"""The whole table of mechanisms, positions and applications in docs/attention.md: each works exactly, or is refused."""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path

import pytest
import torch

from hanformer.config import APPLICATIONS, POSITIONS, ModelConfig
from hanformer.errors import UserError
from hanformer.mechanisms import (
    Atrous,
    GatedUnit,
    Linear,
    Local,
    Mechanism,
    Performer,
    Softmax,
    Sparse,
    Synthesizer,
    Taylor,
)
from hanformer.models import Transformer, build, load, save
from tests.harness import (
    EXACT,
    Rows,
    assert_all_close,
    random_model,
    random_rows,
    run_packed,
    run_row_by_row,
    tiny_config,
)
from tests.models.families.tiny import tiny_family
from tests.models.test_encoder_decoder import SOURCES, Uncached

PAGE = Path(__file__).parents[3] / "docs" / "attention.md"
RECORDS: dict[str, Mechanism] = {
    "softmax": Softmax(),
    "local": Local(radius=2),
    "atrous": Atrous(rate=2),
    "sparse": Sparse(rate=2),
    "linear": Linear(),
    "linear, cosine": Linear(features="cosine"),
    "linear, taylor": Linear(features="taylor"),
    "linear, double_softmax": Linear(features="double_softmax"),
    "linear, rotates=features": Linear(rotates="features"),
    "performer": Performer(features=16),
    "performer, rotates=features": Performer(features=16, rotates="features"),
    "taylor": Taylor(),
    "synthesizer": Synthesizer("dense+random"),
    "synthesizer, plus": Synthesizer("factorised_random", "plus"),
    "gated_unit": GatedUnit(key_size=6),
}


def table() -> dict[str, dict[str, bool]]:
    """The table of the page: mechanism → word → whether it is carried. Rotary stands for both of its layouts."""
    rows = [line for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("|")]
    start = next(place for place, line in enumerate(rows) if line.startswith("| Mechanism |"))
    cells = [[cell.strip() for cell in row.strip("|").split("|")] for row in rows[start:]]
    words = [word.strip("`") for word in cells[0][1:]]
    found = {}
    for row in cells[2:]:
        if row[0].replace("`", "") not in RECORDS:
            break
        carried = dict(zip(words, (cell == "yes" for cell in row[1:]), strict=True))
        found[row[0].replace("`", "")] = {**carried, "rotary_halves": carried["rotary"]}
    return found


def config_of(name: str, **changes: object) -> ModelConfig:
    heads = 1 if name == "gated_unit" else 2
    return tiny_config(attention=RECORDS[name], attention_heads=heads, layers=1, max_positions=12, **changes)


def test_the_table_is_whole() -> None:
    assert list(table()) == list(RECORDS)
    assert {type(record) for record in RECORDS.values()} == set(Mechanism.kinds().values())
    words = {*POSITIONS, *APPLICATIONS, "residual_attention"}
    assert all(set(row) == words for row in table().values())


@pytest.mark.parametrize("position", POSITIONS)
@pytest.mark.parametrize("name", RECORDS)
def test_every_combination_works_exactly_or_is_refused(name: str, position: str) -> None:
    row = table()[name]
    for application in APPLICATIONS:
        config = config_of(name, position=position, application=application)
        if row[position] and row[application]:
            check_exactness(random_model(config))
        else:
            with pytest.raises(UserError, match="attention: .{20}"):
                build(config)


@pytest.mark.parametrize("name", RECORDS)
def test_residual_attention(name: str) -> None:
    row = table()[name]
    for application in (word for word in APPLICATIONS if row[word]):
        config = config_of(name, residual_attention=True, application=application).changed({"layers": 2})
        if row["residual_attention"]:
            check_exactness(random_model(config))
        else:
            with pytest.raises(UserError, match="attention: .{20}"):
                build(config)


@pytest.mark.parametrize("name", RECORDS)
def test_decoders_that_look_at_a_memory(name: str) -> None:
    """T5 with the mechanism in both stacks; looking at the memory is ordinary attention, whatever the mechanism."""
    row = table()[name]
    position = next(word for word in ("relative_buckets", "none", "rotary") if row[word])
    changes = {"attention": RECORDS[name], "position": position, "max_positions": 12, "attention_heads": 1}
    if name == "gated_unit" or not row["lm"]:
        with pytest.raises(UserError, match="attention: "):
            tiny_family("t5.1.1", torch.float64, **changes)
        return
    model = tiny_family("t5.1.1", torch.float64, **changes)
    uncached = Uncached(model, SOURCES)
    logits, state = model.prompt(SOURCES)
    torch.testing.assert_close(logits, uncached.logits(1)[:, 0], **EXACT)
    for rows in ([0, 1, 2, 3], [0, 0, 1, 1, 2, 3], [5, 0, 2]):
        state.select(torch.tensor(rows))
        uncached.select(torch.tensor(rows))
        tokens = torch.randint(23, (len(rows), 2))
        torch.testing.assert_close(model.step(tokens, state), uncached.step(tokens), **EXACT)


@pytest.mark.parametrize(
    ("saved", "asked"),
    [
        ({"attention": Synthesizer("random"), "position": "none"}, {"changes": {"position": "rotary"}}),
        ({"attention": Linear()}, {"changes": {"position": "alibi"}}),
        ({"attention": Linear("double_softmax")}, {"application": "lm"}),
        ({"attention": Performer(features=4)}, {"changes": {"residual_attention": True}}),
    ],
)
def test_a_mechanism_that_is_replaced_refuses_nothing(
    saved: dict[str, object], asked: dict[str, object], tmp_path: Path
) -> None:
    save(random_model(tiny_config(**saved), (), torch.float32), tmp_path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        model = load(tmp_path, attention=Softmax(), **asked)
    assert model.config.attention == Softmax() and model.stack.blocks[0].attention.query.weight.any()


def check_exactness(model: Transformer) -> None:
    """Packed rows are each row alone, nothing hidden is seen, and a cache changes nothing."""
    rows = random_rows(model.config, (5, 1, 7, 3))
    expected = run_row_by_row(model, rows)
    assert_all_close(run_packed(model, rows), expected, **EXACT)
    if model.config.application == "encoder":
        return
    segment = int(model.config.application == "unilm")
    logits, state = model.prompt(rows.ids, rows.segments)
    ends = torch.tensor(list(itertools.accumulate(map(len, rows.ids)))) - 1
    torch.testing.assert_close(logits, expected[1][ends], **EXACT)
    for _ in range(2):
        fresh = torch.randint(3, model.config.vocab_size, (4, 2))
        longer = [[*row, *new] for row, new in zip(rows.ids, fresh.tolist(), strict=True)]
        rows = Rows(longer, [[*row, segment, segment] for row in rows.segments])
        found = run_packed(model, rows)[1].split([len(row) for row in longer])
        torch.testing.assert_close(
            model.step(fresh, state), torch.stack([row[-2:] for row in found]), **EXACT
        )
    assert state.bytes() > 0


@pytest.mark.skipif(not torch.cuda.is_available(), reason="torch finds no GPU")
@pytest.mark.parametrize("name", RECORDS)
def test_on_a_gpu(name: str) -> None:
    """The same numbers there, decoding included."""
    row = table()[name]
    position = next(word for word in ("alibi", "rotary_halves") if row[word])
    model = random_model(config_of(name, position=position, application="lm" if row["lm"] else "encoder"))
    rows = random_rows(model.config, (5, 1, 7, 3))
    expected = run_packed(model, rows)
    model, layout = model.to("cuda"), rows.layout.to("cuda")
    hidden = model.body(model.embed(rows.packed.to("cuda"), layout), layout)
    torch.testing.assert_close(hidden.cpu(), expected[0], **EXACT)
    if row["lm"]:
        logits, state = model.prompt(rows.ids, rows.segments)
        ends = torch.tensor(list(itertools.accumulate(map(len, rows.ids)))) - 1
        torch.testing.assert_close(logits.cpu(), expected[1][ends], **EXACT)
        assert model.step(torch.full((4, 2), 3, device="cuda"), state).isfinite().all()
