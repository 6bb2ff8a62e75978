"""What all generators share: random streams, the models, batches, and the writing of expected numbers."""

import copy
import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from transformers import BertConfig, BertForSequenceClassification, BertModel
from transformers import GPT2Config, GPT2ForSequenceClassification, GPT2LMHeadModel, GPT2Model

from generate_decoder_models import DECODERS, DECODER_TYPES, decoder_in_double, decoder_sizes, hold_out_decoders, is_decoder, load_decoder
from generate_decoder_models import write_decoder
from generate_encoder_decoder_models import ENCODER_DECODERS, ENCODER_DECODER_TYPES, encoder_decoder_sizes, hold_out_encoder_decoders, is_encoder_decoder
from generate_encoder_decoder_models import load_encoder_decoder, make_pairs, make_texts, write_encoder_decoder
from generate_encoder_models import CONFIGS, ENCODERS, hold_out_encoders, is_encoder, load_encoder, sizes_of, type_of, write_encoder
from generate_streams import SEED, generator, integer, normal, one_of, seed_torch  # seed_torch: for the other generators

HERE = Path(__file__).resolve().parent
LENGTHS = (12, 9, 5, 2, 1)  # real tokens of the five rows of a batch, padded on the right to the first
EQUAL_LENGTHS = (7, 7, 7)  # where a library's numbers depend on the padding


# --------------------------------------------------------------------------------------------------------------- models
# name: (what differs from BASE or BASE_GPT2, labels or None for a bare BertModel or a language model)
BASE = dict(
    vocab_size=120, hidden_size=32, num_hidden_layers=3, num_attention_heads=4, intermediate_size=48,
    max_position_embeddings=40, type_vocab_size=2, hidden_dropout_prob=0.1, attention_probs_dropout_prob=0.1,
)
SMALL = dict(hidden_size=24, num_hidden_layers=2, num_attention_heads=3, intermediate_size=40)
BASE_GPT2 = dict(vocab_size=120, n_embd=32, n_layer=2, n_head=4, n_positions=40, bos_token_id=119, eos_token_id=119)
MODELS = {
    "bert_gelu": (dict(), 3),
    "bert_gelu_new": (dict(SMALL, hidden_act="gelu_new", layer_norm_eps=1e-5), 3),
    "bert_relu": (dict(num_hidden_layers=2, num_attention_heads=8, intermediate_size=20, hidden_act="relu"), 3),
    "bert_bare": (dict(SMALL), None),
    "bert_old_names": (dict(SMALL), 3),
    "bert_sharded": (dict(SMALL), 3),
    "bert_f16": (dict(SMALL), 3),
    "bert_bf16": (dict(SMALL), 3),
    "bert_regression": (dict(SMALL), 1),
    "bert_binary": (dict(SMALL), 2),
    "gpt2_lm": (dict(), None),
    "gpt2_cls": (dict(n_embd=24, n_head=3, pad_token_id=119), 3),
    "gpt2_bare": (dict(n_embd=24, n_head=3), None),
    "gpt2_inner": (dict(n_inner=44, activation_function="relu", n_head=8, n_layer=3, layer_norm_epsilon=1e-6), None),
}


def is_gpt2(name):
    return name.startswith("gpt2")


def labels_of(name):
    if is_encoder_decoder(name):
        return encoder_decoder_sizes(name).get("num_labels")
    if is_decoder(name):
        return DECODERS[name][2]
    return ENCODERS[name][2] if is_encoder(name) else MODELS[name][1]


def task_of(name):
    return "seq_cls" if labels_of(name) else "seq2seq" if is_encoder_decoder(name) else "causal_lm"


def width_of(name):
    if is_encoder_decoder(name):
        return encoder_decoder_sizes(name)["d_model"]
    if is_encoder(name) or is_decoder(name):
        return (sizes_of if is_encoder(name) else decoder_sizes)(name)["hidden_size"]
    return (BASE_GPT2 | BASE | MODELS[name][0])["n_embd" if is_gpt2(name) else "hidden_size"]


def randomise(model, stream):
    """Weights large enough that logits and gradients are far from 0, and no bias or norm at its usual 0 or 1."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "LayerNorm.weight" in name:
                parameter.copy_(1 + normal(parameter.shape, 0.2, stream))
            elif name.endswith(".bias"):
                parameter.copy_(normal(parameter.shape, 0.2, stream))
            elif "embeddings" in name:
                parameter.copy_(normal(parameter.shape, 0.7, stream))
            else:
                parameter.copy_(normal(parameter.shape, 1.3 / parameter.shape[-1] ** 0.5, stream))


def randomise_gpt2(model, stream):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "ln_" in name and name.endswith("weight"):
                parameter.copy_(1 + normal(parameter.shape, 0.2, stream))
            elif name.endswith(".bias"):
                parameter.copy_(normal(parameter.shape, 0.2, stream))
            elif "wte" in name or "wpe" in name:
                parameter.copy_(normal(parameter.shape, 0.3, stream))
            else:  # Conv1D: (in, out); score: (out, in)
                fan_in = parameter.shape[1 if "score" in name else 0]
                parameter.copy_(normal(parameter.shape, 1.3 / fan_in**0.5, stream))


def old_names(state, stream):
    """The spelling of checkpoints converted from TensorFlow, with the pre-training heads that such files carry."""
    state = {k.replace("LayerNorm.weight", "LayerNorm.gamma").replace("LayerNorm.bias", "LayerNorm.beta"): v for k, v in state.items()}
    vocabulary, hidden = state["bert.embeddings.word_embeddings.weight"].shape
    state |= {
        "bert.embeddings.position_ids": torch.arange(state["bert.embeddings.position_embeddings.weight"].shape[0]).unsqueeze(0),
        "cls.predictions.bias": normal((vocabulary,), 0.1, stream),
        "cls.predictions.transform.dense.weight": normal((hidden, hidden), 0.1, stream),
        "cls.predictions.transform.dense.bias": normal((hidden,), 0.1, stream),
        "cls.predictions.transform.LayerNorm.gamma": normal((hidden,), 0.1, stream),
        "cls.predictions.transform.LayerNorm.beta": normal((hidden,), 0.1, stream),
        "cls.seq_relationship.weight": normal((2, hidden), 0.1, stream),
        "cls.seq_relationship.bias": normal((2,), 0.1, stream),
    }
    return state


def write_model(name, folder):
    if is_encoder_decoder(name):
        return write_encoder_decoder(name, folder)
    if is_encoder(name) or is_decoder(name):
        return (write_encoder if is_encoder(name) else write_decoder)(name, folder)
    if is_gpt2(name):
        return write_gpt2(name, folder)
    changes, labels = MODELS[name]
    stream = generator("model " + name)
    config = BertConfig(**(BASE | changes), **({"num_labels": labels} if labels else {}))
    model = BertForSequenceClassification(config) if labels else BertModel(config)
    randomise(model, stream)
    if name.endswith("f16"):
        model = model.to(torch.bfloat16 if name.endswith("bf16") else torch.float16)
    model.save_pretrained(folder, max_shard_size="20KB" if name == "bert_sharded" else "1GB")
    file = folder / "model.safetensors"
    if name == "bert_old_names":
        save_file(old_names(load_file(file), stream), file, {"format": "pt"})
    if name == "bert_bare":  # as older releases of transformers wrote it (all-MiniLM-L6-v2, for one)
        positions = torch.arange(config.max_position_embeddings).unsqueeze(0)
        save_file(load_file(file) | {"embeddings.position_ids": positions}, file, {"format": "pt"})


def write_gpt2(name, folder):
    changes, labels = MODELS[name]
    config = GPT2Config(**(BASE_GPT2 | changes), **({"num_labels": labels} if labels else {}))
    bare = name == "gpt2_bare"
    model = (GPT2ForSequenceClassification if labels else GPT2Model if bare else GPT2LMHeadModel)(config)
    randomise_gpt2(model, generator("model " + name))
    model.save_pretrained(folder)
    if bare:  # openai-community/gpt2 was written like this: no `transformer.`, and the causal masks
        file = folder / "model.safetensors"
        n = config.n_positions
        masks = {f"h.{i}.attn.bias": torch.ones(n, n).tril().view(1, 1, n, n) for i in range(config.n_layer)}
        save_file(load_file(file) | masks, file, {"format": "pt"})
        settings = json.loads((folder / "config.json").read_text())
        (folder / "config.json").write_text(json.dumps(settings | {"architectures": ["GPT2LMHeadModel"]}, indent=2, sort_keys=True) + "\n")


def load_model(folder, labels=None, feature=False):
    model_type = json.loads((Path(folder) / "config.json").read_text())["model_type"]
    if model_type in CONFIGS:
        return load_encoder(Path(folder), labels, feature)
    if model_type in ENCODER_DECODER_TYPES:
        return load_encoder_decoder(Path(folder), labels)
    if model_type in DECODER_TYPES:
        return load_decoder(Path(folder), labels, feature)
    if model_type == "gpt2":
        kind = GPT2ForSequenceClassification if labels else GPT2LMHeadModel
    else:
        kind = BertModel if feature else BertForSequenceClassification
    labels = {"num_labels": labels} if labels else {}
    model = kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32, **labels)
    if labels and model.config.pad_token_id is None:  # a GPT-2 made for language modelling
        model.config.pad_token_id = model.config.vocab_size - 1
    return model.eval()


def hold_out(seed):
    """Other sizes for all models, other lengths for all batches, and other numbers in all streams."""
    SEED.append(seed)
    for name, (changes, labels) in MODELS.items():
        stream = generator("sizes " + name)
        names = ("n_embd", "n_head", "n_layer", "n_positions") if is_gpt2(name) else (
            "hidden_size", "num_attention_heads", "num_hidden_layers", "max_position_embeddings")
        defaults = BASE_GPT2 if is_gpt2(name) else BASE
        width = one_of((16, 24, 32, 48), stream)
        heads = one_of([h for h in (1, 2, 3, 4, 6, 8) if width % h == 0], stream)
        layers = changes.get(names[2], defaults[names[2]]) + integer(0, 1, stream)
        changes |= dict(zip(names, (width, heads, layers, integer(25, 60, stream))))
        vocabulary = integer(150, 200, stream)  # more than any width: peft finds the word embeddings by it
        changes["vocab_size"] = vocabulary
        if not is_gpt2(name):
            changes["intermediate_size"] = integer(12, 70, stream)
            continue
        changes |= dict(bos_token_id=vocabulary - 1, eos_token_id=vocabulary - 1)
        changes |= {k: v for k, v in (("pad_token_id", vocabulary - 1), ("n_inner", integer(20, 70, stream))) if k in changes}
        if labels:
            MODELS[name] = (changes, integer(2, 5, stream))
    hold_out_encoders()
    hold_out_decoders()
    hold_out_encoder_decoders()


def draw_lengths(lengths, stream):
    """For held-out cases: other lengths, equal ones if the given ones are."""
    if len(set(lengths)) == 1:
        return (integer(2, 12, stream),) * integer(1, 5, stream)
    return tuple(integer(1, 16, stream) for _ in range(integer(4, 7, stream)))


# -------------------------------------------------------------------------------------------------------------- batches
def make_batch(config, labels, stream, lengths=LENGTHS, token_types=False, attended_padding_id=False, target_lengths=None):
    if config.is_encoder_decoder:
        if SEED:
            lengths = draw_lengths(lengths, stream)
        if labels:
            return make_texts(config, labels, stream, tuple(max(length, 3) for length in lengths))
        if SEED:
            equal = len(target_lengths) > 1 and len(set(target_lengths)) == 1
            # Equal ones reach past the word that is not scored.
            target_lengths = (integer(3, 9, stream),) * len(lengths) if equal else tuple(integer(2, 9, stream) for _ in lengths)
        return make_pairs(config, stream, lengths, target_lengths)
    if config.model_type == "gpt2" or config.model_type in DECODER_TYPES:
        return make_causal_batch(config, labels, stream, lengths)
    if SEED:
        lengths = draw_lengths(lengths, stream)
    rows, columns = len(lengths), max(lengths)
    mask = torch.arange(columns).unsqueeze(0) < torch.tensor(lengths).unsqueeze(1)
    ids = torch.randint(1, config.vocab_size, (rows, columns), generator=stream)
    ids = torch.where(ids > config.pad_token_id, ids, ids - 1)  # anything but the padding's
    if attended_padding_id:
        ids[0, min(3, columns - 1)] = ids[1, min(5, columns - 1)] = config.pad_token_id
    if not token_types:  # else anything stands in the padding, and must not matter
        ids = torch.where(mask, ids, config.pad_token_id)
    batch = {"input_ids": ids, "attention_mask": mask.long()}
    if labels == 1:
        batch["labels"] = torch.randn(rows, generator=stream)
    elif labels:
        batch["labels"] = torch.randint(0, labels, (rows,), generator=stream)
        batch["labels"][:labels] = torch.arange(labels)[:rows]
    if token_types:
        batch["token_type_ids"] = torch.randint(0, config.type_vocab_size, (rows, columns), generator=stream)
    return batch


def make_causal_batch(config, labels, stream, lengths=LENGTHS):
    """Padded with the last id, which is nowhere else (a classifier looks at the last id that is not the padding's). Where the padding's id is
    another one, it stands within the first text."""
    if SEED:
        lengths = draw_lengths(lengths, stream)
    rows, columns = len(lengths), max(lengths)
    mask = torch.arange(columns).unsqueeze(0) < torch.tensor(lengths).unsqueeze(1)
    padding = config.vocab_size - 1
    ids = torch.where(mask, torch.randint(0, padding, (rows, columns), generator=stream), padding)
    if config.pad_token_id not in (None, padding):
        ids[0, min(3, lengths[0] - 1)] = config.pad_token_id
    batch = {"input_ids": ids, "attention_mask": mask.long()}
    if labels:
        batch["labels"] = torch.randint(0, labels, (rows,), generator=stream)
        batch["labels"][:labels] = torch.arange(labels)[:rows]
        return batch
    # As transformers takes them, not shifted. Of every second row the first third is a prompt without loss.
    batch["labels"] = torch.where(mask, ids, -100)
    for row in range(0, rows, 2):
        batch["labels"][row, : lengths[row] // 3] = -100
    return batch


# -------------------------------------------------------------------------------------------------------------- numbers
def gradients(model, parameters, batch):
    model.zero_grad()
    output = model(**batch)
    output.loss.backward()
    return output, {key: p.grad.detach().clone() for key, p in parameters.items()}


def in_double(model, batch):
    batch = {k: v.double() if v.is_floating_point() else v for k, v in batch.items()}
    if model.config.model_type in DECODER_TYPES + ENCODER_DECODER_TYPES:
        return decoder_in_double(model), batch
    return copy.deepcopy(model).double(), batch


def largest_entry(tensor):
    return tensor.abs().max() if tensor.numel() else tensor.new_zeros(())  # adalora prunes down to rank 0


def noise_only(exact):
    """Gradients that are 0 in exact arithmetic (a key's bias, which softmax does not see): float keeps rounding noise."""
    largest = max(largest_entry(g) for g in exact.values())
    return sorted(k for k, g in exact.items() if g.numel() and largest_entry(g) < 1e-12 * largest)


def error(got, exact):
    return float((got.double() - exact).abs().max() / exact.abs().max().clamp_min(1e-300))


def single(value):
    return float(f"{value:.2g}")


def target_mask(labels):
    """Up to the last label of each row."""
    return (labels != -100).flip(1).cumsum(1).flip(1) > 0


def real_logits(output, batch):
    """A language model's logits without the rows of virtual tokens in front, and 0 where there is padding."""
    logits = output.logits.detach()
    if logits.dim() < 3:
        return logits
    if logits.shape[1] == batch["labels"].shape[1] != batch["input_ids"].shape[1]:  # an encoder-decoder
        return logits * target_mask(batch["labels"]).unsqueeze(-1)
    return logits[:, -batch["input_ids"].shape[1] :] * batch["attention_mask"].unsqueeze(-1)


def expect(model, parameters, batch):
    """Tensors of expected.safetensors and what case.json says of them. `parameters`: {key in expected: trained parameter}."""
    names = {id(p): name for name, p in model.named_parameters()}
    exact_model, exact_batch = in_double(model, batch)
    exact_named = dict(exact_model.named_parameters())
    if parameters:
        output, grads = gradients(model, parameters, batch)
        exact, exact_grads = gradients(exact_model, {k: exact_named[names[id(p)]] for k, p in parameters.items()}, exact_batch)
    else:
        with torch.no_grad():
            output, grads, exact, exact_grads = model(**batch), {}, exact_model(**exact_batch), {}
    logits = real_logits(output, batch)
    tensors = {"logits": logits, "loss": output.loss.detach().reshape(1)} | {f"grad.{k}": g for k, g in grads.items()}
    facts = {"float32_error": {"logits": single(error(logits, real_logits(exact, batch)))}}
    if parameters:
        largest = max(largest_entry(g) for g in exact_grads.values())
        facts["float32_error"]["gradients"] = single(max(float(largest_entry(grads[k].double() - exact_grads[k]) / largest) for k in grads))
        facts["largest_gradient"] = single(float(largest))
        facts["noise_only"] = noise_only(exact_grads)
        facts["trainable_parameters"] = sum(p.numel() for p in parameters.values())
    facts["logits_range"] = [single(float(v)) for v in (logits.min(), logits.max())]
    return {k: v.detach().contiguous() for k, v in tensors.items()}, facts


def rows_alone(model, batch):
    """The largest difference that padding makes: each row by itself against the same row in the batch."""
    largest = 0.0
    with torch.no_grad():
        together = real_logits(model(**batch), batch)
        for row, length in enumerate(batch["attention_mask"].sum(1).tolist()):
            alone = {k: v[row : row + 1, :length] if v.dim() > 1 else v[row : row + 1] for k, v in batch.items()}
            if model.config.is_encoder_decoder and batch["labels"].dim() > 1:
                length = int(target_mask(batch["labels"])[row].sum())
                alone["labels"] = batch["labels"][row : row + 1, :length]
            same = together[row : row + 1, :length] if together.dim() > 2 else together[row : row + 1]
            largest = max(largest, float((real_logits(model(**alone), alone) - same).abs().max()))
    return largest


def report(name, tensors, facts):
    print(f"{name:36} {len(tensors):4} tensors, {facts['float32_error']}, noise only: {len(facts.get('noise_only', []))}", flush=True)


def write_numbers(name, folder, case, model, parameters, batch, more=lambda model: {}, padding_matters=False):
    """batch.safetensors, expected.safetensors and case.json. `more`: further expected tensors."""
    tensors, facts = expect(model, parameters, batch)
    tensors |= more(model)
    padding = rows_alone(model, batch) / max(1.0, float(tensors["logits"].abs().max()))
    assert padding_matters or padding < 1e-5, f"{name}: the padding makes a difference of {padding}"
    save_file(batch, folder / "batch.safetensors")
    save_file(tensors, folder / "expected.safetensors")
    (folder / "case.json").write_text(json.dumps(case | facts, indent=2) + "\n")
    report(name, tensors, facts)


def fresh(folder):
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    return folder
