"""T5 1.0 and 1.1 and mT5: by themselves, and with peft."""

import generate_peft
from generate_common import generator, load_model, make_batch, write_numbers
from generate_gpt2 import trained_by
from generate_peft import ADALORA, dora, lora

PAIRS = dict(lengths=(12, 5, 1), target_lengths=(4, 7, 2))
FEWER = dict(lengths=(12, 3), target_lengths=(3, 6))

# name: (model, trainable, extras)
PLAIN = {
    "t5_full": ("t5", "full", {}),
    "t5_v1_1_full": ("t5_v1_1", "full", {}),
    "mt5_full": ("mt5", "full", {}),
}

# name: (model, method, options of peft's configuration, extras)
PEFT = {
    "t5_lora": ("t5", "lora", lora(), {}),
    "t5_lora_all_linear": ("t5", "lora", lora(r=2, target_modules="all-linear"), {}),
    "t5_lora_encoder": ("t5", "lora", lora(target_modules=r"encoder\..*\.(q|wo)"), {}),
    "t5_lora_decoder": ("t5", "lora", lora(target_modules=r"decoder\..*SelfAttention\.(q|v)"), {}),
    "t5_lora_cross": ("t5", "lora", lora(target_modules=r".*EncDecAttention\.(q|k|o)"), {}),
    "t5_dora": ("t5", "dora", dora(), {}),
    "t5_adalora": ("t5", "adalora", ADALORA, {}),
    "t5_vera": ("t5", "vera", dict(r=5), {}),
    "t5_miss": ("t5", "miss", dict(r=2), {}),
    "t5_ia3": ("t5", "ia3", {}, {}),
    "t5_layer_norm": ("t5", "layer_norm", {}, {}),
    "t5_v1_1_lora": ("t5_v1_1", "lora", lora(), {}),
    "t5_v1_1_lora_all_linear": ("t5_v1_1", "lora", lora(r=2, target_modules="all-linear"), {}),
    "t5_v1_1_ia3": ("t5_v1_1", "ia3", dict(target_modules=["k", "v", "wi_1"], feedforward_modules=[]), {}),
    "mt5_lora": ("mt5", "lora", lora(), {}),
    "mt5_ia3": ("mt5", "ia3", {}, {}),
}

for table in (PLAIN, PEFT):
    for name, (*what, extras) in table.items():
        table[name] = (*what, (PAIRS if table is PLAIN else FEWER) | extras)
CASES = PLAIN | PEFT


def hold_out():
    generate_peft.hold_out(PEFT, lambda model_name: ["o", "wo"])


def write_case(name, models, folder):
    if name in PEFT:
        return generate_peft.write_case(name, models, folder, PEFT)
    model_name, trainable, extras = PLAIN[name]
    model = load_model(models / model_name)
    batch = make_batch(model.config, None, generator("case " + name), **extras)
    case = {
        "model": model_name, "adapter": None, "library": None, "task": "seq2seq", "method": None, "trainable": trainable, "head": "lm",
        "num_labels": None,
    }
    write_numbers(name, folder, case, model, trained_by(model, trainable, "lm_head."), batch)
