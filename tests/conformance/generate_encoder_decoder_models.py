"""The models of encoder-decoders: T5 1.0 and 1.1, mT5."""

import torch
from transformers import AutoConfig, AutoModelForSeq2SeqLM

from generate_streams import generator, integer, normal

ENCODER_DECODER_TYPES = ("t5", "mt5")
# Heads of 6 in a width of 16, fewer layers in the encoder, and buckets that 12 tokens fill.
SIZES = dict(
    vocab_size=48, d_model=16, d_kv=6, d_ff=12, num_layers=2, num_decoder_layers=3, num_heads=4, relative_attention_num_buckets=8,
    relative_attention_max_distance=10, dropout_rate=0.1, pad_token_id=0, eos_token_id=1, decoder_start_token_id=0)
GATED = dict(feed_forward_proj="gated-gelu", tie_word_embeddings=False)

# name: (model_type, what differs from SIZES)
ENCODER_DECODERS = {
    "t5": ("t5", dict()),
    "t5_v1_1": ("t5", dict(GATED, d_kv=4, num_layers=3, num_decoder_layers=2)),
    "mt5": ("mt5", dict(GATED, layer_norm_epsilon=1e-5)),
}


def is_encoder_decoder(name):
    return name in ENCODER_DECODERS


def encoder_decoder_sizes(name):
    return SIZES | ENCODER_DECODERS[name][1]


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


def write_encoder_decoder(name, folder):
    model = AutoModelForSeq2SeqLM.from_config(AutoConfig.for_model(ENCODER_DECODERS[name][0], **encoder_decoder_sizes(name)))
    randomise(model, generator("model " + name))
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)  # says nothing that the arithmetic needs


def load_encoder_decoder(folder):
    return AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()


def make_pairs(config, stream, lengths, target_lengths):
    """Source texts, padded, and their targets; one word of the longest target is not scored."""
    ids, columns = [], max(lengths)
    for length in lengths:
        ids.append(torch.cat([torch.randint(2, config.vocab_size, (length,), generator=stream), torch.zeros(columns - length, dtype=torch.long)]))
    mask = torch.arange(columns).unsqueeze(0) < torch.tensor(lengths).unsqueeze(1)
    labels = torch.full((len(target_lengths), max(target_lengths)), -100)
    for row, length in enumerate(target_lengths):
        labels[row, :length] = torch.randint(1, config.vocab_size, (length,), generator=stream)
    labels[target_lengths.index(max(target_lengths)), 1] = -100
    return {"input_ids": torch.stack(ids), "attention_mask": mask.long(), "labels": labels}


def hold_out_encoder_decoders():
    for name, (kind, changes) in ENCODER_DECODERS.items():
        stream = generator("sizes " + name)
        changes |= dict(
            d_model=8 * integer(2, 5, stream), d_kv=integer(3, 9, stream), d_ff=integer(12, 50, stream), num_heads=integer(1, 5, stream),
            num_layers=integer(1, 3, stream), num_decoder_layers=integer(1, 3, stream), vocab_size=integer(150, 200, stream),
            relative_attention_num_buckets=2 * integer(3, 8, stream), relative_attention_max_distance=integer(9, 20, stream))

