"""How much a side that pads has to compute in vain."""

import json


def padding_factor(path):
    """Tokens of batches.jsonl with each batch padded to its longest row, over those without padding."""
    with open(path) as file:
        batches = [[len(ids) for ids in json.loads(line)["ids"]] for line in file]
    return sum(len(lengths) * max(lengths) for lengths in batches) / sum(map(sum, batches))
