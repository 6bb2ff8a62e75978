#!/usr/bin/env python3
"""`deltatune forward` on the GPU beside the same on the CPU, over cases of the conformance tests: every tensor it writes has to agree.

    program_check.py PROGRAM --out tests.program.json [--cases N] [--seconds N]
"""

import argparse
import json
import math
import struct
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

CONFORMANCE = Path(__file__).resolve().parent.parent.parent / "tests/conformance"
CASES = ["lora_query_value", "lora_all_linear_rslora", "bitfit", "prefix", "prompt", "dora", "ia3", "adapterhub_gpt2_houlsby", "adapterhub_gpt2_compacter",
         "vera", "adalora_all", "gpt2_lora", "adapterhub_compacter", "p_tuning", "unipelt", "mam"]
# Of the tensor's largest number, and of the largest gradient of all: what cancels out is exact only to the parts it is made of.
TOLERANCE, OF_ALL_GRADIENTS = 1e-3, 1e-5


def read_tensors(path):
    data = path.read_bytes()
    length = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + length])
    tensors = {}
    for name, about in header.items():
        if name != "__metadata__" and about["dtype"] == "F32":
            begin, end = (8 + length + place for place in about["data_offsets"])
            tensors[name] = struct.unpack(f"<{(end - begin) // 4}f", data[begin:end])
    return tensors


def forward(program, case, device, out):
    about = json.loads((case / "case.json").read_text())
    command = [str(program), "forward", "--model", str(CONFORMANCE / "models" / about["model"]), "--batch", str(case / "batch.safetensors"), "--out", str(out),
               "--device", device, "--gradients"]
    if (case / "adapter").is_dir():
        command += ["--adapter", str(case / "adapter")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    if done.returncode != 0:
        raise RuntimeError(f"{device}: {done.stderr.strip()[-300:]}")
    return read_tensors(out)


def check(program, case):
    """None, or what is wrong; the CPU's refusal of a case is not this check's business."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            expected = forward(program, case, "cpu", Path(folder) / "cpu.safetensors")
        except RuntimeError:
            return "not run"
        try:
            got = forward(program, case, "cuda", Path(folder) / "cuda.safetensors")
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            return str(error)
    if expected.keys() != got.keys():
        return "other tensors were written"
    steepest = max((abs(value) for name, values in expected.items() if name.startswith("grad.") for value in values), default=0.0)
    for name, values in expected.items():
        largest = max((abs(value) for value in values), default=0.0)
        worst = max((abs(a - b) for a, b in zip(values, got[name])), default=0.0)
        allowed = TOLERANCE * largest + (OF_ALL_GRADIENTS * steepest if name.startswith("grad.") else 1e-6)
        if not worst <= allowed or not math.isfinite(worst):
            return f"{name} differs by {worst:.2e}, its largest number is {largest:.2e}"
    return None


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument("--jobs", type=int, default=4)
    parser.add_argument("--cases", type=int, default=24, help="at most")
    arguments = parser.parse_args()
    program = arguments.program.resolve()
    folders = sorted(path for path in (CONFORMANCE / "cases").iterdir() if (path / "case.json").exists() and (path / "batch.safetensors").exists())
    first = [path for path in folders if path.name in CASES]
    others = [path for path in folders if path.name not in CASES]
    step = max(1, len(others) // max(1, arguments.cases - len(first)))
    chosen = (first + others[::step])[: arguments.cases]
    end = time.monotonic() + arguments.seconds

    def run(case):
        return "not run" if time.monotonic() > end - 2 else check(program, case)

    with ThreadPoolExecutor(arguments.jobs) as pool:
        answers = dict(zip((case.name for case in chosen), pool.map(run, chosen)))
    failing = sorted(f"{name}: {answer}" for name, answer in answers.items() if answer not in (None, "not run"))
    skipped = sorted(name for name, answer in answers.items() if answer == "not run")
    passed = len(answers) - len(failing) - len(skipped)
    arguments.out.write_text(json.dumps({
        "name": "deltatune forward, GPU against CPU", "command": "deltatune forward", "cases": len(answers), "failing": failing, "not_run": skipped,
        "count": {"passed": passed, "failed": len(failing), "timed out": 0, "not run": len(skipped)}, "hit_by_another": [], "slowest": []}, indent=1) + "\n")
    print(f"deltatune forward: {passed} of {len(answers)} cases agree with the CPU")
    for failure in failing:
        print(f"  {failure}")
    sys.exit(1 if failing else 2 if passed == 0 else 0)


if __name__ == "__main__":
    main()
