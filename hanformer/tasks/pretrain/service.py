"""A pretrained model at work: held-out text judged, masks filled, texts continued."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch

from hanformer.errors import UserError
from hanformer.models.terminating_files import WritingModel, load_writing, stack_of
from hanformer.runtime import inference_dtype
from hanformer.tasks.fill_mask import fill_mask
from hanformer.tasks.generation import Writer
from hanformer.tasks.generation_options import GenerationOptions
from hanformer.tasks.pretrain.corpus import file_to_judge
from hanformer.tasks.pretrain.joining import mixture_of
from hanformer.tasks.pretrain.recipe import PretrainRecipe
from hanformer.tasks.pretrain.row_set import RowSet
from hanformer.tasks.pretrain.store import write_store
from hanformer.tasks.pretrain.training import TASK, token_rows
from hanformer.tasks.serving import Evaluated, Service, ServingOptions
from hanformer.text.cutting import CONTINUATION
from hanformer.text.load import load_tokenizer
from hanformer.text.protocols import Tokenizer
from hanformer.train.runs import open_run, recipe_of

#: Tokens that a continuation may have.
CONTINUED = 64


class PretrainService(Service):
    """Judges held-out text; fills masks (mlm), or continues texts (lm, unilm). 评测、填空或续写。"""

    def __init__(
        self, model: WritingModel, tokenizer: Tokenizer, recipe: PretrainRecipe, *, beams: int
    ) -> None:
        self.model, self.tokenizer, self.recipe = model, tokenizer, recipe
        self._answer = self._filler() if recipe.objective == "mlm" else self._continuer(beams)

    def evaluate(self, data: str, without: Path | None = None) -> Evaluated:
        """Loss in nats and accuracy of the tokens to be said, and the perplexity of causal rows.

        在测试文本上的损失、准确率与困惑度。

        Of a folder, its test file; the columns are those of the recipe. What is masked depends on the text alone.
        Raises UserError for `without`, which has no meaning here, and for a file without text.
        """
        if without is not None:
            raise UserError("--without is for word problems; leave it out")
        file = file_to_judge(data)
        mixture = mixture_of(self.recipe, self.tokenizer.vocabulary)
        with tempfile.TemporaryDirectory() as folder, torch.inference_mode():
            made = token_rows(self.recipe, [file], self.tokenizer)
            rows = RowSet.all(write_store(Path(folder) / "tokens", made, len(self.tokenizer.vocabulary)))
            figures = rows.judge(self.model, mixture, self.recipe.token_budget)
            counted = f"{len(rows.rows):,} rows, {rows.tokens:,} tokens"
        figures |= {_perplexity_of(name): math.exp(figures[name]) for name in _causal(figures, self.recipe)}
        lines = [f"  {name:18} {value:.4f}" for name, value in figures.items()]
        return Evaluated("\n".join([f"{file}: {counted}", *lines]), figures, [dict(figures)])

    def _answers(self, texts: Sequence[str]) -> Sequence[str | UserError]:
        """Each text with its masks filled, or with what goes on after it. 填空或续写后的文本。"""
        return [_or_error(self._answer, text) for text in texts]

    def _filler(self) -> Callable[[str], str]:
        mask = self.tokenizer.vocabulary.specials.mask or ""

        def fill(text: str) -> str:
            for candidates in fill_mask(stack_of(self.model), self.tokenizer, text, top=1):
                text = text.replace(mask, candidates[0].token.removeprefix(CONTINUATION), 1)
            return text

        return fill

    def _continuer(self, beams: int) -> Callable[[str], str]:
        options = GenerationOptions(maximum_length=CONTINUED)
        if beams > 1:
            options = replace(options, rule="beam", beams=beams)
        writer = Writer(self.model, self.tokenizer, options)
        return lambda text: text + writer.write([text])[0][0].text


def _or_error(answer: Callable[[str], str], text: str) -> str | UserError:
    try:
        return answer(text)
    except UserError as error:
        return error


def _causal(figures: dict[str, float], recipe: PretrainRecipe) -> list[str]:
    """The losses that a perplexity belongs to."""
    return ["loss"] if recipe.objective == "lm" else [name for name in figures if name == "lm_loss"]


def _perplexity_of(loss: str) -> str:
    return loss.replace("loss", "perplexity")


def open_service(run: Path, options: ServingOptions) -> PretrainService:
    """The service of a run. Raises UserError as `open_run` does. 打开预训练的运行目录。"""
    best, description = open_run(run, TASK)
    recipe = recipe_of(PretrainRecipe(), description, best.parent)
    if options.length is not None:
        longer = max(recipe.token_budget, options.length)
        recipe = replace(recipe, maximum_length=options.length, token_budget=longer)
    dtype = inference_dtype(options.precision, torch.device(options.device))
    model = load_writing(best, device=options.device, dtype=dtype)
    return PretrainService(model, load_tokenizer(best), recipe, beams=options.beams)
