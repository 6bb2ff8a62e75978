#!/usr/bin/env python3
"""Writes fixtures/mbart and fixtures/mbart50: a small tokenizer of each, and what transformers' classes make of sources and targets in some languages.

  python3 make_languages.py

They are of the model in fixtures/xlm-roberta-model with its first pieces. languages.json: per case the languages, the texts, max_length (null: whole), the ids
of source and target, and what the decoder reads to predict the target. Written with transformers 4.57.6 and torch 2.13.0, by the classes in Python and in Rust
alike.
"""

import json
import pathlib
import shutil
import tempfile

import torch
import transformers
from sentencepiece import sentencepiece_model_pb2
from transformers.models.mbart.modeling_mbart import shift_tokens_right

HERE = pathlib.Path(__file__).parent
FIXTURES = HERE / "fixtures"
PIECES = 150
CLASSES = {
    "mbart": (transformers.MBartTokenizer, transformers.MBartTokenizerFast, ("en_XX", "ro_RO", "zh_CN")),
    "mbart50": (transformers.MBart50Tokenizer, transformers.MBart50TokenizerFast, ("en_XX", "ro_RO", "sl_SI")),
}
TEXTS = [("the car is good", "no day"), ("", "so it is"), ("  two  blanks, and é ", "x"), ("en_XX in a text </s>", "and ro_RO"), ("what a long day it is today", "a")]


def write_model(folder):
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((FIXTURES / "xlm-roberta-model" / "sentencepiece.bpe.model").read_bytes())
    del model.pieces[PIECES:]
    (folder / "sentencepiece.bpe.model").write_bytes(model.SerializeToString())


def ids_of(tokenizer, source, target, max_length):
    cut = dict(truncation=True, max_length=max_length) if max_length else {}
    return tokenizer(source, **cut)["input_ids"], tokenizer(text_target=target, **cut)["input_ids"]


def cases_of(python, rust, languages):
    for from_language in languages[:2]:
        for to_language in languages[1:]:
            for tokenizer in (python, rust):
                tokenizer.src_lang, tokenizer.tgt_lang = from_language, to_language
            for source, target in TEXTS:
                for max_length in (None, 4):
                    sources, targets = ids_of(rust, source, target, max_length)
                    assert (sources, targets) == ids_of(python, source, target, max_length), (from_language, source, target)
                    read = shift_tokens_right(torch.tensor([targets]), python.pad_token_id)[0].tolist()
                    yield {
                        "source_language": from_language, "target_language": to_language, "source": source, "target": target, "max_length": max_length,
                        "source_ids": sources, "target_ids": targets, "decoder_ids": read,
                    }


def main():
    for kind, (python_class, rust_class, languages) in CLASSES.items():
        folder = FIXTURES / kind
        folder.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as scratch:
            scratch = pathlib.Path(scratch)
            write_model(scratch)
            python = python_class(str(scratch / "sentencepiece.bpe.model"))
            rust = rust_class(str(scratch / "sentencepiece.bpe.model"), src_lang=languages[0], tgt_lang=languages[1])
            rust.save_pretrained(scratch / "saved")
            shutil.copy(scratch / "saved" / "special_tokens_map.json", folder)
            raw = json.loads((scratch / "saved" / "tokenizer.json").read_text(encoding="utf-8"))
            text = json.dumps(raw, ensure_ascii=False, separators=(",", ":"))
            (folder / "tokenizer.json").write_text(text + "\n", encoding="utf-8")
            cases = list(cases_of(python, rust, languages))
        codes = [token for token in rust.additional_special_tokens]
        lines = ",\n".join(json.dumps(case) for case in cases)
        (folder / "languages.json").write_text('{"codes": ' + json.dumps(codes) + ',\n"cases": [\n' + lines + "\n]}\n")
        print(kind, len(cases), "cases", sum(f.stat().st_size for f in folder.iterdir()))


if __name__ == "__main__":
    main()
