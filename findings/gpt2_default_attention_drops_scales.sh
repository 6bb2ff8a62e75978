#!/usr/bin/env bash
# transformers 4.57.6, GPT-2: the default attention (sdpa) ignores scale_attn_by_inverse_layer_idx and scale_attn_weights.
#
# A config.json with "scale_attn_by_inverse_layer_idx": true (some published GPT-2 checkpoints were trained so) divides the scores of layer l by l + 1,
# and one with "scale_attn_weights": false does not divide them by the square root of the head size. GPT2LMHeadModel obeys both with eager attention.
# With sdpa, which is what from_pretrained and from_config choose when nothing is said, neither changes a single bit of the logits, without an error
# or a warning: the model computes something else than it was trained for. transformers 5.17.0 obeys both.
# Whoever compares numbers, or fine-tunes such a checkpoint, has to ask for attn_implementation="eager".
#
# Seen: largest change of the logits by each setting, on a random GPT-2 of 3 layers
#   default attention: sdpa
#   scale_attn_by_inverse_layer_idx=True   eager 0.582   sdpa 0.0
#   scale_attn_weights=False               eager 2.776   sdpa 0.0
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==4.57.6
cat >"$folder/check.py" <<'PYTHON'
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel

torch.manual_seed(0)
shape = dict(vocab_size=64, n_positions=32, n_embd=32, n_layer=3, n_head=2, bos_token_id=0, eos_token_id=0, initializer_range=0.2)
ids = torch.randint(0, 64, (1, 12))
weights = GPT2LMHeadModel(GPT2Config(**shape)).state_dict()


def logits(attention, **settings):
    model = GPT2LMHeadModel._from_config(GPT2Config(**shape, **settings), attn_implementation=attention).eval()
    model.load_state_dict(weights)
    with torch.no_grad():
        return model(ids).logits


print("torch", torch.__version__, "transformers", transformers.__version__)
default = GPT2LMHeadModel(GPT2Config(**shape)).config._attn_implementation
print("default attention:", default)
assert default == "sdpa"
for setting in ({"scale_attn_by_inverse_layer_idx": True}, {"scale_attn_weights": False}):
    change = {name: (logits(name, **setting) - logits(name)).abs().max().item() for name in ("eager", "sdpa")}
    print(setting, change)
    assert change["eager"] > 0.1, "eager attention no longer obeys the setting"
    assert change["sdpa"] == 0.0, "sdpa no longer ignores the setting"
PYTHON
"$folder/venv/bin/python" "$folder/check.py"
echo "as described"
