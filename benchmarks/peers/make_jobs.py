#!/usr/bin/env python3
"""Writes what both sides of `run.sh speed` train on, so that they start from the same numbers and see the same rows.

    python3 make_jobs.py --out FOLDER [--jobs minilm bert-base gpt2 ...] [--model MINILM_FOLDER --texts tweets.csv]

    FOLDER/<job>/job.json       task, number of classes, whether the model has dropout, and the learning rate of each method
                 model/         Hugging Face folder, output layer included
                 batches.jsonl  a batch a line: {"ids": [[...], ...], "labels": [...]}, unpadded; a language model's labels are its tokens, or rows
                                as long as ids, -100 where nothing is to be predicted; an encoder-decoder's ids are sources, its labels targets
                 <method>/      adapter folder with the values it starts from, in the format of peft or adapters; none for bitfit and full

Jobs: tweets, real texts with the dropout of a real model; the others are shapes of models with random weights, sequences of equal length
(...-tweets: as long as tweets, padded to 1.78 times their tokens by the peer; ...-chat: four conversations, as long as chat_lengths.txt says, a
language model's loss on the last 60 % of each; t5-...: 8 sources of 128 tokens with targets of 32, or of ...-mixed lengths) and no dropout; tiny-... try out the programs. qwen2.5-0.5b and llama-3.2-1b take 2 and 5 GB of disk, which
...-chat shares: FOLDER/models holds what several jobs train. Everything is drawn with a fixed seed.
"""

import argparse
import functools
import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification, GPT2Config
from transformers import GPT2LMHeadModel, LlamaConfig, ModernBertConfig, Qwen2Config, RobertaConfig, T5Config, T5ForConditionalGeneration, logging

from padding import padding_factor
from peft_train import read_rows, tokenize

BATCHES, CLASSES = 40, 3
LM_BATCHES, SCORED = 12, 0.6  # of decoders; the part of a conversation that is learnt
DECODER_LINEARS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]
ENCODER_LINEARS = ["query", "key", "value", "attention.output.dense", "intermediate.dense", "output.dense"]
TWEETS_RATES = {"lora": 1e-3, "lora-all": 1e-3, "bitfit": 2e-3, "prefix": 1e-2, "houlsby": 1e-3, "full": 5e-5}
NO_BERT_DROPOUT = dict(hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0, num_labels=CLASSES)
NO_GPT2_DROPOUT = dict(resid_pdrop=0.0, embd_pdrop=0.0, attn_pdrop=0.0)


def write_houlsby(model, folder):
    import adapters

    adapters.init(model)
    model.add_adapter("houlsby", config=adapters.DoubleSeqBnConfig(reduction_factor=16))
    model.save_adapter(str(folder), "houlsby", with_head=True, use_safetensors=True)


def write_peft(model, folder, config):
    get_peft_model(model, config).save_pretrained(folder)


def write_adapter(load, method, task_type, folder):
    """load: gives a fresh model, as methods change it."""
    torch.manual_seed(1)
    if method == "lora":
        kind = getattr(load().config, "model_type")
        targets = {"gpt2": ["c_attn"], "modernbert": ["Wqkv"], "t5": ["q", "v"]}.get(kind, ["query", "value"])
        write_peft(load(), folder, LoraConfig(r=8, lora_alpha=16, target_modules=targets, task_type=task_type,
                                              fan_in_fan_out=task_type == "CAUSAL_LM"))
    elif method == "lora-all":
        write_peft(load(), folder, LoraConfig(r=8, lora_alpha=16, task_type=task_type,
                                              target_modules=DECODER_LINEARS if task_type == "CAUSAL_LM" else ENCODER_LINEARS))
    elif method == "prefix":
        write_peft(load(), folder, PrefixTuningConfig(num_virtual_tokens=20, task_type=task_type))
    elif method == "houlsby":
        write_houlsby(load(), folder)


def write_job(folder, model, batches, rates, dropout=False):
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder / "model")
    task_type = "CAUSAL_LM" if isinstance(model, GPT2LMHeadModel) else "SEQ_2_SEQ_LM" if model.config.is_encoder_decoder else "SEQ_CLS"
    write_rest(folder, type(model), batches, rates, task_type, dropout)


def write_rest(folder, kind, batches, rates, task_type, dropout=False):
    """All but the model, which is there; kind: its class."""
    for method in rates:
        write_adapter(lambda: kind.from_pretrained(folder / "model"), method, task_type, folder / method)
    with open(folder / "batches.jsonl", "w") as file:
        for batch in batches:
            print(json.dumps(batch), file=file)
    job = {"task": {"CAUSAL_LM": "lm", "SEQ_2_SEQ_LM": "seq2seq"}.get(task_type, "classify"), "classes": CLASSES, "dropout": dropout, "learning_rates": rates}
    (folder / "job.json").write_text(json.dumps(job, indent=2) + "\n")


def tweets(arguments, folder):
    model = AutoModelForSequenceClassification.from_pretrained(arguments.model, num_labels=CLASSES)
    with torch.no_grad():
        model.classifier.weight.normal_(0, 0.02)
        model.classifier.bias.zero_()
    texts, labels, _ = read_rows(arguments.texts)
    size = 32
    rows = tokenize(AutoTokenizer.from_pretrained(arguments.model), texts[: BATCHES * size], labels, 128)
    batches = [{"ids": [ids for ids, _ in part], "labels": [label for _, label in part]}
               for part in (rows[first : first + size] for first in range(0, BATCHES * size, size))]
    write_job(folder, model, batches, TWEETS_RATES, dropout=True)


def random_batches(vocabulary, count, length, labelled):
    for _ in range(BATCHES):
        batch = {"ids": torch.randint(vocabulary, (count, length)).tolist()}
        yield batch | {"labels": torch.randint(CLASSES, (count,)).tolist()} if labelled else batch


# Of 32 tweets, as MiniLM's tokenizer cuts them.
TWEET_LENGTHS = [10, 33, 30, 27, 34, 43, 39, 30, 30, 45, 9, 40, 43, 43, 52, 41, 25, 27, 58, 33, 20, 25, 48, 34, 26, 25, 31, 17, 39, 24, 21, 42]


def encoder_job(config, lengths):
    """Any family of transformers' classifiers. Ids below 100 are left to special tokens."""

    def write(_, folder):
        batches = [{"ids": [torch.randint(100, config.vocab_size - 100, (length,)).tolist() for length in lengths],
                    "labels": torch.randint(CLASSES, (len(lengths),)).tolist()} for _ in range(BATCHES)]
        write_job(folder, AutoModelForSequenceClassification.from_config(config), batches, {"lora": 1e-3})

    return write


@functools.cache
def write_decoder(name, folder):
    """Once per run, whatever number of jobs train it. Its biases and norms differ from 0 and 1."""
    torch.manual_seed(0)
    shutil.rmtree(folder, ignore_errors=True)
    model = AutoModelForCausalLM.from_config(DECODERS[name])
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter += 0.02 * torch.randn_like(parameter)
    model.save_pretrained(folder)


def chat_lengths():
    lines = (Path(__file__).parent / "chat_lengths.txt").read_text().splitlines()
    return [int(number) for line in lines if not line.startswith("#") for number in line.split()]


def decoder_job(name, lengths=None):
    """lengths: of the sequences of one batch, which are learnt from the first token on; None: conversations."""

    def row(length):
        ids = torch.randint(DECODERS[name].vocab_size, (length,)).tolist()
        prompt = length - round(SCORED * length)
        return ids, [-100] * prompt + ids[prompt:]

    def write(arguments, folder):
        model = arguments.out / "models" / name
        write_decoder(name, model)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        (folder / "model").symlink_to(Path("..") / "models" / name)
        torch.manual_seed(0)
        drawn = lengths * LM_BATCHES if lengths else chat_lengths()[: 4 * LM_BATCHES]
        size = len(lengths) if lengths else 4
        batches = []
        for first in range(0, len(drawn), size):
            rows = [row(length) for length in drawn[first : first + size]]
            batch = {"ids": [ids for ids, _ in rows]}
            batches.append(batch if lengths else batch | {"labels": [labels for _, labels in rows]})
        write_rest(folder, AutoModelForCausalLM, batches, {"lora-all": 1e-3}, "CAUSAL_LM")

    return write


SHAPE_RATES = {"lora": 1e-3, "full": 5e-5}


def bert_job(shape, count, length):
    def write(_, folder):
        config = BertConfig(**shape, **NO_BERT_DROPOUT)
        write_job(folder, BertForSequenceClassification(config), random_batches(config.vocab_size, count, length, True), SHAPE_RATES)

    return write


def gpt2_job(shape, count, length):
    def write(_, folder):
        config = GPT2Config(**shape, **NO_GPT2_DROPOUT)
        write_job(folder, GPT2LMHeadModel(config), random_batches(config.vocab_size, count, length, False), SHAPE_RATES)

    return write


# Tokens of 8 sources and of their targets, which the peer pads to 2.1 times as many.
MIXED_PAIRS = [(128, 21), (35, 9), (61, 32), (18, 4), (97, 15), (44, 12), (72, 6), (27, 18)]


def t5_job(shape, pairs):
    def write(_, folder):
        config = T5Config(**shape, dropout_rate=0.0, decoder_start_token_id=0)
        rows = lambda lengths: [torch.randint(2, config.vocab_size, (length,)).tolist() for length in lengths]
        sources, targets = zip(*pairs)
        write_job(folder, T5ForConditionalGeneration(config), [{"ids": rows(sources), "labels": rows(targets)} for _ in range(LM_BATCHES)], {"lora": 1e-3})

    return write


MINILM = dict(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
ROBERTA = RobertaConfig(max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, **NO_BERT_DROPOUT)
MODERNBERT = ModernBertConfig(num_labels=CLASSES)
TINY_BERT = dict(vocab_size=50, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128)
TINY_GPT2 = dict(vocab_size=50, n_embd=64, n_layer=2, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0)
T5_SMALL = dict(d_model=512, d_kv=64, d_ff=2048, num_layers=6, num_heads=8)
T5_BASE = dict(d_model=768, d_kv=64, d_ff=3072, num_layers=12, num_heads=12)
TINY_T5 = dict(vocab_size=300, d_model=64, d_kv=16, d_ff=128, num_layers=2, num_heads=2)
LLAMA_ROPE = {"rope_type": "llama3", "factor": 32.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}
LLAMA = dict(max_position_embeddings=131072, rms_norm_eps=1e-5, rope_theta=5e5, rope_scaling=LLAMA_ROPE, tie_word_embeddings=True)
QWEN = dict(max_position_embeddings=32768, rope_theta=1e6, tie_word_embeddings=True)
TINY = dict(vocab_size=300, hidden_size=64, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, intermediate_size=160, initializer_range=0.1)
DECODERS = {
    "qwen2.5-0.5b": Qwen2Config(**QWEN, vocab_size=151936, hidden_size=896, num_hidden_layers=24, num_attention_heads=14, num_key_value_heads=2,
                                intermediate_size=4864),
    "llama-3.2-1b": LlamaConfig(**LLAMA, vocab_size=128256, hidden_size=2048, num_hidden_layers=16, num_attention_heads=32, num_key_value_heads=8,
                                head_dim=64, intermediate_size=8192),
    "tiny-qwen2": Qwen2Config(**QWEN, **TINY), "tiny-llama": LlamaConfig(**LLAMA, **TINY)}
JOBS = {"tweets": tweets, "minilm": bert_job(MINILM, 32, 64), "bert-base": bert_job({}, 8, 128), "gpt2": gpt2_job({}, 4, 256),
        "bert-base-64x128": bert_job({}, 64, 128), "gpt2-16x512": gpt2_job({}, 16, 512),
        "roberta-base": encoder_job(ROBERTA, [128] * 8), "roberta-base-tweets": encoder_job(ROBERTA, TWEET_LENGTHS),
        "modernbert-base": encoder_job(MODERNBERT, [128] * 8), "modernbert-base-tweets": encoder_job(MODERNBERT, TWEET_LENGTHS),
        "qwen2.5-0.5b": decoder_job("qwen2.5-0.5b", [256] * 4), "qwen2.5-0.5b-chat": decoder_job("qwen2.5-0.5b"),
        "llama-3.2-1b": decoder_job("llama-3.2-1b", [256] * 4), "llama-3.2-1b-chat": decoder_job("llama-3.2-1b"),
        "t5-small": t5_job(T5_SMALL, [(128, 32)] * 8), "t5-small-mixed": t5_job(T5_SMALL, MIXED_PAIRS),
        "t5-base": t5_job(T5_BASE, [(128, 32)] * 8), "t5-base-mixed": t5_job(T5_BASE, MIXED_PAIRS), "tiny-t5": t5_job(TINY_T5, [(12, 5), (7, 3)]),
        "tiny-bert": bert_job(TINY_BERT, 4, 16), "tiny-gpt2": gpt2_job(TINY_GPT2, 2, 12), "tiny-llama": decoder_job("tiny-llama", [64] * 4),
        "tiny-qwen2-chat": decoder_job("tiny-qwen2")}
DEFAULT_JOBS = ["tweets", "minilm", "bert-base", "gpt2"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="tweets: folder of all-MiniLM-L6-v2")
    parser.add_argument("--texts", help="tweets: CSV with the columns text,label")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--jobs", nargs="+", choices=JOBS, default=DEFAULT_JOBS)
    arguments = parser.parse_args()
    if "tweets" in arguments.jobs and not (arguments.model and arguments.texts):
        parser.error("the job tweets needs --model and --texts")
    logging.set_verbosity_error()
    for job in arguments.jobs:
        torch.manual_seed(0)
        JOBS[job](arguments, arguments.out / job)
        print(f"{job}: padding factor {padding_factor(arguments.out / job / 'batches.jsonl'):.2f}")


if __name__ == "__main__":
    main()
