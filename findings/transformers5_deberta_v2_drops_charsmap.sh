#!/usr/bin/env bash
# transformers 5.24.0, DeBERTa-v2 and -v3: the tokenizer of a checkpoint loses sentencepiece's normalization, and texts get other ids than in training.
#
# These checkpoints come with a sentencepiece model whose normalization (nmt_nfkc) is a map of some thousand entries: "…" is three dots, "ﬁ" two letters, full
# width letters and "²" are plain ones, U+FFFD and other white space are blanks. transformers 4 puts the map into tokenizer.json (a Precompiled normalizer).
# transformers 5 reads vocabulary and scores out of that same file, and then builds the other stages anew in DebertaV2Tokenizer, where NFC stands in place of
# the map (a docstring still speaks of precompiled_charsmap). So with the same folder AutoTokenizer 5.24.0 gives other ids than 4.57.6, than the tokenizers
# library with the folder's own tokenizer.json, and than sentencepiece with its model: mostly [UNK] where a plain token stood. No warning, and what 5.24.0
# saves has lost the map for good. AlbertTokenizer, XLNetTokenizer, T5Tokenizer and XLMRobertaTokenizer keep theirs.
# Of 2,000 English tweets, with a model of 1,500 tokens, 251 had other ids.
# Whoever serves a DeBERTa with transformers 5 has to load it by PreTrainedTokenizerFast(tokenizer_file="tokenizer.json").
#
# Seen
#   text         4.57.6, tokenizers, sentencepiece     5.24.0
#   'the model'  ▁the ▁model                           ▁the ▁model
#   'wait…'      ▁ w a it ...                          ▁ w a it [UNK]
#   'ﬁle'        ▁ file                                ▁ [UNK] le
#   'ｍｏｄｅｌ' ▁model                                ▁ [UNK]
#   'model²'     ▁model 2                              ▁model [UNK]
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
for version in 4.57.6 5.24.0; do
  python3 -m venv "$folder/$version"
  "$folder/$version/bin/pip" install -q "transformers==$version" sentencepiece protobuf
done
cat >"$folder/make.py" <<'PYTHON'
import importlib.metadata
import pathlib
import sys

import sentencepiece
from transformers import AutoTokenizer

folder = pathlib.Path(sys.argv[1])
folder.mkdir()
lines = [line for name in ("transformers", "huggingface_hub", "numpy") for line in (importlib.metadata.metadata(name).get_payload() or "").splitlines() if line.strip()]
sentencepiece.SentencePieceTrainer.train(sentence_iterator=iter(lines), model_prefix=str(folder / "spm"), vocab_size=500, hard_vocab_limit=False, minloglevel=2,
                                         user_defined_symbols=["2", "..."], pad_id=0, bos_id=1, eos_id=2, unk_id=3, pad_piece="[PAD]", bos_piece="[CLS]",
                                         eos_piece="[SEP]", unk_piece="[UNK]")  # nmt_nfkc is its default
(folder / "config.json").write_text('{"model_type": "deberta-v2"}')
AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
PYTHON
cat >"$folder/tokens.py" <<'PYTHON'
import json
import sys

import sentencepiece
import transformers
from tokenizers import Tokenizer
from transformers import AutoTokenizer

folder = sys.argv[1]
auto, file = AutoTokenizer.from_pretrained(folder), Tokenizer.from_file(folder + "/tokenizer.json")
model = sentencepiece.SentencePieceProcessor(model_file=folder + "/spm.model")
names = auto.convert_ids_to_tokens
print(json.dumps([[text, names(auto(text, add_special_tokens=False)["input_ids"]), names(file.encode(text, add_special_tokens=False).ids),
                   model.encode(text, out_type=str)]
                  for text in ("the model", "wait\u2026", "\ufb01le", "\uff4d\uff4f\uff44\uff45\uff4c", "model\u00b2")]))
PYTHON
"$folder/4.57.6/bin/python" "$folder/make.py" "$folder/deberta"
for version in 4.57.6 5.24.0; do
  "$folder/$version/bin/python" "$folder/tokens.py" "$folder/deberta" >"$folder/$version.json"
done
python3 - "$folder" <<'PYTHON'
import json
import sys

old, new = (json.load(open(f"{sys.argv[1]}/{version}.json")) for version in ("4.57.6", "5.24.0"))
for (text, auto, file, model), (_, auto5, file5, _) in zip(old, new):
    print(f"{text!r:12} 4.57.6: {' '.join(auto)}   tokenizers: {' '.join(file5)}   sentencepiece: {' '.join(model)}   5.24.0: {' '.join(auto5)}")
    assert auto == file == file5 == model, "4.57.6, tokenizers and sentencepiece no longer agree"
    assert (auto5 == auto) == (text == "the model"), "5.24.0 gives other tokens than described"
assert all("[UNK]" in auto5 and "[UNK]" not in auto for (_, auto, _, _), (_, auto5, _, _) in zip(old[1:], new[1:]))
PYTHON
echo "as described"
