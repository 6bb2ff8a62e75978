#!/usr/bin/env python3
"""Writes what both sides of `run.sh speed` train on, so that they start from the same numbers and see the same rows.

    python3 make_jobs.py --out FOLDER [--jobs minilm bert-base gpt2 ...] [--model MINILM_FOLDER --texts tweets.csv]

    FOLDER/<job>/job.json       task, number of classes, whether the model has dropout, and the learning rate of each method
                 model/         Hugging Face folder, output layer included
                 batches.jsonl  a batch a line: {"ids": [[...], ...], "labels": [...]}, unpadded; a language model's labels are its tokens
                 <method>/      adapter folder with the values it starts from, in the format of peft or adapters; none for bitfit and full

Jobs: tweets, real texts with the dropout of a real model; the others are shapes of models with random weights, sequences of equal length
(...-tweets: as long as tweets, padded to 1.78 times their tokens by the peer) and no dropout; tiny-bert and tiny-gpt2 try out the programs.
Everything is drawn with a fixed seed.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from peft import LoraConfig, PrefixTuningConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification, GPT2Config
from transformers import GPT2LMHeadModel, ModernBertConfig, RobertaConfig, logging

from peft_train import read_rows, tokenize

BATCHES, CLASSES = 40, 3
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
        targets = {"gpt2": ["c_attn"], "modernbert": ["Wqkv"]}.get(kind, ["query", "value"])
        write_peft(load(), folder, LoraConfig(r=8, lora_alpha=16, target_modules=targets, task_type=task_type,
                                              fan_in_fan_out=task_type == "CAUSAL_LM"))
    elif method == "lora-all":
        write_peft(load(), folder, LoraConfig(r=8, lora_alpha=16, target_modules=ENCODER_LINEARS, task_type=task_type))
    elif method == "prefix":
        write_peft(load(), folder, PrefixTuningConfig(num_virtual_tokens=20, task_type=task_type))
    elif method == "houlsby":
        write_houlsby(load(), folder)


def write_job(folder, model, batches, rates, dropout=False):
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder / "model")
    task_type = "CAUSAL_LM" if isinstance(model, GPT2LMHeadModel) else "SEQ_CLS"
    for method in rates:
        write_adapter(lambda: type(model).from_pretrained(folder / "model"), method, task_type, folder / method)
    with open(folder / "batches.jsonl", "w") as file:
        for batch in batches:
            print(json.dumps(batch), file=file)
    job = {"task": "lm" if task_type == "CAUSAL_LM" else "classify", "classes": CLASSES, "dropout": dropout, "learning_rates": rates}
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


MINILM = dict(hidden_size=384, num_hidden_layers=6, num_attention_heads=12, intermediate_size=1536)
ROBERTA = RobertaConfig(max_position_embeddings=514, type_vocab_size=1, layer_norm_eps=1e-5, **NO_BERT_DROPOUT)
MODERNBERT = ModernBertConfig(num_labels=CLASSES)
TINY_BERT = dict(vocab_size=50, hidden_size=64, num_hidden_layers=2, num_attention_heads=2, intermediate_size=128)
TINY_GPT2 = dict(vocab_size=50, n_embd=64, n_layer=2, n_head=2, n_positions=32, bos_token_id=0, eos_token_id=0)
JOBS = {"tweets": tweets, "minilm": bert_job(MINILM, 32, 64), "bert-base": bert_job({}, 8, 128), "gpt2": gpt2_job({}, 4, 256),
        "bert-base-64x128": bert_job({}, 64, 128), "gpt2-16x512": gpt2_job({}, 16, 512),
        "roberta-base": encoder_job(ROBERTA, [128] * 8), "roberta-base-tweets": encoder_job(ROBERTA, TWEET_LENGTHS),
        "modernbert-base": encoder_job(MODERNBERT, [128] * 8), "modernbert-base-tweets": encoder_job(MODERNBERT, TWEET_LENGTHS),
        "tiny-bert": bert_job(TINY_BERT, 4, 16), "tiny-gpt2": gpt2_job(TINY_GPT2, 2, 12)}
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


if __name__ == "__main__":
    main()
