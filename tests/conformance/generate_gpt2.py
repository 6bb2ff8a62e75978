"""GPT-2 by itself: ways to store it, and selections of its parameters."""

from generate_common import MODELS, generator, load_model, make_batch, write_numbers

# name: (model, trainable)
CASES = {
    "gpt2_full": ("gpt2_lm", "full"),
    "gpt2_full_inner": ("gpt2_inner", "full"),
    "gpt2_full_cls": ("gpt2_cls", "full"),
    "gpt2_bare": ("gpt2_bare", None),
    "gpt2_bitfit": ("gpt2_lm", "bitfit"),
    "gpt2_bitfit_cls": ("gpt2_cls", "bitfit"),
    "gpt2_head_cls": ("gpt2_cls", "head"),
}


def trained_by(model, trainable, head):
    """{name: parameter} of those that train; the others are frozen. `head`: how the names of the output layers begin."""
    selected = {
        None: lambda name: False,
        "full": lambda name: True,
        "bitfit": lambda name: name.endswith(".bias") or name.startswith(head),
        "head": lambda name: name.startswith(head),
    }[trainable]
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(selected(name))
    return {name: p for name, p in model.named_parameters() if p.requires_grad}


def hold_out():
    pass  # other models and batches


def write_case(name, models, folder):
    model_name, trainable = CASES[name]
    labels = MODELS[model_name][1]
    model = load_model(models / model_name, labels)
    batch = make_batch(model.config, labels, generator("case " + name))
    case = {
        "model": model_name, "adapter": None, "library": None, "task": "seq_cls" if labels else "causal_lm", "method": None,
        "trainable": trainable, "head": "classifier" if labels else "lm", "num_labels": labels,
    }
    write_numbers(name, folder, case, model, trained_by(model, trainable, "score."), batch)
