#!/usr/bin/env python3
"""Writes which tokens of a conversation transformers takes for the assistant's, for tests/text/chat_example_test.cpp.

  python3 generate_chat_label_goldens.py

Needs the packages transformers and tokenizers; written with versions 4.57.6 and 0.22.2. chat/labels.json has a row for each template with generation blocks,
tokenizer of tests/tokenizers/fixtures and conversation of chat/conversations.json:

  [template, tokenizer, conversation, number of ids, FNV-1a with 32 bits of the ids as 32-bit integers, runs of the assistant's tokens [[first, last + 1], ...]]

Left out is what apply_chat_template() gets wrong: where the last character of a span has several tokens only the first counts, and where it has none (white
space that the tokenizer drops) all that follows counts.
"""
import json
import pathlib

import transformers.utils.chat_template_utils as chat_template_utils
from transformers import PreTrainedTokenizerFast

from generate_chat_goldens import FixedTime

HERE = pathlib.Path(__file__).parent
FIXTURES = HERE.parent / "tokenizers" / "fixtures"
chat_template_utils.datetime = FixedTime
SPECIAL = {"qwen2": {"eos_token": "<|im_end|>"}, "llama": {"bos_token": "<s>", "eos_token": "</s>"}}


def fnv1a(ids):
    value = 0x811C9DC5
    for byte in b"".join(i.to_bytes(4, "little") for i in ids):
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


def runs(mask):
    found = []
    for place, learnt in enumerate(mask):
        if learnt and found and found[-1][1] == place:
            found[-1][1] = place + 1
        elif learnt:
            found.append([place, place + 1])
    return found


def main():
    conversations = json.loads((HERE / "chat/conversations.json").read_text(encoding="ascii"))
    rows, refused, wrong = [], 0, 0
    for name, special in SPECIAL.items():
        tokenizer = PreTrainedTokenizerFast(tokenizer_file=str(FIXTURES / name / "tokenizer.json"), **special)
        for path in sorted((HERE / "chat").glob("*.jinja")):
            template = path.read_text(encoding="utf-8")
            if "generation" not in template.replace("add_generation_prompt", ""):
                continue
            for number, conversation in enumerate(conversations):
                variables = conversation.get("chat_template_kwargs", {})
                try:
                    out = tokenizer.apply_chat_template(
                        conversation["messages"], tools=conversation.get("tools"), chat_template=template, return_dict=True,
                        return_assistant_tokens_mask=True, **variables)
                except Exception:
                    refused += 1
                    continue
                compiled = chat_template_utils._compile_jinja_template(template)
                text, spans = chat_template_utils._render_with_assistant_indices(
                    compiled, conversation["messages"], conversation.get("tools"), None, False, **{**tokenizer.special_tokens_map, **variables})
                offsets = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
                ends = [[i for i, (first, last) in enumerate(offsets) if first <= end - 1 < last] for begin, end in spans if end > begin]
                if any(len(tokens) != 1 for tokens in ends) or any(end == begin for begin, end in spans):
                    wrong += 1
                    continue
                rows.append([path.stem, name, number, len(out["input_ids"]), fnv1a(out["input_ids"]), runs(out["assistant_masks"])])
    (HERE / "chat/labels.json").write_text(
        "[\n" + ",\n".join(json.dumps(row, separators=(",", ":")) for row in rows) + "\n]\n", encoding="ascii")
    print(len(rows), "rows,", refused, "refused,", wrong, "left out")


if __name__ == "__main__":
    main()
