"""The models of the other decoders: Llama, Mistral, Qwen2, Qwen3, Gemma 1 to 3, Phi-3, SmolLM3, OLMo-2 and Granite."""

import copy
import functools
import json

import torch
from torch.overrides import TorchFunctionMode
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM, AutoModelForSequenceClassification

from generate_streams import generator, integer, normal, one_of

DECODER_TYPES = ("llama", "mistral", "qwen2", "qwen3", "gemma", "gemma2", "gemma3_text", "phi3", "smollm3", "olmo2", "granite")
SIZES = dict(
    vocab_size=48, hidden_size=16, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=12,
    max_position_embeddings=64, bos_token_id=1, eos_token_id=2, tie_word_embeddings=False)
FREE = dict(head_dim=6)  # 4 heads of 6 in a width of 16
NARROW = dict(num_attention_heads=2, num_key_value_heads=1)  # heads of 8: four pairs for the rotary embedding, three with a factor of 0.75
LAST = dict(pad_token_id=47)
TIED = dict(tie_word_embeddings=True)

# Of four frequencies with the base 100, llama3 leaves one, mixes one and divides two.
LLAMA3 = dict(rope_type="llama3", factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=32)
LINEAR = dict(rope_type="linear", factor=3.0)
YARN = dict(rope_type="yarn", factor=2.0, original_max_position_embeddings=32)
YARN_MSCALE = dict(YARN, factor=4.0, original_max_position_embeddings=16, beta_fast=2.0, beta_slow=0.5, mscale=0.8, mscale_all_dim=0.5, truncate=False)
LONGROPE = dict(type="longrope", short_factor=[1.0, 1.3, 2.0], long_factor=[1.5, 4.0, 9.0])
GEMMA = dict(pad_token_id=0, tie_word_embeddings=True)
CAPS = dict(attn_logit_softcapping=2.0, final_logit_softcapping=3.0, tie_word_embeddings=True)
MULTIPLIERS = dict(embedding_multiplier=3.0, residual_multiplier=0.6, attention_multiplier=0.3, logits_scaling=2.0)

# name: (model_type, what differs from SIZES, labels or None, extras: `bare`, the decoder without a head; `v5`, config.json as transformers 5
# writes it; `like`, the weights and sizes of another model)
DECODERS = {
    "llama": ("llama", FREE, None, {}),
    "llama_tied_bias": ("llama", dict(TIED, attention_bias=True, mlp_bias=True, rms_norm_eps=1e-5, hidden_act="gelu"), None, {}),
    "llama_bare": ("llama", dict(NARROW, **TIED), None, dict(bare=True)),
    "llama_cls": ("llama", dict(FREE, **LAST), 3, {}),
    "llama_rope_llama3": ("llama", dict(NARROW, rope_theta=100.0, rope_scaling=LLAMA3), None, {}),
    "llama_rope_linear": ("llama", dict(NARROW, rope_scaling=LINEAR), None, {}),
    "llama_rope_yarn": ("llama", dict(NARROW, rope_theta=100.0, rope_scaling=YARN), None, {}),
    "llama_rope_yarn_mscale": ("llama", dict(NARROW, rope_theta=100.0, rope_scaling=YARN_MSCALE), None, {}),
    "mistral": ("mistral", dict(NARROW, sliding_window=5), None, {}),
    "mistral_full": ("mistral", dict(FREE, sliding_window=None, rms_norm_eps=1e-5), None, {}),
    "qwen2": ("qwen2", dict(rope_theta=1000.0), None, {}),
    "qwen2_window": ("qwen2", dict(NARROW, **TIED, num_hidden_layers=3, use_sliding_window=True, sliding_window=4, max_window_layers=1), None, {}),
    "qwen2_cls": ("qwen2", dict(NARROW, **LAST), 2, {}),
    "qwen3": ("qwen3", FREE, None, {}),
    "qwen3_tied_window": (
        "qwen3", dict(NARROW, **TIED, head_dim=4, attention_bias=True, use_sliding_window=True, sliding_window=5,
                      layer_types=["sliding_attention", "full_attention"]), None, {}),
    "gemma": ("gemma", dict(FREE, **GEMMA, num_key_value_heads=1), None, {}),
    "gemma2": ("gemma2", dict(FREE, **(GEMMA | CAPS), query_pre_attn_scalar=9, sliding_window=5), None, {}),
    "gemma2_cls": ("gemma2", dict(NARROW, **CAPS, pad_token_id=47, head_dim=4, query_pre_attn_scalar=4, sliding_window=5), 3, {}),
    "gemma3": (
        "gemma3_text", dict(
            FREE, **GEMMA, num_hidden_layers=3, sliding_window_pattern=2, query_pre_attn_scalar=9, sliding_window=5, rope_theta=1000.0,
            rope_local_base_freq=50.0, rope_scaling=LINEAR), None, {}),
    "phi3": ("phi3", dict(NARROW, **LAST, partial_rotary_factor=0.75, sliding_window=5), None, {}),
    "phi3_longrope": ("phi3", dict(NARROW, **LAST, **TIED, partial_rotary_factor=0.75, original_max_position_embeddings=10, rope_scaling=LONGROPE), None, {}),
    "smollm3": ("smollm3", dict(NARROW, **LAST, num_hidden_layers=3, no_rope_layers=[1, 0, 1], rope_theta=1000.0), None, {}),
    "smollm3_tied": (
        "smollm3", dict(LAST, **TIED, no_rope_layers=[0, 1], attention_bias=True, mlp_bias=True, use_sliding_window=True, sliding_window=4,
                        rope_scaling=dict(YARN, factor=4.0, original_max_position_embeddings=16)), None, {}),
    "olmo2": ("olmo2", dict(), None, {}),
    "granite": ("granite", dict(MULTIPLIERS), None, {}),
    "granite_tied": ("granite", dict(NARROW, **TIED, **MULTIPLIERS, attention_bias=True, mlp_bias=True), None, {}),
    "qwen2_v5": ("qwen2", {}, None, dict(v5=True, like="qwen2")),
    "llama_rope_llama3_v5": ("llama", {}, None, dict(v5=True, like="llama_rope_llama3")),
    "gemma3_v5": ("gemma3_text", {}, None, dict(v5=True, like="gemma3")),
    "phi3_longrope_v5": ("phi3", {}, None, dict(v5=True, like="phi3_longrope")),
}


def is_decoder(name):
    return name in DECODERS


def type_of_decoder(name):
    return DECODERS[name][0]


def decoder_sizes(name):
    _, changes, _, extras = DECODERS[name]
    return decoder_sizes(extras["like"]) if "like" in extras else SIZES | changes


def randomise(model, stream):
    """Weights large enough that logits and gradients are far from 0, and no bias or norm at its usual 0 or 1."""
    gemma = model.config.model_type.startswith("gemma")  # whose norms multiply by 1 + weight, and whose words by the root of the width
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("norm.weight"):
                parameter.copy_(normal(parameter.shape, 0.2, stream) + (0 if gemma else 1))
            elif name.endswith(".bias"):
                parameter.copy_(normal(parameter.shape, 0.2, stream))
            elif "embed_tokens" in name:
                parameter.copy_(normal(parameter.shape, 0.2 if gemma else 0.4, stream))
            else:
                parameter.copy_(normal(parameter.shape, 1.0 / parameter.shape[-1] ** 0.5, stream))


# ------------------------------------------------------------------------------------------------------- numbers in double
class Double(TorchFunctionMode):
    """What transformers computes in float32 whatever numbers the model has (norms, rotary angles, softmax) is in double."""

    def __torch_function__(self, function, types, args=(), kwargs=None):
        wide = lambda value: torch.float64 if value is torch.float32 else value
        if function is torch.Tensor.float:
            function = torch.Tensor.double
        return function(*map(wide, args), **{key: wide(value) for key, value in (kwargs or {}).items()})


def decoder_in_double(model):
    model = copy.deepcopy(model).double()
    forward = model.forward

    @functools.wraps(forward)
    def in_mode(*args, **kwargs):
        with Double():
            return forward(*args, **kwargs)

    model.forward = in_mode
    return model


# ---------------------------------------------------------------------------------- config.json as transformers 5.24 writes it
def as_version_5(config):
    """A configuration of 4.57 with the keys renamed, dropped and added that 5.24 writes (run beside it: the same file)."""
    config = dict(config)
    rope = dict(config.pop("rope_scaling", None) or {"rope_type": "default"}, rope_theta=config.pop("rope_theta"))
    if config["model_type"] == "phi3":
        rope |= {key: config[key] for key in ("original_max_position_embeddings", "partial_rotary_factor")} | {"rope_type": rope["type"]}
    rope = {key: rope[key] for key in sorted(rope)}
    if "rope_local_base_freq" in config:
        rope = {"full_attention": rope, "sliding_attention": {"rope_theta": config.pop("rope_local_base_freq"), "rope_type": "default"}}
    config |= dict(rope_parameters=rope, transformers_version="5.24.0")
    config = {"pad_token_id": None, "tie_word_embeddings": True} | config
    return {key: config[key] for key in sorted(config)}


def as_version_4(config):
    """The other way: 4.57 reads no `rope_parameters`, without a word."""
    config = dict(config)
    rope = config.pop("rope_parameters")
    if "full_attention" in rope:
        config["rope_local_base_freq"] = rope["sliding_attention"]["rope_theta"]
        rope = rope["full_attention"]
    config["rope_theta"] = rope["rope_theta"]
    elsewhere = ("rope_theta", "original_max_position_embeddings", "partial_rotary_factor", "rope_type") if "type" in rope else ("rope_theta",)
    if rope.get("rope_type") != "default":
        config["rope_scaling"] = {key: value for key, value in rope.items() if key not in elsewhere}
    return config


# --------------------------------------------------------------------------------------------------------------- folders
def config_of(name):
    kind, _, labels, _ = DECODERS[name]
    return AutoConfig.for_model(kind, **decoder_sizes(name), **({"num_labels": labels} if labels else {}))


def write_decoder(name, folder):
    _, _, labels, extras = DECODERS[name]
    kind = AutoModelForSequenceClassification if labels else AutoModel if extras.get("bare") else AutoModelForCausalLM
    model = kind.from_config(config_of(name), attn_implementation="eager")
    randomise(model, generator("model " + extras.get("like", name)))
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)  # says nothing that the arithmetic needs
    if extras.get("v5"):
        written = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(as_version_5(written), indent=2) + "\n")


def load_decoder(folder, labels=None, feature=False):
    kind = AutoModel if feature else AutoModelForSequenceClassification if labels else AutoModelForCausalLM
    config = json.loads((folder / "config.json").read_text())
    if "rope_parameters" in config:
        config = as_version_4(config)
    config = AutoConfig.for_model(**config | ({"num_labels": labels} if labels else {}))
    model = kind.from_pretrained(folder, config=config, attn_implementation="eager", dtype=torch.float32)
    if labels and model.config.pad_token_id is None:  # made for language modelling
        model.config.pad_token_id = model.config.vocab_size - 1
    return model.eval()


def hold_out_decoders():
    """Other sizes for all of them."""
    for name, (kind, changes, labels, extras) in DECODERS.items():
        if "like" in extras:
            continue
        stream = generator("sizes " + name)
        groups, shared, size = integer(1, 3, stream), integer(1, 3, stream), 2 * integer(2, 5, stream)
        heads = groups * shared
        words = integer(150, 200, stream)  # more than any width: peft finds the word embeddings by it
        new = dict(
            num_attention_heads=heads, num_key_value_heads=groups, hidden_size=heads * size, intermediate_size=integer(12, 70, stream), vocab_size=words,
            num_hidden_layers=(SIZES | changes)["num_hidden_layers"] + integer(0, 1, stream), max_position_embeddings=integer(64, 90, stream))
        if "head_dim" in changes:
            new |= dict(head_dim=size, hidden_size=8 * integer(2, 5, stream))
        if "layer_types" in changes:
            new["layer_types"] = [one_of(("sliding_attention", "full_attention"), stream) for _ in range(new["num_hidden_layers"])]
        if changes.get("sliding_window"):
            new["sliding_window"] = integer(2, 9, stream)
        if changes.get("pad_token_id"):
            new["pad_token_id"] = words - 1
        if "no_rope_layers" in changes:
            new["no_rope_layers"] = [integer(0, 1, stream) for _ in range(new["num_hidden_layers"])]
        if "query_pre_attn_scalar" in changes:
            new["query_pre_attn_scalar"] = integer(4, 20, stream)
        if "partial_rotary_factor" in changes:  # a quarter of 8, 16 or 24 is even
            size = 8 * integer(1, 3, stream)
            new["hidden_size"] = heads * size
        if "original_max_position_embeddings" in changes:
            factors = [[integer(10, 60, stream) / 10 for _ in range(size * 3 // 8)] for _ in range(2)]
            new["rope_scaling"] = dict(type="longrope", short_factor=factors[0], long_factor=factors[1])
        DECODERS[name] = (kind, changes | new, integer(2, 5, stream) if labels else None, extras)
