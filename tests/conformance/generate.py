#!/usr/bin/env python3
"""Writes the conformance cases of deltatune: tiny random models of every family, and what transformers, peft and adapters compute with them.

    python3 generate.py [--out FOLDER] [--only SUBSTRING]
    python3 generate.py --held-out SEED --out FOLDER     # the same kinds of cases with other sizes, options and numbers

Needs torch, transformers, peft, adapters and safetensors (the versions that wrote the shipped files are in README.md).
Everything is seeded by name, float32, CPU, one thread, eager attention, no dropout: a second run writes the same bytes.
The layout of what it writes is described in README.md.
"""

import argparse
import os
from pathlib import Path

os.environ["HF_HUB_OFFLINE"] = "1"

import torch
import transformers

import generate_adapters
import generate_base
import generate_decoders
import generate_encoder_decoders
import generate_encoders
import generate_gpt2
import generate_opendelta
import generate_peft
from generate_common import DECODERS, ENCODER_DECODERS, ENCODERS, HERE, MODELS, fresh, hold_out, write_model

GENERATORS = (generate_base, generate_gpt2, generate_peft, generate_adapters, generate_opendelta, generate_encoders, generate_decoders,
              generate_encoder_decoders)


def prepare():
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)
    transformers.logging.set_verbosity_error()


def write(out, only="", models=True):
    if models:
        for name in (*MODELS, *ENCODERS, *DECODERS, *ENCODER_DECODERS):
            write_model(name, fresh(out / "models" / name))
    for cases in GENERATORS:
        for name in cases.CASES:
            if only in name:
                cases.write_case(name, out / "models", fresh(out / "cases" / name))


def write_held_out(seed, out, only=""):
    """The same cases with other sizes, options and numbers. Once in a process: it changes the lists of cases."""
    hold_out(seed)
    for cases in GENERATORS:
        cases.hold_out()
    write(out, only)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=HERE, help="folder to write models/ and cases/ into")
    parser.add_argument("--only", default="", help="write only the cases (and no model) whose name contains this")
    parser.add_argument("--held-out", metavar="SEED", help="other cases of the same kinds; needs --out")
    arguments = parser.parse_args()
    prepare()
    if not arguments.held_out:
        return write(arguments.out, arguments.only, models=not arguments.only)
    if arguments.out == HERE:
        parser.error("held-out cases need a folder of their own: --out FOLDER")
    write_held_out(arguments.held_out, arguments.out, arguments.only)


if __name__ == "__main__":
    main()
