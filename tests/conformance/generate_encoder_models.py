"""The models of the other encoders: RoBERTa (XLM-RoBERTa, CamemBERT), DistilBERT, MPNet, ELECTRA and ModernBERT."""

import copy
import json
from unittest import mock

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModel, AutoModelForSequenceClassification, CamembertConfig, DistilBertConfig, ElectraConfig, ModernBertConfig
from transformers import MPNetConfig, RobertaConfig, XLMRobertaConfig
from transformers.models.modernbert import modeling_modernbert

from generate_streams import generator, integer, normal, one_of

CONFIGS = {
    c.model_type: c for c in (
        RobertaConfig, XLMRobertaConfig, CamembertConfig, DistilBertConfig, MPNetConfig, ElectraConfig, ModernBertConfig)
}
SIZES = dict(
    vocab_size=80, hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=32, max_position_embeddings=24)
SMALL = dict(hidden_size=16, num_attention_heads=2)
# ModernBERT's padding is neither 0 nor 1. Four layers: two of them see all keys, two a window of three on a side.
MODERN = dict(
    num_hidden_layers=4, intermediate_size=20, local_attention=6, cls_token_id=75, bos_token_id=75, sep_token_id=76, eos_token_id=76, pad_token_id=77,
    attention_dropout=0.1, embedding_dropout=0.1, mlp_dropout=0.1, classifier_dropout=0.1)
BIASES = dict(norm_bias=True, attention_bias=True, mlp_bias=True, classifier_bias=True)
THETAS = dict(global_rope_theta=1000.0, local_rope_theta=100.0)
ROBERTA = dict(type_vocab_size=1, layer_norm_eps=1e-5)

# name: (model_type, what differs from SIZES, labels or None for a bare encoder, extras: `v5`, config.json as transformers 5 writes it,
# `like`, the weights and sizes of another model, `layer_types`, ModernBERT's as only transformers 5 can say them)
ENCODERS = {
    "roberta": ("roberta", ROBERTA, 3, {}),
    "roberta_v5": ("roberta", ROBERTA, 3, dict(v5=True, like="roberta")),
    "roberta_bare": ("roberta", dict(SMALL, type_vocab_size=1), None, {}),
    "xlm_roberta": ("xlm-roberta", dict(ROBERTA, num_hidden_layers=1, intermediate_size=20), 2, {}),
    "camembert": ("camembert", dict(ROBERTA, num_hidden_layers=1, intermediate_size=20), 1, {}),
    "distilbert": ("distilbert", {}, 3, {}),
    "distilbert_bare": ("distilbert", dict(SMALL, activation="relu"), None, dict(v5=True)),
    "mpnet": ("mpnet", dict(layer_norm_eps=1e-5, max_position_embeddings=40), 3, {}),
    "mpnet_bare": ("mpnet", dict(SMALL, num_attention_heads=4), None, dict(v5=True)),
    "electra": ("electra", dict(embedding_size=16, hidden_act="relu"), 3, {}),
    "electra_bare": ("electra", dict(SMALL, embedding_size=16), None, dict(v5=True)),
    "modernbert": ("modernbert", MODERN, 3, {}),
    "modernbert_mean": ("modernbert", dict(MODERN, **SMALL, **BIASES, **THETAS, classifier_pooling="mean", local_attention=5), 3, {}),
    "modernbert_v5": ("modernbert", {}, 3, dict(v5=True, like="modernbert_mean")),
    "modernbert_v5_layers": (
        "modernbert", dict(MODERN | SMALL, num_hidden_layers=3, **THETAS), 3,
        dict(v5=True, layer_types=["sliding_attention", "full_attention", "sliding_attention"])),
    "modernbert_bare": ("modernbert", MODERN | SMALL, None, {}),
}


def is_encoder(name):
    return name in ENCODERS


def type_of(name):
    return ENCODERS[name][0]


def sizes_of(name):
    kind, changes, labels, extras = ENCODERS[name]
    if "like" in extras:
        return sizes_of(extras["like"])
    return SIZES | changes


def config_of(name):
    kind, _, labels, _ = ENCODERS[name]
    sizes = sizes_of(name)
    if kind == "distilbert":
        its = {"hidden_size": "dim", "num_hidden_layers": "n_layers", "num_attention_heads": "n_heads", "intermediate_size": "hidden_dim"}
        sizes = {its.get(key, key): value for key, value in sizes.items()}
    return CONFIGS[kind](**sizes, **({"num_labels": labels} if labels else {}))


def randomise(model, stream):
    """Weights large enough that logits and gradients are far from 0, and no bias or norm at its usual 0 or 1."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight") or name.endswith("LayerNorm.weight"):
                parameter.copy_(1 + normal(parameter.shape, 0.2, stream))
            elif name.endswith(".bias"):
                parameter.copy_(normal(parameter.shape, 0.2, stream))
            elif name.endswith("embeddings.weight") or "relative_attention_bias" in name:
                parameter.copy_(normal(parameter.shape, 0.7, stream))
            else:
                parameter.copy_(normal(parameter.shape, 1.3 / parameter.shape[-1] ** 0.5, stream))


def left_over(kind, state, config, stream):
    """What files carry besides: heads of the pretraining, a pooler, and a table of positions that was a buffer."""
    width, words, tensors = config.hidden_size, config.vocab_size, {}

    def layer(name, out, inputs):
        tensors[f"{name}.weight"] = normal((out, inputs), 0.1, stream)
        tensors[f"{name}.bias"] = normal((out,), 0.1, stream)

    def norm(name, size):
        tensors[f"{name}.weight"] = normal((size,), 0.1, stream)
        tensors[f"{name}.bias"] = normal((size,), 0.1, stream)

    if kind in ("camembert", "mpnet"):
        layer("lm_head.dense", width, width)
        norm("lm_head.layer_norm", width)
        tensors["lm_head.bias"] = normal((words,), 0.1, stream)
        layer("roberta.pooler.dense" if kind == "camembert" else "mpnet.pooler.dense", width, width)
    if kind == "distilbert":
        layer("vocab_transform", width, width)
        norm("vocab_layer_norm", width)
        tensors["vocab_projector.bias"] = normal((words,), 0.1, stream)
    if kind == "electra":
        layer("discriminator_predictions.dense", width, width)
        layer("discriminator_predictions.dense_prediction", 1, width)
    if kind == "modernbert":
        tensors["decoder.bias"] = normal((words,), 0.1, stream)
    for name in state:
        if kind in ("camembert", "distilbert", "mpnet", "electra") and name.endswith("embeddings.position_embeddings.weight"):
            tensors[name.replace("position_embeddings.weight", "position_ids")] = torch.arange(state[name].shape[0]).unsqueeze(0)
    return tensors


# ---------------------------------------------------------------------------------- config.json as transformers 5.24 writes it
def layer_types(config, extras):
    every = config["global_attn_every_n_layers"]
    usual = ["sliding_attention" if i % every else "full_attention" for i in range(config["num_hidden_layers"])]
    return extras.get("layer_types", usual)


def as_version_5(config, extras):
    """A configuration of 4.57 with the keys renamed, dropped and added that 5.24 writes (run beside it: the same file but for the version)."""
    config = dict(config)
    kind = config["model_type"]
    if kind == "modernbert":
        config["layer_types"] = layer_types(config, extras)
        config["rope_parameters"] = {
            "full_attention": {"rope_theta": config["global_rope_theta"], "rope_type": "default"},
            "sliding_attention": {"rope_theta": config["local_rope_theta"], "rope_type": "default"},
        }
    for old in ("position_embedding_type", "global_attn_every_n_layers", "global_rope_theta", "local_rope_theta", "repad_logits_with_grad"):
        config.pop(old, None)
    if kind in ("roberta", "xlm-roberta", "camembert", "electra"):
        config |= dict(is_decoder=False, add_cross_attention=False)
    if kind in ("distilbert", "electra"):
        config |= dict(bos_token_id=None, eos_token_id=None)
    config |= dict(tie_word_embeddings=True, transformers_version="5.24.0")
    return {key: config[key] for key in sorted(config)}


def use_version_5(model, config):
    """transformers 4.57 looks for neither `layer_types` nor `rope_parameters` in a ModernBERT's configuration: put them into its layers."""
    for kind, layer in zip(config["layer_types"], model.base_model.layers):
        half = config["local_attention"] // 2
        layer.attn.local_attention = (-1, -1) if kind == "full_attention" else (half, half)
        its = copy.deepcopy(model.config)
        its.rope_theta = config["rope_parameters"][kind]["rope_theta"]
        layer.attn.rotary_emb = modeling_modernbert.ModernBertRotaryEmbedding(config=its)


def modernbert_attention(module, qkv, **others):
    """transformers' softmax is always in float32: in double, for comparison, let it be in double, where the mask is no infinity."""
    softmax = torch.nn.functional.softmax
    given = softmax if qkv.dtype != torch.float64 else lambda scores, dim, dtype: softmax(scores, dim)
    with mock.patch.object(torch.nn.functional, "softmax", given):
        return modeling_modernbert.eager_attention_forward(module, qkv=qkv, **others)


modeling_modernbert.MODERNBERT_ATTENTION_FUNCTION["eager"] = modernbert_attention


# --------------------------------------------------------------------------------------------------------------- folders
def write_encoder(name, folder):
    kind, _, labels, extras = ENCODERS[name]
    stream = generator("model " + extras.get("like", name))
    config = config_of(name)
    model = (AutoModelForSequenceClassification if labels else AutoModel).from_config(config, attn_implementation="eager")
    randomise(model, stream)
    model.save_pretrained(folder)
    file = folder / "model.safetensors"
    state = load_file(file)
    if more := left_over(kind, state, config, stream) if labels else {}:
        save_file(state | more, file, {"format": "pt"})
    if extras.get("v5"):
        written = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(as_version_5(written, extras), indent=2) + "\n")


def load_encoder(folder, labels=None, feature=False):
    kind = AutoModel if feature else AutoModelForSequenceClassification
    labels = {"num_labels": labels} if labels else {}
    model = kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32, **labels)
    config = json.loads((folder / "config.json").read_text())
    if "rope_parameters" in config:
        use_version_5(model, config)
    return model.eval()


def hold_out_encoders():
    """Other sizes for all of them."""
    for name, (kind, changes, labels, extras) in ENCODERS.items():
        if "like" in extras:
            continue
        stream = generator("sizes " + name)
        width = one_of((16, 24, 32, 48), stream)
        heads = one_of([h for h in (1, 2, 3, 4, 6, 8) if width % h == 0 and width // h % 2 == 0], stream)
        layers = (SIZES | changes)["num_hidden_layers"] + integer(0, 1, stream)
        words = integer(150, 200, stream)  # more than any width: peft finds the word embeddings by it
        new = dict(
            hidden_size=width, num_attention_heads=heads, num_hidden_layers=layers, vocab_size=words, intermediate_size=integer(12, 70, stream),
            max_position_embeddings=integer(27, 60, stream))
        if "type_vocab_size" in changes:
            new["type_vocab_size"] = integer(1, 3, stream)
        if kind == "electra":
            same = changes["embedding_size"] == (SIZES | changes)["hidden_size"]
            new["embedding_size"] = width if same else one_of([w for w in (8, 12, 20, 40) if w != width], stream)
        if kind == "modernbert":
            special = words - integer(3, 20, stream)
            new |= dict(local_attention=integer(2, 9, stream), pad_token_id=special, cls_token_id=special - 1, bos_token_id=special - 1)
            new |= dict(sep_token_id=special + 1, eos_token_id=special + 1, global_attn_every_n_layers=integer(2, 4, stream))
            new |= dict(global_rope_theta=float(integer(200, 200000, stream)), local_rope_theta=float(integer(50, 20000, stream)))
        if "layer_types" in extras:
            extras["layer_types"] = [one_of(("sliding_attention", "full_attention"), stream) for _ in range(layers)]
        labels = integer(2, 5, stream) if labels and labels > 1 else labels
        ENCODERS[name] = (kind, changes | new, labels, extras)
    for name, (kind, changes, labels, extras) in ENCODERS.items():
        if "like" in extras:
            ENCODERS[name] = (kind, changes, ENCODERS[extras["like"]][2], extras)
