"""peft's low-rank adapters in our models: only they learn, they can be merged, and the model stays what it is."""

from __future__ import annotations

from importlib import import_module

import torch

from hanformer.train.objective import Loss
from hanformer.train.options import TrainOptions
from hanformer.train.sequence import predict_targets, target_logits
from hanformer.train.trainer import Trainer
from tests.train.worker_runs import PairSource, transformer


def test_adapters_alone_learn_and_can_be_merged() -> None:
    peft = import_module("peft")
    model, batch = transformer().float(), PairSource().batches(0)[2]
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    plain = target_logits(model, batch)
    peft.inject_adapter_in_model(peft.LoraConfig(r=2, lora_alpha=4, target_modules=["query", "value"]), model)
    torch.testing.assert_close(target_logits(model, batch), plain)
    options = TrainOptions(updates=20, learning_rate=0.02, schedule="constant", precision="fp32", log_every=5)
    losses = [
        record.loss for record in Trainer(model, predict_targets(), PairSource(), options).fit().training
    ]
    assert losses[-1] is not None and losses[0] is not None and losses[-1] < losses[0]
    after = {name.replace(".base_layer", ""): weight for name, weight in model.state_dict().items()}
    assert all(torch.equal(after[name], weight) for name, weight in before.items())
    learned = target_logits(model, batch)
    assert not torch.allclose(learned, plain, atol=1e-3)
    for module in model.modules():
        if isinstance(module, peft.tuners.lora.Linear):
            module.merge()
    merged = transformer().float()
    weights = {name.replace(".base_layer", ""): weight for name, weight in model.state_dict().items()}
    merged.load_state_dict({name: weights[name] for name in before})
    torch.testing.assert_close(target_logits(merged, batch), learned, rtol=1e-4, atol=1e-5)
    assert isinstance(predict_targets()(merged, batch), Loss)
