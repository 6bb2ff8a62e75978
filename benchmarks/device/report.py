#!/usr/bin/env python3
"""Puts the pieces that run.sh left in a folder together: results.json and results.md.

    report.py --pieces FOLDER --out FOLDER [--emulated]

Exit code 1 when a test or a sanitizer's case failed, or when losses differ: deltatune's float32 steps from PyTorch's by more than 1e-4 of the loss
in the first eight steps (TF32: 5e-3; bf16: 3e-2), a graph's losses from those without one at all, or the number of parameters that train.
"""

import argparse
import csv
import json
import sys
from collections import defaultdict
from pathlib import Path

COMPARED_STEPS = 8
# variant of deltatune -> (variant of PyTorch, largest difference relative to the loss)
COMPARED = {"fp32": ("fp32", 1e-4), "fp32-graph": ("fp32", 1e-4), "tf32": ("fp32", 5e-3), "tf32-graph": ("fp32", 5e-3),
            "bf16": ("fp32", 3e-2), "bf16-graph": ("fp32", 3e-2)}
PEAK_OF = {"fp32": "float32", "tf32": "tf32", "bf16": "bf16"}


def read_json(path):
    return json.loads(path.read_text()) if path.exists() and path.stat().st_size else None


def read_lines(path):
    return [json.loads(line) for line in path.read_text().splitlines() if line.strip()] if path.exists() else []


def compare(runs):
    """One check a run of deltatune's that has a partner."""
    of = {(run["case"], run["side"], run["variant"]): run for run in runs if "losses" in run}
    checks = []
    for (case, side, variant), run in of.items():
        if side != "deltatune":
            continue
        partner, tolerance = COMPARED[variant]
        other = of.get((case, "torch", partner))
        if other is not None:
            pairs = list(zip(run["losses"], other["losses"]))[:COMPARED_STEPS]
            worst = max(abs(a - b) / max(abs(b), 1e-6) for a, b in pairs)
            same_count = run["trainable_parameters"] == other["trainable_parameters"]
            checks.append({"case": case, "what": f"deltatune {variant} against PyTorch {partner}", "steps": len(pairs), "worst_relative": worst,
                           "tolerance": tolerance, "passed": worst <= tolerance and same_count, "same_parameter_count": same_count})
        plain = of.get((case, "deltatune", variant.removesuffix("-graph")))
        if variant.endswith("-graph") and plain is not None:
            worst = max(abs(a - b) for a, b in zip(run["losses"], plain["losses"]))
            checks.append({"case": case, "what": f"deltatune {variant} against the same without a graph", "steps": len(run["losses"]),
                           "worst_relative": worst, "tolerance": 0.0, "passed": worst == 0.0})
    return checks


def read_kernels(path):
    """{case: {"kernels": launches, "ms": their time, "top": [[name, launches, ms], ...]}} of ncu's CSV output, one file a case."""
    kernels = {}
    for file in sorted(path.glob("kernels.*.csv")):
        lines = [line for line in file.read_text(errors="replace").splitlines() if line.startswith('"')]
        by_name = defaultdict(lambda: [0, 0.0])
        for row in csv.DictReader(lines):
            if row.get("Metric Name") != "gpu__time_duration.sum":
                continue
            unit = {"nsecond": 1e-6, "ns": 1e-6, "usecond": 1e-3, "us": 1e-3, "msecond": 1.0, "ms": 1.0}[row["Metric Unit"]]
            entry = by_name[row["Kernel Name"][:140]]
            entry[0] += 1
            entry[1] += float(row["Metric Value"].replace(",", "")) * unit
        if by_name:
            top = sorted(([name, count, round(ms, 5)] for name, (count, ms) in by_name.items()), key=lambda entry: -entry[2])
            kernels[file.name.split(".", 2)[1]] = {"kernels": sum(entry[1] for entry in top), "ms": sum(entry[2] for entry in top), "top": top[:25]}
    return kernels


def table(head, rows):
    line = lambda cells: "| " + " | ".join(str(cell) for cell in cells) + " |"
    return [line(head), line(["---"] + ["--:"] * (len(head) - 1)), *(line(row) for row in rows), ""]


def number(value, digits=2):
    return "–" if value is None else f"{value:.{digits}f}"


def step_tables(runs, products, kernels):
    of = {(run["case"], run["side"], run["variant"]): run for run in runs}
    cases = list(dict.fromkeys(run["case"] for run in runs))

    def get(case, side, variant, key):
        return of.get((case, side, variant), {}).get(key)

    columns = [("torch", v) for v in ("fp32", "tf32", "bf16-autocast", "bf16-weights")]
    columns += [("deltatune", v) for v in ("fp32", "fp32-graph", "tf32", "tf32-graph", "bf16", "bf16-graph")]
    names = [("PyTorch " if side == "torch" else "") + variant for side, variant in columns]
    text = ["## Milliseconds a step", "Medians; the first columns are PyTorch with PEFT on the same GPU.", ""]
    text += table(["case", *names], [[case, *(number(get(case, *column, "median_step_ms"), 3) for column in columns)] for case in cases])

    pairs = [("fp32-graph", "fp32"), ("tf32-graph", "tf32"), ("bf16-graph", "bf16-autocast"), ("bf16-graph", "bf16-weights")]
    text += ["## Times as fast as PyTorch", ""]
    rows = []
    for case in cases:
        row = [case]
        for ours, theirs in pairs:
            a, b = get(case, "deltatune", ours, "median_step_ms"), get(case, "torch", theirs, "median_step_ms")
            row.append(number(b / a if a and b else None))
        rows.append(row)
    text += table(["case", *(f"{ours} / {theirs}" for ours, theirs in pairs)], rows)

    if products:
        text += ["## Share of the products' peak", "FLOPs of a step's matrix products (attention's are not among them) over the step's time, of the best "
                 "large product in that precision here: " + ", ".join(f"{name} {value / 1e12:.1f} TFLOP/s" for name, value in products.items()) + ".", ""]
        variants = ["fp32", "fp32-graph", "tf32", "tf32-graph", "bf16", "bf16-graph"]
        rows = []
        for case in cases:
            row = [case]
            for variant in variants:
                flops, ms = get(case, "deltatune", variant, "gemm_flops"), get(case, "deltatune", variant, "median_step_ms")
                peak = products.get(PEAK_OF[variant.removesuffix("-graph")])
                row.append(f"{100 * flops / (1e-3 * ms) / peak:.1f} %" if flops and ms and peak else "–")
            rows.append(row)
        text += table(["case", *variants], rows)

    text += ["## Gaps between kernels", "Of a step without a graph: the share of its time that a graph saves; and, where ncu ran, the time of its kernels alone.", ""]
    rows = []
    for case in cases:
        plain, graph = get(case, "deltatune", "fp32", "median_step_ms"), get(case, "deltatune", "fp32-graph", "median_step_ms")
        seen = kernels.get(case.replace("/", "-"))
        rows.append([case, number(plain, 3), number(graph, 3), f"{100 * (1 - graph / plain):.0f} %" if plain and graph else "–",
                     seen["kernels"] if seen else "–", number(seen["ms"] if seen else None, 3)])
    text += table(["case, fp32", "ms", "with a graph", "saved", "kernels", "their ms"], rows)
    for case, seen in kernels.items():
        text += [f"Kernels of a step of {case}:", ""] + table(["kernel", "launches", "ms"], [[f"`{n[:90]}`", c, number(ms, 4)] for n, c, ms in seen["top"][:10]])

    text += ["## Megabytes of device memory that tensors took at most", ""]
    text += table(["case", *names], [[case, *(number(get(case, *column, "peak_tensor_mb"), 0) for column in columns)] for case in cases])
    problems = [run for run in runs if "error" in run or "skipped" in run]
    if problems:
        text += ["Not measured:", *(f"- {run['case']} {run['side']} {run['variant']}: {run.get('error', run.get('skipped'))}" for run in problems), ""]
    return text


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pieces", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--emulated", action="store_true")
    arguments = parser.parse_args()
    pieces = arguments.pieces
    runs = read_lines(pieces / "runs.jsonl")
    tests = [summary for summary in (read_json(path) for path in sorted(pieces.glob("tests.*.json"))) if summary]
    stages = read_lines(pieces / "stages.jsonl")
    products, kernels, machine = read_json(pieces / "products.json"), read_kernels(pieces), read_json(pieces / "machine.json") or {}
    checks = compare(runs)

    failures = [f"{summary['name']}: {name}" for summary in tests for name in summary["failing"]]
    failures += [f"{check['case']}: {check['what']}: {check['worst_relative']:.2e}, allowed {check['tolerance']:.0e}" for check in checks if not check["passed"]]
    failures += [f"{run['case']} {run['side']} {run['variant']}: {run['error']}" for run in runs if run["side"] == "deltatune" and "error" in run]
    failures += [f"stage {stage['stage']}: {stage['state']}" for stage in stages if stage["state"].startswith("failed")]
    if not runs and any(stage["stage"] == "steps" for stage in stages if not stage["state"].startswith("skipped")):
        failures.append("steps: no run was recorded")
    if not runs and not tests:
        failures.append("nothing ran")

    result = {"emulated": arguments.emulated, "machine": machine, "passed": not failures, "failures": failures, "stages": stages, "tests": tests,
              "losses": checks, "products_flops_per_second": products, "kernels": kernels, "runs": runs}
    arguments.out.mkdir(parents=True, exist_ok=True)
    (arguments.out / "results.json").write_text(json.dumps(result, indent=1) + "\n")

    text = ["# deltatune on " + ("the emulated device: times and memory mean nothing" if arguments.emulated else machine.get("gpu", "a GPU")), ""]
    text += [f"- {key}: {value}" for key, value in machine.items()] + [""]
    text += ["**All that ran passed.**" if not failures else "**Failed:**", *(f"- {failure}" for failure in failures), "", "## Stages", ""]
    text += table(["stage", "state", "seconds"], [[stage["stage"], stage["state"], stage["seconds"]] for stage in stages])
    if tests:
        text += ["## Tests", ""]
        text += table(["", "cases", "passed", "failed", "timed out", "not run"],
                      [[s["name"], s["cases"], *(s["count"][state] for state in ("passed", "failed", "timed out", "not run"))] for s in tests])
        for summary in tests:
            if summary["hit_by_another"]:
                text += [f"{summary['name']}: failed beside others, passed alone: " + "; ".join(summary["hit_by_another"]), ""]
    if checks:
        text += ["## Losses", f"The largest difference of the first {COMPARED_STEPS} steps' losses, relative to the loss; with a graph against without: of all steps, absolute.", ""]
        text += table(["case", "what", "largest", "allowed", ""], [[c["case"], c["what"], f"{c['worst_relative']:.1e}", f"{c['tolerance']:.0e}", "ok" if c["passed"] else "DIFFERENT"] for c in checks])
    if runs:
        text += step_tables(runs, products, kernels)
    (arguments.out / "results.md").write_text("\n".join(text) + "\n")
    print("\n".join(text))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
