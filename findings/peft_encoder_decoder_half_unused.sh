#!/usr/bin/env bash
# peft 0.21.2 with transformers 4.57.6, T5 and other encoder-decoders (SEQ_2_SEQ_LM): half of what prompt methods train is in no layer.
#
# Prompt tuning and P-tuning make 2 * num_virtual_tokens rows (num_transformer_submodules is 2 by default), one half for the encoder and one for the decoder.
# PeftModelForSeq2SeqLM.forward puts the first half in front of the encoder's embeddings; the second half is read nowhere. It counts among the trainable
# parameters, is saved, and its gradient is 0.
#
# Prefix tuning gives neither the encoder nor cross-attention a prefix (the cross-attention cache is replaced by an empty one). get_prompt lays the num_layers
# pairs of keys and values out twice, for the two kinds of attention, and cuts the doubled list into four tensors per layer. Layer l thus gets pair
# 2 * l mod num_layers. Where num_layers is even (6, 8, 12 or 24 in the T5s of the hub), pairs 1, 3, 5, ... are in no layer, and layers l and l + num_layers / 2 have one
# and the same prefix. Nothing warns. num_transformer_submodules=1, which would give layer l pair l, fails in T5's mask.
# With an odd num_layers in PrefixTuningConfig, at least that of the decoder, every layer has a pair of its own.
#
# Seen, on random T5s with 4 layers each for encoder and decoder and 3 virtual tokens
#   prompt tuning: rows with a gradient [0, 1, 2] of 6
#   P-tuning: rows of the prompt with a gradient [0, 1, 2] of 6
#   prefix tuning, num_layers 4: pairs with a gradient [0, 2] of 4; layers with pair 0: [0, 2], with pair 2: [1, 3]
#   prefix tuning, num_layers 5: pairs with a gradient [0, 1, 2, 4] of 5
#   prefix tuning, num_transformer_submodules 1: RuntimeError
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==4.57.6 peft==0.21.2
cat >"$folder/check.py" <<'PYTHON'
import sys

import peft
import torch
import transformers
from peft import PrefixTuningConfig, PromptEncoderConfig, PromptTuningConfig, get_peft_model
from transformers import EncoderDecoderCache, T5Config, T5ForConditionalGeneration

torch.set_num_threads(1)
ROWS, LAYERS = 3, 4
config = T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=12, num_layers=LAYERS, num_heads=4, decoder_start_token_id=0)
torch.manual_seed(0)
batch = dict(input_ids=torch.randint(2, 40, (2, 5)), labels=torch.randint(2, 40, (2, 4)))
seen = []
print("torch", torch.__version__, "transformers", transformers.__version__, "peft", peft.__version__)


def say(text):
    print(text)
    seen.append(text)


def adapted(options):
    torch.manual_seed(1)
    model = get_peft_model(T5ForConditionalGeneration(config), options).eval()
    outputs, keys = [], []
    model.prompt_encoder["default"].register_forward_hook(lambda module, args, output: output.retain_grad() or outputs.append(output))

    def look(attention, args, kwargs):
        cache = kwargs["past_key_values"]
        if isinstance(cache, EncoderDecoderCache) and isinstance(options, PrefixTuningConfig):
            keys.append(cache.self_attention_cache.layers[attention.layer_idx].keys[0].detach().clone())

    for block in model.base_model.decoder.block:
        block.layer[0].SelfAttention.register_forward_pre_hook(look, with_kwargs=True)
    model(**batch).loss.backward()
    return outputs[0].grad[0], keys


def nonzero(gradient):
    return gradient.abs().sum(-1).nonzero().flatten().tolist()


gradient, _ = adapted(PromptTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=ROWS))
say(f"prompt tuning: rows with a gradient {nonzero(gradient)} of {len(gradient)}")
gradient, _ = adapted(PromptEncoderConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=ROWS, encoder_hidden_size=16))
say(f"P-tuning: rows of the prompt with a gradient {nonzero(gradient)} of {len(gradient)}")


def pairs(layers):
    gradient, keys = adapted(PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=ROWS, num_layers=layers))
    return nonzero(gradient.view(ROWS, layers, -1).transpose(0, 1).flatten(1)), keys


used, keys = pairs(LAYERS)
same = {p: [l for l in range(LAYERS) if torch.equal(keys[l], keys[first])] for first, p in enumerate(used)}
say(f"prefix tuning, num_layers {LAYERS}: pairs with a gradient {used} of {LAYERS}; "
    + ", ".join(f"{'layers ' if i == 0 else ''}with pair {p}: {same[p]}" for i, p in enumerate(used)))
say(f"prefix tuning, num_layers {LAYERS + 1}: pairs with a gradient {pairs(LAYERS + 1)[0]} of {LAYERS + 1}")
try:
    adapted(PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=ROWS, num_transformer_submodules=1))
    say("prefix tuning, num_transformer_submodules 1: runs")
except RuntimeError:
    say("prefix tuning, num_transformer_submodules 1: RuntimeError")

expected = [
    "prompt tuning: rows with a gradient [0, 1, 2] of 6",
    "P-tuning: rows of the prompt with a gradient [0, 1, 2] of 6",
    "prefix tuning, num_layers 4: pairs with a gradient [0, 2] of 4; layers with pair 0: [0, 2], with pair 2: [1, 3]",
    "prefix tuning, num_layers 5: pairs with a gradient [0, 1, 2, 4] of 5",
    "prefix tuning, num_transformer_submodules 1: RuntimeError",
]
sys.exit(0 if seen == expected else "no longer as described")
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/check.py"
echo "as described"
