#!/usr/bin/env python3
"""Writes the files of torch/ for tests/io/torch_file_test.cpp; written with torch 2.13. Needs the package torch.

  python3 generate_torch_files.py

What stands in the files is known to the test: counts from 0 or 1, or the few numbers below. The files evil_* try to run something when
Python loads them: a shell command that does nothing, and the sum of 1 and 1.
"""
import collections
import os
import pathlib

import torch

FOLDER = pathlib.Path(__file__).parent / "torch"


def save(name, value, **options):
    torch.save(value, FOLDER / name, **options)


class Evil:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def main():
    FOLDER.mkdir(exist_ok=True)
    counts = torch.arange(12, dtype=torch.float32)
    plain = {"b": counts.reshape(3, 4), "a": torch.tensor([1.5, -2.0])}

    save("plain.bin", plain)
    for protocol in 3, 4, 5:
        save(f"protocol_{protocol}.bin", plain, pickle_protocol=protocol)
    save("legacy.bin", plain, _use_new_zipfile_serialization=False)

    module = torch.nn.Sequential(collections.OrderedDict(first=torch.nn.Linear(3, 2), norm=torch.nn.BatchNorm1d(2)))
    with torch.no_grad():
        module.first.weight.copy_(torch.arange(6).reshape(2, 3))
        module.first.bias.copy_(torch.tensor([0.25, -0.25]))
    save("state_dict.bin", module.state_dict())
    save("state_dict_legacy.bin", module.state_dict(), _use_new_zipfile_serialization=False)
    save("parameters.bin", dict(module.named_parameters()))

    numbers = [0, 1, 100]
    types = "float64 float32 float16 bfloat16 int64 int32 int16 int8 uint8 bool".split()
    save("dtypes.bin", {name: torch.tensor(numbers).to(getattr(torch, name)) for name in types})

    save("views.bin", {
        "transposed": counts.reshape(3, 4).t(),
        "columns": counts.reshape(3, 4)[:, 1:3],
        "rows": counts.reshape(3, 4)[1:],
        "every_other": counts[1::2],
        "permuted": counts.reshape(2, 3, 2).permute(2, 0, 1),
        "one_row": counts.reshape(3, 4).t()[1:2],
        "one_column": counts.reshape(3, 4)[:, 2:3],
    })
    shared = torch.arange(4, dtype=torch.float32)
    save("shared.bin", {"whole": shared, "half": shared[2:], "again": shared})
    save("shapes.bin", {"scalar": torch.tensor(7.0), "empty": torch.zeros(0, 4), "empty_inside": torch.zeros(3, 0, 2)})
    save("names.bin", {"größe.重み": torch.tensor([1.0]), "": torch.tensor([2.0]), "long." * 60: torch.tensor([3.0])})
    save("none.bin", {})

    save("expanded.bin", {"x": torch.tensor([1.0]).expand(1000, 1000)})
    save("tensor.bin", counts)
    save("list.bin", [counts])
    save("nested.bin", {"model": plain, "epoch": 3})
    save("integer.bin", {"x": 3})
    save("key.bin", {1: counts})
    save("complex.bin", {"x": torch.tensor([1j])})
    save("conjugate.bin", {"x": torch.tensor([1j]).conj().imag})
    save("sparse.bin", {"x": torch.eye(2).to_sparse()})
    save("unsigned.bin", {"x": torch.tensor([1], dtype=torch.uint16)})
    save("module.bin", torch.nn.Linear(1, 1))
    save("evil_system.bin", {"x": Evil(os.system, "true")})
    save("evil_eval.bin", {"x": Evil(eval, "1 + 1")})
    save("evil_legacy.bin", {"x": Evil(os.system, "true")}, _use_new_zipfile_serialization=False)
    save("evil_protocol_4.bin", {"x": Evil(eval, "1 + 1")}, pickle_protocol=4)


if __name__ == "__main__":
    main()
