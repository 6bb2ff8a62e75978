"""Writes metrics.json: metrics of classifiers as scikit-learn computes them, correlations as scipy does.

pip install scikit-learn==1.9.1 scipy==1.17.1; python3 tests/data/generate_metric_goldens.py
"""
import json
import math
import random
import warnings
from pathlib import Path

import scipy.stats
from sklearn import metrics

warnings.filterwarnings("ignore")  # of classes that never occur, which is what some cases are about
random.seed(5)


def classes(truth, answers, count):
    options = {"zero_division": 0}
    return {
        "classes": count,
        "truth": truth,
        "answers": answers,
        "accuracy": metrics.accuracy_score(truth, answers),
        "macro_precision": metrics.precision_score(truth, answers, average="macro", **options),
        "macro_recall": metrics.recall_score(truth, answers, average="macro", **options),
        "macro_f1": metrics.f1_score(truth, answers, average="macro", **options),
        "micro_f1": metrics.f1_score(truth, answers, average="micro", **options),
        "weighted_f1": metrics.f1_score(truth, answers, average="weighted", **options),
        "matthews": metrics.matthews_corrcoef(truth, answers),
        "precision": list(metrics.precision_score(truth, answers, labels=range(count), average=None, **options)),
        "recall": list(metrics.recall_score(truth, answers, labels=range(count), average=None, **options)),
        "f1": list(metrics.f1_score(truth, answers, labels=range(count), average=None, **options)),
        "confusion": metrics.confusion_matrix(truth, answers, labels=range(count)).tolist(),
    }


def scores(x, y):
    number = lambda value: None if math.isnan(value) else value  # of numbers that do not vary
    return {"x": x, "y": y, "pearson": number(scipy.stats.pearsonr(x, y).statistic), "spearman": number(scipy.stats.spearmanr(x, y).statistic)}


class_cases = [
    classes([0], [0], 2),
    classes([0], [1], 2),
    classes([1, 1, 1], [1, 1, 1], 3),  # neither truth nor answers vary
    classes([0, 1, 2, 0, 1, 2], [0, 0, 0, 0, 0, 0], 3),  # two classes are never predicted
    classes([0, 0, 0, 0], [0, 1, 2, 1], 4),  # one class is true
    classes([0, 1, 0, 1], [1, 0, 1, 0], 2),  # always wrong
]
for _ in range(30):
    count, size = random.randint(2, 6), random.randint(1, 40)
    truth = [random.randrange(count) for _ in range(size)]
    class_cases.append(classes(truth, [t if random.random() < 0.5 else random.randrange(count) for t in truth], count))
score_cases = [
    scores([1.0, 1.0, 1.0], [1.0, 2.0, 3.0]),  # does not vary
    scores([1.0, 2.0], [2.0, 1.0]),
    scores([1.0, 2.0, 2.0, 3.0], [3.0, 3.0, 1.0, 1.0]),  # ties
    scores([1e8 + i for i in range(6)], [0.0, 2.0, 1.0, 5.0, 3.0, 4.0]),  # far from zero
]
for _ in range(24):
    size, spread = random.randint(2, 30), 10.0 ** random.randint(-6, 6)
    x = [round(spread * random.gauss(0, 1), 9) for _ in range(size)]
    if random.random() < 0.5:
        x = [float(random.randint(0, 5)) for _ in range(size)]
    score_cases.append(scores(x, [round(0.5 * value / spread + random.gauss(0, 1), random.choice([0, 6])) for value in x]))
Path(__file__).with_name("metrics.json").write_text(json.dumps({"classes": class_cases, "scores": score_cases}, separators=(",", ":")) + "\n")
