"""The first cases: ways to store a BERT, selections of its parameters, and LoRA of peft on it."""

import json
import shutil
import tempfile
from pathlib import Path

import torch
import transformers
from peft import LoraConfig, get_peft_model
from peft.utils import get_peft_model_state_dict
from safetensors.torch import save_file

from generate_common import LENGTHS, MODELS, SEED, error, generator, gradients, in_double, integer, load_model, make_batch, noise_only
from generate_common import normal, report, single

# ---------------------------------------------------------------------------------------------------------------- cases
QV = ["query", "value"]


def lora(**options):
    return dict(dict(r=4, lora_alpha=8, target_modules=QV, task_type="SEQ_CLS"), **options)


# name: (model, trainable, options of peft.LoraConfig or None, extras)
CASES = {
    # selections of base parameters
    "full": ("bert_gelu", "full", None, {}),
    "full_gelu_new": ("bert_gelu_new", "full", None, {}),
    "full_relu_token_types": ("bert_relu", "full", None, dict(token_types=True)),
    "full_attended_padding_id": ("bert_gelu_new", "full", None, dict(attended_padding_id=True)),
    "full_regression": ("bert_regression", "full", None, {}),
    "full_binary": ("bert_binary", "full", None, {}),
    "bitfit": ("bert_gelu", "bitfit", None, {}),
    "bitfit_query_ffn": ("bert_gelu", "bitfit_query_ffn", None, {}),
    "head": ("bert_gelu", "head", None, {}),
    # ways a checkpoint may be stored
    "old_names": ("bert_old_names", None, None, {}),
    "sharded": ("bert_sharded", "full", None, {}),
    "f16": ("bert_f16", "full", None, {}),
    "bf16": ("bert_bf16", "full", None, {}),
    # LoRA
    "lora_query_value": ("bert_gelu", None, lora(), {}),
    "lora_gelu_new": ("bert_gelu_new", None, lora(r=2, lora_alpha=6, target_modules=["query", "key", "value"]), {}),
    "lora_relu_token_types": ("bert_relu", None, lora(target_modules=["query", "intermediate.dense"]), dict(token_types=True)),
    "lora_all_linear_rslora": ("bert_gelu", None, lora(target_modules="all-linear", use_rslora=True), {}),
    "lora_patterns_layers": (
        "bert_gelu", None,
        lora(target_modules=["query", "value", "output.dense"], layers_to_transform=[0, 2],
             rank_pattern={"query": 2, r"layer\.2\.attention\.self\.value": 6, "attention.output.dense": 3},
             alpha_pattern={"value": 3, "bert.encoder.layer.0.output.dense": 5}), {}),
    "lora_patterns_exclude": (
        "bert_gelu", None,
        lora(target_modules=["query", "key", "value"], exclude_modules=["layer.1.attention.self.query", "key"],
             rank_pattern={"^bert.encoder.layer.0.attention.self.query": 1, "query": 3, "value": 5}, alpha_pattern={r".*\.0\..*\.query": 2},
             use_rslora=True), {}),
    "lora_exclude_regex": ("bert_gelu", None, lora(target_modules="all-linear", exclude_modules=r".*layer\.[01]\..*|bert\.pooler.*"), {}),
    "lora_layer_single": ("bert_gelu", None, lora(layers_to_transform=1, layers_pattern="layer"), {}),
    "lora_bias_all": ("bert_gelu", None, lora(bias="all"), {}),
    "lora_bias_lora_only": ("bert_gelu", None, lora(bias="lora_only"), {}),
    "lora_pooler_saved": ("bert_gelu", None, lora(modules_to_save=["pooler"]), {}),
    "lora_regex_targets": ("bert_gelu", None, lora(target_modules=r".*layer\.(0|2)\.(attention\.self\.(query|key)|output\.dense)"), {}),
    "lora_bare_checkpoint": ("bert_bare", None, lora(), dict(labels=3)),
    "lora_old_names": ("bert_old_names", None, lora(), {}),
    "lora_regression": ("bert_regression", None, lora(), {}),
    "lora_binary": ("bert_binary", None, lora(), {}),
    "lora_feature_extraction": ("bert_bare", None, lora(task_type="FEATURE_EXTRACTION"), dict(feature=True)),
}

# Ten steps of AdamW: learning rate of each.
TRAJECTORIES = {"full": 1e-4, "lora_query_value": 1e-3, "bitfit": 1e-3}
STEPS, WARMUP, WEIGHT_DECAY, CLIP, KEPT_STEPS = 10, 2, 0.01, 1.0, (2, 10)

SELECTIONS = {
    "full": lambda name: True,
    "bitfit": lambda name: name.endswith(".bias") or name.startswith("classifier."),
    "bitfit_query_ffn": lambda name: name.endswith(("attention.self.query.bias", "intermediate.dense.bias", "pooler.dense.bias"))
    or name.startswith("classifier."),
    "head": lambda name: name.startswith("classifier."),
}


def make_adapter(model, options, stream):
    """A LoRA whose B is not 0, and saved modules (the classifier, ...) and biases that differ from the base model's."""
    torch.manual_seed(int(torch.randint(0, 2**31, (1,), generator=stream)))
    model = get_peft_model(model, LoraConfig(init_lora_weights=False, **options)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                scale = 0.15 if "lora_" in name else 0.4 if "classifier" in name else 0.2
                parameter.add_(normal(parameter.shape, scale, stream))
    return model


def trainable_parameters(model, trainable):
    """{key: parameter}; the key is the one in the adapter's file for a peft model, else the model's own name."""
    if hasattr(model, "peft_config"):
        saved = {tensor.data_ptr(): key for key, tensor in get_peft_model_state_dict(model).items()}
        return {saved[p.data_ptr()]: p for p in model.parameters() if p.requires_grad}
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(trainable is not None and SELECTIONS[trainable](name))
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def plain_adamw(model, parameters, **settings):
    decayed = [p for k, p in parameters.items() if not k.endswith("bias") and "LayerNorm" not in k]
    others = [p for k, p in parameters.items() if k.endswith("bias") or "LayerNorm" in k]
    groups = [{"params": decayed, "weight_decay": WEIGHT_DECAY}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW([g for g in groups if g["params"]], **settings)


def adamw(model, parameters, batches, learning_rate, make_optimizer, after_step):
    """What transformers' Trainer does in a step, without dropout: backward, clip, AdamW, linear schedule."""
    optimizer = make_optimizer(model, parameters, lr=learning_rate, betas=(0.9, 0.999), eps=1e-8)
    schedule = transformers.get_linear_schedule_with_warmup(optimizer, WARMUP, STEPS)
    record = {"losses": [], "gradient_norms": [], "learning_rates": []}
    kept = {}
    for step in range(1, STEPS + 1):
        optimizer.zero_grad()
        loss = model(**batches[(step - 1) % len(batches)]).loss
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters.values(), CLIP)
        record["losses"].append(loss.item())
        record["gradient_norms"].append(norm.item())
        record["learning_rates"].append(schedule.get_last_lr()[0])
        optimizer.step()
        schedule.step()
        after_step(model, step)
        if step in KEPT_STEPS:
            kept |= {f"step_{step}.{key}": p.detach().clone() for key, p in parameters.items()}
    record = {k: torch.tensor(v, dtype=torch.float64 if k == "learning_rates" else torch.float32) for k, v in record.items()}
    return record, kept


def trained(model):
    return [p for p in model.parameters() if p.requires_grad]


def trajectory(folder, model, parameters, stream, learning_rate, make_optimizer=plain_adamw, after_step=lambda model, step: None):
    batches = [make_batch(model.config, 3, stream, lengths) for lengths in (LENGTHS, (7, 7, 4, 10), (3, 11, 8, 1), (6, 5, 13, 2, 4, 9))]
    initial = {key: p.detach().clone() for key, p in parameters.items()}
    exact_model, _ = in_double(model, {})
    exact_parameters = dict(zip(parameters, trained(exact_model)))
    skipped = noise_only(gradients(exact_model, exact_parameters, batches[0])[1])
    record, kept = adamw(model, parameters, batches, learning_rate, make_optimizer, after_step)
    exact_record, exact = adamw(exact_model, exact_parameters, batches, learning_rate, make_optimizer, after_step)
    tensors = {f"batch_{i}.{k}": v for i, batch in enumerate(batches) for k, v in batch.items()}
    save_file(tensors | record | kept, folder / "adamw.safetensors")
    last = f"step_{STEPS}."
    moved = {k: kept[last + k].double() - initial[k].double() for k in initial if k not in skipped}
    exactly = {k: exact[last + k] - initial[k].double() for k in moved}
    return {
        "optimizer": "AdamW", "learning_rate": learning_rate, "betas": [0.9, 0.999], "eps": 1e-8, "weight_decay": WEIGHT_DECAY,
        "not_decayed": "biases and LayerNorm weights", "schedule": "linear", "warmup_steps": WARMUP, "steps": STEPS, "clip_norm": CLIP,
        "batches": len(batches), "kept_steps": list(KEPT_STEPS), "noise_only": skipped,
        "float32_error": {
            "loss": single(error(record["losses"], exact_record["losses"].double())),
            "gradient_norm": single(error(record["gradient_norms"], exact_record["gradient_norms"].double())),
            "update_max": single(max(error(moved[k], exactly[k]) for k in moved)),
            "update_rms": single(max(float((moved[k] - exactly[k]).norm() / exactly[k].norm()) for k in moved)),
        },
    }


def write_adapter(model, model_name, options, folder):
    with tempfile.TemporaryDirectory() as temporary:
        model.save_pretrained(temporary)
        config = json.loads((Path(temporary) / "adapter_config.json").read_text())
        folder.mkdir()
        shutil.copyfile(Path(temporary) / "adapter_model.safetensors", folder / "adapter_model.safetensors")
    config["base_model_name_or_path"] = model_name
    if isinstance(config["target_modules"], list):  # written in the arbitrary order of a set
        config["target_modules"].sort()
    if isinstance(config["exclude_modules"], list):
        config["exclude_modules"] = options["exclude_modules"]
    (folder / "adapter_config.json").write_text(json.dumps(config, indent=2, sort_keys=True))


def hold_out():
    for name, (_, _, options, _) in CASES.items():
        stream = generator("options " + name)
        if options:
            options |= dict(r=integer(1, 6, stream), lora_alpha=integer(1, 6, stream))


def write_case(name, models, folder):
    model_name, trainable, options, extras = CASES[name]
    extras = dict(extras)
    stream = generator("case " + name)
    feature, labels = extras.pop("feature", False), extras.pop("labels", MODELS[model_name][1])
    model = load_model(models / model_name, labels, feature)
    if options:
        model = make_adapter(model, options, stream)
        write_adapter(model, model_name, options, folder / "adapter")
    config = model.base_model.model.config if options else model.config
    batch = make_batch(config, None if feature else labels, stream, **extras)
    save_file(batch, folder / "batch.safetensors")
    case = {
        "model": model_name, "adapter": "adapter" if options else None, "trainable": trainable,
        "head": "none" if feature else "classifier", "num_labels": None if feature else labels,
        "method": options,
    }
    if feature:
        exact_model, exact_batch = in_double(model, batch)
        with torch.no_grad():
            hidden, exact = model(**batch).last_hidden_state, exact_model(**exact_batch).last_hidden_state
        real = batch["attention_mask"].bool()
        weights = batch["attention_mask"].unsqueeze(-1)
        expected = {"last_hidden_state": hidden[real], "sentence_embedding": (hidden * weights).sum(1) / weights.sum(1)}
        case["float32_error"] = {"last_hidden_state": single(error(hidden[real], exact[real]))}
    else:
        parameters = trainable_parameters(model, trainable)
        if parameters:
            output, grads = gradients(model, parameters, batch)
            exact_model, exact_batch = in_double(model, batch)
            exact, exact_grads = gradients(exact_model, dict(zip(parameters, trained(exact_model))), exact_batch)
            largest = max(g.abs().max() for g in exact_grads.values())
            case["noise_only"] = noise_only(exact_grads)
            case["trainable_parameters"] = sum(p.numel() for p in parameters.values())
            worst = max(float((grads[k].double() - exact_grads[k]).abs().max() / largest) for k in grads)
        else:
            exact_model, exact_batch = in_double(model, batch)
            with torch.no_grad():
                output, grads, exact, worst = model(**batch), {}, exact_model(**exact_batch), None
        expected = {"logits": output.logits, "loss": output.loss.reshape(1)} | {f"grad.{k}": g for k, g in grads.items()}
        case["float32_error"] = {"logits": single(error(output.logits.detach(), exact.logits.detach()))}
        if worst is not None:
            case["float32_error"]["gradients"] = single(worst)
            case["largest_gradient"] = single(float(largest))
        case["logits_range"] = [single(float(v)) for v in (output.logits.detach().min(), output.logits.detach().max())]
    if name in TRAJECTORIES and not SEED:
        case["adamw"] = trajectory(folder, model, parameters, stream, TRAJECTORIES[name])
    save_file({k: v.detach().contiguous() for k, v in expected.items()}, folder / "expected.safetensors")
    (folder / "case.json").write_text(json.dumps(case, indent=2) + "\n")
    report(name, expected, case)
