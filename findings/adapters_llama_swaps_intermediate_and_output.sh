#!/usr/bin/env bash
# adapters 1.3.0 (AdapterHub) with transformers 4.57.6, Llama and Mistral: intermediate_lora means the output layer of the feed-forward, output_lora its inner one.
#
# LoRAConfig and IA3Config choose places by intermediate_lora and output_lora: the layer that goes up to the feed-forward's width, and the one that comes back
# down. BERT, GPT-2, BART and T5 have them so. For Llama and Mistral the two are exchanged: `down_proj` is wrapped as "intermediate", `up_proj` as "output".
# IA3Config has intermediate_lora on and output_lora off, so the method's third vector, which the paper multiplies with the activations inside the feed-forward,
# multiplies what comes out of it: it has hidden_size entries and not intermediate_size (4096 and not 11008 in a layer of Llama 7B).
# PEFT's (IA)3 on the same model has the vector at the input of down_proj. Nothing warns.
# Whoever wants the inner place of a Llama or Mistral has to say intermediate_lora=False, output_lora=True; it is then on up_proj alone, which (IA)3's
# product with the gate makes the same.
#
# Seen, with a width of 16 and a feed-forward of 40
#   bert     intermediate_lora [('intermediate.dense', 40)]  output_lora [('output.dense', 16)]
#   gpt2     intermediate_lora [('mlp.c_fc', 40)]  output_lora [('mlp.c_proj', 16)]
#   llama    intermediate_lora [('mlp.down_proj', 16)]  output_lora [('mlp.up_proj', 40)]
#   mistral  intermediate_lora [('mlp.down_proj', 16)]  output_lora [('mlp.up_proj', 40)]
#   llama, (IA)3: scaling inside the feed-forward, by output_lora, and at the input of down_proj, as in PEFT: the same logits
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==4.57.6 adapters==1.3.0
cat >"$folder/check.py" <<'PYTHON'
import logging

import adapters
import torch
import transformers
from adapters import IA3Config
from transformers import AutoConfig, AutoModel

torch.set_num_threads(1)
logging.getLogger("adapters").setLevel(logging.ERROR)
shapes = dict(vocab_size=64, pad_token_id=0, bos_token_id=1, eos_token_id=2)
usual = dict(hidden_size=16, intermediate_size=40, num_hidden_layers=1, num_attention_heads=2)
FAMILIES = {"bert": usual, "gpt2": dict(n_embd=16, n_inner=40, n_layer=1, n_head=2), "llama": usual, "mistral": dict(usual, num_key_value_heads=1)}
ids = torch.arange(3, 15).unsqueeze(0)


def with_ia3(family, **where):
    torch.manual_seed(0)
    model = AutoModel.from_config(AutoConfig.for_model(family, **shapes, **FAMILIES[family])).eval()
    adapters.init(model)
    model.add_adapter("a", config=IA3Config(selfattn_lora=False, **where), set_active=True)
    return model


def places(model):
    found = []
    for name, parameter in model.named_parameters():
        if "loras.a." in name:
            found.append((".".join(name.split(".loras.")[0].split(".")[-2:]), parameter.shape[0]))
    return found


print("torch", torch.__version__, "transformers", transformers.__version__, "adapters", adapters.__version__)
for family in FAMILIES:
    seen = [places(with_ia3(family, **where)) for where in (dict(intermediate_lora=True, output_lora=False), dict(intermediate_lora=False, output_lora=True))]
    print(f"{family:8} intermediate_lora {seen[0]}  output_lora {seen[1]}")
    widths = [where[0][1] for where in seen]
    assert widths == ([16, 40] if family in ("llama", "mistral") else [40, 16]), "the places have changed"

model = with_ia3("llama", intermediate_lora=False, output_lora=True)
vector = torch.linspace(0.5, 2.0, 40)
with torch.no_grad():
    for name, parameter in model.named_parameters():
        if "loras.a." in name:
            parameter.copy_(vector.view_as(parameter))
    inside = model(ids).last_hidden_state
    model.set_active_adapters(None)
    model.layers[0].mlp.down_proj.register_forward_pre_hook(lambda module, args: (args[0] * vector,))
    as_peft = model(ids).last_hidden_state
assert torch.allclose(inside, as_peft, rtol=0, atol=1e-6), "the remedy is no longer one"
print("llama, (IA)3: scaling inside the feed-forward, by output_lora, and at the input of down_proj, as in PEFT: the same logits")
PYTHON
"$folder/venv/bin/python" "$folder/check.py"
echo "as described"
