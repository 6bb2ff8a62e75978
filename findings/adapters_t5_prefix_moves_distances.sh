#!/usr/bin/env bash
# adapters 1.3.0 (AdapterHub) with transformers 4.57.6, T5: prefix tuning takes the model's relative positions away.
#
# T5 knows where a token stands by a bias of the scores alone, which goes by the distance of key and query. In T5AttentionWithAdapters.forward the bias is
# computed after the prefix has been put in front of the keys: keys are counted from the prefix's first row, queries still from the first token. So with a
# prefix of 30 rows, the default, every token has the bias of a key 30 places further on, even towards itself. In the decoder, where keys behind the query
# share one bucket, all tokens within 30 places have the same bias; in the encoder all have that of a far key, most of them one and the same.
# A prefix that attention ignores would still change what the model computes, and a trained prefix has to make up for it.
# leave_out makes it worse: a layer whose number of keys differs from that of the layer before takes a bias of 0, which all layers behind it then share.
#
# Seen, on a random T5 whose buckets have the biases 0, 1, 2, ...: rows of the bias of one head, of queries 0 to 3 to the tokens 0 to 3
#   encoder, no prefix        [[0, 17, 18, 19], [1, 0, 17, 18], [2, 1, 0, 17], [3, 2, 1, 0]]
#   encoder, prefix of 30     [[27, 27, 28, 28], [27, 27, 27, 28], [27, 27, 27, 27], [27, 27, 27, 27]]
#   decoder, no prefix        [[0, -, -, -], [1, 0, -, -], [2, 1, 0, -], [3, 2, 1, 0]]
#   decoder, prefix of 30     [[0, -, -, -], [0, 0, -, -], [0, 0, 0, -], [0, 0, 0, 0]]
#   encoder, prefix of 30 but in layer 1, in layer 2    [[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
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
from transformers import T5Config, T5ForConditionalGeneration

torch.set_num_threads(1)
logging.getLogger("adapters").setLevel(logging.ERROR)
config = T5Config(vocab_size=40, d_model=16, d_kv=4, d_ff=12, num_layers=3, num_heads=4, decoder_start_token_id=0)
seen = []
print("torch", torch.__version__, "transformers", transformers.__version__, "adapters", adapters.__version__)


def biases(leave_out=None, prefix=True):
    """{(stack, layer): the bias that its self-attention adds, of the last four keys}"""
    torch.manual_seed(1)
    model = T5ForConditionalGeneration(config).eval()
    for stack in (model.encoder, model.decoder):
        table = stack.block[0].layer[0].SelfAttention.relative_attention_bias.weight
        table.data.copy_(torch.arange(len(table)).unsqueeze(1).expand_as(table))
    adapters.init(model)
    if prefix:
        model.add_adapter("a", config=adapters.PrefixTuningConfig(leave_out=leave_out or []), set_active=True)
    found = {}
    for name in ("encoder", "decoder"):
        for layer, block in enumerate(getattr(model, name).block):
            block.layer[0].SelfAttention.register_forward_hook(
                lambda module, args, output, key=(name, layer): found.update({key: output[1][0, 0, :, -4:].detach()}))
    with torch.no_grad():
        model(input_ids=torch.arange(4, 8)[None], decoder_input_ids=torch.arange(4, 8)[None])
    return found


def say(what, bias):
    rows = [["-" if b < -1000 else round(b) for b in row] for row in bias.tolist()]
    text = f"{what:<25} {rows}".replace("'", "")
    print(text)
    seen.append(text.split("[", 1)[1])


plain, with_prefix, left_out = biases(prefix=False), biases(), biases(leave_out=[1])
say("encoder, no prefix", plain["encoder", 0])
say("encoder, prefix of 30", with_prefix["encoder", 0])
say("decoder, no prefix", plain["decoder", 0])
say("decoder, prefix of 30", with_prefix["decoder", 0])
say("encoder, prefix of 30 but in layer 1, in layer 2", left_out["encoder", 2])
expected = [
    "[0, 17, 18, 19], [1, 0, 17, 18], [2, 1, 0, 17], [3, 2, 1, 0]]",
    "[27, 27, 28, 28], [27, 27, 27, 28], [27, 27, 27, 27], [27, 27, 27, 27]]",
    "[0, -, -, -], [1, 0, -, -], [2, 1, 0, -], [3, 2, 1, 0]]",
    "[0, -, -, -], [0, 0, -, -], [0, 0, 0, -], [0, 0, 0, 0]]",
    "[0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]]",
]
sys.exit(0 if [s.lstrip("[") for s in seen] == [s.lstrip("[") for s in expected] else "no longer as described")
PYTHON
"$folder/venv/bin/python" -W ignore "$folder/check.py"
echo "as described"
