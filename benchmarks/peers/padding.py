"""How much a side that pads has to compute in vain."""

import json


def padding_factor(path):
    """Tokens of batches.jsonl with each batch, and the targets of its sources, padded to the longest row, over those without padding."""
    batches = []
    with open(path) as file:
        for line in file:
            batch = json.loads(line)
            batches.append([len(ids) for ids in batch["ids"]])
            targets = [len(labels) for labels in batch.get("labels", []) if isinstance(labels, list)]
            if targets and targets != batches[-1]:
                batches.append(targets)
    return sum(len(lengths) * max(lengths) for lengths in batches) / sum(map(sum, batches))
