#!/usr/bin/env bash
# PEFT 0.21.2 and transformers 5.24.0 (4.57.6 too), SEQ_CLS: of ModernBERT's head a part that may be random is not saved, and the adapter with it is lost.
#
# With task_type SEQ_CLS, PEFT trains and saves beside the adapter every module whose name ends in "classifier" or "score". Its guide says that this guess
# serves models with the usual names and may miss others. For ModernBERT it misses half: the head is head.dense, head.norm and classifier, and the first two
# stay frozen and out of the file. A checkpoint of masked language modelling holds them, and all is well. A folder saved from the encoder alone
# (ModernBertModel), as embedding models are, does not: AutoModelForSequenceClassification makes a random head, the adapter is trained upon it, and the next
# process draws another. A model that was right on every text is then, by chance, anything from always wrong to always right. The only sign is
# transformers' list of new weights, which is printed before training too, where everybody expects it, with classifier in it whatever one does.
# RoBERTa, ELECTRA and MPNet have the whole head inside `classifier`. DistilBERT is right by accident: its pre_classifier ends in "classifier", so that it
# is trained and saved though adapter_config.json does not name it: four fifths of the trainable parameters that PEFT prints for LoRA of rank 8.
# Whoever fine-tunes such a ModernBERT has to say modules_to_save=["classifier", "head"].
#
# Seen, on a random ModernBERT of width 32 with a task of two classes, and on a DistilBERT of the usual size
#   ModernBERT, named for saving ['classifier', 'score'] saved of the head ['classifier.bias', 'classifier.weight']
#     accuracy trained 1.00  loaded six times 0.01 0.04 0.10 0.42 0.67 1.00
#   ModernBERT, named for saving ['classifier', 'head', ...] saved of the head [the same and 'head.dense.weight', 'head.norm.weight']
#     accuracy trained 1.00  loaded six times 1.00 1.00 1.00 1.00 1.00 1.00
#   DistilBERT, named for saving ['classifier', 'score'] saved of the head ['classifier.bias', 'classifier.weight', and those of pre_classifier]
#     trainable parameters 739586 of these LoRA's 147456
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0 peft==0.21.2
cat >"$folder/check.py" <<'PYTHON'
import json
import sys

import peft
import torch
import transformers
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForSequenceClassification, ModernBertConfig, ModernBertModel

torch.set_num_threads(1)
transformers.logging.set_verbosity_error()  # the list of new weights at every load
transformers.logging.disable_progress_bar()
encoder, adapter = f"{sys.argv[1]}/encoder", f"{sys.argv[1]}/adapter"
torch.manual_seed(0)
ids = torch.randint(3, 96, (200, 12))
labels = torch.arange(200) % 2
ids[:, 5] = 10 + labels  # the class is one word
ModernBertModel(ModernBertConfig(vocab_size=96, hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=4,
                                 pad_token_id=0, bos_token_id=1, eos_token_id=2, cls_token_id=1, sep_token_id=2)).save_pretrained(encoder)


def classifier(seed):
    torch.manual_seed(seed)  # as another process would have it
    return AutoModelForSequenceClassification.from_pretrained(encoder, num_labels=2)


@torch.no_grad()
def accuracy(model):
    return (model.eval()(ids).logits.argmax(-1) == labels).float().mean().item()


def saved_head():
    with open(f"{adapter}/adapter_config.json") as file:
        named = json.load(file)["modules_to_save"]
    names = load_file(f"{adapter}/adapter_model.safetensors")
    return named, sorted(name.removeprefix("base_model.model.") for name in names if "lora" not in name)


def train_and_reload(*more):
    settings = dict(modules_to_save=["classifier", *more]) if more else {}
    model = get_peft_model(classifier(1), LoraConfig(task_type="SEQ_CLS", target_modules=["Wqkv"], r=4, **settings))
    optimizer = torch.optim.Adam([p for p in model.parameters() if p.requires_grad], 1e-2)
    for _ in range(80):
        loss = model(ids, labels=labels).loss
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    model.save_pretrained(adapter)
    trained = accuracy(model)
    loaded = sorted(accuracy(PeftModel.from_pretrained(classifier(seed), adapter)) for seed in range(2, 8))
    print("ModernBERT, named for saving", saved_head()[0], "saved of the head", saved_head()[1])
    print(f"  accuracy trained {trained:.2f}  loaded six times", *(f"{value:.2f}" for value in loaded))
    assert trained > 0.98, "the task is no longer learned"
    return saved_head()[1], loaded


print("torch", torch.__version__, "transformers", transformers.__version__, "peft", peft.__version__)
head, loaded = train_and_reload()
assert head == ["classifier.bias", "classifier.weight"], "another part of ModernBERT's head is saved"
assert sum(loaded) / len(loaded) < 0.8, "the loaded adapter is no longer lost"
head, loaded = train_and_reload("head")
assert loaded[0] > 0.98, "the remedy no longer helps"

model = AutoModelForSequenceClassification.from_config(AutoConfig.for_model("distilbert"))  # the size of distilbert-base
model = get_peft_model(model, LoraConfig(task_type="SEQ_CLS", target_modules=["q_lin", "v_lin"], r=8))
model.save_pretrained(adapter)
lora = sum(parameter.numel() for name, parameter in model.named_parameters() if "lora" in name)
print("DistilBERT, named for saving", saved_head()[0], "saved of the head", saved_head()[1])
print("  trainable parameters", model.get_nb_trainable_parameters()[0], "of these LoRA's", lora)
assert "pre_classifier.weight" in saved_head()[1] and lora == 147456, "DistilBERT's pre_classifier is no longer saved"
PYTHON
"$folder/venv/bin/python" "$folder/check.py" "$folder"
echo "as described"
