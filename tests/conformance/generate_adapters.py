"""The delta methods of AdapterHub's library `adapters` on BERT and GPT-2; on other families from their generators."""

import json
import logging
import shutil
import tempfile
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file

import adapters
from adapters import AdapterPlusConfig, BnConfig, CompacterConfig, CompacterPlusPlusConfig, ConfigUnion, DoRAConfig, DoubleSeqBnConfig
from adapters import IA3Config, LoRAConfig, ParBnConfig, PrefixTuningConfig, PromptTuningConfig, SeqBnConfig

from generate_common import EQUAL_LENGTHS, generator, integer, labels_of, load_model, make_batch, normal, one_of, seed_torch, task_of
from generate_common import width_of, write_numbers

NAME = "tweets"  # of every adapter; it is part of the keys
BIN, SAFE = "bin", "safetensors"


def bottleneck(**options):
    return dict(dict(kind="bn", mh_adapter=True, output_adapter=True, reduction_factor=4, non_linearity="relu"), **options)


def union(*members):
    return dict(kind="union", members=members)


def mam(length, size, reduction):
    return union(
        dict(kind="prefix_tuning", prefix_length=length, bottleneck_size=size), dict(kind="par_bn", reduction_factor=reduction))


def unipelt(length, size, reduction, r):
    return union(
        dict(kind="lora", r=r, alpha=2, use_gating=True),
        dict(kind="prefix_tuning", prefix_length=length, bottleneck_size=size, use_gating=True),
        dict(kind="seq_bn", reduction_factor=reduction, use_gating=True))


KINDS = {
    "bn": BnConfig, "double_seq_bn": DoubleSeqBnConfig, "seq_bn": SeqBnConfig, "par_bn": ParBnConfig, "compacter": CompacterConfig,
    "compacter++": CompacterPlusPlusConfig, "adapter_plus": AdapterPlusConfig, "lora": LoRAConfig, "dora": DoRAConfig, "ia3": IA3Config,
    "prefix_tuning": PrefixTuningConfig, "prompt_tuning": PromptTuningConfig,
}
EQUAL = dict(lengths=EQUAL_LENGTHS)  # gates are means over a row, padding included
HEADLESS = dict(with_head=False)


def pick(kind, **options):
    return dict(kind=kind, **options)


# name: (model, method, configuration, container, extras)
CASES = {
    # ------------------------------------------------------------------------------------------------------------ BERT
    "adapterhub_houlsby": ("bert_gelu", "houlsby", pick("double_seq_bn", reduction_factor=4), SAFE, {}),
    "adapterhub_houlsby_bin": ("bert_gelu_new", "houlsby", pick("double_seq_bn", reduction_factor=3, non_linearity="gelu"), BIN, {}),
    "adapterhub_pfeiffer": ("bert_gelu", "pfeiffer", pick("seq_bn", reduction_factor=4), BIN, {}),
    "adapterhub_pfeiffer_safetensors": ("bert_gelu_new", "pfeiffer", pick("seq_bn", reduction_factor=2, non_linearity="tanh"), SAFE, {}),
    "adapterhub_pfeiffer_leave_out": ("bert_gelu", "pfeiffer", pick("seq_bn", reduction_factor=8, leave_out=[0, 1]), SAFE, {}),
    "adapterhub_pfeiffer_headless": ("bert_gelu_new", "pfeiffer", pick("seq_bn", reduction_factor=8), SAFE, HEADLESS),
    "adapterhub_houlsby_reductions": (
        "bert_gelu", "houlsby", pick("double_seq_bn", reduction_factor={"default": 8, "1": 4, "2": 0.5}), SAFE, {}),
    "adapterhub_reductions_without_default": (
        "bert_gelu_new", "pfeiffer", pick("seq_bn", reduction_factor={"0": 2, "1": 8}), SAFE, HEADLESS),
    "adapterhub_parallel": ("bert_gelu", "parallel", pick("par_bn"), SAFE, {}),
    "adapterhub_parallel_both": (
        "bert_relu", "parallel", pick("par_bn", mh_adapter=True, reduction_factor=4, scaling="learned"), BIN, dict(token_types=True)),
    "adapterhub_compacter": ("bert_gelu", "compacter", pick("compacter", reduction_factor=4), SAFE, {}),
    "adapterhub_compacter_plus_plus": ("bert_gelu", "compacter", pick("compacter++", reduction_factor=2, phm_rank=2), BIN, {}),
    "adapterhub_compacter_own_rule": (
        "bert_gelu", "compacter", pick("compacter++", reduction_factor=4, shared_phm_rule=False, phm_bias=False), SAFE, {}),
    "adapterhub_compacter_factorised_rule": (
        "bert_gelu", "compacter", pick("compacter", reduction_factor=4, factorized_phm_rule=True, phm_dim=2), SAFE, {}),
    "adapterhub_compacter_whole_w": ("bert_gelu", "compacter", pick("compacter++", reduction_factor=4, factorized_phm_W=False), SAFE, {}),
    "adapterhub_compacter_shared_w": ("bert_gelu", "compacter", pick("compacter", reduction_factor=4, shared_W_phm=True), SAFE, {}),
    "adapterhub_ln_neither": (
        "bert_gelu", "bottleneck", bottleneck(mh_adapter=False, original_ln_after=False, residual_before_ln=False), SAFE, {}),
    "adapterhub_ln_before_only": (
        "bert_gelu", "bottleneck", bottleneck(original_ln_before=True, original_ln_after=False, residual_before_ln=False), SAFE, {}),
    "adapterhub_ln_both": ("bert_gelu", "bottleneck", bottleneck(original_ln_before=True, original_ln_after=True), SAFE, {}),
    "adapterhub_ln_both_residual_after": (
        "bert_gelu", "bottleneck", bottleneck(original_ln_before=True, original_ln_after=True, residual_before_ln=False), SAFE, {}),
    "adapterhub_residual_post_add": (
        "bert_gelu", "bottleneck", bottleneck(original_ln_before=True, original_ln_after=True, residual_before_ln="post_add"), SAFE, {}),
    "adapterhub_own_ln_before": ("bert_gelu", "bottleneck", bottleneck(original_ln_after=True, ln_before=True), BIN, {}),
    "adapterhub_own_ln_after": ("bert_gelu", "bottleneck", bottleneck(mh_adapter=False, original_ln_after=False, ln_after=True), SAFE, {}),
    "adapterhub_own_ln_both": (
        "bert_gelu_new", "bottleneck",
        bottleneck(mh_adapter=False, original_ln_before=True, ln_before=True, ln_after=True, adapter_residual_before_ln=True), BIN, {}),
    "adapterhub_parallel_own_ln": (
        "bert_gelu_new", "parallel", pick("par_bn", ln_before=True, ln_after=True, original_ln_after=False, scaling=0.5), BIN, {}),
    "adapterhub_scaling": ("bert_gelu_new", "bottleneck", bottleneck(scaling=0.7, non_linearity="gelu"), SAFE, {}),
    "adapterhub_scaling_learned": ("bert_gelu_new", "bottleneck", bottleneck(scaling="learned", non_linearity="leakyrelu"), SAFE, {}),
    "adapterhub_adapter_plus": (
        "bert_gelu", "bottleneck", pick("adapter_plus", reduction_factor=4, stochastic_depth=0.0), SAFE,
        dict(written=dict(stochastic_depth=0.1))),
    "adapterhub_gating": ("bert_gelu", "bottleneck", bottleneck(use_gating=True), SAFE, EQUAL),
    "adapterhub_lora": ("bert_gelu", "lora", pick("lora", r=3, alpha=7), SAFE, {}),
    "adapterhub_lora_all": (
        "bert_gelu_new", "lora",
        pick("lora", r=2, alpha=3, attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True, leave_out=[1]), BIN, {}),
    "adapterhub_lora_gating": ("bert_gelu_new", "lora", pick("lora", r=3, alpha=9, use_gating=True), SAFE, EQUAL),
    "adapterhub_lora_old_version": ("bert_gelu_new", "lora", pick("lora", r=2, alpha=16), SAFE, dict(version="adapters.1.0.1")),
    "adapterhub_dora": ("bert_gelu", "dora", pick("dora", r=3, alpha=5, attn_matrices=["q", "v"], output_lora=True), SAFE, {}),
    "adapterhub_ia3": ("bert_gelu", "ia3", pick("ia3"), SAFE, {}),
    "adapterhub_ia3_output": (
        "bert_gelu_new", "ia3", pick("ia3", attn_matrices=["q", "v"], intermediate_lora=False, output_lora=True), BIN, {}),
    "adapterhub_prefix": ("bert_gelu", "prefix", pick("prefix_tuning", prefix_length=4, bottleneck_size=10), BIN, {}),
    "adapterhub_prefix_flat": ("bert_gelu", "prefix", pick("prefix_tuning", prefix_length=5, flat=True), BIN, {}),
    "adapterhub_prefix_leave_out": (
        "bert_gelu", "prefix", pick("prefix_tuning", prefix_length=3, bottleneck_size=8, non_linearity="relu", leave_out=[1]), BIN, {}),
    "adapterhub_prefix_one_layer": ("bert_gelu", "prefix", pick("prefix_tuning", prefix_length=2, flat=True, leave_out=[0, 1]), BIN, {}),
    "adapterhub_prefix_gates": (
        "bert_gelu_new", "prefix",
        pick("prefix_tuning", prefix_length=3, bottleneck_size=8, use_gating=True, shared_gating=False), BIN, EQUAL),
    "adapterhub_prompt": ("bert_gelu", "prompt", pick("prompt_tuning", prompt_length=4), SAFE, {}),
    "adapterhub_prompt_after_bos": ("bert_gelu_new", "prompt", pick("prompt_tuning", prompt_length=3, combine="prefix_after_bos"), BIN, {}),
    "adapterhub_mam": ("bert_gelu", "mam", mam(length=4, size=12, reduction=4), BIN, {}),
    "adapterhub_unipelt": ("bert_gelu", "unipelt", unipelt(length=3, size=10, reduction=8, r=2), BIN, EQUAL),
    # ----------------------------------------------------------------------------------------------------------- GPT-2
    "adapterhub_gpt2_houlsby": ("gpt2_lm", "houlsby", pick("double_seq_bn", reduction_factor=4), SAFE, HEADLESS),
    "adapterhub_gpt2_pfeiffer": ("gpt2_lm", "pfeiffer", pick("seq_bn", reduction_factor=4), SAFE, {}),
    "adapterhub_gpt2_pfeiffer_cls": ("gpt2_cls", "pfeiffer", pick("seq_bn", reduction_factor=4), BIN, {}),
    "adapterhub_gpt2_houlsby_leave_out": ("gpt2_inner", "houlsby", pick("double_seq_bn", reduction_factor=8, leave_out=[1]), BIN, {}),
    "adapterhub_gpt2_parallel": ("gpt2_lm", "parallel", pick("par_bn", reduction_factor=4), SAFE, HEADLESS),
    "adapterhub_gpt2_parallel_both": (
        "gpt2_cls", "parallel", pick("par_bn", reduction_factor=4, mh_adapter=True, scaling="learned"), SAFE, {}),
    "adapterhub_gpt2_compacter": ("gpt2_lm", "compacter", pick("compacter", reduction_factor=4), SAFE, HEADLESS),
    "adapterhub_gpt2_compacter_plus_plus_cls": ("gpt2_cls", "compacter", pick("compacter++", reduction_factor=3, phm_rank=2), SAFE, {}),
    "adapterhub_gpt2_residual_after": (
        "gpt2_lm", "bottleneck", bottleneck(original_ln_before=True, residual_before_ln=False), SAFE, HEADLESS),
    "adapterhub_gpt2_no_residual": (
        "gpt2_lm", "bottleneck", bottleneck(original_ln_before=True, original_ln_after=False, residual_before_ln=False), SAFE, HEADLESS),
    "adapterhub_gpt2_own_ln": (
        "gpt2_inner", "bottleneck", bottleneck(ln_before=True, ln_after=True, adapter_residual_before_ln=True), BIN, HEADLESS),
    "adapterhub_gpt2_adapter_plus": (
        "gpt2_lm", "bottleneck", pick("adapter_plus", reduction_factor=4, stochastic_depth=0.0), SAFE,
        dict(HEADLESS, written=dict(stochastic_depth=0.1))),
    "adapterhub_gpt2_gating_cls": ("gpt2_cls", "bottleneck", bottleneck(use_gating=True), SAFE, EQUAL),
    "adapterhub_gpt2_lora": ("gpt2_lm", "lora", pick("lora", r=3, alpha=7), SAFE, HEADLESS),
    "adapterhub_gpt2_lora_all": (
        "gpt2_inner", "lora", pick("lora", r=2, alpha=3, attn_matrices=["q", "k", "v"], intermediate_lora=True, output_lora=True), BIN, {}),
    "adapterhub_gpt2_lora_cls": ("gpt2_cls", "lora", pick("lora", r=2, alpha=5, attn_matrices=["k"], output_lora=True), SAFE, {}),
    "adapterhub_gpt2_lora_gating": ("gpt2_lm", "lora", pick("lora", r=2, alpha=5, use_gating=True), SAFE, dict(HEADLESS, **EQUAL)),
    "adapterhub_gpt2_ia3": ("gpt2_lm", "ia3", pick("ia3"), SAFE, HEADLESS),
    "adapterhub_gpt2_ia3_cls": ("gpt2_cls", "ia3", pick("ia3", output_lora=True), BIN, {}),
    "adapterhub_gpt2_prefix": ("gpt2_lm", "prefix", pick("prefix_tuning", prefix_length=4, bottleneck_size=10), BIN, HEADLESS),
    "adapterhub_gpt2_prefix_flat": ("gpt2_inner", "prefix", pick("prefix_tuning", prefix_length=3, flat=True), BIN, HEADLESS),
    "adapterhub_gpt2_prefix_cls": ("gpt2_cls", "prefix", pick("prefix_tuning", prefix_length=3, bottleneck_size=8), BIN, {}),
    "adapterhub_gpt2_mam": ("gpt2_lm", "mam", mam(length=3, size=12, reduction=4), BIN, HEADLESS),
    "adapterhub_gpt2_unipelt": ("gpt2_lm", "unipelt", unipelt(length=3, size=8, reduction=8, r=2), BIN, dict(HEADLESS, **EQUAL)),
    "adapterhub_gpt2_unipelt_cls": ("gpt2_cls", "unipelt", unipelt(length=2, size=8, reduction=8, r=2), BIN, EQUAL),
}


def configuration(options):
    options = dict(options)
    kind = options.pop("kind")
    if kind == "union":
        return ConfigUnion(*map(configuration, options["members"]))
    if kind == "bn":
        options = dict(dict(original_ln_before=False, original_ln_after=True), **options)
    return KINDS[kind](**options)


def noise_of(name, parameter, stream):
    for part, scale in (
        ("phm_rule", 0.5), (".W", 0.5), ("W_", 0.5), ("gate", 0.5), ("scaling", 0.3), ("norm_", 0.2), ("adapter_", 0.25),
        (".m.weight", 0.2), ("lora_", 0.2), ("prefix_tuning", 0.3), ("prompt", 0.3), ("classifier", 0.4), ("score", 0.4),
    ):
        if part in name:
            return normal(parameter.shape, scale, stream)
    raise KeyError(name)


def move(model, stream):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(noise_of(name, parameter, stream))


def save(model, model_name, folder, container, with_head, version=None, written=None, shared=False):
    with tempfile.TemporaryDirectory() as temporary:
        model.save_adapter(temporary, NAME, with_head=with_head, use_safetensors=container == SAFE)
        folder.mkdir()
        for file in Path(temporary).iterdir():
            shutil.copyfile(file, folder / file.name)
    if shared:  # left out where the model has no name in front of its base's
        file = folder / "adapter.safetensors"
        save_file(load_file(file) | {k: v for k, v in model.state_dict().items() if k.startswith("shared_parameters.")}, file, {"format": "pt"})
    for file in folder.glob("*_config.json"):
        config = json.loads(file.read_text())
        config["model_name"] = model_name
        if "config" in config and config["config"]:
            config["config"] |= written or {}
        config["version"] = version or config["version"]
        file.write_text(json.dumps(config, indent=2, sort_keys=True))


def load(base, folder):
    """The adapter as the library reads it, ready to train."""
    adapters.init(base)
    config = json.loads((folder / "adapter_config.json").read_text())["config"]
    if config.get("stochastic_depth"):  # needs torchvision, and nothing happens outside of training
        copied = Path(tempfile.mkdtemp())
        shutil.copytree(folder, copied, dirs_exist_ok=True)
        whole = json.loads((copied / "adapter_config.json").read_text())
        whole["config"]["stochastic_depth"] = 0.0
        (copied / "adapter_config.json").write_text(json.dumps(whole))
        name = base.load_adapter(str(copied), use_safetensors=True)
        shutil.rmtree(copied)
    else:
        name = base.load_adapter(str(folder), use_safetensors=True)
    base.train_adapter(name)
    return base.eval()


def tensors_of(folder):
    """All tensors of an adapter's folder, the head's among them."""
    found = {}
    for stem in ("adapter", "model_head"):
        if (folder / f"{stem}.safetensors").exists():
            found |= load_file(folder / f"{stem}.safetensors")
        elif (folder / f"pytorch_{stem}.bin").exists():
            found |= torch.load(folder / f"pytorch_{stem}.bin", weights_only=True)
    return found


def parameters_by_key(model, folder):
    """{key in the adapter's or the head's file: parameter}

    A prefix is there once more for each layer, and a bottleneck's first LayerNorm as adapter_down.0 too: the shortest key without that.
    """
    in_file = tensors_of(folder)
    keys = {}
    for key, tensor in model.state_dict(keep_vars=True).items():
        keys.setdefault(id(tensor), []).append(key)
    found = {}
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            known = [k for k in keys[id(parameter)] if k in in_file]
            if known:
                found[min(known, key=lambda k: ("adapter_down.0" in k, len(k)))] = parameter
            else:
                assert not (folder / "head_config.json").exists(), f"{name} trains and is not saved"
                parameter.requires_grad_(False)
    return found


RANGES = {"r": (1, 5), "alpha": (1, 12), "prefix_length": (1, 7), "bottleneck_size": (4, 20), "prompt_length": (1, 7), "phm_rank": (1, 2)}


def draw(options, width, stream):
    for member in options.get("members", ()):
        draw(member, width, stream)
    for key in sorted(options.keys() & RANGES.keys()):
        options[key] = integer(*RANGES[key], stream)
    if isinstance(options.get("reduction_factor"), (int, float)):
        phm = options.get("phm_dim", 4) if "compacter" in options["kind"] else 1
        options["reduction_factor"] = one_of([f for f in (2, 3, 4, 6, 8) if width // f and width // f % phm == 0], stream)
    if "non_linearity" in options:
        options["non_linearity"] = one_of(("relu", "gelu", "swish", "tanh"), stream)
    if isinstance(options.get("scaling"), float):
        options["scaling"] = integer(2, 30, stream) / 10


def hold_out(cases=CASES):
    for name, (model_name, _, options, _, _) in cases.items():
        draw(options, width_of(model_name), generator("options " + name))


def write_case(name, models, folder, cases=CASES):
    model_name, method, options, container, extras = cases[name]
    labels = labels_of(model_name)
    stream = generator("case " + name)

    def base():
        return load_model(models / model_name, labels)

    kept = {k: v for k, v in extras.items() if k in ("token_types", "lengths", "target_lengths")}
    batch = make_batch(base().config, labels, stream, **kept)
    seed_torch(stream)
    made = base()
    adapters.init(made)
    made.add_adapter(NAME, config=configuration(options), set_active=True)
    made.train_adapter(NAME)
    made.eval()
    with_head = extras.get("with_head", True)
    if not with_head and labels:
        for parameter in (made.classifier if hasattr(made, "classifier") else made.score).parameters():
            parameter.requires_grad_(False)
    move(made, stream)
    save(made, model_name, folder / "adapter", container, with_head, extras.get("version"), extras.get("written"), extras.get("shared"))
    model = load(base(), folder / "adapter")
    with torch.no_grad():
        before, after = made(**batch).logits, model(**batch).logits
    if extras.get("version"):  # of the time when alpha was ignored
        assert model.adapters_config.get(NAME)["alpha"] == options["r"]
        assert options["alpha"] == options["r"] or not torch.allclose(before, after, rtol=0, atol=1e-3)
    else:
        difference = (before - after).abs().max()
        assert difference < 2e-6, f"{name}: read back, it gives other logits, by {difference}"
    case = {
        "model": model_name, "adapter": "adapter", "library": "adapters", "task": task_of(model_name), "method": method,
        "options": json.loads(json.dumps(options)), "trainable": None, "head": "classifier" if labels else "lm", "num_labels": labels,
    }
    parameters = parameters_by_key(model, folder / "adapter")
    write_numbers(name, folder, case, model, parameters, batch, padding_matters=len(set(extras.get("lengths", (1, 2)))) == 1)


logging.getLogger("adapters").setLevel(logging.ERROR)
