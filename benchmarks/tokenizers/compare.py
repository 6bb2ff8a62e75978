#!/usr/bin/env python3
"""Measures the program `tokenize` beside the Hugging Face tokenizers library, in one run, after checking that the ids are equal.

  python3 make_text.py --tweets FILE.csv --out text.txt
  python3 compare.py --program BUILD/tokenize --tweets FILE.csv --text text.txt FOLDER...

FOLDER has a tokenizer.json (tests/tokenizers/make_folders.py --size large makes some). Per folder, text and number of threads, each side starts anew
--rounds times, in turn, and encodes all texts as one batch --repeats times; the best time of all counts. Reading the tokenizer and the texts is not timed.

How Python is measured: encode_batch_fast(texts), which leaves out offsets as the program does, gives Encoding objects whose ids stay in Rust; no Python
list of numbers is made within the time (encode_batch, with offsets, is shown beside it). One thread is TOKENIZERS_PARALLELISM=false, more are
RAYON_NUM_THREADS. Its cache of words stays warm from one repeat to the next, as the program's does. Peak memory is the largest resident set of each
process, the texts and all encodings of one batch included.

"ratio" is of wall times; on a busy machine the shorter run is disturbed less, so "CPU" is the one to quote there: the ratio of processor seconds per
batch, of all threads (Python's of the call; the program's the difference between a run of many batches and one of few).
"""

import argparse
import csv
import json
import os
import pathlib
import statistics
import subprocess
import sys
import tempfile
import time


def python_side(folder, texts_file, repeats):
    """Runs in a process of its own; one JSON object."""
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(pathlib.Path(folder) / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    with open(texts_file, encoding="ascii") as file:
        texts = [json.loads(line) for line in file]
    times = {"fast": [], "offsets": [], "cpu": []}
    for _ in range(int(repeats)):
        for name, encode in (("fast", tokenizer.encode_batch_fast), ("offsets", tokenizer.encode_batch)):
            begin, cpu = time.perf_counter(), time.process_time()
            encodings = encode(texts)
            times[name].append(time.perf_counter() - begin)
            if name == "fast":
                times["cpu"].append(time.process_time() - cpu)
            tokens = sum(map(len, encodings))
            del encodings
    print(json.dumps({"tokens": tokens, **{name: min(values) for name, values in times.items()}}))


def run(command, environment=None):
    """Standard output, the peak resident set in MB, processor seconds."""
    with tempfile.TemporaryFile() as out:
        process = subprocess.Popen(list(map(str, command)), stdout=out, env={**os.environ, **(environment or {})})
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            sys.exit(f"{command} ended with {process.returncode}")
        out.seek(0)
        return out.read().decode(), usage.ru_maxrss / 1024, usage.ru_utime + usage.ru_stime


# What a process once held counts as the peak of those that it starts: the texts are read in processes of their own.


def write_texts(source, out):
    """The texts of a CSV file's column, or of lines, as one JSON string per line."""
    with open(source, encoding="utf-8", errors="replace", newline="" if source.endswith(".csv") else "\n") as file, open(out, "w", encoding="ascii") as to:
        texts = (row["text"] for row in csv.DictReader(file)) if source.endswith(".csv") else (line.removesuffix("\n") for line in file)
        to.writelines(json.dumps(text) + "\n" for text in texts)


def check(program, folder, file, threads):
    """Stops at the first text with other ids; prints the numbers of tokens of the texts and of the vocabulary, and the library's version."""
    import tokenizers

    tokenizer = tokenizers.Tokenizer.from_file(folder + "/tokenizer.json")
    with open(file, encoding="ascii") as lines:
        texts = [json.loads(line) for line in lines]
    tokenizer.no_truncation()
    tokenizer.no_padding()
    process = subprocess.Popen([program, folder, file, "--threads", threads], stdout=subprocess.PIPE, text=True)
    total = 0
    for start in range(0, len(texts), 4096):
        block = texts[start : start + 4096]
        for text, encoding in zip(block, tokenizer.encode_batch_fast(block)):
            line = process.stdout.readline()
            if not line or json.loads(line)["ids"] != encoding.ids:
                sys.exit(f"DIFFERENT: {folder}, {json.dumps(text)}")
            total += len(encoding.ids)
    if process.stdout.read() or process.wait() != 0:
        sys.exit(f"DIFFERENT: {folder}, the program ends otherwise than expected")
    print(json.dumps([total, tokenizer.get_vocab_size(), tokenizers.__version__]))


def measure(arguments, folder, file, threads):
    environment = {"TOKENIZERS_PARALLELISM": "false" if threads == 1 else "true", "RAYON_NUM_THREADS": str(threads)}
    seconds = {"ours": [], "fast": [], "offsets": [], "cpu": [], "cpu of ours": []}
    memory = {"ours": [], "python": []}
    counts = set()
    for _ in range(arguments.rounds):
        answer, peak, _ = run([sys.executable, __file__, "--python-side", folder, file, arguments.repeats], environment)
        answer = json.loads(answer)
        counts.add(answer["tokens"])
        memory["python"].append(peak)
        for name in ("fast", "offsets", "cpu"):
            seconds[name].append(answer[name])
        command = [arguments.program, folder, file, "--threads", threads, "--time"]
        answer, peak, few = run([*command, arguments.repeats])
        _, _, many = run([*command, 4 * arguments.repeats])
        seconds["cpu of ours"].append(max(many - few, 1e-9) / (3 * arguments.repeats))
        answer = json.loads(answer)
        counts.add(answer["tokens"])
        memory["ours"].append(peak)
        seconds["ours"].append(answer["best"])
    if len(counts) != 1:
        sys.exit(f"DIFFERENT: {folder.name}, {threads} threads: {counts} tokens")
    return counts.pop(), {name: min(values) for name, values in seconds.items()}, {name: statistics.median(values) for name, values in memory.items()}


def main():
    if sys.argv[1:2] == ["--python-side"]:
        return python_side(*sys.argv[2:])
    if sys.argv[1:2] == ["--texts"]:
        return write_texts(*sys.argv[2:])
    if sys.argv[1:2] == ["--check"]:
        return check(*sys.argv[2:])
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--program", type=pathlib.Path, required=True)
    parser.add_argument("--tweets", help="CSV file with a column text")
    parser.add_argument("--text", help="one text per line")
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("folders", nargs="+", type=pathlib.Path)
    arguments = parser.parse_args()
    print(f"{os.cpu_count()} CPUs; million tokens a second, best of {arguments.rounds} x {arguments.repeats}; load {os.getloadavg()[0]:.1f}\n")
    print(
        "| tokenizer | vocabulary | text | tokens | threads | Python | with offsets | deltatune | ratio | CPU | Python MB | deltatune MB |\n|---|--:|---|"
        + "--:|" * 9
    )
    worst = {}
    with tempfile.TemporaryDirectory() as scratch:
        corpora = {}
        for name, source in (("tweets", arguments.tweets), (f"{os.path.getsize(arguments.text) / 1e6:.0f} MB" if arguments.text else "", arguments.text)):
            if source:
                corpora[name] = pathlib.Path(scratch, name)
                run([sys.executable, __file__, "--texts", source, corpora[name]])
        for folder in arguments.folders:
            for name, file in corpora.items():
                answer, _, _ = run([sys.executable, __file__, "--check", arguments.program, folder, file, max(arguments.threads)])
                total, size, version = json.loads(answer)
                for threads in arguments.threads:
                    tokens, seconds, memory = measure(arguments, folder, file, threads)
                    if tokens != total:
                        sys.exit(f"DIFFERENT: {folder.name}: {tokens} tokens, checked {total}")
                    rate = {key: tokens / value / 1e6 for key, value in seconds.items()}
                    ratio = seconds["fast"] / seconds["ours"]
                    print(
                        f"| {folder.name} | {size:,} | {name} | {tokens:,} | {threads} | {rate['fast']:.2f} | {rate['offsets']:.2f} | {rate['ours']:.2f} | {ratio:.1f} × "
                        f"| {seconds['cpu'] / seconds['cpu of ours']:.1f} × | {memory['python']:.0f} | {memory['ours']:.0f} |",
                        flush=True,
                    )
                    worst[threads] = min(worst.get(threads, 1e9), ratio)
    print(f"\ntokenizers {version}; smallest ratio: " + ", ".join(f"{threads} thread(s) {ratio:.2f}" for threads, ratio in worst.items()))


if __name__ == "__main__":
    main()
