#!/usr/bin/env python3
"""Do deltatune and PEFT read each other's adapters to the same numbers? Exit code 0 if so, 1 if not, and a table.

An adapter written by `deltatune train`, and what `deltatune forward --adapter ... --out OUTPUT` made of it, against PEFT's:
    python3 check_with_peft.py loaded --model FOLDER --adapter FOLDER --batch FILE --output FILE

Adapters and gradients of PEFT, other ones than the shipped cases, against `deltatune forward --gradients`:
    python3 check_with_peft.py written --program build/deltatune [--seed 1]
"""

import argparse
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
import transformers
from peft import PeftModel
from safetensors.torch import load_file, save_file

import generate

LOGITS, GRADIENTS = 1e-5, 2e-4  # of the largest entry (of logits: at least of 1; of gradients: over all tensors)


class Table:
    def __init__(self):
        self.good = True
        print(f"{'':44} {'difference':>12} {'allowed':>12}")

    def row(self, name, got, expected, tolerance, scale):
        if got is None or got.shape != expected.shape:
            difference, good = "missing" if got is None else f"shape {tuple(got.shape)}, not {tuple(expected.shape)}", False
        else:
            largest = float((got.double() - expected.double()).abs().max())
            difference, good = f"{largest:.2e}", largest <= tolerance * scale  # not for NaN
        print(f"{name:44} {difference:>12} {tolerance * scale:12.2e}  {'ok' if good else 'WRONG'}")
        self.good &= good

    def note(self, name, text):
        print(f"{name:44} {text}  WRONG")
        self.good = False

    def logits_and_loss(self, name, got, output):
        self.row(f"{name} logits", got.get("logits"), output.logits, LOGITS, max(1.0, float(output.logits.abs().max())))
        if output.loss is not None:
            self.row(f"{name} loss", got.get("loss"), output.loss.reshape(1), LOGITS, max(1.0, float(output.loss)))


def loaded(arguments, table):
    tensors = load_file(arguments.adapter / "adapter_model.safetensors")
    labels = next(t.shape[0] for k, t in tensors.items() if k.endswith("classifier.weight"))
    base = generate.load_model(arguments.model, labels)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        model = PeftModel.from_pretrained(base, arguments.adapter).eval()
    for warning in caught:  # unknown keys in the configuration, keys missing in the file
        table.note("PEFT warns", str(warning.message))
    # PEFT says nothing of tensors that it does not use, so ask: what it would save must be what the file holds.
    saved = generate.get_peft_model_state_dict(model)
    for key, tensor in tensors.items():
        if key not in saved or not torch.equal(saved[key], tensor):
            table.note(key, "is not what PEFT has after loading")
    with torch.no_grad():
        output = model(**load_file(arguments.batch))
    table.logits_and_loss("adapter", load_file(arguments.output), output)


def written(arguments, table):
    with tempfile.TemporaryDirectory() as temporary:
        for name, (model_name, _, options, extras) in generate.CASES.items():
            if options is None or extras.get("feature"):
                continue
            folder = Path(temporary) / name
            stream = generate.generator(f"{arguments.seed} {name}")
            labels = extras.get("labels", generate.MODELS[model_name][1])
            base_folder = generate.HERE / "models" / model_name
            model = generate.make_adapter(generate.load_model(base_folder, labels), options, stream)
            model.save_pretrained(folder)
            batch = generate.make_batch(model.base_model.model.config, labels, stream, token_types=extras.get("token_types", False))
            save_file(batch, folder / "batch.safetensors")
            parameters = generate.trainable_parameters(model, None)
            output, gradients = generate.gradients(model, parameters, batch)
            command = [arguments.program, "forward", "--model", base_folder, "--adapter", folder, "--gradients"]
            command += ["--batch", folder / "batch.safetensors", "--out", folder / "output.safetensors"]
            run = subprocess.run(command, capture_output=True, text=True)
            if run.returncode != 0:
                table.note(name, f"exit code {run.returncode}: {run.stderr.strip()}")
                continue
            got = load_file(folder / "output.safetensors")
            table.logits_and_loss(name, got, output)
            scale = max(float(g.abs().max()) for g in gradients.values())
            wrong = {k: g for k, g in gradients.items() if not close(got.get(f"grad.{k}"), g, GRADIENTS * scale)}
            for key, gradient in wrong.items():
                table.row(f"  grad.{key}", got.get(f"grad.{key}"), gradient, GRADIENTS, scale)
            if not wrong:
                joined = [torch.cat([t[k].flatten() for k in gradients]) for t in ({k: got[f"grad.{k}"] for k in gradients}, gradients)]
                table.row(f"{name} {len(gradients)} gradients", *joined, GRADIENTS, scale)
            for key in sorted(got.keys() - {f"grad.{k}" for k in gradients} - {"logits", "loss"}):
                table.note(f"{name} {key}", "is not trainable in PEFT")


def close(got, expected, allowed):
    return got is not None and got.shape == expected.shape and float((got - expected).abs().max()) <= allowed


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("loaded", help="an adapter that deltatune wrote")
    for name in ("--model", "--adapter", "--batch", "--output"):
        command.add_argument(name, type=Path, required=True)
    command = commands.add_parser("written", help="adapters that PEFT wrote")
    command.add_argument("--program", type=Path, required=True)
    command.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    if arguments.command == "written":
        arguments.program = arguments.program.resolve()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    table = Table()
    {"loaded": loaded, "written": written}[arguments.command](arguments, table)
    print("same numbers" if table.good else "DIFFERENT NUMBERS")
    sys.exit(0 if table.good else 1)


if __name__ == "__main__":
    main()
