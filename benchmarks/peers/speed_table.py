#!/usr/bin/env python3
"""Prints the results that `run.sh speed` left in a folder as Markdown, and says where losses differ.

    python3 speed_table.py FOLDER --threads N

Also writes FOLDER/results.json: the machine and all runs. Exit code 1 when a run failed or losses are DIFFERENT from those of PyTorch in fp32:
  without dropout, any step by more than 0.1 % (fp32) or 2 % (bf16);  with dropout, the mean over the steps by more than 0.05
or when another number of parameters trains.
"""

import argparse
import json
import math
import os
import platform
import sys
from importlib.metadata import version
from pathlib import Path
from statistics import fmean, median

from padding import padding_factor

STEP_TOLERANCE, BF16_STEP_TOLERANCE, MEAN_TOLERANCE = 1e-3, 2e-2, 0.05
REFERENCE = "torch-fp32"
COLUMNS = {REFERENCE: "PyTorch fp32", "torch-bf16": "autocast bf16", "torch-bf16-weights": "PyTorch, bf16 weights", "torch-compile": "torch.compile",
           "deltatune-fp32": "deltatune fp32", "deltatune-bf16": "deltatune bf16 base", "deltatune-small": "deltatune, least memory",
           "deltatune-tiled": "deltatune, no oneDNN"}
ROUNDED = {"torch-bf16", "torch-bf16-weights", "deltatune-bf16", "deltatune-small"}
RATIOS = [("deltatune-fp32", "torch-fp32"), ("deltatune-bf16", "torch-bf16"), ("deltatune-bf16", "torch-bf16-weights"), ("deltatune-fp32", "torch-compile"),
          ("deltatune-tiled", "torch-fp32")]


def machine(threads, runs):
    cpu = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    names = [value.strip() for key, _, value in cpu if key.strip() == "model name"]
    flags = {flag for key, _, value in cpu if key.strip() == "flags" for flag in value.split()}
    return {
        "cpu": names[0] if names else platform.machine(), "processors": os.cpu_count(), "threads": threads,
        "units": {unit: flag in flags for unit, flag in (("AVX-512", "avx512f"), ("AVX512-BF16", "avx512_bf16"), ("AMX-BF16", "amx_bf16"))},
        "versions": {"Python": platform.python_version()} | {name: version(name) for name in ("torch", "transformers", "peft", "adapters")},
        "deltatune multiplies with": sorted({run["multiplies"] for run in runs if "multiplies" in run}),
    }


def read_runs(folder):
    runs = []
    for file in folder.glob("*.json"):
        job, method, column, round_ = file.stem.rsplit(".", 3)  # a job's name may hold points
        runs.append({"job": job, "method": method, "column": column, "round": round_} | json.loads(file.read_text()))
    return sorted(runs, key=lambda run: (run["job"] != "tweets", run["job"], run["method"], run["round"], list(COLUMNS).index(run["column"])))


class Results:
    """The runs of one job with one method."""

    def __init__(self, runs, dropout):
        self.all = [run for run in runs if "error" not in run]
        self.dropout = dropout

    def of(self, column):
        return [run for run in self.all if run["column"] == column]

    def median(self, column, key):
        values = [run[key] for run in self.of(column) if run["round"] != "check" and key in run]
        return median(values) if values else None

    def ratio(self, key, above, below):
        a, b = self.median(above, key), self.median(below, key)
        return a / b if a and b else None

    def step_difference(self, column):
        """The largest relative one of any step without dropout; None without such runs, and for the reference."""
        if column == REFERENCE:
            return None
        pairs = [(a, b) for run in self.of(column) for reference in self.of(REFERENCE)
                 if run["round"] == reference["round"] and (run["round"] == "check" or not self.dropout)
                 for a, b in zip(run["losses"], reference["losses"], strict=True)]
        return max((math.inf if math.isnan(a) else abs(a - b) / abs(b) for a, b in pairs), default=None)

    def mean_loss(self, column):
        """Over the steps with dropout; None without it."""
        losses = [loss for run in self.of(column) if self.dropout and run["round"] != "check" for loss in run["losses"]]
        return fmean(losses) if losses else None

    def complaints(self, column):
        allowed = BF16_STEP_TOLERANCE if column in ROUNDED else STEP_TOLERANCE
        step, mean, reference = self.step_difference(column), self.mean_loss(column), self.mean_loss(REFERENCE)
        if step is not None and not step <= allowed:
            yield f"a step's loss differs by {step:.2%}, allowed are {allowed:.1%}"
        if mean is not None and reference is not None and not abs(mean - reference) <= MEAN_TOLERANCE:
            yield f"mean loss {mean:.4f}, of {COLUMNS[REFERENCE]} {reference:.4f}"
        trained = [{run["trainable_parameters"] for run in self.of(c)} for c in (column, REFERENCE)]
        if all(trained) and trained[0] != trained[1]:
            yield f"{trained[0]} parameters train, of {COLUMNS[REFERENCE]} {trained[1]}"


def cell(value, pattern):
    return "–" if value is None else pattern.format(value)


def print_table(title, heads, rows):
    """rows: (name, cells); columns without any entry are left out."""
    filled = [i for i in range(len(heads)) if any(cells[i] != "–" for _, cells in rows)]
    print(f"\n### {title}\n")
    print("| job |", " | ".join(heads[i] for i in filled), "|")
    print("|---" + "|--:" * len(filled) + "|")
    for name, cells in rows:
        print(f"| {name} |", " | ".join(cells[i] for i in filled), "|")


def print_values(results, title, value, pattern):
    print_table(title, list(COLUMNS.values()), [(name, [cell(value(r, c), pattern) for c in COLUMNS]) for name, r in results.items()])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, required=True)
    arguments = parser.parse_args()

    runs = read_runs(arguments.folder / "runs")
    about = machine(arguments.threads, runs)
    (arguments.folder / "results.json").write_text(json.dumps({"machine": about, "runs": runs}, indent=1) + "\n")
    grouped = {}
    for run in runs:
        grouped.setdefault((run["job"], run["method"]), []).append(run)
    results, padding = {}, {}
    for (job, method), group in grouped.items():
        folder = arguments.folder / "jobs" / job
        results[f"{job}, {method}"] = Results(group, json.loads((folder / "job.json").read_text())["dropout"])
        padding[job] = padding_factor(folder / "batches.jsonl")

    print(f"{about['cpu']}, {about['processors']} processors, {about['threads']} threads; "
          + ", ".join(f"{unit} {'yes' if there else 'no'}" for unit, there in about["units"].items()) + ".  ")
    print(", ".join(f"{name} {number}" for name, number in about["versions"].items()) + "; deltatune with "
          + " or ".join(about["deltatune multiplies with"]) + ".  ")
    print("Padding, tokens with it over tokens: " + ", ".join(f"{job} {factor:.2f}" for job, factor in padding.items()) + ".")

    print_values(results, "Step, ms", lambda r, c: r.median(c, "median_step_ms"), "{:,.0f}")
    print_values(results, "Real tokens per second", lambda r, c: r.median(c, "real_tokens_per_second"), "{:,.0f}")
    heads = [f"{COLUMNS[ours]} / {COLUMNS[theirs]}" for ours, theirs in RATIOS]
    print_table("Speed: tokens per second, deltatune's over PyTorch's", heads, [
        (name, [cell(r.ratio("real_tokens_per_second", *pair), "{:.2f} ×") for pair in RATIOS]) for name, r in results.items()])
    print_values(results, "Matrix products of a step: GFLOP per second", lambda r, c: r.median(c, "gflop_per_second"), "{:,.0f}")
    print_values(results, "The same over the rate of one large product", lambda r, c: r.median(c, "share_of_best"), "{:.0%}")
    print_values(results, "Peak memory, MB", lambda r, c: r.median(c, "peak_rss_mb"), "{:,.0f}")
    print_values(results, "Memory before the first step, MB", lambda r, c: r.median(c, "rss_before_first_step_mb"), "{:,.0f}")
    print_values(results, f"Peak memory over that of {COLUMNS[REFERENCE]}", lambda r, c: r.ratio("peak_rss_mb", c, REFERENCE), "{:.2f}")
    print_values(results, f"Losses without dropout: largest difference of a step from {COLUMNS[REFERENCE]}",
                 lambda r, c: r.step_difference(c), "{:.1e}")
    if any(r.dropout for r in results.values()):
        print_values({n: r for n, r in results.items() if r.dropout}, "Mean loss with dropout", Results.mean_loss, "{:.4f}")
    for name, r in results.items():
        compiled = [run["first_step_ms"] - run["median_step_ms"] for run in r.of("torch-compile")]
        if compiled:
            print(f"\n{name}: torch.compile took {max(compiled) / 1e3:.0f} s before its first step was done.")
    rounds = len({run["round"] for run in runs} - {"check"})
    print(f"\nMedians over {rounds} round(s).\n")

    complaints = [f"FAILED: {run['job']}, {run['method']}, {COLUMNS[run['column']]}: {run['error']}" for run in runs if "error" in run]
    complaints += [f"DIFFERENT: {name}, {COLUMNS[column]}: {what}" for name, r in results.items() for column in COLUMNS for what in r.complaints(column)]
    compared = any(r.step_difference(column) is not None for r in results.values() for column in COLUMNS)
    print("\n".join(dict.fromkeys(complaints)) or ("Losses agree." if compared else "Nothing to compare losses with."))
    sys.exit(1 if complaints else 0)


if __name__ == "__main__":
    main()
