#!/usr/bin/env python3
"""Prints the results that `run.sh accuracy` left in a folder as Markdown, and says where the two sides do not train alike.

    python3 accuracy_table.py FOLDER

Exit code 1 when, averaged over the seeds, the held-out accuracies of a method differ by more than one point, the held-out
losses by more than 0.05, or the numbers of trainable parameters or of steps at all.
"""

import json
import sys
from pathlib import Path
from statistics import fmean, median

ACCURACY, LOSS = 0.01, 0.05


def row(name, ours, peft):
    """Prints a row; yields what differs."""
    def both(key, average):
        return average(r[key] for r in ours), average(r[key] for r in peft)

    accuracy, loss = both("eval_accuracy", fmean), both("eval_loss", fmean)
    speed, memory = both("real_tokens_per_second", median), both("peak_rss_mb", median)
    print(f"| {name} | {ours[0]['trainable_parameters']:,} | {accuracy[0]:.1%} | {accuracy[1]:.1%} "
          f"| {speed[0]:,.0f} | {speed[1]:,.0f} | {memory[0]:,.0f} | {memory[1]:,.0f} "
          f"| {speed[0] / speed[1]:.2f} × | 1/{memory[1] / memory[0]:.1f} |")
    for what, (a, b), allowed in (("accuracy", accuracy, ACCURACY), ("held-out loss", loss, LOSS)):
        if not abs(a - b) <= allowed:
            yield f"{name}: {what} {a:.4f}, PEFT {b:.4f}"
    for key in ("trainable_parameters", "steps"):
        if {r[key] for r in ours} != {r[key] for r in peft}:
            yield f"{name}: {key} {ours[0][key]}, PEFT {peft[0][key]}"


def main():
    results = {}
    for file in sorted(Path(sys.argv[1]).glob("*.json")):
        side, method, _ = file.name.split(".", 2)
        results.setdefault(method, {}).setdefault(side, []).append(json.loads(file.read_text()))
    columns = ("accuracy", "tokens/s", "peak MB")
    print("| method | trainable |", " | ".join(f"{name} deltatune | PEFT" for name in columns), "| speed | memory |")
    print("|---" + "|--:" * 9 + "|")
    complaints = []
    for method in sorted(results, key=["lora", "bitfit", "head", "full"].index):
        for side in ("deltatune-float32", "deltatune-bf16"):
            if side in results[method]:
                complaints += row(method + (", bf16 base" if side.endswith("bf16") else ""), results[method][side], results[method]["peft"])
    seeds = len(next(iter(results.values()))["peft"])
    print(f"\n{seeds} seed(s): means of the accuracies, medians of the rest; padding is not counted in tokens/s.")
    for complaint in complaints:
        print("DIFFERENT:", complaint)
    sys.exit(1 if complaints else 0)


if __name__ == "__main__":
    main()
