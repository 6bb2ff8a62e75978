"""The delta methods of peft on BERT and GPT-2."""

import copy
import json
import re
import shutil
import tempfile
import warnings
from pathlib import Path

import torch
from peft import AdaLoraConfig, IA3Config, LNTuningConfig, LoraConfig, PeftModel, PrefixTuningConfig, PromptEncoderConfig
from peft import MissConfig, PromptTuningConfig, VeraConfig, get_peft_model
from peft.optimizers import create_loraplus_optimizer
from peft.utils import get_peft_model_state_dict

import generate_base
from generate_common import EQUAL_LENGTHS, generator, integer, is_gpt2, labels_of, load_model, make_batch, normal, one_of, seed_torch
from generate_common import SEED, task_of, write_numbers

CONFIGS = {
    "lora": LoraConfig, "dora": LoraConfig, "adalora": AdaLoraConfig, "vera": VeraConfig, "ia3": IA3Config, "layer_norm": LNTuningConfig,
    "miss": MissConfig, "prefix": PrefixTuningConfig, "prompt": PromptTuningConfig, "p_tuning": PromptEncoderConfig,
}
# Warnings of peft that mean nothing: of Conv1D, of an adalora's ranks, of LayerNorms, of lora_B.bias and ranks of 0, of tied tables.
HARMLESS = ".*(fan_in_fan_out|rank_pattern keys|Unsupported layer type|invalid shape|encoder_num_layers|tie_word_embeddings|ensure_weight_tying|save_embedding_layers)"
TASK_TYPES = {"seq_cls": "SEQ_CLS", "causal_lm": "CAUSAL_LM", "seq2seq": "SEQ_2_SEQ_LM"}

# Layers that the methods may meet, of different sizes.
BERT_FFN = ["intermediate.dense", "output.dense"]
ADALORA = dict(init_r=4, target_r=2, lora_alpha=6, total_step=100)
# Ten steps of which the last is final: ranks are pruned to an average of 2.
PRUNED = dict(init_r=4, target_r=2, lora_alpha=6, total_step=5, tinit=1, tfinal=1)


SHORT = (4, 2, 1)  # row lengths of cases whose tables are large enough


def lora(**options):
    return dict(dict(r=3, lora_alpha=5), **options)


def dora(**options):
    return lora(use_dora=True, **options)


# name: (model, method, options of peft's configuration, extras)
CASES = {
    # ------------------------------------------------------------------------------------------------------------ BERT
    "lora_b_bias": ("bert_gelu", "lora", lora(target_modules=["query", "output.dense"], lora_bias=True), {}),
    "lora_word_embeddings": ("bert_gelu", "lora", lora(target_modules=["word_embeddings", "value"]), {}),
    "lora_embeddings_rslora": (
        "bert_gelu_new", "lora", lora(target_modules=["word_embeddings", "position_embeddings", "token_type_embeddings"], use_rslora=True),
        dict(token_types=True)),
    "lora_save_embedding_layers": ("bert_gelu_new", "lora", lora(target_modules=["query"]), dict(saving=dict(save_embedding_layers=True))),
    "lora_resized_word_embeddings": (
        "bert_gelu_new", "lora", lora(target_modules=["query", "word_embeddings"]), dict(words=6, saving=dict(save_embedding_layers=True))),
    "lora_pissa": ("bert_gelu", "lora", lora(target_modules=["query", "intermediate.dense"], init_lora_weights="pissa"), {}),
    "lora_olora": ("bert_gelu", "lora", lora(target_modules=["query", "output.dense"], init_lora_weights="olora"), {}),
    "lora_pissa_converted": (
        "bert_gelu", "lora",
        lora(target_modules=["query", "intermediate.dense"], init_lora_weights="pissa", task_type=None), dict(convert=True)),
    "lora_olora_converted": (
        "bert_gelu", "lora",
        lora(target_modules=["query", "output.dense"], init_lora_weights="olora", use_rslora=True, task_type=None), dict(convert=True)),
    "dora_query_value": ("bert_gelu", "dora", dora(target_modules=["query", "value"]), {}),
    "dora_all_linear": ("bert_gelu_new", "dora", dora(target_modules="all-linear"), {}),
    "dora_rslora": ("bert_gelu", "dora", dora(target_modules=["key", "output.dense"], use_rslora=True), {}),
    "dora_patterns": (
        "bert_relu", "dora",
        dora(target_modules=["query", "intermediate.dense"], rank_pattern={"query": 1}, alpha_pattern={"intermediate.dense": 2}), {}),
    "dora_word_embeddings": ("bert_gelu_new", "dora", dora(target_modules=["word_embeddings", "query"]), {}),
    "adalora_query_value": ("bert_gelu", "adalora", ADALORA, {}),
    "adalora_all": (
        "bert_gelu_new", "adalora", dict(ADALORA, target_modules=["query", "key", "value", "dense"], orth_reg_weight=0.1), {}),
    "adalora_pruned": ("bert_gelu", "adalora", dict(PRUNED, target_modules=["query", "value", "output.dense"]), dict(prune=True)),
    "vera_query_value": ("bert_gelu", "vera", dict(r=6), {}),
    "vera_sizes": ("bert_gelu", "vera", dict(r=5, target_modules=["query", *BERT_FFN], d_initial=0.4, projection_prng_key=7), {}),
    "miss_query_value": ("bert_gelu", "miss", dict(r=6), {}),
    "miss_mini": ("bert_gelu_new", "miss", dict(r=5, mini_r=4, init_weights="mini", target_modules=["query", *BERT_FFN], bias="MiSS_only"), {}),
    "ia3_default": ("bert_gelu", "ia3", {}, {}),
    "ia3_feedforward": (
        "bert_gelu_new", "ia3",
        dict(target_modules=["query", "intermediate.dense", "layer.1.output.dense"], feedforward_modules=["layer.1.output.dense"]), {}),
    "ia3_no_feedforward": ("bert_relu", "ia3", dict(target_modules=["key", "value", "output.dense"], feedforward_modules=[]), {}),
    "layer_norm_all": ("bert_gelu", "layer_norm", dict(target_modules=["LayerNorm"]), {}),
    "layer_norm_output": ("bert_gelu_new", "layer_norm", dict(target_modules=["output.LayerNorm"]), {}),
    "prefix_flat": ("bert_gelu", "prefix", dict(num_virtual_tokens=5), {}),
    "prefix_one": ("bert_gelu_new", "prefix", dict(num_virtual_tokens=1), {}),
    "prefix_token_types": ("bert_relu", "prefix", dict(num_virtual_tokens=3), dict(token_types=True)),
    "prefix_projection": ("bert_gelu", "prefix", dict(num_virtual_tokens=4, prefix_projection=True, encoder_hidden_size=20), {}),
    "prompt_random": ("bert_gelu", "prompt", dict(num_virtual_tokens=4), {}),
    "prompt_token_types": ("bert_relu", "prompt", dict(num_virtual_tokens=3), dict(token_types=True)),
    "p_tuning_mlp": ("bert_gelu", "p_tuning", dict(num_virtual_tokens=4, encoder_hidden_size=20), {}),
    "p_tuning_lstm": (
        "bert_gelu_new", "p_tuning", dict(num_virtual_tokens=3, encoder_hidden_size=20, encoder_reparameterization_type="LSTM"), {}),
    # ----------------------------------------------------------------------------------------------------------- GPT-2
    "gpt2_lora": ("gpt2_lm", "lora", lora(), {}),
    "gpt2_lora_all_linear": ("gpt2_lm", "lora", lora(target_modules="all-linear", use_rslora=True), {}),
    "gpt2_lora_projections": ("gpt2_inner", "lora", lora(target_modules=["c_proj", "c_fc"], rank_pattern={"mlp.c_proj": 1}), {}),
    "gpt2_lora_embeddings": ("gpt2_lm", "lora", lora(target_modules=["wte", "wpe", "c_attn"]), {}),
    "gpt2_lora_layers": ("gpt2_inner", "lora", lora(target_modules=["c_attn"], layers_to_transform=[0, 2]), {}),
    "gpt2_lora_b_bias": ("gpt2_lm", "lora", lora(target_modules=["c_attn", "attn.c_proj"], lora_bias=True), {}),
    "gpt2_lora_bias_all": ("gpt2_lm", "lora", lora(bias="all"), {}),
    "gpt2_lora_bias_lora_only": ("gpt2_cls", "lora", lora(bias="lora_only"), {}),
    "gpt2_lora_bare": ("gpt2_bare", "lora", lora(target_modules=["c_attn", "mlp.c_fc"]), {}),
    "gpt2_lora_bare_cls": ("gpt2_bare", "lora", lora(), dict(labels=3)),
    "gpt2_lora_cls": ("gpt2_cls", "lora", lora(target_modules=["c_attn", "mlp.c_proj"]), {}),
    "gpt2_lora_cls_all_linear": ("gpt2_cls", "lora", lora(target_modules="all-linear"), {}),
    "gpt2_alpha_pattern_file_order": (
        "gpt2_inner", "lora", lora(target_modules=["c_attn"], alpha_pattern={"h.0.attn.c_attn": 40, "c_attn": 1, "attn.c_attn": 20}), dict(lengths=SHORT)),
    # The table of word embeddings and the head that is tied to it.
    "gpt2_save_wte": ("gpt2_lm", "lora", lora(modules_to_save=["wte"]), dict(lengths=SHORT)),
    "gpt2_save_lm_head": ("gpt2_lm", "lora", lora(modules_to_save=["lm_head"]), dict(lengths=SHORT)),
    "gpt2_save_tied": ("gpt2_lm", "lora", lora(modules_to_save=["lm_head"], ensure_weight_tying=True), dict(lengths=SHORT)),
    "gpt2_lora_lm_head": ("gpt2_lm", "lora", lora(target_modules=["lm_head", "c_attn"]), dict(lengths=SHORT)),
    "gpt2_lora_wte_lm_head": ("gpt2_lm", "lora", lora(target_modules=["lm_head", "wte"], use_rslora=True), dict(lengths=SHORT)),
    "gpt2_lora_lm_head_save_wte": ("gpt2_lm", "lora", lora(target_modules=["lm_head"], modules_to_save=["wte"]), dict(lengths=SHORT)),
    "gpt2_dora_lm_head": ("gpt2_lm", "dora", dora(target_modules=["lm_head", "c_attn"]), dict(lengths=SHORT)),
    "gpt2_ia3_lm_head": ("gpt2_lm", "ia3", dict(target_modules=["lm_head", "c_attn"], feedforward_modules=["lm_head"]), dict(lengths=SHORT)),
    "gpt2_save_embedding_layers": ("gpt2_lm", "lora", lora(), dict(lengths=SHORT, saving=dict(save_embedding_layers=True))),
    "gpt2_resized": ("gpt2_lm", "lora", lora(), dict(lengths=SHORT, words=7, saving=dict(save_embedding_layers=True))),
    "gpt2_resized_lora_wte": (
        "gpt2_lm", "lora", lora(target_modules=["wte", "c_attn"]), dict(lengths=SHORT, words=-20, saving=dict(save_embedding_layers=True))),
    "gpt2_resized_prompt": ("gpt2_lm", "prompt", dict(num_virtual_tokens=3), dict(lengths=SHORT, words=5, saving=dict(save_embedding_layers=True))),
    "gpt2_lora_pissa": ("gpt2_lm", "lora", lora(init_lora_weights="pissa"), {}),
    "gpt2_lora_pissa_converted": (
        "gpt2_lm", "lora", lora(target_modules=["c_attn", "c_fc"], init_lora_weights="pissa"), dict(convert=True)),
    "gpt2_dora": ("gpt2_lm", "dora", dora(), {}),
    "gpt2_dora_all_linear": ("gpt2_inner", "dora", dora(r=4, target_modules="all-linear", use_rslora=True), {}),
    "gpt2_dora_cls": ("gpt2_cls", "dora", dora(target_modules=["c_attn", "c_proj"]), {}),
    "gpt2_dora_wte": ("gpt2_lm", "dora", dora(target_modules=["wte", "c_attn"]), {}),
    "gpt2_adalora": ("gpt2_lm", "adalora", ADALORA, {}),
    "gpt2_adalora_pruned": ("gpt2_inner", "adalora", dict(PRUNED, target_modules=["c_attn", "c_proj"]), dict(prune=True)),
    "gpt2_adalora_cls": ("gpt2_cls", "adalora", dict(ADALORA, target_modules=["c_attn", "c_fc"]), {}),
    "gpt2_vera": ("gpt2_lm", "vera", dict(r=5), {}),
    "gpt2_vera_sizes": ("gpt2_inner", "vera", dict(r=6, target_modules=["c_attn", "c_proj", "c_fc"], d_initial=0.3), {}),
    "gpt2_vera_cls": ("gpt2_cls", "vera", dict(r=4), {}),
    "gpt2_ia3": ("gpt2_lm", "ia3", {}, {}),
    "gpt2_ia3_cls": ("gpt2_cls", "ia3", {}, {}),
    "gpt2_ia3_feedforward": (
        "gpt2_inner", "ia3",
        dict(target_modules=["c_attn", "attn.c_proj", "mlp.c_fc"], feedforward_modules=["mlp.c_fc", "attn.c_proj"]), {}),
    "gpt2_layer_norm": ("gpt2_lm", "layer_norm", {}, {}),
    "gpt2_layer_norm_cls": ("gpt2_cls", "layer_norm", dict(target_modules=["ln_1", "ln_f"]), {}),
    "gpt2_prefix_flat": ("gpt2_lm", "prefix", dict(num_virtual_tokens=5), {}),
    "gpt2_prefix_projection": ("gpt2_inner", "prefix", dict(num_virtual_tokens=3, prefix_projection=True, encoder_hidden_size=20), {}),
    "gpt2_prefix_cls": ("gpt2_cls", "prefix", dict(num_virtual_tokens=4), {}),
    "gpt2_prompt": ("gpt2_lm", "prompt", dict(num_virtual_tokens=4), {}),
    "gpt2_prompt_cls": ("gpt2_cls", "prompt", dict(num_virtual_tokens=3), dict(lengths=EQUAL_LENGTHS)),
    "gpt2_p_tuning_mlp": ("gpt2_lm", "p_tuning", dict(num_virtual_tokens=4, encoder_hidden_size=20), {}),
    "gpt2_p_tuning_lstm": (
        "gpt2_inner", "p_tuning", dict(num_virtual_tokens=3, encoder_hidden_size=20, encoder_reparameterization_type="LSTM"), {}),
    "gpt2_p_tuning_cls": ("gpt2_cls", "p_tuning", dict(num_virtual_tokens=2, encoder_hidden_size=20), dict(lengths=EQUAL_LENGTHS)),
}


def harmless(warning):
    return re.match(HARMLESS, warning, re.DOTALL) is not None


def noise_of(name, parameter, stream):
    """How far a fresh adapter's parameter is moved from where it starts."""
    for part, scale in (
        ("lora_magnitude_vector", 0.2), ("lora_E", 0.6), ("lora_", 0.15), ("vera_lambda", 0.3), ("ia3_l", 0.3), ("miss_block", 0.1), ("classifier", 0.4),
        ("score", 0.4), ("prompt_encoder", 0.3),
    ):
        if part in name:
            return normal(parameter.shape, scale, stream)
    return normal(parameter.shape, 0.2, stream)


def move(model, stream):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(noise_of(name, parameter, stream))


def prune(model, batch):
    """The last steps of a training: sensitivities from real gradients, then the rank of each module is settled."""
    model.base_model.rankallocator.set_total_step(model.peft_config["default"].total_step)
    for step in range(model.peft_config["default"].total_step):
        model.zero_grad()
        model(**batch).loss.backward()
        model.base_model.update_and_allocate(step)


def make(base, method, options, stream, batch=None, initial=None):
    """A peft model away from its initial values."""
    seed_torch(stream)
    options = dict(options)
    if method in ("lora", "dora") and "init_lora_weights" not in options:
        options["init_lora_weights"] = False
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=HARMLESS)
        model = get_peft_model(base, CONFIGS[method](**options)).eval()
    if initial:
        model.peft_config["default"].init_lora_weights = True
        model.save_pretrained(initial)
        model.peft_config["default"].init_lora_weights = options["init_lora_weights"]
    move(model, stream)
    if batch:
        prune(model, batch)
    return model


def save(model, model_name, folder, **options):
    with tempfile.TemporaryDirectory() as temporary:
        with warnings.catch_warnings():  # a needless one for lora_B.bias
            warnings.simplefilter("ignore")
            model.save_pretrained(temporary, **options)
        config = json.loads((Path(temporary) / "adapter_config.json").read_text())
        folder.mkdir()
        shutil.copyfile(Path(temporary) / "adapter_model.safetensors", folder / "adapter_model.safetensors")
    config["base_model_name_or_path"] = model_name
    for key in ("target_modules", "feedforward_modules", "exclude_modules"):
        if isinstance(config.get(key), list):  # written in the arbitrary order of a set
            config[key].sort()
    config = {key: config[key] for key in sorted(config)}
    for key in ("rank_pattern", "alpha_pattern"):  # written with sorted keys, though the first that matches counts
        if isinstance(config.get(key), dict) and getattr(model.peft_config["default"], "init_r", None) is None:
            config[key] = dict(getattr(model.peft_config["default"], key))
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2))


def is_prompt(folder):
    return json.loads((folder / "adapter_config.json").read_text())["peft_type"] in ("PREFIX_TUNING", "PROMPT_TUNING", "P_TUNING")


def load(base, folder):
    """The adapter as peft reads it, ready to train. Prompts that peft reads are for inference only: no network, no gradient."""
    prompt = is_prompt(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # of missing and unknown tensors, for example
        warnings.filterwarnings("ignore", message=HARMLESS)
        model = PeftModel.from_pretrained(base, folder, is_trainable=not prompt).eval()
    if prompt:
        for name, parameter in model.named_parameters():
            parameter.requires_grad_("prompt_encoder" in name or "modules_to_save" in name)
    return model


def parameters_by_key(model):
    """{key in the adapter's file: parameter}"""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        saved = {tensor.data_ptr(): key for key, tensor in get_peft_model_state_dict(model, save_embedding_layers=False).items()}
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            if "prompt_encoder" in name:
                key = "prompt_embeddings"
            elif parameter.numel() == 0:  # a rank of 0 in adalora
                key = name.replace(".default", "")
            else:
                key = saved[parameter.data_ptr()]
            found[key] = parameter
    return found


def orthogonal_free(model, batch):
    """AdaLoRA's loss without its regulariser, which the model has added."""
    with torch.no_grad():
        return {"task_loss": model.base_model.model(**batch).loss.reshape(1)}


RANGES = {
    "r": (1, 6), "lora_alpha": (1, 6), "num_virtual_tokens": (1, 7), "encoder_hidden_size": (6, 30), "encoder_num_layers": (1, 3),
    "init_r": (4, 6), "target_r": (1, 3), "projection_prng_key": (0, 99),
}
MORE_TARGETS = {
    True: ["attn.c_proj", "mlp.c_fc", "mlp.c_proj"],
    False: ["attention.self.key", "attention.output.dense", "intermediate.dense", "output.dense"],
}


def more_targets(model_name):
    return MORE_TARGETS[is_gpt2(model_name)]


def lora_plus(model, parameters, **settings):
    return create_loraplus_optimizer(
        model, torch.optim.AdamW, loraplus_lr_ratio=LORA_PLUS["ratio"], loraplus_lr_embedding=LORA_PLUS["embedding_rate"],
        loraplus_weight_decay=generate_base.WEIGHT_DECAY, **settings)


def allocate(model, step):
    """AdaLoRA's budget, called as in peft's example: with the number of steps before this one. The gradients are still there."""
    model.peft_config["default"].total_step = generate_base.STEPS
    model.base_model.update_and_allocate(step - 1)


# Ten steps of AdamW, as in generate_base.
LORA_PLUS = {"ratio": 8.0, "embedding_rate": 3e-4}
TRAJECTORIES = {
    "lora_word_embeddings": (dict(learning_rate=1e-3, make_optimizer=lora_plus), {"lora_plus": LORA_PLUS}),
    "adalora_query_value": (dict(learning_rate=5e-3, after_step=allocate), {}),
}


def hold_out(cases=CASES, more_targets=more_targets):
    for name, (model_name, method, options, extras) in cases.items():
        stream = generator("options " + name)
        for key in sorted(options.keys() & RANGES.keys()):
            options[key] = integer(*RANGES[key], stream)
        if method in ("lora", "dora"):
            options["use_rslora"] = bool(integer(0, 1, stream))
        if method == "vera":
            options["d_initial"] = integer(1, 9, stream) / 10
        if method == "adalora":
            options["orth_reg_weight"] = integer(0, 10, stream) / 10
        if method == "p_tuning":
            options["encoder_num_layers"] = integer(1, 3, stream)
        # Not for ia3, where the end of a name decides what is feed-forward.
        targets = options.get("target_modules")
        if method in ("lora", "dora", "adalora", "vera") and isinstance(targets, list) and "init_lora_weights" not in options:
            options["target_modules"] = sorted({*targets, one_of(more_targets(model_name), stream)})


def resized(model, words, name):
    """A model with some words more or fewer, the new rows as far from 0 as the others."""
    if words:
        old = model.config.vocab_size
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model.resize_token_embeddings(old + words)
        if words > 0:
            with torch.no_grad():
                table = model.get_input_embeddings().weight
                table[old:] = normal((words, table.shape[1]), 0.3, generator("words " + name))
    return model


def write_case(name, models, folder, cases=CASES):
    model_name, method, options, extras = cases[name]
    labels = extras.get("labels", labels_of(model_name))
    task = "seq_cls" if labels else task_of(model_name)
    stream = generator("case " + name)

    def base():
        model = resized(load_model(models / model_name, labels), extras.get("words", 0), name)
        extras.get("prepare", lambda model: None)(model)
        return model

    kept = {k: v for k, v in extras.items() if k in ("token_types", "lengths", "target_lengths", "attended_padding_id")}
    batch = make_batch(base().config, labels, stream, **kept)
    options = dict(task_type=TASK_TYPES[task]) | options
    with tempfile.TemporaryDirectory() as initial:
        convert = extras.get("convert", False)
        made = make(base(), method, options, stream, batch if extras.get("prune") else None, initial if convert else None)
        with torch.no_grad():  # converting changes the configuration
            before = made(**batch).logits
        saving = {"path_initial_model_for_weight_conversion": initial} if convert else extras.get("saving", {})
        save(made, model_name, folder / "adapter", **saving)
    model = load(base(), folder / "adapter")
    with torch.no_grad():
        after = model(**batch).logits
    assert torch.allclose(before, after, rtol=0, atol=2e-5), f"{name}: read back, it gives other logits, by {(before - after).abs().max()}"
    case = {
        "model": model_name, "adapter": "adapter", "library": "peft", "task": task, "method": method, "options": options,
        "trainable": None, "head": "classifier" if task == "seq_cls" else "lm", "num_labels": labels,
    }
    parameters = parameters_by_key(model)
    if name in TRAJECTORIES and not SEED:
        settings, said = TRAJECTORIES[name]
        trained = copy.deepcopy(model)
        case["adamw"] = said | generate_base.trajectory(folder, trained, dict(zip(parameters, generate_base.trained(trained))), stream, **settings)
    write_numbers(name, folder, case, model, parameters, batch, lambda m: orthogonal_free(m, batch) if method == "adalora" else {})
