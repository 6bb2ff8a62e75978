#!/usr/bin/env bash
# llama.cpp's convert_lora_to_gguf.py (as shipped with llama-cpp-python 0.3.36): the scaling of a PEFT LoRA is lost without a word.
#
# llama.cpp scales each pair by adapter.lora.alpha / rank of the pair. The converter writes lora_alpha and reads nothing else of the configuration, so
#   use_rslora      an adapter of rank 16 runs at a quarter of its strength (alpha / 16 instead of alpha / 4)
#   alpha_pattern   is not applied
# with no error and no warning. Two more of its files are of no use:
#   GPT-2           lora_a and lora_b come out exchanged (PEFT's LoRA of a Conv1D is not transposed, the weight is); llama.cpp refuses to load them
#   embeddings      of a model with a tied head: the file loads, and llama.cpp aborts at the first token (GGML_ASSERT(ggml_can_mul_mat(a, b))), as it applies
#                   the pair of token_embd to the head too
# `deltatune export` writes the right scales and GPT-2's pairs, and refuses the third.
#
# Seen: scale written / scale of PEFT, on a random LoRA of rank 16, alpha 8
#   plain 0.5 / 0.5   use_rslora 0.5 / 2.0   alpha_pattern 0.5 / 0.125
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q torch==2.11.0 transformers==4.57.6 peft==0.21.2 sentencepiece
"$folder/venv/bin/pip" download -q --no-deps --no-binary :all: -d "$folder" llama-cpp-python==0.3.36
tar xzf "$folder"/llama_cpp_python-*.tar.gz -C "$folder"
cat >"$folder/check.py" <<'PYTHON'
import pathlib
import subprocess
import sys

from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

folder = pathlib.Path(sys.argv[1])
llama = next(folder.glob("llama_cpp_python-*/vendor/llama.cpp"))
sys.path.insert(0, str(llama / "gguf-py"))
import gguf

shape = dict(vocab_size=40, hidden_size=32, intermediate_size=24, num_hidden_layers=1, num_attention_heads=4)
for name, settings, scale in (("plain", {}, 0.5), ("use_rslora", {"use_rslora": True}, 2.0), ("alpha_pattern", {"alpha_pattern": {"q_proj": 2}}, 0.125)):
    model = LlamaForCausalLM(LlamaConfig(**shape, architectures=["LlamaForCausalLM"]))
    model.save_pretrained(folder / "model")
    adapted = get_peft_model(model, LoraConfig(r=16, lora_alpha=8, target_modules=["q_proj"], **settings))
    assert adapted.base_model.model.model.layers[0].self_attn.q_proj.scaling["default"] == scale
    adapted.save_pretrained(folder / name)
    subprocess.run([sys.executable, llama / "convert_lora_to_gguf.py", "--base", folder / "model", "--outfile", folder / "x.gguf", folder / name],
                   check=True, capture_output=True)
    reader = gguf.GGUFReader(folder / "x.gguf")
    rank = next(tensor for tensor in reader.tensors if tensor.name.endswith("lora_b")).data.shape[1]
    written = reader.fields["adapter.lora.alpha"].contents() / rank
    print(f"{name:15} scale written {written}, of PEFT {scale}")
    assert written == 0.5
PYTHON
"$folder/venv/bin/python" "$folder/check.py" "$folder"
echo "as described"
