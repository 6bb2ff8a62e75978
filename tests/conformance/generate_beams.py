#!/usr/bin/env python3
"""Writes beams.json: what generate() of transformers writes for 40 inputs per model: sources of encoder-decoders and prompts of decoders, greedily and by beam
search in several settings, with and without an adapter of the cases.

    python3 generate_beams.py
"""

import torch
from transformers import logging

from generate_greedy import models, write_entries
from generate_streams import generator, integer

INPUTS, NEW_TOKENS = 40, 9
MODELS = ["t5", "t5_v1_1", "mt5", "bart", "mbart", "umt5", "gpt2_lm", "llama"]
ADAPTERS = ["t5_lora_all_linear", "t5_v1_1_lora", "mt5_ia3", "bart_lora_all_linear", "gpt2_lora_all_linear"]
# Options of transformers' GenerationConfig. "ends": how many of the tokens that come often end a text.
SETTINGS = [
    dict(ends=1),
    dict(ends=2, no_repeat_ngram_size=2, min_new_tokens=3, repetition_penalty=1.3),
    dict(ends=1, num_beams=3),
    dict(ends=2, num_beams=4, length_penalty=2.0, early_stopping=True),
    dict(ends=3, num_beams=2, length_penalty=0.5, early_stopping="never"),
    dict(ends=2, num_beams=3, length_penalty=-1.0, no_repeat_ngram_size=2, min_new_tokens=3, repetition_penalty=1.3),
    dict(ends=1, num_beams=3, forced_bos_token_id=7, forced_eos_token_id=5),
]


# Without a cache, as that of transformers has room for as many layers as the encoder has, and these models' decoders have more.
def written(model, inputs, ends, options):
    rows = []
    for tokens in inputs:
        ids = torch.tensor([tokens])
        out = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=NEW_TOKENS, do_sample=False, pad_token_id=0, eos_token_id=ends,
                             return_dict_in_generate=True, output_scores=True, use_cache=not model.config.is_encoder_decoder, **options)
        new = out.sequences[0, 1 if model.config.is_encoder_decoder else len(tokens):].tolist()
        last = next((i for i, token in enumerate(new) if token in ends), len(new) - 1)  # what follows is padding
        rows.append({"tokens": new[:last + 1]} | ({"score": round(out.sequences_scores[0].item(), 6)} if "num_beams" in options else {}))
    return rows


def often(model, inputs):
    """Tokens by how often they are written."""
    counts = {}
    for row in written(model, inputs, [1], dict(num_beams=2)):
        for token in row["tokens"]:
            counts[token] = counts.get(token, 0) + 1
    return sorted(counts, key=lambda token: (-counts[token], token))


def main():
    logging.set_verbosity_error()
    torch.set_num_threads(1)
    entries = []
    for name, adapter, model in models(MODELS, ADAPTERS):
        defaults = model.generation_config
        defaults.forced_bos_token_id = defaults.forced_eos_token_id = None  # which BART's configuration sets
        reads_source = model.config.is_encoder_decoder
        if reads_source and defaults.decoder_start_token_id is None:
            defaults.decoder_start_token_id = 0
        stream = generator(f"beams {name} {adapter}")
        inputs = [[integer(3, model.config.vocab_size - 2, stream) for _ in range(integer(1, 11, stream))] for _ in range(INPUTS)]
        frequent = often(model, inputs)
        settings = []
        for options in SETTINGS:
            options = dict(options)
            ends = frequent[1:1 + options.pop("ends")]
            settings.append({"options": options, "ends": ends, "texts": written(model, inputs, ends, options)})
            ended = sum(row["tokens"][-1] in ends for row in settings[-1]["texts"])
            print(name, adapter, options, "ended", ended, "tokens", sum(len(row["tokens"]) for row in settings[-1]["texts"]))
        start = defaults.decoder_start_token_id if reads_source else None
        entries.append({"model": name, "adapter": adapter, "start": start, "inputs": inputs, "settings": settings})
    write_entries("beams.json", entries)


if __name__ == "__main__":
    main()
