"""Llama, Mistral, Qwen2, Qwen3, Gemma 1 to 3, Phi-3, SmolLM3, OLMo-2 and Granite: by themselves, with peft, and with adapters where it has them."""

import generate_adapters
import generate_peft
from generate_adapters import BIN, HEADLESS, SAFE, pick
from generate_common import EQUAL_LENGTHS, decoder_sizes, generator, is_decoder, labels_of, load_model, make_batch, seed_torch, write_numbers
from generate_gpt2 import trained_by
from generate_peft import ADALORA, dora, lora

ROWS = dict(lengths=(12, 5, 1))
FEWER = dict(lengths=(12, 5))
LONG = dict(lengths=(24, 3))  # for frequencies that matter far away
EQUAL = dict(lengths=EQUAL_LENGTHS)

BOTH = dict(lengths=(14, 10, 3), padding_matters=True)  # longrope: a batch has the frequencies of its longest row
QV = ["q_proj", "v_proj"]  # where peft has no table
IA3 = dict(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])

# ----------------------------------------------------------------------------------------------------------------- cases
# name: (model, trainable, extras; `same_as`: the numbers of another case)
PLAIN = {
    "llama_full": ("llama", "full", {}),
    "llama_bitfit": ("llama_tied_bias", "bitfit", {}),
    "llama_bare": ("llama_bare", None, {}),
    "llama_cls_full": ("llama_cls", "full", {}),
    "llama_cls_head": ("llama_cls", "head", {}),
    "mistral_full": ("mistral", "full", {}),
    "qwen2_full": ("qwen2", "full", {}),
    "qwen2_bitfit": ("qwen2", "bitfit", {}),
    "qwen2_window": ("qwen2_window", "bitfit", {}),
    "qwen2_cls_bitfit": ("qwen2_cls", "bitfit", {}),
    "qwen3_full": ("qwen3", "full", {}),
    "qwen3_bitfit": ("qwen3_tied_window", "bitfit", {}),
    "gemma_full": ("gemma", "full", {}),
    "gemma2_full": ("gemma2", "full", {}),
    "gemma2_cls_head": ("gemma2_cls", "head", {}),
    "gemma3_full": ("gemma3", "full", {}),
    "phi3_full": ("phi3", "full", {}),
    "phi3_longrope_short": ("phi3_longrope", None, dict(lengths=(10, 4))),
    "phi3_longrope_both": ("phi3_longrope", None, BOTH),
    "smollm3_full": ("smollm3", "full", {}),
    "smollm3_bitfit": ("smollm3_tied", "bitfit", LONG),
    "olmo2_full": ("olmo2", "full", {}),
    "granite_full": ("granite", "full", {}),
    "granite_bitfit": ("granite_tied", "bitfit", {}),
    "llama_v5_rope_llama3": ("llama_rope_llama3_v5", None, dict(LONG, same_as="llama_rope_llama3")),
    "llama_rope_llama3": ("llama_rope_llama3", None, LONG),
    "qwen2_v5": ("qwen2_v5", None, dict(same_as="qwen2_full")),
    "gemma3_v5": ("gemma3_v5", None, dict(same_as="gemma3_full")),
    "phi3_v5_longrope_both": ("phi3_longrope_v5", None, dict(BOTH, same_as="phi3_longrope_both")),
}

# name: (model, method, options of peft's configuration, extras)
PEFT = {
    "llama_lora": ("llama", "lora", lora(), {}),
    "llama_lora_all_linear": ("llama_tied_bias", "lora", lora(r=4, target_modules="all-linear"), {}),
    "llama_lora_rope_llama3": ("llama_rope_llama3", "lora", lora(target_modules=["q_proj", "k_proj"]), LONG),
    "llama_lora_rope_linear": ("llama_rope_linear", "lora", lora(target_modules=["q_proj", "k_proj"]), LONG),
    "llama_lora_rope_yarn": ("llama_rope_yarn", "lora", lora(target_modules=["q_proj", "k_proj"]), LONG),
    "llama_lora_rope_yarn_mscale": ("llama_rope_yarn_mscale", "lora", lora(target_modules=["q_proj", "k_proj"]), LONG),
    "llama_lora_bare": ("llama_bare", "lora", lora(), {}),
    "llama_lora_bare_cls": ("llama_bare", "lora", lora(), dict(labels=3)),
    "llama_lora_cls": ("llama_cls", "lora", lora(), {}),
    "llama_lora_embeddings": ("llama", "lora", lora(target_modules=["embed_tokens", "lm_head"]), {}),
    "llama_lora_tied_embeddings": ("llama_bare", "lora", lora(target_modules=["embed_tokens", "v_proj"]), {}),
    "llama_lora_tied_head": ("llama_bare", "lora", lora(target_modules=["lm_head", "v_proj"]), {}),
    "llama_save_embeddings": ("llama", "lora", lora(modules_to_save=["embed_tokens", "lm_head"]), {}),
    "llama_lora_bias_all": ("llama_tied_bias", "lora", lora(bias="all"), {}),
    "llama_dora": ("llama", "dora", dora(target_modules=["q_proj", "v_proj", "down_proj"]), {}),
    "llama_adalora": ("llama", "adalora", ADALORA, {}),
    "llama_vera": ("llama", "vera", dict(r=5), {}),
    "llama_ia3": ("llama", "ia3", {}, {}),
    "llama_layer_norm": ("llama", "layer_norm", {}, {}),
    "llama_prefix": ("llama", "prefix", dict(num_virtual_tokens=4), {}),
    "llama_prefix_projection": ("llama_rope_llama3", "prefix", dict(num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=12), LONG),
    "llama_prefix_cls": ("llama_cls", "prefix", dict(num_virtual_tokens=3), {}),
    "llama_prompt": ("llama", "prompt", dict(num_virtual_tokens=4), {}),
    "llama_prompt_cls": ("llama_cls", "prompt", dict(num_virtual_tokens=3), EQUAL),
    "llama_p_tuning": ("llama", "p_tuning", dict(num_virtual_tokens=3, encoder_hidden_size=12), {}),
    "mistral_lora": ("mistral", "lora", lora(), {}),
    "mistral_lora_all_linear": ("mistral", "lora", lora(r=2, target_modules="all-linear", use_rslora=True), {}),
    "mistral_dora": ("mistral", "dora", dora(), {}),
    "mistral_vera": ("mistral_full", "vera", dict(r=4, target_modules=["q_proj", "k_proj", "up_proj"], d_initial=0.4), {}),
    "mistral_ia3": ("mistral", "ia3", {}, {}),
    "mistral_prompt": ("mistral", "prompt", dict(num_virtual_tokens=4), {}),
    "mistral_prefix": ("mistral_full", "prefix", dict(num_virtual_tokens=4), {}),
    "mistral_prefix_window": ("mistral", "prefix", dict(num_virtual_tokens=3), {}),
    "mistral_prefix_long_window": ("mistral", "prefix", dict(num_virtual_tokens=7), {}),
    "qwen2_lora": ("qwen2", "lora", lora(), {}),
    "qwen2_lora_all_linear": ("qwen2", "lora", lora(r=2, target_modules="all-linear"), {}),
    "qwen2_lora_bias": ("qwen2", "lora", lora(bias="lora_only"), {}),
    "qwen2_lora_cls": ("qwen2_cls", "lora", lora(), {}),
    "qwen2_dora": ("qwen2_window", "dora", dora(), {}),
    "qwen2_adalora": ("qwen2", "adalora", ADALORA, {}),
    "qwen2_ia3": ("qwen2", "ia3", {}, {}),
    "qwen2_prefix": ("qwen2", "prefix", dict(num_virtual_tokens=3), {}),
    "qwen2_prefix_window": ("qwen2_window", "prefix", dict(num_virtual_tokens=3), {}),
    "qwen2_prompt": ("qwen2", "prompt", dict(num_virtual_tokens=3), {}),
    "qwen2_prompt_cls": ("qwen2_cls", "prompt", dict(num_virtual_tokens=3), EQUAL),
    "qwen3_lora_all_linear": ("qwen3_tied_window", "lora", lora(r=2, target_modules="all-linear"), {}),
    "qwen3_dora": ("qwen3", "dora", dora(target_modules="all-linear"), {}),
    "qwen3_ia3": ("qwen3", "ia3", IA3, {}),
    "qwen3_layer_norm": ("qwen3", "layer_norm", dict(target_modules=["q_norm", "k_norm", "norm"]), {}),
    "qwen3_prefix": ("qwen3", "prefix", dict(num_virtual_tokens=3), {}),
    "qwen3_prompt": ("qwen3", "prompt", dict(num_virtual_tokens=3), {}),
    "gemma_lora_all_linear": ("gemma", "lora", lora(r=2, target_modules="all-linear"), {}),
    "gemma_dora": ("gemma", "dora", dora(), {}),
    "gemma_ia3": ("gemma", "ia3", {}, {}),
    "gemma_prompt": ("gemma", "prompt", dict(num_virtual_tokens=3), {}),
    "gemma2_lora": ("gemma2", "lora", lora(), {}),
    "gemma2_lora_all_linear": ("gemma2", "lora", lora(r=2, target_modules="all-linear"), {}),
    "gemma2_lora_cls": ("gemma2_cls", "lora", lora(), {}),
    "gemma2_lora_embeddings": ("gemma2", "lora", lora(target_modules=["embed_tokens", "q_proj"]), {}),
    "gemma2_dora": ("gemma2", "dora", dora(target_modules=["k_proj", "down_proj"]), {}),
    "gemma2_vera": ("gemma2", "vera", dict(r=4), {}),
    "gemma2_ia3": ("gemma2", "ia3", {}, {}),
    "gemma2_layer_norm": ("gemma2", "layer_norm", {}, {}),
    "gemma2_prefix": ("gemma2", "prefix", dict(num_virtual_tokens=3), {}),
    "gemma2_prefix_long": ("gemma2", "prefix", dict(num_virtual_tokens=7), {}),
    "gemma2_prompt": ("gemma2", "prompt", dict(num_virtual_tokens=3), {}),
    "gemma2_prompt_cls": ("gemma2_cls", "prompt", dict(num_virtual_tokens=3), EQUAL),
    "gemma3_lora_all_linear": ("gemma3", "lora", lora(r=2, target_modules="all-linear"), {}),
    "gemma3_lora_embeddings": ("gemma3", "lora", lora(target_modules=["embed_tokens", "v_proj"]), {}),
    "gemma3_dora": ("gemma3", "dora", dora(), {}),
    "gemma3_dora_embeddings": ("gemma3", "dora", dora(target_modules=["embed_tokens"]), {}),
    "gemma3_adalora": ("gemma3", "adalora", ADALORA, {}),
    "gemma3_ia3": ("gemma3", "ia3", {}, {}),
    "gemma3_prefix": ("gemma3", "prefix", dict(num_virtual_tokens=3), {}),
    "gemma3_prompt": ("gemma3", "prompt", dict(num_virtual_tokens=3), {}),
    "phi3_lora": ("phi3", "lora", lora(target_modules=["qkv_proj"]), {}),
    "phi3_lora_all_linear": ("phi3", "lora", lora(r=2, target_modules="all-linear"), {}),
    "phi3_dora": ("phi3", "dora", dora(target_modules=["qkv_proj", "gate_up_proj"]), {}),
    "phi3_vera": ("phi3", "vera", dict(r=4, target_modules=["qkv_proj", "down_proj"]), {}),
    "phi3_ia3": ("phi3", "ia3", dict(target_modules=["qkv_proj", "down_proj"], feedforward_modules=["down_proj"]), {}),
    "phi3_prefix": ("phi3", "prefix", dict(num_virtual_tokens=3), {}),
    "phi3_prompt": ("phi3", "prompt", dict(num_virtual_tokens=3), {}),
    "phi3_longrope_lora": ("phi3_longrope", "lora", lora(r=2, target_modules="all-linear"), dict(lengths=(14, 11))),
    # Virtual tokens count: rows of 9 and 8 are past the original 10.
    "phi3_longrope_prefix": ("phi3_longrope", "prefix", dict(num_virtual_tokens=3), dict(lengths=(9, 8))),
    "phi3_longrope_prompt": ("phi3_longrope", "prompt", dict(num_virtual_tokens=3), dict(lengths=(9, 8))),
    "smollm3_lora_all_linear": ("smollm3_tied", "lora", lora(r=2, target_modules="all-linear"), {}),
    "smollm3_dora": ("smollm3", "dora", dora(target_modules=QV), {}),
    "smollm3_ia3": ("smollm3", "ia3", IA3, {}),
    "smollm3_prompt": ("smollm3", "prompt", dict(num_virtual_tokens=3), {}),
    "olmo2_lora_all_linear": ("olmo2", "lora", lora(r=2, target_modules="all-linear"), {}),
    "olmo2_dora": ("olmo2", "dora", dora(target_modules=QV), {}),
    "olmo2_ia3": ("olmo2", "ia3", IA3, {}),
    "olmo2_layer_norm": ("olmo2", "layer_norm", dict(target_modules=["q_norm", "k_norm", "post_feedforward_layernorm"]), {}),
    "olmo2_prefix": ("olmo2", "prefix", dict(num_virtual_tokens=3), {}),
    "olmo2_prompt": ("olmo2", "prompt", dict(num_virtual_tokens=3), {}),
    "granite_lora_all_linear": ("granite_tied", "lora", lora(r=2, target_modules="all-linear"), {}),
    "granite_lora_embeddings": ("granite", "lora", lora(target_modules=["embed_tokens", "lm_head"]), {}),
    "granite_dora": ("granite", "dora", dora(target_modules=QV), {}),
    "granite_ia3": ("granite", "ia3", IA3, {}),
    "granite_prompt": ("granite", "prompt", dict(num_virtual_tokens=3), {}),
}

# name: (model, method, configuration, container, extras)
ADAPTERS = {
    "adapterhub_llama_houlsby": ("llama", "houlsby", pick("double_seq_bn", reduction_factor=4), SAFE, HEADLESS),
    "adapterhub_llama_pfeiffer": ("llama", "pfeiffer", pick("seq_bn", reduction_factor=4), SAFE, HEADLESS),
    "adapterhub_llama_pfeiffer_cls": ("llama_cls", "pfeiffer", pick("seq_bn", reduction_factor=4), BIN, {}),
    "adapterhub_llama_parallel": ("llama", "parallel", pick("par_bn", reduction_factor=4), SAFE, HEADLESS),
    "adapterhub_llama_lora": ("llama", "lora", pick("lora", r=3, alpha=7), SAFE, HEADLESS),
    "adapterhub_llama_lora_all": (
        "llama", "lora", pick("lora", r=2, alpha=3, attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True), BIN, HEADLESS),
    "adapterhub_llama_ia3": ("llama", "ia3", pick("ia3"), SAFE, HEADLESS),
    "adapterhub_llama_prefix": ("llama_tied_bias", "prefix", pick("prefix_tuning", prefix_length=3, bottleneck_size=8), BIN, HEADLESS),
    "adapterhub_mistral_houlsby": ("mistral", "houlsby", pick("double_seq_bn", reduction_factor=4), BIN, HEADLESS),
    "adapterhub_mistral_pfeiffer": ("mistral_full", "pfeiffer", pick("seq_bn", reduction_factor=4), SAFE, {}),
    "adapterhub_mistral_parallel": ("mistral", "parallel", pick("par_bn", reduction_factor=4), SAFE, HEADLESS),
    "adapterhub_mistral_lora": ("mistral", "lora", pick("lora", r=3, alpha=7), SAFE, HEADLESS),
    "adapterhub_mistral_ia3": ("mistral", "ia3", pick("ia3"), SAFE, HEADLESS),
}

for table in (PLAIN, PEFT, ADAPTERS):
    for name, (*what, extras) in table.items():
        table[name] = (*what, (ROWS if table is PLAIN else FEWER) | extras)
CASES = PLAIN | PEFT | ADAPTERS


def hold_out():
    for table in (PLAIN, PEFT):
        for name, (*what, extras) in table.items():
            if what[0].startswith("phi3_longrope") and "padding_matters" not in extras:  # or its rows might be both long and short
                table[name] = (*what, extras | EQUAL)
    generate_peft.hold_out(PEFT, lambda model_name: ["o_proj", "down_proj"])
    generate_adapters.hold_out(ADAPTERS)


# --------------------------------------------------------------------------------------------------------------- numbers
def write_plain(name, models, folder):
    model_name, trainable, extras = PLAIN[name]
    extras = dict(extras)
    stream = generator("case " + extras.pop("same_as", name))
    padding_matters = extras.pop("padding_matters", False)
    labels = labels_of(model_name)
    model = load_model(models / model_name, labels)
    batch = make_batch(model.config, labels, stream, **extras)
    case = {
        "model": model_name, "adapter": None, "library": None, "task": "seq_cls" if labels else "causal_lm", "method": None,
        "trainable": trainable, "head": "classifier" if labels else "lm", "num_labels": labels,
    }
    write_numbers(name, folder, case, model, trained_by(model, trainable, "score."), batch, padding_matters=padding_matters)


def write_case(name, models, folder):
    if name in PLAIN:
        write_plain(name, models, folder)
    elif name in ADAPTERS:
        generate_adapters.write_case(name, models, folder, ADAPTERS)
    else:
        seed_torch(generator("head " + name))  # of a bare decoder: it has none
        generate_peft.write_case(name, models, folder, PEFT)
