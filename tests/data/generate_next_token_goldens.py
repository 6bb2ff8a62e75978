#!/usr/bin/env python3
"""Writes next_token.json: what transformers' logits processors make of some scores, in the order in which generate() runs them.

Each case has the scores of a vocabulary, the tokens that the sequence holds, the settings of GenerationConfig, and the probabilities that the next token is
drawn from. Written with transformers 4.57.6 and torch 2.11 on the CPU.

    generate_next_token_goldens.py > next_token.json
"""
import json

import torch
from transformers import GenerationConfig, GPT2Config, GPT2LMHeadModel

VOCABULARY = 24


def distribution(model, scores, tokens, settings):
    config = GenerationConfig(do_sample=True, **{"top_k": 0, **settings})
    model._prepare_special_tokens(config, device="cpu")
    processors = model._get_logits_processor(generation_config=config, input_ids_seq_length=len(tokens), encoder_input_ids=torch.tensor([tokens]), device="cpu")
    return torch.softmax(processors(torch.tensor([tokens]), torch.tensor([scores])), dim=-1)[0]


def main():
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(vocab_size=VOCABULARY, n_embd=8, n_layer=1, n_head=1, n_positions=8, bos_token_id=0, eos_token_id=0))
    plain = (2 * torch.randn(VOCABULARY)).tolist()
    tied = torch.tensor([1.0, 2.0, 1.0, 0.5, 2.0, 1.0] * 4).tolist()
    tokens = [3, 5, 5, 20, 3]
    settings = [
        {},
        {"temperature": 0.7},
        {"temperature": 1.6, "top_k": 5},
        {"top_k": 50},
        {"top_p": 0.8},
        {"top_p": 0.05},
        {"min_p": 0.1},
        {"min_p": 1.0},
        {"temperature": 0.5, "min_p": 0.05},
        {"repetition_penalty": 1.3},
        {"repetition_penalty": 0.8},
        {"top_k": 10, "top_p": 0.9, "min_p": 0.08},
        {"top_k": 12, "top_p": 0.6, "min_p": 0.02},
        {"repetition_penalty": 1.8, "temperature": 1.3, "top_k": 9, "top_p": 0.85, "min_p": 0.1},
    ]
    cases = []
    for scores in (plain, tied):
        for setting in settings:
            chances = distribution(model, scores, tokens, setting)
            cases.append({"scores": scores, "tokens": tokens, "settings": setting, "probabilities": [float(f"{p:.8g}") for p in chances.tolist()]})
    print(json.dumps({"cases": cases}))


if __name__ == "__main__":
    main()
