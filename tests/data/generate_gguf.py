"""Writes gguf/: a file of settings and tensors by the gguf package, and a LoRA of PEFT for a tiny Llama, without the model's weights.

    python3 generate_gguf.py        gguf 0.19.0, torch 2.11.0 (CPU), transformers 4.57.6, peft 0.21.2
"""

import json
import pathlib
import shutil

import gguf
import numpy as np
import torch
from peft import LoraConfig, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

OUT = pathlib.Path(__file__).parent / "gguf"


def settings():
    writer = gguf.GGUFWriter(OUT / "settings.gguf", "llama")
    writer.add_string("general.type", "adapter")
    writer.add_uint8("a.u8", 200)
    writer.add_int8("a.i8", -5)
    writer.add_uint16("a.u16", 60000)
    writer.add_int16("a.i16", -300)
    writer.add_uint32("a.u32", 4000000000)
    writer.add_int32("a.i32", -70000)
    writer.add_float32("a.f32", 0.1)
    writer.add_bool("a.true", True)
    writer.add_bool("a.false", False)
    writer.add_string("a.text", "Grüße")
    writer.add_key_value("a.u64", 1 << 40, gguf.GGUFValueType.UINT64)
    writer.add_key_value("a.i64", -(1 << 40), gguf.GGUFValueType.INT64)
    writer.add_key_value("a.f64", 0.1, gguf.GGUFValueType.FLOAT64)
    writer.add_array("a.texts", ["one", "two", "three"])
    writer.add_key_value("a.u32s", [1, 2, 3], gguf.GGUFValueType.ARRAY, gguf.GGUFValueType.UINT32)
    writer.add_array("a.floats", [0.5, -1.5])
    writer.add_tensor("first", np.arange(6, dtype=np.float32).reshape(2, 3))
    writer.add_tensor("halves", (np.arange(20, dtype=np.float32) / 8).astype(np.float16).reshape(5, 4))
    writer.add_tensor("vector", np.array([7, -7, 7], dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def lora():
    torch.manual_seed(1)
    shape = dict(vocab_size=20, hidden_size=16, intermediate_size=12, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2)
    model = LlamaForCausalLM(LlamaConfig(**shape, max_position_embeddings=32))
    folder = OUT / "llama"
    shutil.rmtree(folder, ignore_errors=True)
    model.config.save_pretrained(folder)
    config = LoraConfig(
        task_type="CAUSAL_LM", r=4, lora_alpha=6, use_rslora=True, target_modules=["q_proj", "k_proj", "down_proj", "lm_head"],
        rank_pattern={"layers.0.self_attn.q_proj": 2}, alpha_pattern={"down_proj": 3.0})
    peft_model = get_peft_model(model, config)
    generator = torch.Generator().manual_seed(2)
    for name, parameter in peft_model.named_parameters():
        if "lora_" in name:
            parameter.data = torch.randint(-8, 9, parameter.shape, generator=generator) / 8.0
    peft_model.save_pretrained(folder / "lora", save_embedding_layers=False)
    (folder / "lora/README.md").unlink(missing_ok=True)
    path = folder / "lora/adapter_config.json"
    config = json.loads(path.read_text())
    config["target_modules"] = sorted(config["target_modules"])
    config["base_model_name_or_path"] = "llama"
    path.write_text(json.dumps(config, indent=2) + "\n")


settings()
lora()
