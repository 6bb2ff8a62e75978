#!/usr/bin/env python3
"""The peer of deltatune_step: steps of PyTorch with peft or adapters on a job that make_jobs.py wrote.

AdamW (weight decay 0.01, not on biases and norms), constant learning rate, gradients clipped to norm 1, batches padded to their longest
row, on the right. Attention is transformers' default, PyTorch's scaled_dot_product_attention (sdpa). A language model's loss is the mean over the
tokens of the batch that have a label and one in front of them, on both sides. The last line of stdout is one JSON object, the same as deltatune_step's:
  losses                                  of each step
  median_step_ms, real_tokens_per_second  medians over the steps after the first three; padding is not counted
  first_step_ms                           with --mode compile most of it is compiling
  rss_before_first_step_mb, peak_rss_mb   resident memory of the process
"""

import argparse
import contextlib
import json
import resource
import statistics
import time
from pathlib import Path

import torch
from peft import PeftConfig, get_peft_model, load_peft_weights, set_peft_model_state_dict
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM, AutoModelForSequenceClassification, logging

from peft_train import make_optimizer, resident_mb

WARM_UP = 3
IGNORED = -100  # a token without a label
MODES = ["fp32", "bf16", "bf16-weights", "compile"]
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


def load(folder, method, job, dropout, dtype=torch.float32):
    options = {"dtype": dtype} if dropout else {"dtype": dtype, **NO_DROPOUT}  # .to(dtype) would round rotary frequencies as well
    if job["task"] == "seq2seq":
        model = AutoModelForSeq2SeqLM.from_pretrained(folder / "model", use_cache=False, **options)
    elif job["task"] == "lm":
        model = AutoModelForCausalLM.from_pretrained(folder / "model", use_cache=False, **options)
    else:
        model = AutoModelForSequenceClassification.from_pretrained(folder / "model", **options)
    adapter = folder / method
    if not adapter.exists():
        for name, parameter in model.named_parameters():
            parameter.requires_grad_(method == "full" or name.endswith(".bias") or name.startswith("classifier."))
        return model
    if "peft_type" in json.loads((adapter / "adapter_config.json").read_text()):
        config = PeftConfig.from_pretrained(adapter)
        config.inference_mode = False
        model = get_peft_model(model, config)
        set_peft_model_state_dict(model, load_peft_weights(adapter, device="cpu"))
        return model
    import adapters

    adapters.init(model)
    model.train_adapter(model.load_adapter(str(adapter), use_safetensors=True, set_active=True))
    return model


def read_batches(path):
    with open(path) as file:
        return [json.loads(line) for line in file]


def padded(rows, padding):
    longest = max(map(len, rows))
    return torch.tensor([row + [padding] * (longest - len(row)) for row in rows])


def tensors_of(batch, padding_id, is_language_model):
    """As the model takes it, which makes a decoder's input from the labels itself; without a mask where nothing is padded, which attention runs faster without."""
    labels = batch.get("labels", batch["ids"])
    tensors = {"input_ids": padded(batch["ids"], padding_id), "attention_mask": padded([[1] * len(ids) for ids in batch["ids"]], 0),
               "labels": padded(labels, IGNORED) if is_language_model else torch.tensor(labels)}
    if bool(tensors["attention_mask"].all()):
        del tensors["attention_mask"]
    return tensors


def train(job_folder, method, mode="fp32", steps=12, warm_up=WARM_UP, device="cpu", tf32=False, dropout=True):
    """What the last line says. On a GPU also the most memory that tensors took."""
    torch.manual_seed(0)
    torch.backends.cuda.matmul.allow_tf32 = tf32
    on_gpu = device != "cpu"
    if on_gpu:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    job = json.loads((job_folder / "job.json").read_text())
    batches = read_batches(job_folder / "batches.jsonl")
    model = load(job_folder, method, job, dropout, torch.bfloat16 if mode == "bf16-weights" else torch.float32).to(device)
    model.train()
    optimizer = make_optimizer(model, job["learning_rates"][method])
    trainable = [p for p in model.parameters() if p.requires_grad]
    padding_id = model.config.pad_token_id or 0
    run = torch.compile(model) if mode == "compile" else model

    rss_before = resident_mb()
    losses, seconds, speeds = [], [], []
    for step in range(steps):
        rows = batches[step % len(batches)]
        start = time.perf_counter()
        batch = {name: tensor.to(device) for name, tensor in tensors_of(rows, padding_id, job["task"] != "classify").items()}
        optimizer.zero_grad()
        with torch.autocast(device, torch.bfloat16) if mode == "bf16" else contextlib.nullcontext():
            loss = run(**batch).loss
        loss.backward()
        torch.nn.utils.clip_grad_norm_(trainable, 1.0)
        optimizer.step()
        losses.append(loss.item())  # waits for a GPU
        seconds.append(time.perf_counter() - start)
        tokens = rows["ids"] + (rows["labels"] if job["task"] == "seq2seq" else [])
        speeds.append(sum(map(len, tokens)) / seconds[-1])

    skip = warm_up if steps > warm_up else 0
    result = {
        "losses": losses,
        "trainable_parameters": sum(p.numel() for p in trainable),
        "median_step_ms": 1e3 * statistics.median(seconds[skip:]),
        "first_step_ms": 1e3 * seconds[0],
        "real_tokens_per_second": statistics.median(speeds[skip:]),
        "rss_before_first_step_mb": rss_before,
        "peak_rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
    }
    return result | ({"peak_tensor_mb": torch.cuda.max_memory_allocated() / 2**20} if on_gpu else {})


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--job", type=Path, required=True, help="folder of the job")
    parser.add_argument("--method", required=True)
    parser.add_argument("--mode", choices=MODES, default="fp32",
                        help="bf16: autocast; bf16-weights: the model's weights, not the adapter's; compile: torch.compile, fp32")
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--tf32", action="store_true", help="products in TF32 on a GPU")
    parser.add_argument("--no-dropout", action="store_true")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    logging.set_verbosity_error()
    print(json.dumps(train(arguments.job, arguments.method, arguments.mode, arguments.steps, device=arguments.device, tf32=arguments.tf32,
                           dropout=not arguments.no_dropout)))


if __name__ == "__main__":
    main()
