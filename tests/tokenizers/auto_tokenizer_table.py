#!/usr/bin/env python3
"""Prints where AutoTokenizer gives other ids than the tokenizers library does with the same folder's tokenizer.json.

  python3 auto_tokenizer_table.py --folders FOLDER --work FOLDER PYTHON...

FOLDER: what make_folders.py writes (with a transformers 4.57). PYTHON: interpreters that have different versions of transformers; each saves every folder
anew from its model files (or, where there are none, from tokenizer.json), and loads what all of them saved; besides, folders that have the model file
alone, tokenizer.json alone, and no special_tokens_map.json. Where a folder has no tokenizer.json, the one it was made from is the measure.
Texts: nasty.jsonl and 300 tweets of examples/data; single and in pairs.
"""

import argparse
import json
import os
import pathlib
import shutil
import subprocess
import sys

os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_OFFLINE="1", TRANSFORMERS_VERBOSITY="error")
HERE = pathlib.Path(__file__).resolve().parent
TWEETS = 300
MODEL_TYPES = {
    "bert-cased": "bert",
    "llama-metaspace": "llama",
    "llama3": "llama",
    "words": "bert",
    "deepseek": "deepseek_v3",
    "modernbert": "modernbert",
    "mistral-v1": "mistral",
}
MODEL_FILES = ["vocab.txt", "vocab.json", "merges.txt", "sentencepiece.bpe.model", "spiece.model", "spm.model", "tokenizer.model"]


def texts():
    import csv

    nasty = [json.loads(line) for line in (HERE / "nasty.jsonl").read_text(encoding="ascii").splitlines()]
    with open(HERE.parent.parent / "examples/data/tweets_eval.csv", encoding="utf-8", newline="") as handle:
        return nasty + [row["text"] for row in csv.DictReader(handle)][:TWEETS]


def pairs(singles):
    return singles[:540:3], singles[1:541:3]


def model_type(kind):
    return MODEL_TYPES.get(kind, kind.replace("-", "_") if kind != "xlm-roberta" else kind).replace("deberta_v2", "deberta-v2")


def save(folders):
    """Source, target, source, target, ..."""
    from transformers import AutoTokenizer

    for source, out in zip(folders[::2], folders[1::2]):
        try:
            AutoTokenizer.from_pretrained(source).save_pretrained(out)
        except BaseException as error:
            print(
                f"{pathlib.Path(source).name}: not saved, {type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"[:250],
                flush=True,
            )


def ids(folders):
    """One JSON line per folder."""
    import transformers
    from transformers import AutoTokenizer

    singles = texts()
    for folder in folders:
        answer = {"folder": str(folder), "transformers": transformers.__version__}
        try:
            tokenizer = AutoTokenizer.from_pretrained(folder)
            answer["class"] = type(tokenizer).__name__
            answer["ids"] = tokenizer(singles)["input_ids"]
            answer["bare"] = tokenizer(singles, add_special_tokens=False)["input_ids"]
            first, second = pairs(singles)
            answer["pairs"] = tokenizer(first, second)["input_ids"]
            answer["decoded"] = [tokenizer.decode(row) for row in answer["ids"]]
        except BaseException as error:
            answer["error"] = f"{type(error).__name__}: {str(error).splitlines()[0] if str(error) else ''}"
        print(json.dumps(answer), flush=True)


def measure(file):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    singles = texts()
    rows = [e.ids for e in tokenizer.encode_batch(singles)]
    return {
        "ids": rows,
        "bare": [e.ids for e in tokenizer.encode_batch(singles, add_special_tokens=False)],
        "pairs": [e.ids for e in tokenizer.encode_batch(list(zip(*pairs(singles))))],
        "decoded": [tokenizer.decode(row, skip_special_tokens=False) for row in rows],
    }


def prepare(arguments):
    """(kind, how the folder came about, folder, tokenizer.json that is the measure)"""
    versions, cases, saves = [], [], {}
    for python in arguments.python:
        versions.append(
            subprocess.run(
                [python, "-c", "import transformers; print(transformers.__version__)"], capture_output=True, text=True, check=True
            ).stdout.strip()
        )
    for source in sorted(arguments.folders.iterdir()):
        kind = source.name
        if not (source / "tokenizer.json").exists() or arguments.only and kind not in arguments.only.split(","):
            continue
        config = json.dumps({"model_type": model_type(kind)})
        files = [name for name in MODEL_FILES if (source / name).exists()]

        def folder(how, names):
            out = arguments.work / f"{kind}, {how}"
            shutil.rmtree(out, ignore_errors=True)
            out.mkdir(parents=True)
            (out / "config.json").write_text(config)
            for name in names:
                shutil.copy(source / name, out / name)
            return out

        made = [
            ("saved by 4.57", folder("saved by 4.57", [f.name for f in source.iterdir()])),
            ("tokenizer.json alone", folder("tokenizer.json alone", ["tokenizer.json"])),
            ("no special_tokens_map.json", folder("no special_tokens_map.json", ["tokenizer.json", "tokenizer_config.json"])),
        ]
        if files:
            made.append(("model file alone", folder("model file alone", files)))
            made.append(("model file, tokenizer_config.json", folder("model file, tokenizer_config.json", files + ["tokenizer_config.json"])))
        for python, version in zip(arguments.python, versions):
            if version.startswith("4.57"):
                continue
            for how, start in list(made):
                if how in ("saved by 4.57", "model file, tokenizer_config.json"):
                    out = arguments.work / f"{kind}, {how}, saved by {version}"
                    shutil.rmtree(out, ignore_errors=True)
                    made.append((f"{how}, saved by {version}", out))
                    saves.setdefault(python, []).extend([str(start), str(out)])
        cases += [(kind, how, out, source / "tokenizer.json") for how, out in made]
    for python, folders in saves.items():
        subprocess.run([python, __file__, "--save", *folders], check=True)
    for kind, how, out, file in cases:
        if out.exists():
            own = out / "tokenizer.json"
            if own.exists() and not (out / "config.json").exists():
                (out / "config.json").write_text(json.dumps({"model_type": model_type(kind)}))
            yield kind, how, out, own if own.exists() else file


def main():
    if sys.argv[1:2] == ["--save"]:
        return save(sys.argv[2:])
    if sys.argv[1:2] == ["--ids"]:
        return ids(sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--folders", type=pathlib.Path, required=True)
    parser.add_argument("--work", type=pathlib.Path, required=True)
    parser.add_argument("--only", help="kinds, joined by commas")
    parser.add_argument("--first", type=int, default=1, help="differing texts to show per row")
    parser.add_argument("python", nargs="+")
    arguments = parser.parse_args()
    cases = list(prepare(arguments))
    measures = {}
    singles = texts()
    print(
        f"{len(singles)} texts, {len(pairs(singles)[0])} pairs; a number: texts whose ids, ids without special tokens, pairs whose ids, texts whose decoded text differ, tweets whose ids differ"
    )
    for python in arguments.python:
        process = subprocess.Popen([python, __file__, "--ids", *(str(out) for _, _, out, _ in cases)], stdout=subprocess.PIPE, text=True)
        for (kind, how, out, file), line in zip(cases, process.stdout):
            answer = json.loads(line)
            row = f"{answer['transformers']:8} {kind:16} {how:60} {answer.get('class', ''):24}"
            if "error" in answer:
                print(f"{row} {answer['error'][:200]}", flush=True)
                continue
            if file not in measures:
                measures[file] = measure(file)
            theirs = measures[file]
            differing = {
                what: [i for i, (a, b) in enumerate(zip(answer[what], theirs[what])) if a != b] for what in ("ids", "bare", "pairs", "decoded")
            }
            tweets = sum(len(singles) - TWEETS <= i for i in differing["ids"])
            print(row, *(f"{len(rows):5}" for rows in differing.values()), f"{tweets:6}", flush=True)
            for i in sorted(differing["bare"] or differing["ids"], key=lambda i: len(singles[i]))[: arguments.first]:
                what = "bare" if differing["bare"] else "ids"
                print(f"    {json.dumps(singles[i])}: {answer[what][i][:24]}, tokenizers {theirs[what][i][:24]}")
            if differing["decoded"] and not differing["ids"]:
                i = min(differing["decoded"], key=lambda i: len(singles[i]))
                print(f"    decoded {answer['decoded'][i]!r}, tokenizers {theirs['decoded'][i]!r}")
        process.wait()


if __name__ == "__main__":
    main()
