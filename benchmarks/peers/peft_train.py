#!/usr/bin/env python3
"""The peer: transformers + peft in a plain PyTorch loop, on the same rows and with the same recipe as `deltatune train`.

AdamW (weight decay 0.01, not on biases and norms), linear decay to 0 after a warm-up over 6 % of the steps, gradients
clipped to norm 1, dropout as the model's config says, batches drawn with a seeded shuffle and padded to their longest row.
Texts are tokenized before the first step. The last line of stdout is one JSON object:
  median_step_ms, real_tokens_per_second  medians over the steps after the first five; real tokens are not padding
  rss_before_first_step_mb, peak_rss_mb   resident memory of the process before the first step; its highest, evaluation included
  final_train_loss                        mean over the last 20 steps
"""

import argparse
import csv
import json
import math
import resource
import statistics
import time

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForSequenceClassification, AutoTokenizer, logging

WARM_UP_STEPS_OF_THE_CLOCK = 5
LEARNING_RATE = {"lora": 1e-3, "bitfit": 2e-3, "head": 5e-3, "full": 5e-5}


def read_rows(path, label_ids=None):
    with open(path, encoding="utf-8", newline="") as file:
        rows = [(row["text"], row["label"]) for row in csv.DictReader(file)]
    label_ids = label_ids or {label: i for i, label in enumerate(sorted({label for _, label in rows}))}
    return [text for text, _ in rows], [label_ids[label] for _, label in rows], label_ids


def tokenize(tokenizer, texts, labels, max_length):
    ids = tokenizer(texts, truncation=True, max_length=max_length)["input_ids"]
    return list(zip(ids, labels))


def collate(rows, padding_id):
    longest = max(len(ids) for ids, _ in rows)
    return {
        "input_ids": torch.tensor([ids + [padding_id] * (longest - len(ids)) for ids, _ in rows]),
        "attention_mask": torch.tensor([[1] * len(ids) + [0] * (longest - len(ids)) for ids, _ in rows]),
        "labels": torch.tensor([label for _, label in rows]),
    }


def make_model(arguments, labels):
    torch.manual_seed(arguments.seed)
    model = AutoModelForSequenceClassification.from_pretrained(arguments.model, num_labels=labels)
    with torch.no_grad():
        model.classifier.weight.normal_(0, 0.02)
        model.classifier.bias.zero_()
    if arguments.method == "lora":
        return get_peft_model(model, LoraConfig(r=8, lora_alpha=16, target_modules=["query", "value"], task_type="SEQ_CLS"))
    for name, parameter in model.named_parameters():
        in_head = name.startswith("classifier.")
        in_bitfit = arguments.method == "bitfit" and name.endswith(".bias")
        parameter.requires_grad_(arguments.method == "full" or in_head or in_bitfit)
    return model


def make_optimizer(model, learning_rate):
    trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    plain = [p for name, p in trainable if name.endswith(".bias") or "LayerNorm" in name]
    decayed = [p for name, p in trainable if not (name.endswith(".bias") or "LayerNorm" in name)]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=learning_rate, fused=True)


def batches_of(rows, arguments, steps):
    shuffle = torch.Generator().manual_seed(arguments.seed)
    while True:
        order = torch.randperm(len(rows), generator=shuffle).tolist()
        for start in range(0, len(rows), arguments.batch_size):
            if steps == 0:
                return
            steps -= 1
            yield [rows[i] for i in order[start : start + arguments.batch_size]]


def resident_mb():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize() / 2**20


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True)
    parser.add_argument("--train", required=True, help="CSV with the columns text,label")
    parser.add_argument("--eval", required=True, help="CSV with the columns text,label")
    parser.add_argument("--method", choices=LEARNING_RATE, required=True)
    parser.add_argument("--learning-rate", type=float, help=f"default: {LEARNING_RATE}")
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--steps", type=int, help="instead of --epochs")
    parser.add_argument("--max-length", type=int, default=128)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="bf16: autocast")
    parser.add_argument("--out", help="folder for the adapter (or the model, for the methods peft does not have)")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.set_verbosity_error()

    tokenizer = AutoTokenizer.from_pretrained(arguments.model)
    texts, labels, label_ids = read_rows(arguments.train)
    train_rows = tokenize(tokenizer, texts, labels, arguments.max_length)
    texts, labels, _ = read_rows(arguments.eval, label_ids)
    eval_rows = tokenize(tokenizer, texts, labels, arguments.max_length)

    model = make_model(arguments, len(label_ids))
    optimizer = make_optimizer(model, arguments.learning_rate or LEARNING_RATE[arguments.method])
    steps = arguments.steps or arguments.epochs * math.ceil(len(train_rows) / arguments.batch_size)
    warm_up = math.ceil(0.06 * steps)  # get_linear_schedule_with_warmup begins with a step that changes nothing
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: (step + 1) / (warm_up + 1) if step < warm_up else max(0.0, (steps - step) / max(1, steps - warm_up)))
    trainable = [p for p in model.parameters() if p.requires_grad]

    def forward(batch):
        with torch.autocast("cpu", torch.bfloat16, enabled=arguments.precision == "bf16"):
            return model(**batch)

    rss_before = resident_mb()
    losses, seconds, real_tokens = [], [], []
    model.train()
    for rows in batches_of(train_rows, arguments, steps):
        start = time.perf_counter()
        batch = collate(rows, tokenizer.pad_token_id)
        optimizer.zero_grad()
        loss = forward(batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(loss.item())
        seconds.append(time.perf_counter() - start)
        real_tokens.append(sum(len(ids) for ids, _ in rows))

    model.eval()
    correct, eval_loss = 0, 0.0
    with torch.no_grad():
        for start in range(0, len(eval_rows), arguments.batch_size):
            batch = collate(eval_rows[start : start + arguments.batch_size], tokenizer.pad_token_id)
            output = forward(batch)
            correct += int((output.logits.argmax(-1) == batch["labels"]).sum())
            eval_loss += output.loss.item() * len(batch["labels"])
    if arguments.out:
        model.save_pretrained(arguments.out)

    skip = WARM_UP_STEPS_OF_THE_CLOCK if steps > WARM_UP_STEPS_OF_THE_CLOCK else 0
    print(json.dumps({
        "method": arguments.method,
        "trainable_parameters": sum(p.numel() for p in trainable),
        "total_parameters": sum(p.numel() for p in model.parameters()),
        "steps": steps,
        "median_step_ms": round(1e3 * statistics.median(seconds[skip:]), 2),
        "real_tokens_per_second": round(statistics.median(n / s for n, s in zip(real_tokens[skip:], seconds[skip:])), 1),
        "rss_before_first_step_mb": round(rss_before, 1),
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024, 1),
        "final_train_loss": round(statistics.fmean(losses[-20:]), 5),
        "eval_loss": round(eval_loss / len(eval_rows), 5),
        "eval_accuracy": round(correct / len(eval_rows), 5),
    }))


if __name__ == "__main__":
    main()
