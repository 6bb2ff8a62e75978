"""RoBERTa, XLM-RoBERTa, CamemBERT, DistilBERT, MPNet, ELECTRA and ModernBERT: by themselves, with peft, and with adapters where it has them."""

import json

import torch
from safetensors.torch import save_file
from transformers.modeling_outputs import BaseModelOutput

import generate_adapters
import generate_peft
from generate_adapters import BIN, SAFE, pick
from generate_common import error, generator, in_double, labels_of, load_model, make_batch, report, seed_torch, single, type_of
from generate_common import write_numbers
from generate_gpt2 import trained_by
from generate_peft import dora, lora

PADDING_IDS = dict(attended_padding_id=True)  # within a text: no position of its own, unless peft gives embeddings in place of ids


def first_output(model):
    """With a prefix, peft's classifier takes the encoder's second output, or the first where there is one only. transformers 4.57 returns
    the cache second (TypeError), 5.24 takes no cache: neither runs. Without the cache it is what peft means: the classifier on the first."""
    model.base_model.register_forward_hook(lambda module, args, output: BaseModelOutput(last_hidden_state=output.last_hidden_state))


# ----------------------------------------------------------------------------------------------------------------- cases
# name: (model, trainable, extras; `same_as`: the numbers of another case)
PLAIN = {
    "roberta_full": ("roberta", "full", PADDING_IDS),
    "roberta_v5_full": ("roberta_v5", "full", dict(PADDING_IDS, same_as="roberta_full")),
    "roberta_bitfit": ("roberta", "bitfit", {}),
    "roberta_head": ("roberta", "head", {}),
    "xlm_roberta_full": ("xlm_roberta", "full", {}),
    "camembert_full": ("camembert", "full", {}),
    "distilbert_full": ("distilbert", "full", {}),
    "distilbert_bitfit": ("distilbert", "bitfit", {}),
    "distilbert_head": ("distilbert", "head", {}),
    "mpnet_full": ("mpnet", "full", dict(lengths=(36, 9, 5, 2, 1))),  # far enough for the relative bias
    "mpnet_padding_ids": ("mpnet", None, PADDING_IDS),
    "mpnet_bitfit": ("mpnet", "bitfit", {}),
    "mpnet_head": ("mpnet", "head", {}),
    "electra_full": ("electra", "full", dict(token_types=True)),
    "electra_bitfit": ("electra", "bitfit", {}),
    "electra_head": ("electra", "head", {}),
    "modernbert_full": ("modernbert", "full", {}),
    "modernbert_mean_full": ("modernbert_mean", "full", {}),
    "modernbert_v5_full": ("modernbert_v5", "full", dict(same_as="modernbert_mean_full")),
    "modernbert_v5_layers": ("modernbert_v5_layers", "full", {}),
    "modernbert_bitfit": ("modernbert_mean", "bitfit", {}),
    "modernbert_head": ("modernbert", "head", {}),
}

# name: (model, method, options of peft's configuration, extras)
PEFT = {
    "roberta_lora": ("roberta", "lora", lora(), {}),
    "roberta_lora_all_linear": ("roberta", "lora", lora(target_modules="all-linear"), {}),
    "roberta_lora_bare_cls": ("roberta_bare", "lora", lora(), dict(labels=3)),
    "roberta_dora": ("roberta", "dora", dora(target_modules=["query", "output.dense"]), {}),
    "roberta_ia3": ("roberta", "ia3", {}, {}),
    "roberta_prefix": ("roberta", "prefix", dict(num_virtual_tokens=4), dict(PADDING_IDS, prepare=first_output)),
    "roberta_prompt": ("roberta", "prompt", dict(num_virtual_tokens=4), PADDING_IDS),
    "distilbert_lora": ("distilbert", "lora", lora(target_modules=["q_lin", "v_lin"]), {}),
    # Without `exclude_modules` the pre_classifier is a target and saved too, which peft refuses.
    "distilbert_lora_all_linear": ("distilbert", "lora", lora(target_modules="all-linear", exclude_modules=["pre_classifier"]), {}),
    "distilbert_lora_bare_cls": ("distilbert_bare", "lora", lora(target_modules=["k_lin", "lin2"]), dict(labels=3)),
    "distilbert_dora": ("distilbert", "dora", dora(target_modules=["q_lin", "lin1"]), {}),
    "distilbert_ia3": ("distilbert", "ia3", dict(target_modules=["k_lin", "v_lin", "lin2"], feedforward_modules=["lin2"]), {}),
    "distilbert_prompt": ("distilbert", "prompt", dict(num_virtual_tokens=4), {}),
    "mpnet_lora": ("mpnet", "lora", lora(target_modules=["q", "v"]), {}),
    "mpnet_lora_all_linear": ("mpnet", "lora", lora(target_modules="all-linear"), {}),
    "mpnet_dora": ("mpnet", "dora", dora(target_modules=["k", "intermediate.dense"]), {}),
    "mpnet_ia3": ("mpnet", "ia3", dict(target_modules=["k", "v", "output.dense"], feedforward_modules=["output.dense"]), {}),
    "mpnet_prompt": ("mpnet", "prompt", dict(num_virtual_tokens=4), PADDING_IDS),
    "electra_lora": ("electra", "lora", lora(), {}),
    "electra_lora_all_linear": ("electra", "lora", lora(target_modules="all-linear"), {}),
    "electra_dora": ("electra", "dora", dora(target_modules=["value", "embeddings_project"]), {}),
    "electra_ia3": ("electra", "ia3", dict(target_modules=["key", "value", "output.dense"], feedforward_modules=["output.dense"]), {}),
    "electra_prefix": ("electra", "prefix", dict(num_virtual_tokens=4), dict(token_types=True, prepare=first_output)),
    "electra_prompt": ("electra", "prompt", dict(num_virtual_tokens=4), dict(token_types=True)),
    "electra_prompt_bare_cls": ("electra_bare", "prompt", dict(num_virtual_tokens=3), dict(labels=3)),
    "modernbert_lora": ("modernbert", "lora", lora(target_modules=["Wqkv"]), {}),
    "modernbert_lora_all_linear": ("modernbert_mean", "lora", lora(target_modules="all-linear"), {}),
    "modernbert_dora": ("modernbert", "dora", dora(target_modules=["Wqkv", "mlp.Wo"]), {}),
    "modernbert_ia3": ("modernbert_mean", "ia3", dict(target_modules=["Wqkv", "mlp.Wo"], feedforward_modules=["mlp.Wo"]), {}),
    "modernbert_prompt": ("modernbert", "prompt", dict(num_virtual_tokens=4), {}),
    "modernbert_mean_prompt": ("modernbert_mean", "prompt", dict(num_virtual_tokens=3), {}),
}

# The encoder alone: what LoRA and prefixes make of its last hidden state.
FEATURES = {
    "roberta_lora_features": ("roberta_bare", "lora", lora(), PADDING_IDS),
    "roberta_prefix_features": ("roberta_bare", "prefix", dict(num_virtual_tokens=3), PADDING_IDS),
    "distilbert_lora_features": ("distilbert_bare", "lora", lora(target_modules=["q_lin", "v_lin", "out_lin"]), {}),
    "mpnet_lora_features": ("mpnet_bare", "lora", lora(target_modules=["q", "o"]), {}),
    "electra_lora_features": ("electra_bare", "lora", lora(), dict(token_types=True)),
    "modernbert_lora_features": ("modernbert_bare", "lora", lora(target_modules=["Wqkv", "Wi"]), {}),
}

# name: (model, method, configuration, container, extras)
ADAPTERS = {
    "adapterhub_roberta_houlsby": ("roberta", "houlsby", pick("double_seq_bn", reduction_factor=4), SAFE, {}),
    "adapterhub_roberta_pfeiffer": ("roberta", "pfeiffer", pick("seq_bn", reduction_factor=3), BIN, {}),
    "adapterhub_xlm_roberta_pfeiffer": ("xlm_roberta", "pfeiffer", pick("seq_bn", reduction_factor=4), SAFE, {}),
    "adapterhub_distilbert_houlsby": ("distilbert", "houlsby", pick("double_seq_bn", reduction_factor=4), BIN, {}),
    "adapterhub_distilbert_pfeiffer": ("distilbert", "pfeiffer", pick("seq_bn", reduction_factor=4), SAFE, {}),
    "adapterhub_electra_houlsby": ("electra", "houlsby", pick("double_seq_bn", reduction_factor=6), SAFE, {}),
    "adapterhub_electra_pfeiffer": ("electra", "pfeiffer", pick("seq_bn", reduction_factor=4), BIN, dict(token_types=True)),
}

CASES = PLAIN | PEFT | FEATURES | ADAPTERS

MORE_TARGETS = {
    "distilbert": ["k_lin", "out_lin", "lin1", "lin2"],
    "mpnet": ["attn.k", "attn.o", "intermediate.dense", "output.dense"],
    "modernbert": ["attn.Wo", "mlp.Wi", "mlp.Wo"],
}


def hold_out():
    more = lambda model_name: MORE_TARGETS.get(type_of(model_name), generate_peft.MORE_TARGETS[False])
    generate_peft.hold_out(PEFT, more)
    generate_peft.hold_out(FEATURES, more)
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
        "model": model_name, "adapter": None, "library": None, "task": "seq_cls", "method": None, "trainable": trainable, "head": "classifier",
        "num_labels": labels,
    }
    write_numbers(name, folder, case, model, trained_by(model, trainable, "classifier."), batch)


def shape_of_prompts(options, config):
    """What peft doesn't find in these configurations: DistilBERT's names, and a table of words that is narrower than the encoder."""
    if config.model_type == "distilbert" or getattr(config, "embedding_size", config.hidden_size) != config.hidden_size:
        width = getattr(config, "embedding_size", config.hidden_size)
        return options | dict(token_dim=width, num_attention_heads=config.num_attention_heads, num_layers=config.num_hidden_layers)
    return options


def write_peft(name, models, folder):
    model_name, method, options, extras = PEFT[name]
    if method == "prompt":
        options = shape_of_prompts(options, load_model(models / model_name).config)
    seed_torch(generator("head " + name))  # of a bare encoder: it has none
    generate_peft.write_case(name, models, folder, {name: (model_name, method, options, extras)})


def write_features(name, models, folder):
    model_name, method, options, extras = FEATURES[name]
    stream = generator("case " + name)
    options = dict(task_type="FEATURE_EXTRACTION") | options
    made = generate_peft.make(load_model(models / model_name, feature=True), method, options, stream)
    generate_peft.save(made, model_name, folder / "adapter")
    model = generate_peft.load(load_model(models / model_name, feature=True), folder / "adapter")
    batch = make_batch(model.config, None, stream, **extras)
    exact_model, exact_batch = in_double(model, batch)
    with torch.no_grad():
        hidden, exact = model(**batch).last_hidden_state, exact_model(**exact_batch).last_hidden_state
    real, weights = batch["attention_mask"].bool(), batch["attention_mask"].unsqueeze(-1)
    tensors = {"last_hidden_state": hidden[real].contiguous(), "sentence_embedding": (hidden * weights).sum(1) / weights.sum(1)}
    case = {
        "model": model_name, "adapter": "adapter", "library": "peft", "task": "feature_extraction", "method": method, "options": options,
        "trainable": None, "head": "none", "num_labels": None,
        "float32_error": {"last_hidden_state": single(error(hidden[real], exact[real]))},
    }
    save_file(batch, folder / "batch.safetensors")
    save_file(tensors, folder / "expected.safetensors")
    (folder / "case.json").write_text(json.dumps(case, indent=2) + "\n")
    report(name, tensors, case)


def write_case(name, models, folder):
    if name in ADAPTERS:
        generate_adapters.write_case(name, models, folder, ADAPTERS)
    else:
        (write_plain if name in PLAIN else write_peft if name in PEFT else write_features)(name, models, folder)
