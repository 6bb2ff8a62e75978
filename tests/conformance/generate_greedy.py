#!/usr/bin/env python3
"""Writes greedy.json: what generate() of transformers goes on with, 50 prompts per model, with and without an adapter of the cases.

    python3 generate_greedy.py

A prompt is drawn anew where two tokens are nearly as likely as each other: 1e-3 of a logit apart at any step.
"""

import json
from pathlib import Path

import torch
from peft import PeftModel
from transformers import AutoConfig, AutoModelForCausalLM, AutoModelForSeq2SeqLM, logging

from generate_streams import generator, integer

HERE = Path(__file__).parent
PROMPTS, NEW_TOKENS, MARGIN = 50, 14, 1e-3
MODELS = ["gpt2_lm", "llama", "llama_rope_llama3", "llama_rope_yarn", "mistral", "qwen2", "qwen2_window", "qwen3", "qwen3_tied_window", "gemma", "gemma2",
          "gemma3", "phi3", "smollm3", "smollm3_tied", "olmo2", "granite"]
ADAPTERS = [f"{family}_lora_all_linear" for family in ("gpt2", "llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3", "phi3", "smollm3", "olmo2",
                                                       "granite")]


def continuation(model, prompt):
    """The new tokens, and the least distance of the best from the second best."""
    out = model.generate(input_ids=torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt), dtype=torch.long), max_new_tokens=NEW_TOKENS,
                         do_sample=False, output_logits=True, return_dict_in_generate=True, pad_token_id=0)
    best = torch.stack([step[0].topk(2).values for step in out.logits])
    return out.sequences[0, len(prompt):].tolist(), (best[:, 0] - best[:, 1]).min().item()


def texts(name, model, vocab):
    stream = generator(f"greedy {name}")
    rows = []
    while len(rows) < PROMPTS:
        prompt = [integer(3, vocab - 2, stream) for _ in range(integer(1, 12, stream))]
        tokens, margin = continuation(model, prompt)
        if margin > MARGIN:
            rows.append({"prompt": prompt, "tokens": tokens})
    return rows


def models(names, adapters):
    """The models of these names, and those that these adapters of the cases are for: (name, adapter or None, model)."""
    pairs = [(name, None) for name in names]
    pairs += [(json.loads((HERE / "cases" / case / "case.json").read_text())["model"], case) for case in adapters]
    for name, adapter in pairs:
        config = AutoConfig.from_pretrained(HERE / "models" / name)
        kind = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
        model = kind.from_pretrained(HERE / "models" / name, attn_implementation="eager", dtype=torch.float32).eval()
        if adapter is not None:
            model = PeftModel.from_pretrained(model, HERE / "cases" / adapter / "adapter").eval()
        yield name, adapter, model


def write_entries(file, entries):
    (HERE / file).write_text("[\n" + ",\n".join(json.dumps(entry, separators=(",", ":")) for entry in entries) + "\n]\n")


def main():
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    entries = []
    for name, adapter, model in models(MODELS, ADAPTERS):
        rows = texts(f"{name} {adapter}", model, model.config.vocab_size)
        entries.append({"model": name, "adapter": adapter, "texts": rows})
        print(name, adapter, sum(len(row["tokens"]) for row in rows), len({token for row in rows for token in row["tokens"]}))
    write_entries("greedy.json", entries)


if __name__ == "__main__":
    main()
