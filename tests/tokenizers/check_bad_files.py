#!/usr/bin/env python3
"""Gives the program `tokenize` damaged tokenizers: it has to refuse them with a message that names the file and the place, and never to crash or hang.

  python3 check_bad_files.py --program BUILD/tokenize [--fixtures FOLDER] [--seconds 60] [--seed 1]

First the cases of one known fault each, whose message has to have certain words; then, for --seconds, files with random damage: keys and values of
tokenizer.json taken out, repeated or replaced, bytes of it and of sentencepiece models changed, files cut short.
"""

import argparse
import copy
import json
import pathlib
import random
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).parent
TEXTS = ["", "Hello, wörld! 123 [MASK] <mask> ﬁ\u0301 \U0001f600\n\n  x", "don't  stop", "\u4f60\u597d a" * 20]


def stage(name, **fields):
    return {"type": name, **fields}


def known_faults(read):
    """(what, kind or None for a raw text, tokenizer.json, words of the message)"""

    def changed(kind, change):
        raw = copy.deepcopy(read[kind])
        change(raw)
        return json.dumps(raw)

    def put(*path_and_value):
        *path, key, value = path_and_value

        def change(raw):
            for step in path:
                raw = raw[step]
            raw[key] = value

        return change

    def drop(*path):
        def change(raw):
            for step in path[:-1]:
                raw = raw[step]
            del raw[path[-1]]

        return change

    token = next(iter(reversed(read["roberta"]["model"]["vocab"])))
    yield "empty file", "", ["tokenizer.json"]
    yield "no JSON", "{", ["tokenizer.json"]
    yield "a list", "[]", ["tokenizer.json"]
    yield "an empty object", "{}", ["tokenizer.json", "model"]
    yield "no model", changed("roberta", drop("model")), ["model"]
    yield "unknown model", changed("roberta", put("model", "type", "Nonsense")), ["model", "Nonsense"]
    yield "unknown normalizer", changed("roberta", put("normalizer", stage("Nonsense"))), ["normalizer", "Nonsense"]
    yield "unknown normalizer in a Sequence", changed(
        "roberta", put("normalizer", stage("Sequence", normalizers=[stage("NFC"), stage("Nonsense")]))
    ), ["normalizer", "Nonsense"]
    yield "unknown pre-tokenizer", changed("roberta", put("pre_tokenizer", stage("Nonsense"))), ["pre_tokenizer", "Nonsense"]
    yield "unknown post-processor", changed("roberta", put("post_processor", stage("Nonsense"))), ["post_processor", "Nonsense"]
    yield "unknown decoder", changed("roberta", put("decoder", stage("Nonsense"))), ["decoder", "Nonsense"]
    yield "stage without type", changed("roberta", put("pre_tokenizer", {})), ["pre_tokenizer", "type"]
    yield "normalizer is a number", changed("roberta", put("normalizer", 3)), ["normalizer"]
    yield "no vocabulary", changed("roberta", drop("model", "vocab")), ["model", "vocab"]
    yield "vocabulary is a list", changed("roberta", put("model", "vocab", ["a"])), ["vocab"]
    yield "an id is a string", changed("roberta", put("model", "vocab", token, "7")), ["vocab"]
    yield "an id is negative", changed("roberta", put("model", "vocab", token, -7)), ["vocab"]
    yield "an id is a fraction", changed("roberta", put("model", "vocab", token, 1.5)), ["vocab"]
    yield "an id is huge", changed("roberta", put("model", "vocab", token, 2**40)), ["vocab"]
    yield "a merge's result has no token", changed("roberta", drop("model", "vocab", token)), ["merges"]
    yield "merge of one part", changed("roberta", put("model", "merges", 0, ["a"])), ["merges"]
    yield "merge of three parts", changed("roberta", put("model", "merges", 0, ["a", "b", "c"])), ["merges"]
    yield "merge of numbers", changed("roberta", put("model", "merges", 0, [1, 2])), ["merges"]
    yield "merge names no token", changed("roberta", put("model", "merges", 0, ["\u5b57", "a"])), ["merges"]
    yield "merge string without blank", changed("roberta", put("model", "merges", ["ab"])), ["merges"]
    yield "unknown token is missing", changed("bert-cased", put("model", "unk_token", "[NONE]")), ["unk_token"]
    yield "WordPiece without unk_token", changed("bert-cased", drop("model", "unk_token")), ["unk_token"]
    yield "Unigram's unk_id too large", changed("t5", put("model", "unk_id", 10**6)), ["unk_id"]
    yield "Unigram's score is a string", changed("t5", put("model", "vocab", 5, ["x", "1"])), ["vocab"]
    yield "Unigram's entry is no pair", changed("t5", put("model", "vocab", 5, "x")), ["vocab"]
    yield "Unigram's vocabulary is empty", changed("t5", put("model", "vocab", [])), ["vocab"]

    def charsmap(raw):
        return next(s for s in raw["normalizer"]["normalizers"] if s["type"] == "Precompiled")

    for what, value in {
        "no base64": "%%%",
        "empty": "",
        "cut short": charsmap(read["t5"])["precompiled_charsmap"][:80],
        "a number": 5,
        "of nothing but zeros": "AAAA" * 40,
    }.items():
        yield f"Precompiled map: {what}", changed("t5", lambda raw, value=value: charsmap(raw).update(precompiled_charsmap=value)), (
            ["precompiled_charsmap"] if what != "empty" else []
        )
    for what, expression in {
        "open bracket": "[a",
        "open group": "(a",
        "bad range": "[z-a]",
        "nothing to repeat": "*a",
        "unknown property": r"\p{Nonsense}",
        "bad escape at end": "a\\",
    }.items():
        yield f"regular expression: {what}", changed(
            "roberta", put("pre_tokenizer", stage("Split", pattern={"Regex": expression}, behavior="Isolated", invert=False))
        ), ["pre_tokenizer", "pattern"]
    yield "Split without pattern", changed("roberta", put("pre_tokenizer", stage("Split", behavior="Isolated", invert=False))), ["pattern"]
    yield "Split with unknown behavior", changed(
        "roberta", put("pre_tokenizer", stage("Split", pattern={"String": "a"}, behavior="Sideways", invert=False))
    ), ["behavior"]
    yield "Metaspace with unknown scheme", changed(
        "roberta", put("pre_tokenizer", stage("Metaspace", replacement="_", prepend_scheme="sometimes", split=True))
    ), ["prepend_scheme"]
    yield "template names no special token", changed("bert-cased", put("post_processor", "special_tokens", {})), ["special_tokens"]
    yield "template without single", changed("bert-cased", drop("post_processor", "single")), ["single"]
    yield "template with an unknown piece", changed("bert-cased", put("post_processor", "single", [{"Nonsense": {}}])), ["single"]
    yield "added tokens are an object", changed("roberta", put("added_tokens", {})), ["added_tokens"]
    yield "added token without content", changed("roberta", drop("added_tokens", 0, "content")), ["added_tokens", "content"]
    yield "added token's id is a string", changed("roberta", put("added_tokens", 0, "id", "x")), ["added_tokens", "id"]
    yield "dropout", changed("roberta", put("model", "dropout", 0.1)), ["dropout"]
    yield "deep nesting", '{"normalizer":' + '{"type":"Sequence","normalizers":[' * 5000 + "]}" * 5000 + "}", ["tokenizer.json"]


class Program:
    def __init__(self, path, scratch):
        self.path = path
        self.texts = scratch / "texts.jsonl"
        self.texts.write_text("".join(json.dumps(text) + "\n" for text in TEXTS), encoding="ascii")

    def run(self, folder):
        """(exit code, message); a negative exit code is a signal."""
        try:
            done = subprocess.run([self.path, folder, self.texts, "--decode"], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, timeout=60)
        except subprocess.TimeoutExpired:
            return -100, "60 seconds were not enough"
        return done.returncode, done.stderr.decode(errors="replace").strip()


def places(value, path=()):
    yield path
    if isinstance(value, dict):
        for key in list(value)[:40]:
            yield from places(value[key], path + (key,))
    elif isinstance(value, list):
        for i in list(range(min(3, len(value)))):
            yield from places(value[i], path + (i,))


def damage_json(raw, randomly):
    raw = copy.deepcopy(raw)
    everywhere = list(places(raw))[1:]
    for _ in range(randomly.choice([1, 1, 2, 3])):
        *path, key = randomly.choice(everywhere)
        parent = raw
        try:
            for step in path:
                parent = parent[step]
            kind = randomly.random()
            if kind < 0.3:
                del parent[key]
            elif kind < 0.8:
                parent[key] = randomly.choice(
                    [
                        None,
                        True,
                        -1,
                        0,
                        2**31,
                        2**63,
                        1e300,
                        "",
                        "x",
                        "\u2581",
                        "\ufffd",
                        [],
                        {},
                        [[]],
                        {"type": "Sequence"},
                        ["a", -1.0],
                        "A" * 5000,
                        "a b",
                    ]
                )
            else:
                other = raw
                for step in randomly.choice(everywhere):
                    other = other[step]
                parent[key] = copy.deepcopy(other)
        except (KeyError, IndexError, TypeError):
            pass
    return json.dumps(raw, ensure_ascii=False).encode("utf-8", errors="replace")


def damage_bytes(data, randomly):
    data = bytearray(data)
    kind = randomly.random()
    if kind < 0.2:
        return bytes(data[: randomly.randrange(len(data))])
    for _ in range(randomly.choice([1, 2, 8, 64])):
        i = randomly.randrange(min(len(data), 4000) if kind < 0.6 else len(data))
        data[i] = randomly.choice([0, 0xFF, 0x7F, 0x80, randomly.randrange(256), ord('"'), ord("}")])
    return bytes(data)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--fixtures", type=pathlib.Path, default=HERE / "fixtures")
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for the files that crash the program")
    arguments = parser.parse_args()
    read = {
        f.name: json.loads((f / "tokenizer.json").read_text(encoding="utf-8"))
        for f in sorted(arguments.fixtures.iterdir())
        if (f / "tokenizer.json").exists()
    }
    models = [f for folder in sorted(arguments.fixtures.glob("*-model")) for f in sorted(folder.glob("*.model"))]
    faults = 0
    with tempfile.TemporaryDirectory() as scratch:
        scratch = pathlib.Path(scratch)
        program = Program(arguments.program, scratch)
        folder = scratch / "bad"
        folder.mkdir()
        file = folder / "tokenizer.json"
        count = 0
        for what, text, words in known_faults(read):
            file.write_text(text, encoding="utf-8")
            code, message = program.run(folder)
            count += 1
            missing = [word for word in [*words, "tokenizer.json"] if word not in message] if words else []
            if code not in (0, 1) or (words and (code == 0 or missing)):
                faults += 1
                print(f"{what}: " + (f"exit code {code}: {message[:200]}" if code != 1 else f"message without {missing}: {message[:300]}"))
        print(f"{count} known faults, {faults} of them not refused as they ought to be", flush=True)
        file.unlink()
        randomly = random.Random(arguments.seed)
        end, tried, refused, bad = time.time() + arguments.seconds, 0, 0, 0
        while time.time() < end:
            if models and randomly.random() < 0.3:
                model = randomly.choice(models)
                target = folder / model.name
                data = damage_bytes(model.read_bytes(), randomly)
                (folder / "config.json").write_bytes((model.parent / "config.json").read_bytes())
            else:
                kind = randomly.choice(list(read))
                target = file
                data = damage_json(read[kind], randomly) if randomly.random() < 0.7 else damage_bytes(json.dumps(read[kind]).encode(), randomly)
            target.write_bytes(data)
            code, message = program.run(folder)
            tried += 1
            refused += code == 1
            if code not in (0, 1) or code == 1 and target.name not in message:
                bad += 1
                print(f"random damage {tried}: exit code {code}: {message[:300]}", flush=True)
                if arguments.keep:
                    arguments.keep.mkdir(exist_ok=True, parents=True)
                    (arguments.keep / f"{tried}-{target.name}").write_bytes(data)
            target.unlink()
        print(f"{tried} files with random damage, {refused} refused, {bad} crashed the program or were refused without their name")
    sys.exit(1 if faults or bad else 0)


if __name__ == "__main__":
    main()
