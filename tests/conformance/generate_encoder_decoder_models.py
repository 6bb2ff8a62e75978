"""The models of encoder-decoders: T5 1.0 and 1.1, mT5, UMT5, BART and mBART, language models and classifiers."""

import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification

from generate_streams import generator, integer, normal, one_of

ENCODER_DECODER_TYPES = ("t5", "mt5", "umt5", "bart", "mbart")
# Heads of 6 in a width of 16, fewer layers in the encoder, and buckets that 12 tokens fill.
SIZES = dict(
    vocab_size=48, d_model=16, d_kv=6, d_ff=12, num_layers=2, num_decoder_layers=3, num_heads=4, relative_attention_num_buckets=8,
    relative_attention_max_distance=10, dropout_rate=0.1, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
GATED = dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)
# The two sides differ in everything that can.
BART_SIZES = dict(
    vocab_size=48, d_model=16, encoder_layers=1, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=2, encoder_ffn_dim=12,
    decoder_ffn_dim=20, max_position_embeddings=20, dropout=0.1, attention_dropout=0.1, activation_dropout=0.1, pad_token_id=1, bos_token_id=0,
    eos_token_id=2)

# name: (model_type, what differs from SIZES or BART_SIZES)
ENCODER_DECODERS = {
    "t5": ("t5", dict()),
    "t5_v1_1": ("t5", dict(GATED, d_kv=4, num_layers=3, num_decoder_layers=2)),
    "mt5": ("mt5", dict(GATED, layer_norm_epsilon=1e-5)),
    "umt5": ("umt5", dict(GATED, num_decoder_layers=1)),
    "bart": ("bart", dict(decoder_start_token_id=2)),
    "bart_hub": ("bart", dict(  # heads as every BART on the Hub has them, without which AdapterHub's prefixes fail
        decoder_start_token_id=3, encoder_layers=2, decoder_layers=1, decoder_attention_heads=4, activation_function="gelu_new", scale_embedding=True)),
    "mbart": ("mbart", dict(encoder_layers=2, decoder_layers=1, activation_function="relu", scale_embedding=True)),
    # Classifiers, all with dropout in the head.
    "t5_cls": ("t5", dict(num_layers=1, num_decoder_layers=1, num_labels=3, classifier_dropout=0.1)),
    "bart_cls": ("bart", dict(decoder_start_token_id=2, decoder_layers=1, num_labels=3, classifier_dropout=0.1)),
}


def is_encoder_decoder(name):
    return name in ENCODER_DECODERS


def is_bart(name):
    return ENCODER_DECODERS[name][0].endswith("bart")


def encoder_decoder_sizes(name):
    return (BART_SIZES if is_bart(name) else SIZES) | ENCODER_DECODERS[name][1]


def randomise(model, stream):
    """Weights large enough that logits and gradients are far from 0, and no norm at its usual 1."""
    tied = model.config.tie_word_embeddings
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("layer_norm.weight"):
                parameter.copy_(1 + normal(parameter.shape, 0.2, stream))
            elif name.endswith("relative_attention_bias.weight"):
                parameter.copy_(normal(parameter.shape, 0.8, stream))
            elif "shared" in name:
                parameter.copy_(normal(parameter.shape, 1.0 if tied else 0.5, stream))
            elif name.endswith((".q.weight", ".k.weight")):  # scores are not scaled
                parameter.copy_(normal(parameter.shape, 0.6 / parameter.shape[-1] ** 0.5, stream))
            else:
                parameter.copy_(normal(parameter.shape, 1.0 / parameter.shape[-1] ** 0.5, stream))


def randomise_bart(model, stream):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "norm" in name and name.endswith("weight"):
                parameter.copy_(1 + normal(parameter.shape, 0.2, stream))
            elif name.endswith(".bias"):
                parameter.copy_(normal(parameter.shape, 0.2, stream))
            elif "shared" in name or "embed_positions" in name:
                parameter.copy_(normal(parameter.shape, 0.4, stream))
            else:
                parameter.copy_(normal(parameter.shape, 1.2 / parameter.shape[-1] ** 0.5, stream))
        if hasattr(model, "final_logits_bias"):
            model.final_logits_bias.copy_(normal(model.final_logits_bias.shape, 0.5, stream))


def like_the_hub(state):
    """Names without a prefix, the table under those of its readers alone, no final_logits_bias, and what old files carry."""
    bare = {key.removeprefix("model."): value for key, value in state.items() if key != "final_logits_bias"}
    table = bare.pop("shared.weight")
    return bare | {
        "encoder.embed_tokens.weight": table, "decoder.embed_tokens.weight": table.clone(), "encoder.version": torch.tensor([3.0]),
        "decoder.version": torch.tensor([3.0])}


def name_in_file(model_name, name):
    return name.removeprefix("model.").replace("shared.", "encoder.embed_tokens.") if model_name == "bart_hub" else name


def write_encoder_decoder(name, folder):
    sizes = encoder_decoder_sizes(name)
    kind = AutoModelForSequenceClassification if "num_labels" in sizes else AutoModelForSeq2SeqLM
    model = kind.from_config(AutoConfig.for_model(ENCODER_DECODERS[name][0], **sizes))
    (randomise_bart if is_bart(name) else randomise)(model, generator("model " + name))
    if name == "bart_hub":
        model.final_logits_bias.zero_()
    model.save_pretrained(folder)
    if name == "bart_hub":
        file = folder / "model.safetensors"
        save_file(like_the_hub(load_file(file)), file, {"format": "pt"})
    (folder / "generation_config.json").unlink(missing_ok=True)  # says nothing that the arithmetic needs


def load_encoder_decoder(folder, labels=None):
    kind = AutoModelForSequenceClassification if labels else AutoModelForSeq2SeqLM
    return kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32, **({"num_labels": labels} if labels else {})).eval()


def make_texts(config, labels, stream, lengths):
    """Texts with two end tokens, the second one at the end; mBART's end in a language's code behind it."""
    behind = 1 if config.model_type == "mbart" else 0
    ids = torch.full((len(lengths), max(lengths)), config.pad_token_id)
    for row, length in enumerate(lengths):
        ids[row, :length] = torch.randint(3, config.vocab_size, (length,), generator=stream)
        ids[row, [integer(0, length - behind - 2, stream), length - behind - 1]] = config.eos_token_id
    mask = torch.arange(max(lengths)).unsqueeze(0) < torch.tensor(lengths).unsqueeze(1)
    return {"input_ids": ids, "attention_mask": mask.long(), "labels": torch.randint(0, labels, (len(lengths),), generator=stream)}


def make_pairs(config, stream, lengths, target_lengths):
    """Source texts, padded, and their targets; one word of the longest target is not scored, but where the last one begins the target: mBART's."""
    wraps = config.model_type == "mbart"
    ids, columns = [], max(lengths)
    for length in lengths:
        ids.append(torch.cat([torch.randint(2, config.vocab_size, (length,), generator=stream), torch.full((columns - length,), config.pad_token_id)]))
    mask = torch.arange(columns).unsqueeze(0) < torch.tensor(lengths).unsqueeze(1)
    labels = torch.full((len(target_lengths), max(target_lengths)), -100)
    for row, length in enumerate(target_lengths):
        labels[row, :length] = torch.randint(2 if wraps else 1, config.vocab_size, (length,), generator=stream)
    if not wraps:
        labels[target_lengths.index(max(target_lengths)), 1] = -100
    return {"input_ids": torch.stack(ids), "attention_mask": mask.long(), "labels": labels}


def hold_out_encoder_decoders():
    for name, (kind, changes) in ENCODER_DECODERS.items():
        stream = generator("sizes " + name)
        if is_bart(name):
            heads = [one_of((1, 2, 4), stream) for _ in range(2)]
            if name == "bart_hub":
                heads[1] = heads[0]
            changes |= dict(
                d_model=8 * integer(2, 5, stream), encoder_attention_heads=heads[0], decoder_attention_heads=heads[1],
                encoder_layers=integer(1, 3, stream), decoder_layers=integer(1, 3, stream), encoder_ffn_dim=integer(12, 50, stream),
                decoder_ffn_dim=integer(12, 50, stream), vocab_size=integer(150, 200, stream), max_position_embeddings=integer(20, 30, stream))
            continue
        changes |= dict(
            d_model=8 * integer(2, 5, stream), d_kv=integer(3, 9, stream), d_ff=integer(12, 50, stream), num_heads=integer(1, 5, stream),
            num_layers=integer(1, 3, stream), num_decoder_layers=integer(1, 3, stream), vocab_size=integer(150, 200, stream),
            relative_attention_num_buckets=2 * integer(3, 8, stream), relative_attention_max_distance=integer(9, 20, stream))

