#!/usr/bin/env python3
"""Runs the cases of a Catch2 program in several processes at once, so that a crash or a hang takes no other case with it.

    run_tests.py PROGRAM --out FILE.json [--filter "[cuda]"] [--seconds N] [--prefix "compute-sanitizer --tool memcheck"] [--jobs N] [--chunk N]

Cases go to processes in chunks. Those of a chunk that fails run once more, each in a process of its own: a case that passes there was hit by
another one, which is noted. What time does not suffice for is listed as not run. Exit code 1 when a case failed, 2 when none ran.
"""

import argparse
import concurrent.futures
import json
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path


def arguments_of_command_line():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--log", type=Path, help="what failing processes said is added there")
    parser.add_argument("--filter", default="", help="a test spec of Catch2")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--case-seconds", type=float, default=90, help="of one process")
    parser.add_argument("--prefix", default="", help="command in front of the program")
    parser.add_argument("--jobs", type=int, default=8)
    parser.add_argument("--chunk", type=int, default=6)
    parser.add_argument("--name", default="tests")
    return parser.parse_args()


def case_names(program, spec):
    # Catch2 2 ends with the number of cases as exit code.
    out = subprocess.run([str(program), "--list-test-names-only", *([spec] if spec else [])], capture_output=True, text=True)
    names = [line.strip() for line in out.stdout.splitlines() if line.strip()]
    if not names:
        sys.exit(f"{program}: lists no test case; expected some of \"{spec or 'all'}\", got: {(out.stderr or 'nothing').strip()[-500:]}")
    return names


def in_chunks(names, size):
    """The cases that take long, those on many files, begin, each alone."""
    slow = [name for name in names if "transformers" in name or "AdamW steps follow" in name or "merged equals" in name or "contract" in name]
    rest = [name for name in names if name not in set(slow)]
    # Neighbours come from one file and cost alike: deal them out.
    count = max(1, -(-len(rest) // size))
    return [[name] for name in slow] + [chunk for chunk in (rest[i::count] for i in range(count)) if chunk]


class Runner:
    def __init__(self, arguments):
        self.program = arguments.program.resolve()
        self.prefix = shlex.split(arguments.prefix)
        self.case_seconds = arguments.case_seconds
        self.end = time.monotonic() + arguments.seconds

    def run(self, names):
        """(state, seconds, output): passed, failed, timed out, or not run."""
        left = self.end - time.monotonic()
        if left < 2:
            return "not run", 0.0, ""
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write("".join(name.replace(",", "\\,") + "\n" for name in names))  # an unescaped comma ends a filter of Catch2
            file.flush()
            start = time.monotonic()
            try:
                done = subprocess.run([*self.prefix, str(self.program), "--input-file", file.name], capture_output=True, text=True, errors="replace",
                                      timeout=min(left, self.case_seconds * (1 if len(names) == 1 else 2)))
            except subprocess.TimeoutExpired as error:
                out = error.stdout.decode(errors="replace") if error.stdout else ""
                out_of_time = time.monotonic() >= self.end - 0.5
                return "not run" if out_of_time else "timed out", time.monotonic() - start, out
        output = done.stdout + done.stderr
        ran = not any(text in output for text in ("No test cases matched", "No tests ran", "Invalid Filter"))
        # What compute-sanitizer says, with exit code 255, of cases that need no device.
        host_only = "Target application terminated before first instrumented API call" in output and "All tests passed" in output
        state = "passed" if ran and (done.returncode == 0 or host_only) else "failed"
        return state, time.monotonic() - start, output + f"\n(exit code {done.returncode})\n"


def main():
    arguments = arguments_of_command_line()
    names = case_names(arguments.program, arguments.filter)
    runner = Runner(arguments)
    results, logs = {}, []
    with concurrent.futures.ThreadPoolExecutor(arguments.jobs) as pool:
        chunks = in_chunks(names, arguments.chunk)
        alone = []
        for chunk, (state, seconds, output) in zip(chunks, pool.map(runner.run, chunks)):
            if state in ("passed", "not run") or len(chunk) == 1:
                for name in chunk:
                    results[name] = {"state": state, "seconds": round(seconds / len(chunk), 3)}
                if state not in ("passed", "not run"):
                    logs.append((chunk[0], output))
            else:
                logs.append((f"a chunk of {len(chunk)}, its cases run alone next", output[-2000:]))
                alone += chunk
        for name, (state, seconds, output) in zip(alone, pool.map(lambda name: runner.run([name]), alone)):
            results[name] = {"state": state, "seconds": round(seconds, 3), "hit_by_another": state == "passed"}
            if state not in ("passed", "not run"):
                logs.append((name, output))

    count = {state: sum(result["state"] == state for result in results.values()) for state in ("passed", "failed", "timed out", "not run")}
    failing = sorted(name for name, result in results.items() if result["state"] in ("failed", "timed out"))
    summary = {"name": arguments.name, "command": " ".join([*runner.prefix, runner.program.name]), "cases": len(names), "count": count, "failing": failing,
               "not_run": sorted(name for name, result in results.items() if result["state"] == "not run"),
               "hit_by_another": sorted(name for name, result in results.items() if result.get("hit_by_another")),
               "slowest": sorted(((result["seconds"], name) for name, result in results.items()), reverse=True)[:8]}
    arguments.out.write_text(json.dumps(summary, indent=1) + "\n")
    print(f"{arguments.name}: {len(names)} cases, " + ", ".join(f"{number} {state}" for state, number in count.items()))
    for name in failing:
        print(f"  {results[name]['state']}: {name}")
    if arguments.log and logs:
        with open(arguments.log, "a") as file:
            for name, output in logs:
                file.write(f"==== {arguments.name}: {name}\n{output[:1500]}{'...' if len(output) > 6000 else ''}{output[1500:][-4500:]}\n")
    sys.exit(1 if failing else 2 if count["passed"] == 0 else 0)


if __name__ == "__main__":
    main()
