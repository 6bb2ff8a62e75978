#!/usr/bin/env bash
# transformers 4.57.6 and 5.24.0: the mask of the assistant's tokens is shifted where a template marks them inside a macro or a {% set %} block.
#
# A chat template says with {% generation %} ... {% endgeneration %} what the assistant wrote; apply_chat_template(return_assistant_tokens_mask=True) turns that
# into a mask, which trainers use as "loss on the answers only". Templates that write every turn by one macro, or put it together in a {% set %} block, may mark
# the content there: the text is rendered as it should be, but the mark counts from where the macro's own output begins, so that what stands in front of the
# content inside the macro (the header of the turn) is learned and as many tokens at its end are not, the token that ends the turn among them. Nothing warns.
# 4.57.6 also drops a mark that opens the text: the mask of a conversation that begins with the assistant is empty. 5.24.0 has that right.
#
# Seen: text, and the tokens in the mask (one per character)
#                                4.57.6               5.24.0
#   marked in the loop           hi<abc>  abc         hi<abc>  abc
#   marked in a macro            hi<abc>  <ab         hi<abc>  <ab
#   marked in a set block        hi<abc>  <ab         hi<abc>  <ab
#   the mark opens the text      abc      (none)      abc      abc
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat >"$folder/check.py" <<'PYTHON'
import transformers
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

letters = Tokenizer(models.BPE(vocab={chr(code): code - 32 for code in range(32, 127)}, merges=[]))
letters.pre_tokenizer = pre_tokenizers.Split("", "isolated")
tokenizer = PreTrainedTokenizerFast(tokenizer_object=letters)
MARKED = "<{% generation %}{{ m.content }}{% endgeneration %}>"
LOOP = "{% for m in messages %}{% if m.role == 'assistant' %}TURN{% else %}{{ m.content }}{% endif %}{% endfor %}"
TEMPLATES = {
    "loop": LOOP.replace("TURN", MARKED),
    "macro": "{% macro turn(m) %}" + MARKED + "{% endmacro %}" + LOOP.replace("TURN", "{{ turn(m) }}"),
    "set": LOOP.replace("TURN", "{% set text %}" + MARKED + "{% endset %}{{ text }}"),
    "opens": LOOP.replace("TURN", MARKED[1:-1]),
}


def seen(template, messages):
    out = tokenizer.apply_chat_template(messages, chat_template=template, return_dict=True, return_assistant_tokens_mask=True)
    tokens = tokenizer.convert_ids_to_tokens(out["input_ids"])
    return "".join(tokens), "".join(token for token, mask in zip(tokens, out["assistant_masks"]) if mask)


answer = {"role": "assistant", "content": "abc"}
talk = [{"role": "user", "content": "hi"}, answer]
found = {name: seen(template, [answer] if name == "opens" else talk) for name, template in TEMPLATES.items()}
print("transformers", transformers.__version__, found)
first = "" if transformers.__version__.startswith("4.") else "abc"
assert found == {"loop": ("hi<abc>", "abc"), "macro": ("hi<abc>", "<ab"), "set": ("hi<abc>", "<ab"), "opens": ("abc", first)}, "this has changed"
PYTHON
for version in 4.57.6 5.24.0; do
  python3 -m venv "$folder/venv"
  "$folder/venv/bin/pip" install -q transformers==$version jinja2==3.1.6
  "$folder/venv/bin/python" -W ignore "$folder/check.py"
  rm -rf "$folder/venv"
done
echo "as described"
