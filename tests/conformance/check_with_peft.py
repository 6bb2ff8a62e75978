#!/usr/bin/env python3
"""Do deltatune and the Python libraries read each other's adapters to the same numbers? Exit code 0 if so, 1 if not, and a table.

An adapter written by deltatune in the format of peft or AdapterHub, and what `deltatune forward --adapter ... --out OUTPUT` made of it,
against the library's own outputs (which library, the adapter's folder says):
    python3 check_with_peft.py loaded --model FOLDER --adapter FOLDER --batch FILE --output FILE

The shipped cases, or others of the same kinds with other sizes, options and numbers, against `deltatune forward --gradients`:
    python3 check_with_peft.py shipped  --program build/deltatune [--only SUBSTRING]
    python3 check_with_peft.py held_out --program build/deltatune [--only SUBSTRING] [--seed 1] [--keep FOLDER]

T5 and BART with what `deltatune train` made of a LoRA, a prompt and peft's prefix, in peft:
    python3 check_with_peft.py trained  --program build/deltatune
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
from peft import PrefixTuningConfig, get_peft_model
from safetensors.torch import load_file, save_file

import generate
import generate_adapters
import generate_encoders
import generate_peft
from generate_common import CONFIGS, HERE, fresh, generator, load_model, real_logits
from generate_encoder_decoder_models import ENCODER_DECODERS, load_encoder_decoder, make_pairs, write_encoder_decoder

LOGITS, GRADIENTS = 2e-5, 2e-4  # of the largest entry (of logits and losses: at least of 1; of gradients: over all tensors)
OUTPUTS = ("logits", "loss", "last_hidden_state", "sentence_embedding")


class Table:
    def __init__(self):
        self.good = True
        print(f"{'':52} {'difference':>12} {'allowed':>12}")

    def row(self, name, got, expected, tolerance, scale):
        if got is None or got.shape != expected.shape:
            difference, good = "missing" if got is None else f"shape {tuple(got.shape)}, not {tuple(expected.shape)}", False
        else:
            largest = float((got.double() - expected.double()).abs().max()) if expected.numel() else 0.0
            difference, good = f"{largest:.2e}", largest <= tolerance * scale  # not for NaN
        print(f"{name:52} {difference:>12} {tolerance * scale:12.2e}  {'ok' if good else 'WRONG'}", flush=True)
        self.good &= good

    def note(self, name, text):
        print(f"{name:52} {text}  WRONG")
        self.good = False

    def output(self, name, got, expected):
        self.row(name, got, expected, LOGITS, max(1.0, float(expected.abs().max())))


# --------------------------------------------------------------------------------------------- what deltatune has written
def labels_of(model_folder, tensors):
    """As many as the adapter's head has, else the model's; none for a language model."""
    for key, tensor in tensors.items():
        if key.endswith(("classifier.weight", "classifier.out_proj.weight", "classification_head.out_proj.weight", "score.weight")) and "pre_classifier" not in key:
            return tensor.shape[0]
    config = json.loads((model_folder / "config.json").read_text())
    if config["architectures"][0].endswith(("LMHeadModel", "ForCausalLM", "ForConditionalGeneration")):
        return None
    return len(config["id2label"]) if "id2label" in config else 2


def read_by_peft(arguments, table, base, tensors):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        trainable = not generate_peft.is_prompt(arguments.adapter)  # else adalora has no loss
        model = generate_peft.PeftModel.from_pretrained(base, arguments.adapter, is_trainable=trainable).eval()
        saved = generate_peft.get_peft_model_state_dict(model, save_embedding_layers=False)
    for warning in caught:  # unknown keys in the configuration, keys missing in the file
        if not generate_peft.harmless(str(warning.message)):
            table.note("peft warns", str(warning.message))
    # It says nothing of tensors that it does not use, so ask: what it would save must be what the file holds.
    for key, tensor in tensors.items():
        if key not in saved or not torch.equal(saved[key], tensor):
            table.note(key, "is not what peft has after loading")
    for key in saved.keys() - tensors.keys():
        table.note(key, "is not in the file")
    return model


def read_by_adapters(arguments, table, base, tensors):
    model = generate_adapters.load(base, arguments.adapter)
    state = model.state_dict(keep_vars=True)
    for key, tensor in tensors.items():
        if key not in state or not torch.equal(state[key], tensor):
            table.note(key, "is not what adapters has after loading")
    given = {id(state[key]) for key in tensors if key in state}
    has_head = (arguments.adapter / "head_config.json").exists()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad and id(parameter) not in given and (has_head or generate_adapters.NAME in name):
            table.note(name, "is not in the file")
    return model


def loaded(arguments, table):
    settings = json.loads((arguments.adapter / "adapter_config.json").read_text())
    peft = "peft_type" in settings
    tensors = load_file(arguments.adapter / "adapter_model.safetensors") if peft else generate_adapters.tensors_of(arguments.adapter)
    labels = labels_of(arguments.model, tensors)
    feature = settings.get("task_type") == "FEATURE_EXTRACTION"
    base = load_model(arguments.model, labels, feature)
    if settings.get("peft_type") == "PREFIX_TUNING" and base.config.model_type in CONFIGS and not feature:
        generate_encoders.first_output(base)
    model = (read_by_peft if peft else read_by_adapters)(arguments, table, base, tensors)
    if settings.get("peft_type") == "ADALORA":
        model = model.get_base_model()  # peft's wrapper adds the penalty to the loss
    batch, got = load_file(arguments.batch), load_file(arguments.output)
    with torch.no_grad():
        output = model(**batch)
    if feature:
        return table.output("last_hidden_state", got.get("last_hidden_state"), output.last_hidden_state[batch["attention_mask"].bool()])
    table.output("logits", got.get("logits"), real_logits(output, batch))
    if output.loss is not None:
        table.output("loss", got.get("loss"), output.loss.reshape(1))


# ------------------------------------------------------------------------------------- what the Python libraries have written
def compare(name, root, program, table):
    folder = root / "cases" / name
    case, expected = json.loads((folder / "case.json").read_text()), load_file(folder / "expected.safetensors")
    gradients = {key: tensor for key, tensor in expected.items() if key.startswith("grad.")}
    with tempfile.TemporaryDirectory() as temporary:
        out = Path(temporary) / "output.safetensors"
        command = [program, "forward", "--model", root / "models" / case["model"], "--batch", folder / "batch.safetensors", "--out", out]
        command += ["--adapter", folder / case["adapter"]] if case["adapter"] else []
        command += ["--trainable", case["trainable"]] if case["trainable"] else []
        command += ["--gradients"] if gradients else []
        run = subprocess.run(command, capture_output=True, text=True)
        if run.returncode != 0:
            return table.note(name, f"exit code {run.returncode}: {run.stderr.strip()}")
        got = load_file(out)
    for key in OUTPUTS:
        if key in expected:
            table.output(f"{name} {key}", got.get(key), expected[key])
    if gradients:
        scale = max(float(g.abs().max()) for g in gradients.values() if g.numel())
        wrong = {k: g for k, g in gradients.items() if not close(got.get(k), g, GRADIENTS * scale)}
        for key, gradient in wrong.items():
            table.row(f"  {key}", got.get(key), gradient, GRADIENTS, scale)
        if not wrong:
            joined = [torch.cat([tensors[k].flatten() for k in gradients]) for tensors in (got, expected)]
            table.row(f"{name} {len(gradients)} gradients", *joined, GRADIENTS, scale)
    for key in sorted(k for k in got.keys() - gradients.keys() if k.startswith("grad.")):
        table.note(f"{name} {key}", "does not train in the library")


# ------------------------------------------------------------------------------------ encoder-decoders that deltatune has trained
# The model, its tokenizer among tests/tokenizers/fixtures, and as many words as that has.
TRAINED = {"t5": ("t5", 1100), "bart": ("roberta", 1000)}
PAIRS = "source,target\ngood day,positive\nbad day,negative\nno day,so it is\nthe car is good,positive\n"
KEYS = {"t5": dict(token_dim=24), "bart": dict(num_attention_heads=2)}  # of the decoder, where peft does not find it
METHODS = {
    "lora": ["--method", "lora", "--rank", "3"],
    "prompt": ["--method", "prompt", "--virtual-tokens", "3"],
    "prefix": ["--init-adapter"],  # in peft's form, which begins with a folder of peft's
}


def run(program, *arguments):
    done = subprocess.run([program, *map(str, arguments)], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"{' '.join(map(str, arguments))}: {done.stderr}")


def trained(arguments, table):
    with tempfile.TemporaryDirectory() as temporary:
        for name, (tokenizer, words) in TRAINED.items():
            folder = Path(temporary) / name
            model = fresh(folder / "model")
            ENCODER_DECODERS[name][1].update(vocab_size=words)
            write_encoder_decoder(name, model)
            shutil.copy(HERE.parent / "tokenizers" / "fixtures" / tokenizer / "tokenizer.json", model)
            (folder / "pairs.csv").write_text(PAIRS)
            prefix = PrefixTuningConfig(task_type="SEQ_2_SEQ_LM", num_virtual_tokens=3, num_layers=3, **KEYS[name])
            get_peft_model(load_encoder_decoder(model), prefix).save_pretrained(folder / "peft_prefix")
            batch = folder / "batch.safetensors"
            save_file(make_pairs(load_encoder_decoder(model).config, generator(f"trained {name}"), (9, 5, 1), (4, 7, 2)), batch)
            for method, options in METHODS.items():
                adapter, output = folder / method, folder / f"{method}.safetensors"
                options = options + [folder / "peft_prefix"] if method == "prefix" else options
                run(arguments.program, "train", "--model", model, "--data", folder / "pairs.csv", "--out", adapter, "--steps", "20", "--learning-rate", "1e-2",
                    "--eval-fraction", "0", "--max-length", "12", *options)
                run(arguments.program, "forward", "--model", model, "--adapter", adapter, "--batch", batch, "--out", output)
                print(f"{name}, {method}")
                loaded(argparse.Namespace(model=model, adapter=adapter, batch=batch, output=output), table)


def close(got, expected, allowed):
    return got is not None and got.shape == expected.shape and (got.numel() == 0 or float((got - expected).abs().max()) <= allowed)


def compare_all(root, arguments, table):
    names = sorted(folder.name for folder in (root / "cases").iterdir() if arguments.only in folder.name)
    for name in names:
        compare(name, root, arguments.program, table)
    print(f"{len(names)} cases")
    table.good &= bool(names)


def shipped(arguments, table):
    compare_all(HERE, arguments, table)


def held_out(arguments, table):
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.keep or Path(temporary)
        generate.write_held_out(arguments.seed, folder, arguments.only)
        compare_all(folder, arguments, table)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    command = commands.add_parser("loaded", help="an adapter that deltatune wrote")
    for name in ("--model", "--adapter", "--batch", "--output"):
        command.add_argument(name, type=Path, required=True)
    for name, what in (("shipped", "the cases in this folder"), ("held_out", "new cases of the same kinds")):
        command = commands.add_parser(name, help=what)
        command.add_argument("--program", type=Path, required=True)
        command.add_argument("--only", default="", help="cases whose name contains this")
    command.add_argument("--seed", default="1", help="any word: other cases")
    command.add_argument("--keep", type=Path, metavar="FOLDER", help="write the cases here and leave them")
    command = commands.add_parser("trained", help="encoder-decoders that deltatune trains")
    command.add_argument("--program", type=Path, required=True)
    arguments = parser.parse_args()
    if arguments.command != "loaded":
        arguments.program = arguments.program.resolve()
    generate.prepare()
    table = Table()
    {"loaded": loaded, "shipped": shipped, "held_out": held_out, "trained": trained}[arguments.command](arguments, table)
    print("same numbers" if table.good else "DIFFERENT NUMBERS")
    sys.exit(0 if table.good else 1)


if __name__ == "__main__":
    main()
