#!/usr/bin/env python3
"""Steps of training on the GPU, deltatune beside PyTorch with PEFT, on the same weights, start values and batches; one JSON object a run.

    steps.py --step-program deltatune_device_step --work FOLDER --out runs.jsonl [--cases minilm/lora ...] [--seconds N] [--emulated]

Jobs come from ../peers/make_jobs.py, the PyTorch side from ../peers/peer_step.py. Cases run in the order given until time is up; a run that fails
leaves its reason. Without PyTorch deltatune runs alone, on a tiny model of the conformance tests.
"""

import argparse
import json
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
sys.path.insert(0, str(HERE.parent / "peers"))

CASES = ["minilm/lora", "bert-base/lora", "bert-base-64x128/lora", "gpt2/lora", "bert-base/full", "minilm/full", "gpt2-16x512/lora",
         "bert-base-64x128/full", "gpt2/full"]
TINY_CASES = ["tiny-bert/lora", "tiny-gpt2/lora", "tiny-bert/full"]
DELTATUNE = {"fp32": [], "fp32-graph": ["--graph"], "tf32": ["--tf32"], "tf32-graph": ["--tf32", "--graph"],
             "bf16": ["--base-precision", "bf16", "--tf32"], "bf16-graph": ["--base-precision", "bf16", "--tf32", "--graph"]}
TORCH = {"fp32": ("fp32", False), "tf32": ("fp32", True), "bf16-autocast": ("bf16", True), "bf16-weights": ("bf16-weights", True)}


def applies(variant, method):
    """Full fine-tuning has no frozen weight to hold in bf16."""
    return method != "full" or variant not in ("bf16", "bf16-graph", "bf16-weights")


def tiny_job(folder):
    """Without PyTorch: a model and an adapter of the conformance tests, random batches."""
    case = ROOT / "tests/conformance/cases/lora_query_value"
    model = ROOT / "tests/conformance/models" / json.loads((case / "case.json").read_text())["model"]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    (folder / "model").symlink_to(model)
    (folder / "lora").symlink_to(case / "adapter")
    vocabulary = json.loads((model / "config.json").read_text())["vocab_size"]
    draw = random.Random(0)
    with open(folder / "batches.jsonl", "w") as file:
        for _ in range(4):
            ids = [[draw.randrange(vocabulary) for _ in range(12)] for _ in range(3)]
            print(json.dumps({"ids": ids, "labels": [draw.randrange(3) for _ in ids]}), file=file)
    (folder / "job.json").write_text(json.dumps({"task": "classify", "classes": 3, "dropout": False, "learning_rates": {"lora": 1e-3, "full": 5e-5}}))


def run_deltatune(arguments, job, method, variant):
    command = [str(arguments.step_program), "--job", str(job), "--method", method, "--no-dropout", "--steps", str(arguments.steps),
               "--warm-up", str(arguments.warm_up), *DELTATUNE[variant]]
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=arguments.run_seconds)
    if done.returncode != 0:
        raise RuntimeError((done.stderr.strip().splitlines() or [f"exit code {done.returncode}"])[-1])
    return json.loads(done.stdout.strip().splitlines()[-1])


def run_torch(arguments, peer, job, method, variant):
    mode, tf32 = TORCH[variant]
    return peer.train(job, method, mode, arguments.steps, arguments.warm_up, device=arguments.device, tf32=tf32)  # the jobs have no dropout


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--step-program", type=Path, required=True)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", nargs="+")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--run-seconds", type=float, default=60, help="of one run of deltatune")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--warm-up", type=int, default=6)
    parser.add_argument("--emulated", action="store_true", help="tiny models; PyTorch on the CPU")
    arguments = parser.parse_args()
    end = time.monotonic() + arguments.seconds
    arguments.device = "cpu" if arguments.emulated else "cuda"
    arguments.step_program = arguments.step_program.resolve()

    try:
        import torch

        if not arguments.emulated and not torch.cuda.is_available():
            raise ImportError("PyTorch sees no GPU")
        import make_jobs
        import peer_step
        from transformers import logging

        logging.set_verbosity_error()
        logging.disable_progress_bar()
    except ImportError as error:
        torch = make_jobs = peer_step = None
        print(f"PyTorch's side is skipped: {error}")
    cases = arguments.cases or (["tiny-bert/lora", "tiny-bert/full"] if make_jobs is None else TINY_CASES if arguments.emulated else CASES)

    failures = 0
    with open(arguments.out, "w") as out:
        def record(case, side, variant, run):
            nonlocal failures
            if end - time.monotonic() < 3:
                result = {"skipped": "out of time"}
            else:
                start = time.monotonic()
                try:
                    result = run()
                except Exception as error:  # the other runs go on
                    failures += 1
                    result = {"error": f"{type(error).__name__}: {error}"[:600]}
                result["wall_s"] = round(time.monotonic() - start, 2)
            print(json.dumps({"case": case, "side": side, "variant": variant} | result), file=out, flush=True)
            said = f"{result['median_step_ms']:.3f} ms" if "median_step_ms" in result else result.get("error", result.get("skipped"))
            print(f"{case} {side} {variant}: {said}", flush=True)

        for case in cases:
            name, method = case.split("/")
            job = arguments.work / name
            if end - time.monotonic() > 3 and not (job / "batches.jsonl").exists():
                start = time.monotonic()
                if make_jobs is None:
                    tiny_job(job)
                else:
                    torch.manual_seed(0)
                    make_jobs.JOBS[name](None, job)
                print(f"{name}: made in {time.monotonic() - start:.1f} s", flush=True)
            for variant in DELTATUNE:
                if applies(variant, method):
                    record(case, "deltatune", variant, lambda: run_deltatune(arguments, job, method, variant))
            for variant in TORCH if peer_step else ():
                if applies(variant, method):
                    record(case, "torch", variant, lambda: run_torch(arguments, peer_step, job, method, variant))
            if torch is not None and not arguments.emulated:
                torch.cuda.empty_cache()
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
