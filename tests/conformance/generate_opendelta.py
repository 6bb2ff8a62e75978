"""Folders as OpenDelta 0.3.2 writes them.

It does not run with today's transformers: its arithmetic is written anew here, after its source.
"""

import hashlib
import json

import torch
from torch import nn
from transformers import BertForSequenceClassification, DynamicCache
from transformers.activations import get_activation

from generate_common import generator, integer, labels_of, load_model, make_batch, normal, one_of, task_of, width_of, write_numbers
from generate_encoder_decoders import FEWER

CLASSIFIER = ["deltas", "classifier"]

# name: (model, method, what config.json says besides the common keys)
CASES = {
    "opendelta_adapter": (
        "bert_gelu", "houlsby",
        dict(delta_type="adapter", bottleneck_dim=6, non_linearity="gelu_new", modified_modules=["attn@.proj@", "ff@.w2@"],
             common_structure=True)),
    "opendelta_compacter": (
        "bert_gelu", "compacter",
        dict(delta_type="compacter", reduction_factor=4, non_linearity="gelu_new", hypercomplex_division=4, phm_rank=2,
             modified_modules=["attn@.proj@", "ff@.w2@"], common_structure=True)),
    "opendelta_lora": (
        "bert_gelu_new", "lora",
        dict(delta_type="lora", lora_r=3, lora_alpha=16, lora_dropout=0.0,
             modified_modules=["self.query", "self.value", "intermediate.dense"])),
    "opendelta_bitfit": (
        "bert_gelu", "bitfit",
        dict(delta_type="bitfit", modified_modules=["attn@", "ff@", "layer_norm@", "lm_head@.proj@"], common_structure=True)),
    "opendelta_prefix": (
        "bert_gelu", "prefix",
        dict(delta_type="prefix", prefix_token_num=4, reparameterize=False, embed_dim=512, mid_dim=512, modified_modules=["attn@"],
             common_structure=True)),
    "opendelta_prefix_reparameterised": (
        "bert_gelu_new", "prefix",
        dict(delta_type="prefix", prefix_token_num=3, reparameterize=True, embed_dim=10, mid_dim=12, modified_modules=["attn@"],
             common_structure=True)),
    "opendelta_soft_prompt": (
        "bert_gelu_new", "prompt",
        dict(delta_type="soft_prompt", soft_token_num=4, init_range=0.5, token_init=True,
             other_expand_ids={"attention_mask": 1, "token_type_ids": 0}, modified_modules=["root"])),
    "opendelta_gpt2_adapter": (
        "gpt2_lm", "houlsby",
        dict(delta_type="adapter", bottleneck_dim=5, non_linearity="relu", modified_modules=["attn.c_proj", "mlp.c_proj"])),
    "opendelta_t5_adapter": (
        "t5", "houlsby",
        dict(delta_type="adapter", bottleneck_dim=5, non_linearity="gelu_new", modified_modules=["attn@.proj@", "ff@.w2@"], common_structure=True)),
    # The encoder's feed-forward and the decoder's cross-attention, behind their residual sums.
    "opendelta_t5_adapter_sums": (
        "t5", "bottleneck", dict(delta_type="adapter", bottleneck_dim=4, non_linearity="relu", modified_modules=["layer.1"])),
    "opendelta_t5_compacter": (
        "t5", "compacter",
        dict(delta_type="compacter", reduction_factor=4, non_linearity="relu", hypercomplex_division=4, phm_rank=1,
             modified_modules=["EncDecAttention.o"])),
    "opendelta_t5_lora": (
        "t5", "lora",
        dict(delta_type="lora", lora_r=2, lora_alpha=16, lora_dropout=0.0, modified_modules=["attn@.q@", "attn@.v@"], common_structure=True)),
}

# The modules that names of the common structure stand for, by their ends.
COMMON = {
    "bert": {"attn@.proj@": "attention.output.dense", "ff@.w2@": "output.dense"},
    "t5": {"attn@.proj@": "SelfAttention.o", "ff@.w2@": "DenseReluDense.wo", "attn@.q@": "SelfAttention.q", "attn@.v@": "SelfAttention.v"},
}


# ------------------------------------------------------------------------------------------------------- the arithmetic
class Activation(nn.Module):
    def __init__(self, name):
        super().__init__()
        self.f = get_activation(name)

    def forward(self, x):
        return self.f(x)


class Adapter(nn.Module):
    """h + up(act(down(h))) of the output h of a module"""

    def __init__(self, width, options):
        super().__init__()
        size = options["bottleneck_dim"]
        self.modulelist = nn.Sequential()
        self.modulelist.add_module("down_proj", nn.Linear(width, size))
        self.modulelist.add_module("non_linear", Activation(options["non_linearity"]))
        self.modulelist.add_module("up_proj", nn.Linear(size, width))


class PhmLinear(nn.Module):
    """x·H + b with H the sum of Kronecker products of a rule and weights of low rank"""

    def __init__(self, size_in, size_out, options):
        super().__init__()
        n, rank = options["hypercomplex_division"], options["phm_rank"]
        self.phm_rule = nn.Parameter(torch.full((n, n, n), 0.3))
        self.W_left = nn.Parameter(torch.full((n, size_in // n, rank), 0.3))
        self.W_right = nn.Parameter(torch.full((n, rank, size_out // n), 0.3))
        self.b = nn.Parameter(torch.zeros(size_out))

    def forward(self, x):
        return x @ sum(torch.kron(rule, left @ right) for rule, left, right in zip(self.phm_rule, self.W_left, self.W_right)) + self.b


class Compacter(nn.Module):
    """h + up(act(down(h))) with layers of that kind"""

    def __init__(self, width, options):
        super().__init__()
        size = width // options["reduction_factor"]
        self.activation = Activation(options["non_linearity"])
        self.down_sampler = PhmLinear(width, size, options)
        self.up_sampler = PhmLinear(size, width, options)

    def forward(self, x):
        return self.up_sampler(self.activation(self.down_sampler(x)))


class Lora(nn.Module):
    def __init__(self, layer, options):
        super().__init__()
        self.scaling = options["lora_alpha"] / options["lora_r"]
        self.lora_A = nn.Parameter(torch.zeros(options["lora_r"], layer.in_features))
        self.lora_B = nn.Parameter(torch.zeros(layer.out_features, options["lora_r"]))


class Prefix(nn.Module):
    def __init__(self, tokens, width):
        super().__init__()
        self.past_key = nn.Parameter(torch.zeros(tokens, width))
        self.past_value = nn.Parameter(torch.zeros(tokens, width))


class Reparameterisation(nn.Module):
    """One network for the keys and values of all layers, at the first of them."""

    def __init__(self, width, layers, options):
        super().__init__()
        self.wte = nn.Embedding(options["prefix_token_num"], options["embed_dim"])
        self.control_trans = nn.Sequential(
            nn.Linear(options["embed_dim"], options["mid_dim"]), nn.Tanh(), nn.Linear(options["mid_dim"], layers * 2 * width))


class WithPrefix(BertForSequenceClassification):
    """Positions are those of the tokens alone: the prefix doesn't shift them."""

    def forward(self, input_ids, attention_mask, labels=None):
        rows, heads = len(input_ids), self.config.num_attention_heads
        layers = self.bert.encoder.layer
        first = layers[0].attention
        if hasattr(first, "reparams"):
            made = first.reparams.control_trans(first.reparams.wte.weight)
            made = made.view(len(made), len(layers) * 2, -1).permute(1, 0, 2)
            pairs = [(made[2 * i], made[2 * i + 1]) for i in range(len(layers))]
        else:
            pairs = [(layer.attention.prefix.past_key, layer.attention.prefix.past_value) for layer in layers]
        in_heads = [[x.reshape(len(x), heads, -1).transpose(0, 1).expand(rows, -1, -1, -1) for x in pair] for pair in pairs]
        tokens = pairs[0][0].shape[0]
        hidden = self.bert(
            input_ids, torch.cat([attention_mask.new_ones(rows, tokens), attention_mask], 1),
            position_ids=torch.arange(input_ids.shape[1]).expand(rows, -1), past_key_values=DynamicCache.from_legacy_cache(in_heads))
        return finish(self, hidden.pooler_output, labels)


class WithSoftPrompt(BertForSequenceClassification):
    """In front of the word embeddings, so that the tokens' positions move up and [CLS] is not first any more."""

    def forward(self, input_ids, attention_mask, labels=None):
        rows = len(input_ids)
        soft = self.soft_prompt_layer.soft_embeds
        embeddings = torch.cat([soft.expand(rows, -1, -1), self.bert.embeddings.word_embeddings(input_ids)], 1)
        mask = torch.cat([attention_mask.new_ones(rows, len(soft)), attention_mask], 1)
        return finish(self, self.bert(inputs_embeds=embeddings, attention_mask=mask).pooler_output, labels)


def finish(model, pooled, labels):
    logits = model.classifier(pooled)
    loss = None if labels is None else nn.functional.cross_entropy(logits, labels)
    return type("Output", (), dict(logits=logits, loss=loss))()


def on_hidden(f):
    """A hook that adds f(module, hidden) to the output, or the first of several."""

    def hook(module, inputs, output):
        if isinstance(output, tuple):
            return output[0] + f(module, output[0]), *output[1:]
        return output + f(module, output)

    return hook


def add_lora(module, inputs, output):
    return output + inputs[0] @ module.lora.lora_A.T @ module.lora.lora_B.T * module.lora.scaling


# ---------------------------------------------------------------------------------------------------------------- cases
def modified(model, options):
    """Those whose names end in one of modified_modules, at a dot."""
    names = [COMMON[model.config.model_type][n] if options.get("common_structure") else n for n in options["modified_modules"]]
    return [module for name, module in list(model.named_modules()) if ("." + name).endswith(tuple("." + n for n in names))]


def attach(model, options):
    """Puts the delta's modules where OpenDelta puts them, which gives the names in the file."""
    kind, config = options["delta_type"], model.config
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    if kind in ("adapter", "compacter"):
        for module in modified(model, options):
            if kind == "adapter":
                module.add_module("adapter", Adapter(config.hidden_size, options))
                module.register_forward_hook(on_hidden(lambda module, hidden: module.adapter.modulelist(hidden)))
            else:
                module.add_module("compactor", Compacter(config.hidden_size, options))
                module.register_forward_hook(on_hidden(lambda module, hidden: module.compactor(hidden)))
    elif kind == "lora":
        for module in modified(model, options):
            module.add_module("lora", Lora(module, options))
            module.register_forward_hook(add_lora)
    elif kind == "bitfit":
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(".encoder." in name and name.endswith(".bias"))
    elif kind == "prefix":
        model.__class__ = WithPrefix
        layers = model.bert.encoder.layer
        if options["reparameterize"]:
            layers[0].attention.add_module("reparams", Reparameterisation(config.hidden_size, len(layers), options))
        else:
            for layer in layers:
                layer.attention.add_module("prefix", Prefix(options["prefix_token_num"], config.hidden_size))
    else:
        model.__class__ = WithSoftPrompt
        model.soft_prompt_layer = nn.Module()
        first_words = model.bert.embeddings.word_embeddings.weight[: options["soft_token_num"]]
        model.soft_prompt_layer.soft_embeds = nn.Parameter(first_words.detach().clone())
    if hasattr(model, "classifier"):
        model.classifier.requires_grad_(True)
    return model.eval()


def move(model, stream):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.requires_grad:
                parameter.add_(normal(parameter.shape, 0.4 if "classifier" in name else 0.2, stream))


def save(model, model_name, models, options, folder):
    folder.mkdir()
    state = model.state_dict()  # its metadata goes to the file, too
    trained = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    for key in list(state):
        if key not in trained:
            state.pop(key)
    torch.save(state, folder / "pytorch_model.bin")
    config = dict(
        options, unfrozen_modules=CLASSIFIER if labels_of(model_name) else ["deltas"], backbone_checkpoint_name=model_name,
        backbone_class=type(model).__mro__[1].__name__ if isinstance(model, (WithPrefix, WithSoftPrompt)) else type(model).__name__,
        backbone_hash=hashlib.md5((models / model_name / "model.safetensors").read_bytes()).hexdigest(),
        opendelta_version="0.3.2", transformers_version="4.30.2")
    (folder / "config.json").write_text(json.dumps(config, indent=2, sort_keys=True) + "\n")


RANGES = {
    "bottleneck_dim": (1, 12), "lora_r": (1, 6), "lora_alpha": (1, 20), "prefix_token_num": (1, 7), "embed_dim": (4, 16),
    "mid_dim": (4, 16), "soft_token_num": (1, 7), "phm_rank": (1, 3),
}


def hold_out():
    for name, (model_name, _, options) in CASES.items():
        stream = generator("options " + name)
        for key in sorted(options.keys() & RANGES.keys()):
            options[key] = integer(*RANGES[key], stream)
        if "reduction_factor" in options:
            width, n = width_of(model_name), options["hypercomplex_division"]
            options["reduction_factor"] = one_of([f for f in (2, 3, 4, 6, 8) if width // f and width // f % n == 0], stream)


def write_case(name, models, folder):
    model_name, method, options = CASES[name]
    labels = labels_of(model_name)
    stream = generator("case " + name)
    model = attach(load_model(models / model_name, labels), options)
    move(model, stream)
    save(model, model_name, models, options, folder / "adapter")
    read = torch.load(folder / "adapter" / "pytorch_model.bin", weights_only=True)
    parameters = {key: p for key, p in model.named_parameters() if p.requires_grad}
    assert read.keys() == parameters.keys()
    case = {
        "model": model_name, "adapter": "adapter", "library": "opendelta", "task": task_of(model_name), "method": method,
        "options": options, "trainable": None, "head": "classifier" if labels else "lm", "num_labels": labels,
    }
    write_numbers(name, folder, case, model, parameters, make_batch(model.config, labels, stream, **(FEWER if model.config.is_encoder_decoder else {})))
