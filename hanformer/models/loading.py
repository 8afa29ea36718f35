"""Loading: from a path to a model, whatever its family and format."""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from hanformer.config import ModelConfig
from hanformer.errors import UserError
from hanformer.mechanisms import Mechanism, Performer
from hanformer.models.belonging import check_dtype, device_named
from hanformer.models.checkpoint import Checkpoint, LeftOut, open_checkpoint
from hanformer.models.encoder_decoder import EncoderDecoder
from hanformer.models.families import foreign_type
from hanformer.models.initial import CONDITIONS, conditions_by_name, initial
from hanformer.models.laid_out import lay_out
from hanformer.models.names import Entry, NameMap
from hanformer.models.reading import Fit, read_parameters
from hanformer.models.recurrent_store import is_recurrent, load_recurrent
from hanformer.models.report import LoadReport
from hanformer.models.resizing import SIZES, as_stored, resizer
from hanformer.models.skeletons import place, to_be_filled
from hanformer.models.token_rows import Compound, TokenRows, listed
from hanformer.models.transformer import Transformer, head_names
from hanformer.nn.attention.performer import PerformerAttention
from hanformer.runtime import within_memory
from hanformer.weights.embedded import is_embedded

Model = Transformer | EncoderDecoder
#: What the parameters of each head begin with.
HEAD_PARAMETERS = {"lm": "lm_head.", "pool": "pooler.", "nsp": "nsp_head.", "discriminator": "discriminator."}
#: Changes of the config that leave every parameter in its place.
_ASKED = {"application", "share_layers", "convention"}
#: Layers are numbered in published names.
_IN_A_LAYER = re.compile(r"\d[./]")


def build(config: ModelConfig, heads: Sequence[str] = ("lm",)) -> Transformer:
    """A new model of one stack with initial weights, drawn from torch's random state.

    按配置新建单栈模型并初始化权重。

    Raises UserError for a config that cannot be built, and where no memory holds the model.
    """
    with room_for(config, heads):
        return Transformer(config, heads).initialise()


@contextmanager
def room_for(config: ModelConfig, heads: Sequence[str] = ("lm",)) -> Iterator[None]:
    """Inside, a model of the config is built; raises UserError with its size where no memory holds it.

    在其中新建模型；内存不足时说明模型的大小。
    """

    def said(asked: str) -> str:
        counts = {name: value.numel() for name, value in skeleton(config, heads).state_dict().items()}
        largest = max(counts, key=counts.__getitem__)
        return (
            f"config: no memory for a model of {sum(counts.values()):,} numbers{asked}, of which {largest} has "
            f"{counts[largest]:,}; take smaller sizes (max_positions={config.max_positions}, "
            f"hidden_size={config.hidden_size}, layers={config.layers})"
        )

    with within_memory(said):
        yield


def load(
    path: str | Path,
    *,
    family: str | None = None,
    application: str | None = None,
    heads: Sequence[str] | None = None,
    share_layers: bool | None = None,
    convention: str | None = None,
    config: str | Path | Mapping[str, Any] | None = None,
    changes: Mapping[str, Any] | None = None,
    attention: Mechanism | str | None = None,
    keep_tokens: Sequence[int] | None = None,
    compound_tokens: Sequence[Compound] = (),
    strict: bool = True,
    resize: bool = False,
    checksums: bool = True,
    device: str | torch.device = "cpu",
    dtype: torch.dtype | None = None,
) -> Any:
    """Opens a model, ready for inference: a folder, a TensorFlow prefix, a .safetensors or .bin file, a run folder,
    a folder of Megatron's ranks, a hub id, or the embedded model "tiny" (in float32).

    打开任意格式的模型：文件夹、TensorFlow 前缀、.safetensors 或 .bin 文件、运行目录、hub 名称，或随包模型 tiny。

    `family` is found from config and names where it can be ("bert", "albert", "albert_unshared", "nezha", "electra",
    "roformer", "roformer_v2", "gpt", "gpt2", "gpt2_ml", "t5.1.0", "t5.1.1", "mt5.1.1", "llama", ...).
    `application` (encoder, lm, unilm) and `heads` (lm or mlm, pool, nsp, discriminator) default to what the family,
    or the run, is for. `share_layers=False` gives every layer of an ALBERT weights of its own. `config` names or
    holds the JSON where it does not lie beside the weights; `changes` are further fields of `ModelConfig`.
    `attention` mixes tokens another way (`hanformer.mechanisms`): weights that fit are kept, a mechanism's own are new
    and named in a warning.
    `keep_tokens` and `compound_tokens` select and add rows of the vocabulary (`TokenRows`).
    With `strict=False`, missing or misshapen parameters get initial weights and a warning instead of an error.
    With `resize=True`, misshapen ones are made larger or smaller (`models.resizing`): with `changes`, a published
    model starts one of another size.
    `checksums=False` leaves out the check of TensorFlow's CRCs.
    A head that must stop, where one lies beside the weights, is left out with the warning `LeftOut`:
    `models.terminating_files.load_writing` opens it too.

    Built on the meta device: nothing is initialised that the file then overwrites; tensors are mapped from the file
    where its format allows, copy on write. Returns a `Transformer`, an `EncoderDecoder` for the T5 kinds, or the
    `RecurrentLm` of a run of that task, which takes none of these choices but the device.
    Raises UserError for a missing, broken or foreign file, where weights and config disagree, and for a dtype or a
    device that is none.
    """
    check_dtype(dtype)
    target = device_named(device)
    if is_recurrent(path):
        return load_recurrent(path, device=target)
    checkpoint = open_checkpoint(path, family=family, config=config, checksums=checksums)
    asked = {
        "application": application,
        "share_layers": share_layers,
        "convention": convention,
        "attention": attention,
    }
    wanted = {**{key: value for key, value in asked.items() if value is not None}, **(changes or {})}
    kept = None if keep_tokens is None else listed("keep_tokens", keep_tokens)
    rows = TokenRows(kept, listed("compound_tokens", compound_tokens))
    model, report = assemble(checkpoint, wanted, heads, rows, resizer if resize else None, strict=strict)
    noted = report.unexpected or report.dropped or (attention is not None and report.fresh)
    if not report.fits or noted:
        warnings.warn(report.text(), stacklevel=2)
    if checkpoint.left_out is not None:
        warnings.warn(checkpoint.left_out, LeftOut, stacklevel=2)
    # Embedded models are stored in half precision to be small, not to be computed with.
    wide = torch.float32 if dtype is None and is_embedded(path) else dtype
    if wide is not None or target.type != "cpu":
        model.to(device=target, dtype=wide)
        lay_out(model)  # all of it was copied: the copy may lie as optimizers like it
    return model.eval()


def assemble(
    checkpoint: Checkpoint,
    changes: Mapping[str, Any],
    heads: Sequence[str] | None,
    rows: TokenRows | None = None,
    fitting: Callable[[ModelConfig], Fit] | None = None,
    *,
    strict: bool = False,
) -> tuple[Model, LoadReport]:
    """The model of a checkpoint, with what is missing initialised, and the report on how they fit.

    由检查点组装模型并给出吻合报告。

    `fitting` gives, for the config of the model, what is done with misshapen tensors; they are left unless given.
    With `strict`, raises UserError where they do not fit, before anything is initialised.
    """
    model, report, state = _matched(checkpoint, changes, heads, rows or TokenRows(), fitting)
    if strict:
        _refuse(checkpoint, report, changes)
    for name, tensor in model.state_dict().items():
        if name not in state:
            state[name] = initial(name, tensor.shape, model, model.config)
    place(model, state)
    return model, report


def examine(checkpoint: Checkpoint, heads: Sequence[str]) -> tuple[Model, LoadReport, str | None]:
    """The model without weights, the report on how the checkpoint fits it, and why `load` would refuse it, if so.

    不含权重的模型、吻合报告，以及 load 拒绝的理由；不占用内存。
    """
    model, report, _ = _matched(checkpoint, {}, heads, TokenRows(), None)
    # Layers shared their tensors so far, and would be counted as one.
    place(model, {name: value.new_empty(value.shape) for name, value in model.state_dict().items()})
    try:
        _refuse(checkpoint, report, {})
    except UserError as error:
        return model, report, str(error)
    return model, report, None


def _matched(
    checkpoint: Checkpoint,
    changes: Mapping[str, Any],
    heads: Sequence[str] | None,
    rows: TokenRows,
    fitting: Callable[[ModelConfig], Fit] | None,
) -> tuple[Model, LoadReport, dict[str, Tensor]]:
    """The model without weights, the report, and the parameters that the checkpoint gives."""
    asked = _applicable(checkpoint, changes)
    config = checkpoint.config(asked)
    rows.check(config.vocab_size)
    pad = asked["pad_id"] if "pad_id" in asked else rows.place_of(config.pad_id)
    config = config.changed({"vocab_size": rows.count(config.vocab_size), "pad_id": pad})
    model = skeleton(config, _heads(checkpoint, config, heads))
    own = _of_its_mechanism(checkpoint, model)
    expected = {name: value for name, value in model.state_dict().items() if name not in own}
    saved = checkpoint.config({}).conditions
    renamed = bool(saved and config.conditions) and saved != config.conditions
    if renamed:
        expected[CONDITIONS] = expected[CONDITIONS].new_empty(len(saved), config.condition_size or 0)
    stored = config if fitting is None else _as_published(checkpoint, asked)
    names = checkpoint.name_map(stored, _parameters(checkpoint, model))
    chosen, left = names.choose(list(expected), checkpoint.names)
    fit = as_stored if fitting is None else fitting(config)
    read = read_parameters(checkpoint, chosen, expected, rows, fit)
    if renamed and CONDITIONS in read.state:
        read.state[CONDITIONS] = conditions_by_name(read.state[CONDITIONS], saved, config)
    return model, _report(checkpoint, names, expected, chosen, [*left, *own], read.misshapen), read.state


def _of_its_mechanism(checkpoint: Checkpoint, model: Model) -> list[str]:
    """Parameters that have another shape than with the attention of the checkpoint, or are drawn in another way: no
    weights of it fit them."""
    saved = _with_its_mechanism(checkpoint, model.config)
    if saved == model.config:
        return []
    drawn = _drawn(model) if _drawn_otherwise(saved.attention, model.config.attention) else set()
    before = skeleton(saved, model.heads).state_dict()
    shapes = {name: value.shape for name, value in before.items()}
    return [
        name
        for name, value in model.state_dict().items()
        if shapes.get(name, value.shape) != value.shape or name in drawn
    ]


def _drawn_otherwise(saved: Mechanism, asked: Mechanism) -> bool:
    """Whether random vectors of the one are not what the other would draw."""
    if not isinstance(saved, Performer) or not isinstance(asked, Performer):
        return False
    return (saved.norms, saved.orthogonal) != (asked.norms, asked.orthogonal)


def _drawn(model: Model) -> set[str]:
    """What Performers keep of their random vectors."""
    parts = ((name, part) for name, part in model.named_modules() if isinstance(part, PerformerAttention))
    return {f"{where}.{name}" for where, part in parts for name, _ in part.named_buffers(recurse=False)}


def _with_its_mechanism(checkpoint: Checkpoint, config: ModelConfig) -> ModelConfig:
    """The config with the attention of the checkpoint, and then with its words that an attention may refuse."""
    saved = checkpoint.config({})
    if saved.attention == config.attention:
        return config
    words = ("attention", "application", "position", "hierarchical_positions", "residual_attention")
    return config.changed({word: getattr(saved, word) for word in words})


def _refuse(checkpoint: Checkpoint, report: LoadReport, changes: Mapping[str, Any]) -> None:
    """Raises UserError for what is not loaded unless strict=False."""
    _refuse_misfits(checkpoint, report)
    _refuse_losses(checkpoint, report, changes)


def _refuse_misfits(checkpoint: Checkpoint, report: LoadReport) -> None:
    foreign = checkpoint.dialect == "own" and report.unexpected
    if not report.fits or foreign:
        raise UserError(
            f"{checkpoint.origin}: weights and config disagree: {report.complaint()}{_of_heads(report)}"
        )


def _of_heads(report: LoadReport) -> str:
    """What it means where a head is all that is missing."""
    heads = tuple(HEAD_PARAMETERS.values())
    if report.misshapen or report.unexpected or not all(name.startswith(heads) for name in report.missing):
        return ""
    return "; the file holds no head of that kind, as after training for another task: use the model it was made from"


def _refuse_losses(checkpoint: Checkpoint, report: LoadReport, changes: Mapping[str, Any]) -> None:
    """What belongs to the published model must not be left out silently, unless its config was changed."""
    lost = (*report.dropped, *_foreign_parts(checkpoint, report))
    if lost and changes.keys() <= _ASKED and checkpoint.family is not None:
        raise UserError(
            f"{checkpoint.origin}: {checkpoint.family.name} has no place for {', '.join(lost[:4])}, which "
            "the file holds: is this a model of another family? Name that (family=, --family), "
            "or leave it out with strict=False"
        )


def _foreign_parts(checkpoint: Checkpoint, report: LoadReport) -> tuple[str, ...]:
    """Unexpected tensors inside a layer, where the config says another model type than any of the family."""
    foreign = checkpoint.dialect != "own" and foreign_type(checkpoint.raw) is not None
    return tuple(name for name in report.unexpected if foreign and _IN_A_LAYER.search(name))


def _applicable(checkpoint: Checkpoint, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The changes, with an application that the family has."""
    found, family = dict(changes), checkpoint.family
    asked = found.get("application")
    if family is None or asked is None:
        return found
    if asked not in family.applications:
        raise UserError(
            f"{checkpoint.origin}: {family.name} serves as {', '.join(family.applications)}, not as {asked}"
        )
    if asked == "encoder" and family.application == "lm":
        found["application"] = "lm"
    return found


def _as_published(checkpoint: Checkpoint, changes: Mapping[str, Any]) -> ModelConfig:
    """The config with its changes, but of the published sizes: channels change places head by head."""
    return checkpoint.config({name: value for name, value in changes.items() if name not in SIZES})


def _heads(checkpoint: Checkpoint, config: ModelConfig, heads: Sequence[str] | None) -> tuple[str, ...]:
    """The heads that were asked for; else those that the file was saved with, or that the application needs."""
    if heads is not None:
        return _allowed(checkpoint, head_names(heads))
    if checkpoint.dialect == "own":
        return saved_heads(checkpoint)
    if config.application != "encoder" or config.decoder_layers is not None:
        return ("lm",)
    pooled = any("pooler" in name for name in checkpoint.names)
    return ("pool",) if pooled and "pool" in checkpoint.known_family().heads else ()


def saved_heads(checkpoint: Checkpoint) -> tuple[str, ...]:
    """The heads that our own config.json names. 本项目格式所记录的输出头。"""
    saved = checkpoint.raw.get("heads", ["lm"])
    if not isinstance(saved, list) or not all(isinstance(name, str) for name in saved):
        raise UserError(f"{checkpoint.origin}: heads must be a list of names, got {saved!r}")
    return head_names(saved)


def _parameters(checkpoint: Checkpoint, model: Model) -> list[str]:
    """What the checkpoint may hold by our own names: in our format, also heads that were saved and not asked for,
    and not what a mechanism brings that it was not saved with."""
    if checkpoint.dialect != "own":
        return list(model.state_dict())
    saved = _with_its_mechanism(checkpoint, model.config)
    heads = {*saved_heads(checkpoint), *model.heads}
    # Building a skeleton takes as long as mapping the file.
    same = saved == model.config and heads == set(model.heads)
    return list((model if same else skeleton(saved, tuple(heads))).state_dict())


def _allowed(checkpoint: Checkpoint, heads: tuple[str, ...]) -> tuple[str, ...]:
    family = checkpoint.family
    wrong = [] if family is None else sorted(set(heads) - set(family.heads))
    if wrong and family is not None:
        raise UserError(
            f"{checkpoint.origin}: {family.name} has the heads {', '.join(family.heads)}, not {', '.join(wrong)}"
        )
    return heads


def skeleton(config: ModelConfig, heads: Sequence[str]) -> Model:
    """The model without weights, on the meta device; raises UserError for sizes that no tensor has.

    meta 设备上的空模型。
    """
    try:
        with to_be_filled():
            return (
                Transformer(config, heads) if config.decoder_layers is None else EncoderDecoder(config, heads)
            )
    except RuntimeError as error:
        raise UserError(
            f"config: its sizes make no model ({str(error).splitlines()[0]}); is it damaged?"
        ) from None


def _report(
    checkpoint: Checkpoint,
    names: NameMap,
    expected: Mapping[str, Tensor],
    chosen: Sequence[Entry],
    left: Sequence[str],
    misshapen: Sequence[str],
) -> LoadReport:
    used = {name for found in chosen for name in found.theirs}
    rest = sorted(name for name in checkpoint.names - used if not names.is_ignored(name))
    possible = replace(names, entries=tuple(e for e in names.entries if expected.keys() >= set(e.ours)))
    published, sought = names.published(), possible.expected()
    lost = _lost(names, expected)
    return LoadReport(
        checkpoint.origin,
        sum(len(found.ours) for found in chosen) - len(misshapen),
        missing=tuple(_sought(name, sought[name]) for name in left if name in sought),
        misshapen=tuple(misshapen),
        unexpected=tuple(name for name in rest if name not in published),
        unused=tuple(name for name in rest if name in published - lost),
        dropped=tuple(name for name in rest if name in lost),
        fresh=tuple(name for name in left if name not in sought),
    )


def _lost(names: NameMap, expected: Mapping[str, Tensor]) -> set[str]:
    """Published names of parameters that the model has not, heads apart."""
    heads = tuple(HEAD_PARAMETERS.values())
    held = {name for found in names.entries for name in found.theirs if expected.keys() >= set(found.ours)}
    body = (found for found in names.entries if not all(name.startswith(heads) for name in found.ours))
    return {name for found in body for name in found.theirs} - held


def _sought(name: str, theirs: str) -> str:
    return name if theirs == name else f"{name} (looked for {theirs})"
