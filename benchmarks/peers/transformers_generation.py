#!/usr/bin/env python3
"""Tokens per second of greedy generation with a random GPT-2 (124M), deltatune beside transformers: the tokens first, then the times, in one run.

    transformers_generation.py build/release/benchmarks/deltatune_generation [threads=2] [new tokens=64] [repeats=3]
"""
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import torch
from transformers import GPT2Config, GPT2LMHeadModel


def main():
    program = sys.argv[1]
    threads, new_tokens, repeats = (int(sys.argv[i]) if len(sys.argv) > i else default for i, default in ((2, 2), (3, 64), (4, 3)))
    torch.set_num_threads(threads)
    torch.manual_seed(0)
    model = GPT2LMHeadModel(GPT2Config(initializer_range=0.08)).eval()  # wide enough for texts that do not repeat themselves
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model.save_pretrained(folder)
        for count in (1, 8):
            prompts = torch.randint(0, 50257, (count, 64), generator=torch.Generator().manual_seed(1))
            (folder / "prompts.json").write_text(json.dumps(prompts.tolist()))
            run = subprocess.run(
                [program, str(folder), str(folder / "prompts.json"), str(new_tokens), str(threads), str(repeats)], check=True, capture_output=True, text=True)
            ours = json.loads(run.stdout)
            seconds = float("inf")
            for _ in range(repeats):
                start = time.perf_counter()
                with torch.inference_mode():
                    tokens = model.generate(prompts, attention_mask=torch.ones_like(prompts), max_new_tokens=new_tokens, min_new_tokens=new_tokens,
                                            do_sample=False, pad_token_id=0)
                seconds = min(seconds, time.perf_counter() - start)
            same = sum(a == b for a, b in zip(ours["tokens"], tokens[:, 64:].tolist()))
            each = count * new_tokens
            print(f"{count} prompts: {same} of {count} texts equal; deltatune {each / ours['seconds']:.1f} tokens/s, transformers {each / seconds:.1f}, "
                  f"time {ours['seconds'] / seconds:.2f} of transformers'")


if __name__ == "__main__":
    main()
