"""Random streams: one for each name."""

import hashlib

import torch

SEED = []  # one entry for held-out cases: everything is drawn anew


def generator(name):
    """A random stream of its own for each name, so that adding a case leaves the others as they are."""
    name = " ".join([*map(str, SEED), name])
    return torch.Generator().manual_seed(int.from_bytes(hashlib.sha256(name.encode()).digest()[:6], "little"))


def normal(shape, scale, stream):
    return torch.randn(shape, generator=stream) * scale


def integer(low, high, stream):
    """One of low … high, both included."""
    return int(torch.randint(low, high + 1, (1,), generator=stream))


def one_of(choices, stream):
    return choices[integer(0, len(choices) - 1, stream)]


def seed_torch(stream):
    """For initialisations that draw from torch's global stream."""
    torch.manual_seed(integer(0, 2**31 - 1, stream))
