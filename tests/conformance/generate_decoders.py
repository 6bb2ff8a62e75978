"""Llama, Mistral, Qwen2, Qwen3, Gemma 1 to 3, Phi-3, SmolLM3, OLMo-2 and Granite: by themselves, with peft, and with adapters where it has them."""

import generate_adapters
import generate_peft
from generate_adapters import BIN, HEADLESS, SAFE, pick
from generate_common import EQUAL_LENGTHS, decoder_sizes, generator, is_decoder, labels_of, load_model, make_batch, seed_torch, write_numbers
from generate_gpt2 import trained_by
from generate_peft import ADALORA, dora, lora

ROWS = dict(lengths=(12, 5, 1))
LONG = dict(lengths=(24, 3))  # for frequencies that matter far away
EQUAL = dict(lengths=EQUAL_LENGTHS)

ATTENTION = ["q_proj", "v_proj"]
IA3 = dict(target_modules=["k_proj", "v_proj", "down_proj"], feedforward_modules=["down_proj"])

# ----------------------------------------------------------------------------------------------------------------- cases
# name: (model, trainable, extras; `same_as`: the numbers of another case)
PLAIN = {
    "llama_full": ("llama", "full", {}),
    "llama_tied_bias_full": ("llama_tied_bias", "full", {}),
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
    "mistral_full_attention_lora": ("mistral_full", "lora", lora(target_modules="all-linear"), {}),
    "mistral_lora_all_linear": ("mistral", "lora", lora(r=4, target_modules="all-linear", use_rslora=True), {}),
    "mistral_dora": ("mistral", "dora", dora(), {}),
    "mistral_vera": ("mistral_full", "vera", dict(r=4, target_modules=["q_proj", "k_proj", "up_proj"], d_initial=0.4), {}),
    "mistral_ia3": ("mistral", "ia3", {}, {}),
    "mistral_prompt": ("mistral", "prompt", dict(num_virtual_tokens=4), {}),
    "mistral_prefix": ("mistral_full", "prefix", dict(num_virtual_tokens=4), {}),
    "mistral_prefix_window": ("mistral", "prefix", dict(num_virtual_tokens=3), {}),
    "mistral_prefix_long_window": ("mistral", "prefix", dict(num_virtual_tokens=7), {}),
    "qwen2_lora": ("qwen2", "lora", lora(), {}),
    "qwen2_lora_all_linear": ("qwen2", "lora", lora(r=4, target_modules="all-linear"), {}),
    "qwen2_lora_bias": ("qwen2", "lora", lora(bias="lora_only"), {}),
    "qwen2_lora_cls": ("qwen2_cls", "lora", lora(), {}),
    "qwen2_dora": ("qwen2_window", "dora", dora(), {}),
    "qwen2_adalora": ("qwen2", "adalora", ADALORA, {}),
    "qwen2_vera": ("qwen2", "vera", dict(r=4), {}),
    "qwen2_ia3": ("qwen2", "ia3", {}, {}),
    "qwen2_prefix": ("qwen2", "prefix", dict(num_virtual_tokens=3), {}),
    "qwen2_prefix_window": ("qwen2_window", "prefix", dict(num_virtual_tokens=3), {}),
    "qwen2_prompt": ("qwen2", "prompt", dict(num_virtual_tokens=3), {}),
    "qwen2_prompt_cls": ("qwen2_cls", "prompt", dict(num_virtual_tokens=3), EQUAL),
    "qwen3_lora": ("qwen3", "lora", lora(), {}),
    "qwen3_lora_all_linear": ("qwen3_tied_window", "lora", lora(r=4, target_modules="all-linear"), {}),
    "qwen3_dora": ("qwen3", "dora", dora(target_modules="all-linear"), {}),
    "qwen3_ia3": ("qwen3", "ia3", IA3, {}),
    "qwen3_layer_norm": ("qwen3", "layer_norm", dict(target_modules=["q_norm", "k_norm", "norm"]), {}),
    "qwen3_prefix": ("qwen3", "prefix", dict(num_virtual_tokens=3), {}),
    "qwen3_prompt": ("qwen3", "prompt", dict(num_virtual_tokens=3), {}),
}

# name: (model, method, configuration, container, extras)
ADAPTERS = {
    "adapterhub_llama_houlsby": ("llama", "houlsby", pick("double_seq_bn", reduction_factor=4), SAFE, HEADLESS),
    "adapterhub_llama_pfeiffer": ("llama", "pfeiffer", pick("seq_bn", reduction_factor=4), SAFE, HEADLESS),
    "adapterhub_llama_pfeiffer_cls": ("llama_cls", "pfeiffer", pick("seq_bn", reduction_factor=4), BIN, {}),
    "adapterhub_llama_parallel": ("llama", "parallel", pick("par_bn", reduction_factor=4), SAFE, HEADLESS),
    "adapterhub_llama_lora": ("llama", "lora", pick("lora", r=3, alpha=7), SAFE, HEADLESS),
    "adapterhub_llama_prefix": ("llama_tied_bias", "prefix", pick("prefix_tuning", prefix_length=3, bottleneck_size=8), BIN, HEADLESS),
    "adapterhub_mistral_houlsby": ("mistral", "houlsby", pick("double_seq_bn", reduction_factor=4), BIN, HEADLESS),
    "adapterhub_mistral_pfeiffer": ("mistral_full", "pfeiffer", pick("seq_bn", reduction_factor=4), SAFE, {}),
    "adapterhub_mistral_parallel": ("mistral", "parallel", pick("par_bn", reduction_factor=4), SAFE, HEADLESS),
    "adapterhub_mistral_lora": ("mistral", "lora", pick("lora", r=3, alpha=7), SAFE, HEADLESS),
    "adapterhub_mistral_prefix": ("mistral", "prefix", pick("prefix_tuning", prefix_length=3, flat=True), BIN, HEADLESS),
}

for table in (PLAIN, PEFT, ADAPTERS):
    for name, (*what, extras) in table.items():
        table[name] = (*what, ROWS | extras)
CASES = PLAIN | PEFT | ADAPTERS


def hold_out():
    generate_peft.hold_out(PEFT, lambda model_name: ["o_proj", "down_proj"])
    generate_adapters.hold_out(ADAPTERS)


# --------------------------------------------------------------------------------------------------------------- numbers
def write_plain(name, models, folder):
    model_name, trainable, extras = PLAIN[name]
    extras = dict(extras)
    stream = generator("case " + extras.pop("same_as", name))
    labels = labels_of(model_name)
    model = load_model(models / model_name, labels)
    batch = make_batch(model.config, labels, stream, **extras)
    case = {
        "model": model_name, "adapter": None, "library": None, "task": "seq_cls" if labels else "causal_lm", "method": None,
        "trainable": trainable, "head": "classifier" if labels else "lm", "num_labels": labels,
    }
    write_numbers(name, folder, case, model, trained_by(model, trainable, "score."), batch)


def write_case(name, models, folder):
    if name in PLAIN:
        write_plain(name, models, folder)
    elif name in ADAPTERS:
        generate_adapters.write_case(name, models, folder, ADAPTERS)
    else:
        seed_torch(generator("head " + name))  # of a bare decoder: it has none
        generate_peft.write_case(name, models, folder, PEFT)
