"""A GGUF adapter of `deltatune export` against the PEFT folder that it was made of: every weight's change, scaled as llama.cpp scales it.

    python3 check_gguf.py --adapter DIR --model DIR --gguf FILE        gguf 0.19, safetensors, numpy

Reads FILE with the gguf package and looks the tensors' names up in its table. Changes are compared as whole matrices, with the rows of llama.cpp's order.
"""

import argparse
import json
import math
import pathlib
import re

import gguf
import numpy as np
from safetensors.numpy import load_file

ARCHITECTURES = {"mistral": "llama", "gemma3_text": "gemma3", "olmo3": "olmo2", "roberta": "bert", "camembert": "bert", "xlm-roberta": "bert",
                 "distilbert": "bert", "modernbert": "modern-bert"}
PAIRED = {"llama", "mistral", "smollm3", "granite"}


def matching(patterns, site, default):
    return next((value for key, value in (patterns or {}).items() if re.fullmatch(rf"(.*\.)?({key})", site)), default)


def paired_rows(rows, heads):
    size = rows.shape[0] // heads
    return np.concatenate([rows[h * size:(h + 1) * size][np.arange(size).reshape(2, -1).T.ravel()] for h in range(heads)])


parser = argparse.ArgumentParser()
for name in ("adapter", "model", "gguf"):
    parser.add_argument("--" + name, type=pathlib.Path, required=True)
args = parser.parse_args()
config, model = (json.loads((path).read_text()) for path in (args.adapter / "adapter_config.json", args.model / "config.json"))
reader = gguf.GGUFReader(args.gguf)
value = lambda key: reader.fields[key].contents()
kind = model["model_type"]
assert value("general.type") == "adapter" and value("adapter.type") == "lora"
assert value("general.architecture") == ARCHITECTURES.get(kind, kind), value("general.architecture")
arch = {name: number for number, name in gguf.MODEL_ARCH_NAMES.items()}[value("general.architecture")]
names = gguf.get_tensor_name_map(arch, model.get("num_hidden_layers", model.get("n_layer", model.get("n_layers"))))
tensors = {tensor.name: tensor.data.astype(np.float64) for tensor in reader.tensors}
weights = load_file(args.adapter / "adapter_model.safetensors")
half = any(tensor.tensor_type == gguf.GGMLQuantizationType.F16 for tensor in reader.tensors)
worst, sites = 0.0, 0
for key in weights:
    is_table = key.endswith(".lora_embedding_A")
    if not is_table and not key.endswith(".lora_A.weight"):
        continue
    site = key.removeprefix("base_model.model.").removesuffix(".lora_A.weight").removesuffix(".lora_embedding_A")
    a = weights[key].astype(np.float64)
    b = weights[key.replace("_A", "_B")].astype(np.float64)
    rank, alpha = matching(config.get("rank_pattern"), site, config["r"]), matching(config.get("alpha_pattern"), site, config["lora_alpha"])
    scale = alpha / (math.sqrt(rank) if config.get("use_rslora") else rank)
    change = scale * b @ a
    name = names.get_name(site) or next(filter(None, (names.get_name(site.split(".", n)[-1]) for n in (1, 2))))
    if kind in PAIRED and name.endswith((".attn_q", ".attn_k")):
        heads = model["num_attention_heads"]
        change = paired_rows(change, heads if name.endswith("_q") else model.get("num_key_value_heads") or heads)
    x, y = tensors.pop(name + ".weight.lora_a"), tensors.pop(name + ".weight.lora_b")
    found = value("adapter.lora.alpha") / y.shape[1] * (y @ (x.T if is_table else x))
    worst = max(worst, np.abs(found - change).max() / np.abs(change).max())
    sites += 1
assert not tensors, f"in the file and not in the folder: {sorted(tensors)}"
print(f"{sites} weights, alpha {value('adapter.lora.alpha'):g}, largest relative difference {worst:.2g}")
assert worst < (2e-3 if half else 1e-6)
