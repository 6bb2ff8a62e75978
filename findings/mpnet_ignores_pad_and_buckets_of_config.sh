#!/usr/bin/env bash
# transformers 5.24.0 (4.57.6 too), MPNet: pad_token_id and relative_attention_num_buckets of config.json do not reach the arithmetic.
#
# MPNet counts positions as RoBERTa does, over the tokens that are not padding. RoBERTa takes padding from pad_token_id; MPNet's code holds the number 1.
# For the published checkpoints that is the padding token. With a vocabulary of one's own, say in BERT's order ([PAD] 0, [UNK] 1), and pad_token_id=0 in
# the configuration, token 1 is a word that is not counted and has one position wherever it stands; its input embedding and that position get no gradient,
# not in pretraining either; and padding in front of a text changes the output of the text.
# relative_attention_num_buckets makes the table of the relative bias longer or shorter, but distances are always put into 32 buckets: a model with 64
# computes what one with 32 computes, bit for bit, and the rows above 31 are never read. Neither gives an error or a warning.
# Whoever trains an MPNet with another vocabulary has to give token 1 to padding, and no more than 32 buckets can be had.
#
# Seen
#   RobertaModel  pad_token_id 0, text 5 6 1 7: trained words [1, 5, 6, 7] positions [1, 2, 3, 4]  changed by padding in front 0
#   MPNetModel    pad_token_id 0, text 5 6 1 7: trained words [5, 6, 7] positions [2, 3, 4]  changed by padding in front 2.63
#   MPNetModel    64 buckets, distances up to 299: same bits as with 32: True  highest bucket in use 31
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.13.0 transformers==5.24.0
cat >"$folder/check.py" <<'PYTHON'
import torch
import transformers
from transformers import MPNetConfig, MPNetModel, RobertaConfig, RobertaModel

torch.set_num_threads(1)
shape = dict(vocab_size=64, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=48, initializer_range=0.2,
             max_position_embeddings=320, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)


def rows_with_gradient(table):
    return table.weight.grad.abs().sum(1).nonzero().flatten().tolist()


print("torch", torch.__version__, "transformers", transformers.__version__)
seen = {}
for family, configuration in ((RobertaModel, RobertaConfig), (MPNetModel, MPNetConfig)):
    torch.manual_seed(0)
    model = family(configuration(**shape, pad_token_id=0))
    output = model(torch.tensor([[5, 6, 1, 7]]))[0]
    output.square().sum().backward()
    words, positions = (rows_with_gradient(table) for table in (model.embeddings.word_embeddings, model.embeddings.position_embeddings))
    padded = torch.tensor([[0, 0, 5, 6, 1, 7]])
    change = (model(padded, attention_mask=(padded != 0).long())[0][:, 2:] - output).abs().max().item()
    print(f"{family.__name__:12}  pad_token_id 0, text 5 6 1 7: trained words {words} positions {positions}  changed by padding in front {change:.3g}")
    seen[family] = words, positions, change < 1e-4
assert seen[RobertaModel] == ([1, 5, 6, 7], [1, 2, 3, 4], True), "RoBERTa no longer obeys pad_token_id"
assert seen[MPNetModel] == ([5, 6, 7], [2, 3, 4], False), "MPNet now obeys pad_token_id"

text = torch.randint(2, 64, (1, 300))  # every distance there is a bucket for
torch.manual_seed(0)
model = MPNetModel(MPNetConfig(**shape))
longer = MPNetModel(MPNetConfig(**shape, relative_attention_num_buckets=64))
weights = model.state_dict()
bias = weights["encoder.relative_attention_bias.weight"]
weights["encoder.relative_attention_bias.weight"] = torch.cat([bias, torch.randn_like(bias)])
longer.load_state_dict(weights)
same = torch.equal(model(text)[0], longer(text)[0])
longer(text)[0].square().sum().backward()
trained = rows_with_gradient(longer.encoder.relative_attention_bias)
print("MPNetModel    64 buckets, distances up to 299: same bits as with 32:", same, " highest bucket in use", max(trained))
assert same and max(trained) == 31, "MPNet now obeys relative_attention_num_buckets"
PYTHON
"$folder/venv/bin/python" "$folder/check.py"
echo "as described"
