#!/usr/bin/env bash
# adapters 1.3.0 (AdapterHub) with transformers 4.57.6, ModernBERT: adapters.init alone makes another model of it, and another one every time.
#
# ModernBERT's layers have no biases. adapters.init, which ought only to make room for adapters, replaces each `attn.Wqkv` by a layer with a bias that
# PyTorch fills at random (uniform, up to 1 / sqrt(hidden size)); the other projections keep having none. So without any adapter the logits are no longer
# those of transformers, whatever is trained afterwards (bottleneck, LoRA, (IA)3, ReFT) is trained on top of these biases, and no file keeps them: the
# folder of save_adapter loaded by the next process, onto the same checkpoint, meets other biases. Nothing warns. BERT and RoBERTa are not touched.
# Whoever compares numbers, or wants a trained adapter back, has to set `layer.attn.Wqkv.bias = None` in every layer right after init.
#
# Seen, on random models of 3 layers and width 64, and with LoRA and the head trained on a task of two classes, loaded three times
#   bert        largest logit 1.544  changed by adapters.init 0  new parameters []
#   roberta     largest logit 0.979  changed by adapters.init 0  new parameters []
#   modernbert  largest logit 2.309  changed by adapters.init 0.105  new parameters ['model.layers.0.attn.Wqkv.bias', and those of layers 1 and 2]
#   LoRA, as it is: largest logit 7.96  changed by saving and loading 0.989 0.658 0.837
#   LoRA, biases taken out: largest logit 7.92  changed by saving and loading 0 0 0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==4.57.6 adapters==1.3.0
cat >"$folder/check.py" <<'PYTHON'
import logging
import sys

import adapters
import torch
import transformers
from transformers import AutoConfig, AutoModelForSequenceClassification

torch.set_num_threads(1)
logging.getLogger("adapters").setLevel(logging.ERROR)  # it says that no adapter is active also where one is
shape = dict(vocab_size=96, hidden_size=64, intermediate_size=96, num_hidden_layers=3, num_attention_heads=4, initializer_range=0.1,
             pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)
torch.manual_seed(0)
ids = torch.randint(3, 96, (128, 12))
labels = torch.arange(128) % 2
ids[:, 5] = 10 + labels  # the class is one word


def random_model(family):
    torch.manual_seed(1)
    return AutoModelForSequenceClassification.from_config(AutoConfig.for_model(family, **shape)).eval()


def with_adapters(seed, repair=False):
    model = random_model("modernbert")
    torch.manual_seed(seed)  # as another process would have it
    adapters.init(model)
    if repair:
        for layer in model.model.layers:
            layer.attn.Wqkv.bias = None
    return model


@torch.no_grad()
def logits(model):
    return model.eval()(ids).logits


def train_and_reload(repair):
    model = with_adapters(2, repair)
    model.add_adapter("task", config="lora")
    model.train_adapter("task")
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 3e-3)
    for _ in range(60):
        loss = model(ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_adapter(sys.argv[1], "task", with_head=True)
    trained = logits(model)
    changes = []
    for seed in (3, 4, 5):
        again = with_adapters(seed, repair)
        again.load_adapter(sys.argv[1], load_as="task", set_active=True)
        changes.append((logits(again) - trained).abs().max().item())
    return trained, changes


print("torch", torch.__version__, "transformers", transformers.__version__, "adapters", adapters.__version__)
for family in ("bert", "roberta", "modernbert"):
    model = random_model(family)
    before, names = logits(model), {name for name, _ in model.named_parameters()}
    adapters.init(model)
    new = [name for name, _ in model.named_parameters() if name not in names]
    change = (logits(model) - before).abs().max().item()
    print(f"{family:10}  largest logit {before.abs().max():.3f}  changed by adapters.init {change:.3g}  new parameters {new}")
    if family == "modernbert":
        assert len(new) == 3 and all(name.endswith("attn.Wqkv.bias") for name in new) and change > 0.01, "adapters.init no longer adds biases"
        for layer in model.model.layers:
            layer.attn.Wqkv.bias = None
        assert torch.equal(logits(model), before), "something else than the biases changes the logits, too"
    else:
        assert not new and change == 0.0, "adapters.init now touches a family that it left alone"
for repair in (False, True):
    trained, changes = train_and_reload(repair)
    print("LoRA, biases taken out:" if repair else "LoRA, as it is:", f"largest logit {trained.abs().max():.3g}  changed by saving and loading",
          *(f"{change:.3g}" for change in changes))
    assert (trained.argmax(-1) == labels).all(), "the task is no longer learned"
    assert max(changes) == 0.0 if repair else min(changes) > 0.05, "a loaded adapter behaves otherwise than described"
PYTHON
"$folder/venv/bin/python" "$folder/check.py" "$folder/adapter"
echo "as described"
