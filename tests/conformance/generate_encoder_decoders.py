"""T5 1.0 and 1.1, mT5, UMT5, BART and mBART, language models and classifiers: by themselves, with peft, and with adapters."""

import generate_adapters
import generate_peft
from generate_adapters import BIN, HEADLESS, SAFE, bottleneck, pick, union
from generate_common import EQUAL_LENGTHS, generator, labels_of, load_model, make_batch, task_of, write_numbers
from generate_encoder_decoder_models import encoder_decoder_sizes, is_bart, name_in_file
from generate_gpt2 import trained_by
from generate_peft import ADALORA, dora, lora

PAIRS = dict(lengths=(12, 5, 1), target_lengths=(4, 7, 2))
FEWER = dict(lengths=(12, 3), target_lengths=(3, 6))
EQUAL = dict(lengths=EQUAL_LENGTHS[:2], target_lengths=(5, 5))  # gates are means over a row, padding included
EQUAL_THREE = dict(lengths=EQUAL_LENGTHS, target_lengths=(4, 4, 4))

# name: (model, trainable, extras)
PLAIN = {
    "t5_full": ("t5", "full", {}),
    "t5_v1_1_full": ("t5_v1_1", "full", {}),
    "umt5_full": ("umt5", "full", {}),
    "bart_full": ("bart", "full", {}),
    "bart_bitfit": ("bart", "bitfit", {}),
    "bart_hub_full": ("bart_hub", "full", {}),
    "mbart_full": ("mbart", "full", {}),
    "t5_v1_1_head": ("t5_v1_1", "head", {}),
    "t5_cls_full": ("t5_cls", "full", {}),
    "t5_cls_head": ("t5_cls", "head", {}),
    "bart_cls_full": ("bart_cls", "full", {}),
    "bart_cls_bitfit": ("bart_cls", "bitfit", {}),
    "bart_cls_head": ("bart_cls", "head", {}),
}

# name: (model, method, options of peft's configuration, extras)
PEFT = {
    "t5_lora": ("t5", "lora", lora(), {}),
    "t5_lora_all_linear": ("t5", "lora", lora(r=2, target_modules="all-linear"), {}),
    "t5_lora_encoder": ("t5", "lora", lora(target_modules=r"encoder\..*\.(q|wo)"), {}),
    "t5_lora_decoder": ("t5", "lora", lora(target_modules=r"decoder\..*SelfAttention\.(q|v)"), {}),
    "t5_lora_cross": ("t5", "lora", lora(target_modules=r".*EncDecAttention\.(q|k|o)"), {}),
    "t5_dora": ("t5", "dora", dora(), {}),
    "t5_adalora": ("t5", "adalora", ADALORA, {}),
    "t5_vera": ("t5", "vera", dict(r=5), {}),
    "t5_miss": ("t5", "miss", dict(r=2), {}),
    "t5_ia3": ("t5", "ia3", {}, {}),
    "t5_layer_norm": ("t5", "layer_norm", {}, {}),
    "t5_v1_1_lora": ("t5_v1_1", "lora", lora(), {}),
    "t5_v1_1_lora_all_linear": ("t5_v1_1", "lora", lora(r=2, target_modules="all-linear"), {}),
    "t5_v1_1_ia3": ("t5_v1_1", "ia3", dict(target_modules=["k", "v", "wi_1"], feedforward_modules=[]), {}),
    "mt5_lora": ("mt5", "lora", lora(), {}),
    "mt5_ia3": ("mt5", "ia3", {}, {}),
    # In the decoder's self-attention. With an even num_layers, layers share keys and values.
    "t5_prefix": ("t5", "prefix", dict(num_virtual_tokens=3, num_layers=3, token_dim=24), {}),
    "t5_prefix_shared": ("t5", "prefix", dict(num_virtual_tokens=2, num_layers=4, token_dim=24), {}),
    "t5_v1_1_prefix_projection": ("t5_v1_1", "prefix", dict(num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=20), {}),
    "mt5_prefix": ("mt5", "prefix", dict(num_virtual_tokens=12, num_layers=3, token_dim=24), {}),
    # One prompt for each stack, of which peft reads the encoder's; and the encoder's alone.
    "t5_prompt": ("t5", "prompt", dict(num_virtual_tokens=3), {}),
    "t5_prompt_encoder": ("t5", "prompt", dict(num_virtual_tokens=4, num_transformer_submodules=1), {}),
    "t5_p_tuning": ("t5", "p_tuning", dict(num_virtual_tokens=2, encoder_hidden_size=20), {}),
    "mt5_prompt": ("mt5", "prompt", dict(num_virtual_tokens=3), {}),
    "mt5_p_tuning_lstm": (
        "mt5", "p_tuning", dict(num_virtual_tokens=3, encoder_hidden_size=20, encoder_reparameterization_type="LSTM", num_transformer_submodules=1), {}),
    "umt5_lora": ("umt5", "lora", lora(target_modules=["q", "v"]), {}),
    "bart_lora": ("bart", "lora", lora(), {}),
    "bart_lora_all_linear": ("bart", "lora", lora(r=2, target_modules="all-linear"), {}),
    "bart_lora_biases": ("bart", "lora", lora(r=2, bias="all"), {}),
    "bart_lora_head": ("bart", "lora", lora(r=2, target_modules=["lm_head", "k_proj"]), {}),
    "bart_dora": ("bart", "dora", dora(), {}),
    "bart_adalora": ("bart", "adalora", ADALORA, {}),
    "bart_vera": ("bart", "vera", dict(r=5), {}),
    "bart_ia3": ("bart", "ia3", {}, {}),
    "bart_layer_norm": ("bart", "layer_norm", {}, {}),
    "bart_prompt": ("bart", "prompt", dict(num_virtual_tokens=3), {}),
    "bart_p_tuning": ("bart", "p_tuning", dict(num_virtual_tokens=2, encoder_hidden_size=20), {}),
    "bart_prefix": ("bart", "prefix", dict(num_virtual_tokens=3, num_layers=3, num_attention_heads=2), {}),
    "mbart_lora": ("mbart", "lora", lora(target_modules=["q_proj", "v_proj"]), {}),
    # peft trains this head where it is named, and leaves it as it is where it is not.
    "t5_cls_lora": ("t5_cls", "lora", lora(r=2, modules_to_save=["classification_head"]), {}),
    "bart_cls_lora": ("bart_cls", "lora", lora(r=2, modules_to_save=["classification_head"]), {}),
    "bart_cls_lora_head": ("bart_cls", "lora", lora(r=2, target_modules=["encoder_attn.q_proj", "out_proj"]), {}),
    "bart_cls_lora_frozen_head": ("bart_cls", "lora", lora(r=1, target_modules=["encoder_attn.v_proj"]), {}),
}

# name: (model, method, configuration, container, extras)
ADAPTERS = {
    "adapterhub_t5_houlsby": ("t5", "houlsby", pick("double_seq_bn", reduction_factor=4), SAFE, {}),
    "adapterhub_t5_houlsby_cross": ("t5", "houlsby", pick("double_seq_bn", reduction_factor=4, cross_adapter=True), SAFE, HEADLESS),
    "adapterhub_t5_houlsby_reductions": (
        "t5", "houlsby", pick("double_seq_bn", reduction_factor={"default": 8, "1": 4, "3": 2}, leave_out=[0, 2]), BIN, HEADLESS),
    "adapterhub_t5_cross_only": (
        "t5", "bottleneck", bottleneck(mh_adapter=False, output_adapter=False, cross_adapter=True, leave_out=[3]), SAFE, HEADLESS),
    "adapterhub_t5_pfeiffer": ("t5", "pfeiffer", pick("seq_bn", reduction_factor=4), BIN, {}),
    "adapterhub_t5_residual_after": (
        "t5", "bottleneck", bottleneck(cross_adapter=True, original_ln_before=True, residual_before_ln=False), SAFE, HEADLESS),
    "adapterhub_t5_parallel": ("t5", "parallel", pick("par_bn", reduction_factor=4, mh_adapter=True, cross_adapter=True), SAFE, HEADLESS),
    "adapterhub_t5_compacter": ("t5", "compacter", pick("compacter", reduction_factor=4, cross_adapter=True), SAFE, dict(HEADLESS, shared=True)),
    "adapterhub_t5_compacter_own_rule": ("t5", "compacter", pick("compacter++", reduction_factor=4, shared_phm_rule=False), SAFE, {}),
    "adapterhub_t5_gating": ("t5", "bottleneck", bottleneck(cross_adapter=True, use_gating=True, leave_out=[0, 4]), SAFE, dict(HEADLESS, **EQUAL)),
    "adapterhub_t5_lora": ("t5", "lora", pick("lora", r=2, alpha=5), SAFE, {}),
    "adapterhub_t5_lora_all": (
        "t5", "lora",
        pick("lora", r=2, alpha=3, attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True, leave_out=[1, 3]), SAFE, HEADLESS),
    "adapterhub_t5_lora_gating": (
        "t5", "lora", pick("lora", r=2, alpha=3, attn_matrices=["k", "v"], use_gating=True, leave_out=[0, 3]), SAFE, dict(HEADLESS, **EQUAL)),
    "adapterhub_t5_dora": ("t5", "dora", pick("dora", r=2, alpha=5, attn_matrices=["q", "v"], output_lora=True), SAFE, HEADLESS),
    "adapterhub_t5_ia3": ("t5", "ia3", pick("ia3"), SAFE, HEADLESS),
    "adapterhub_t5_union": (
        "t5", "union", union(dict(kind="lora", r=2, alpha=4, leave_out=[4]), dict(kind="seq_bn", reduction_factor=8, leave_out=[0])), SAFE, HEADLESS),
    "adapterhub_t5_v1_1_houlsby": ("t5_v1_1", "houlsby", pick("double_seq_bn", reduction_factor=4, cross_adapter=True), SAFE, {}),
    "adapterhub_t5_v1_1_lora": (
        "t5_v1_1", "lora", pick("lora", r=2, alpha=3, attn_matrices=["q"], intermediate_lora=True, output_lora=True), BIN, HEADLESS),
    "adapterhub_t5_v1_1_ia3": ("t5_v1_1", "ia3", pick("ia3", output_lora=True), SAFE, HEADLESS),
    "adapterhub_mt5_pfeiffer": ("mt5", "pfeiffer", pick("seq_bn", reduction_factor=4), SAFE, HEADLESS),
    "adapterhub_mt5_ia3": ("mt5", "ia3", pick("ia3"), BIN, HEADLESS),
    "adapterhub_t5_prefix": ("t5", "prefix", pick("prefix_tuning", prefix_length=3, bottleneck_size=10), BIN, {}),
    "adapterhub_t5_prefix_flat": ("t5_v1_1", "prefix", pick("prefix_tuning", prefix_length=4, flat=True, encoder_prefix=False), BIN, {}),
    "adapterhub_t5_prefix_leave_out": (  # all of the encoder, and cross-attention
        "t5", "prefix", pick("prefix_tuning", prefix_length=2, flat=True, cross_prefix=False, leave_out=[0, 1]), BIN, {}),
    "adapterhub_t5_prefix_gates": (
        "t5", "prefix", pick("prefix_tuning", prefix_length=2, bottleneck_size=8, use_gating=True, shared_gating=False), BIN, EQUAL_THREE),
    "adapterhub_mt5_prefix": ("mt5", "prefix", pick("prefix_tuning", prefix_length=9, flat=True), BIN, {}),
    "adapterhub_bart_houlsby": ("bart", "houlsby", pick("double_seq_bn", reduction_factor=8, cross_adapter=True), SAFE, {}),
    "adapterhub_bart_pfeiffer": ("bart", "pfeiffer", pick("seq_bn", reduction_factor={"default": 8, "2": 4}, leave_out=[1]), BIN, HEADLESS),
    "adapterhub_bart_post_add": (
        "bart", "bottleneck",
        bottleneck(mh_adapter=False, cross_adapter=True, reduction_factor=8, original_ln_before=True, residual_before_ln="post_add"), SAFE, HEADLESS),
    "adapterhub_bart_parallel": ("bart", "parallel", pick("par_bn", reduction_factor=8, mh_adapter=True, cross_adapter=True), SAFE, HEADLESS),
    "adapterhub_bart_compacter": ("bart", "compacter", pick("compacter", reduction_factor=4, cross_adapter=True), SAFE, HEADLESS),
    "adapterhub_bart_lora": (
        "bart", "lora", pick("lora", r=2, alpha=3, attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True), SAFE, HEADLESS),
    "adapterhub_bart_ia3": ("bart", "ia3", pick("ia3"), SAFE, HEADLESS),
    "adapterhub_bart_prefix": ("bart_hub", "prefix", pick("prefix_tuning", prefix_length=2, bottleneck_size=4), BIN, HEADLESS),
    "adapterhub_mbart_pfeiffer": ("mbart", "pfeiffer", pick("seq_bn", reduction_factor=8, cross_adapter=True), SAFE, {}),
}

for table in (PLAIN, PEFT, ADAPTERS):
    for name, (*what, extras) in table.items():
        table[name] = (*what, (PAIRS if table is PLAIN else FEWER) | extras)
CASES = PLAIN | PEFT | ADAPTERS


def hold_out():
    generate_peft.hold_out(PEFT, lambda model_name: ["out_proj", "fc2"] if is_bart(model_name) else ["o", "wo"])
    for model_name, _, options, _, _ in ADAPTERS.values():  # layers are other ones, too
        sizes = encoder_decoder_sizes(model_name)
        layers = sum(sizes[key] for key in (("encoder_layers", "decoder_layers") if is_bart(model_name) else ("num_layers", "num_decoder_layers")))
        for member in options.get("members", [options]):
            if "leave_out" in member:
                member["leave_out"] = [layer for layer in member["leave_out"] if layer < layers - 1]
    for model_name, method, options, _ in PEFT.values():
        if method == "prefix":  # peft takes these from fields that have other values
            sizes = encoder_decoder_sizes(model_name)
            layers = sizes["decoder_layers" if is_bart(model_name) else "num_decoder_layers"]
            options |= dict(num_layers=max(options.get("num_layers", 0), layers))
            options |= dict(num_attention_heads=sizes["decoder_attention_heads"]) if is_bart(model_name) else dict(token_dim=sizes["num_heads"] * sizes["d_kv"])
    generate_adapters.hold_out(ADAPTERS)


def write_case(name, models, folder):
    if name in PEFT:
        return generate_peft.write_case(name, models, folder, PEFT)
    if name in ADAPTERS:
        return generate_adapters.write_case(name, models, folder, ADAPTERS)
    model_name, trainable, extras = PLAIN[name]
    labels = labels_of(model_name)
    model = load_model(models / model_name, labels)
    batch = make_batch(model.config, labels, generator("case " + name), **extras)
    case = {
        "model": model_name, "adapter": None, "library": None, "task": task_of(model_name), "method": None, "trainable": trainable,
        "head": "classifier" if labels else "lm", "num_labels": labels,
    }
    head = "classification_head." if labels else "lm_head."
    trained = {name_in_file(model_name, key): parameter for key, parameter in trained_by(model, trainable, head).items()}
    write_numbers(name, folder, case, model, trained, batch)
