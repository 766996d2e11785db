"""Random cut forest: how much a point would stand out in a random sample. Own implementation in numpy.

A tree is a random cut tree (Guha et al., "Robust random cut forest based anomaly detection on streams", ICML 2016) over its own
sample: a box is cut along a feature chosen by its share of the box's side lengths, at a place chosen evenly. A point's score in a tree
is expected over all cuts that could have been: at each box on its way down there is the chance that a cut would have separated it
there, which scores 1 / (depth + 1); a point that rests at its equals scores 1 / (depth + log2(mass + 1)). The mean over trees is told
times log2(sample + 1), so ordinary points score about one: the scale of AWS's open library of random cut forests.

Source: the paper, and SageMaker Developer Guide, "How RCF works".
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pilvi_algorithms.kit import CSV, RECORDIO, ChannelRule, ClientError, Run, integer, json_value, quality, request_table, respond
from pilvi_algorithms.kmeans import checked

NAME = "AWS/RandomCutForest"
HYPERPARAMETERS = (
    integer("feature_dim", 1, 10_000, required=True),
    json_value("eval_metrics", default=["accuracy", "precision_recall_fscore"]),
    integer("mini_batch_size", 1),  # the SDK sends it; samples are drawn from all rows at once
    integer("num_samples_per_tree", 1, 2048, default=256),
    integer("num_trees", 50, 1000, default=100),
)
CHANNELS = tuple(ChannelRule(name, name == "train", (RECORDIO, CSV)) for name in ("train", "test"))
MODEL = "model_algo-1"


@dataclass(slots=True)
class Forest:
    """All trees as arrays, trees x nodes. Node 0 is the root; node i has children left[i] and right[i], a leaf has feature -1."""

    feature: Any
    cut: Any
    left: Any
    right: Any
    mass: Any
    depth: Any
    member: Any
    """Of a leaf, a row of `points`."""
    points: Any
    """trees x sample x d, float32"""

    @property
    def width(self) -> int:
        return int(self.points.shape[2])

    def scores(self, rows: Any) -> Any:
        """The mean score of each row over all trees."""
        rows = rows.astype(np.float64)
        total = np.zeros(len(rows))
        for tree in range(len(self.feature)):
            total += self._tree_scores(tree, rows)
        return total / len(self.feature)

    def boxes(self, tree: int) -> tuple[Any, Any]:
        """(lowest, highest) of the points below each node, from the leaves up. Not kept: they are twice as large as the points."""
        nodes, depth = self.feature.shape[1], self.depth[tree]
        low = np.zeros((nodes, self.width))
        is_leaf = self.member[tree] >= 0
        low[is_leaf] = self.points[tree][self.member[tree][is_leaf]]
        high = low.copy()
        for level in range(int(depth.max()), -1, -1):
            inner = np.flatnonzero((depth == level) & (self.feature[tree] >= 0))
            left, right = self.left[tree][inner], self.right[tree][inner]
            low[inner], high[inner] = np.minimum(low[left], low[right]), np.maximum(high[left], high[right])
        return low, high

    def _tree_scores(self, tree: int, rows: Any) -> Any:
        """Down the tree with all rows at once. `staying` is the chance that no cut has separated a row yet."""
        feature, cut, mass = self.feature[tree], self.cut[tree], self.mass[tree]
        low, high = self.boxes(tree)
        score, staying = np.zeros(len(rows)), np.ones(len(rows))
        alive, node, depth, whole = np.arange(len(rows)), np.zeros(len(rows), np.int64), 0, float(mass[0])
        while len(alive):
            points = rows[alive]
            outside = (np.maximum(low[node] - points, 0) + np.maximum(points - high[node], 0)).sum(axis=1)
            inside = (high[node] - low[node]).sum(axis=1)
            chance = outside / np.maximum(outside + inside, 1e-300)
            score[alive] += staying[alive] * chance / (depth + 1)
            staying[alive] *= 1 - chance
            is_leaf = feature[node] < 0
            ended, its_mass = alive[is_leaf], mass[node[is_leaf]]
            score[ended] += staying[ended] * (1 - its_mass / (2 * whole)) / (depth + np.log2(its_mass + 1))
            alive, node = alive[~is_leaf], node[~is_leaf]
            to_left = rows[alive, feature[node]] <= cut[node]
            node = np.where(to_left, self.left[tree][node], self.right[tree][node])
            depth += 1
        return score * np.log2(whole + 1)


def train(run: Run) -> None:
    hp = run.hp
    if wrong := [name for name in hp["eval_metrics"] if name not in ("accuracy", "precision_recall_fscore")]:
        raise ClientError(
            "Invalid value for hyperparameter 'eval_metrics'",
            f"'{wrong[0]}' is not one of ['accuracy', 'precision_recall_fscore']",
            "ValidationError",
        )
    table = run.table("train", 0)
    assert table is not None
    rows = checked(table, hp["feature_dim"], "train")
    forests = run.cluster.gather(grow(rows, _trees(run), hp["num_samples_per_tree"], run.cluster.rank))
    test = run.whole_table("test", 1)
    if forests is None:
        return
    forest = joined(forests)
    run.report.progress(1.0)
    if test is not None:
        _tell(run, forest, test)
    save(run.model_dir / MODEL, forest)


def _trees(run: Run) -> int:
    """This host's share of the trees: each host grows its own, on its own rows."""
    every, more = divmod(run.hp["num_trees"], run.cluster.size)
    return int(every + (run.cluster.rank < more))


def grow(rows: Any, trees: int, sample: int, seed: int) -> Forest:
    """Trees over samples without repetition."""
    generator = np.random.default_rng(seed)
    size = min(sample, len(rows))
    points = np.stack([rows[generator.choice(len(rows), size, replace=False)] for _ in range(trees)]).astype(np.float32)
    grown = [_tree(own.astype(np.float64), generator) for own in points]
    nodes: list[Any] = [_stacked(list(columns), 2 * size - 1) for columns in zip(*grown, strict=True)]
    return Forest(*[*nodes, points])


def joined(forests: list[Forest]) -> Forest:
    """One forest of all hosts' trees."""
    sizes = [max(getattr(forest, name).shape[1] for forest in forests) for name in Forest.__slots__]
    parts = [
        np.concatenate([_stacked(list(getattr(forest, name)), size) for forest in forests])
        for name, size in zip(Forest.__slots__, sizes, strict=True)
    ]
    return Forest(*parts)


def _stacked(columns: list[Any], size: int) -> Any:
    """One below the other, filled up with -1."""
    return np.stack([np.concatenate([one, np.full((size - len(one), *one.shape[1:]), -1, one.dtype)]) for one in columns])


def _tree(points: Any, generator: Any) -> list[Any]:
    """feature, cut, left, right, mass, depth and member of every node, parents before children."""
    nodes = 2 * len(points) - 1
    feature, left, right, mass, depth, member = (np.full(nodes, -1, np.int32) for _ in range(6))
    cut = np.zeros(nodes)
    waiting, number = [(np.arange(len(points)), -1, False)], 0
    while waiting:
        chosen, parent, is_right = waiting.pop()
        if parent >= 0:
            (right if is_right else left)[parent] = number
        depth[number] = depth[parent] + 1 if parent >= 0 else 0
        mass[number] = len(chosen)
        inside = points[chosen]
        least, most = inside.min(axis=0), inside.max(axis=0)
        sums = np.cumsum(most - least)
        if sums[-1] <= 0:
            member[number] = chosen[0]
        else:
            along = min(int(np.searchsorted(sums, generator.uniform(0, sums[-1]), side="right")), int(np.argmax(sums == sums[-1])))
            at = generator.uniform(least[along], most[along])
            goes_left = inside[:, along] <= at
            if goes_left.all():
                at = float(np.nextafter(most[along], least[along]))
                goes_left = inside[:, along] <= at
            feature[number], cut[number] = along, at
            waiting.append((chosen[~goes_left], number, True))
            waiting.append((chosen[goes_left], number, False))
        number += 1
    return [column[:number] for column in (feature, cut, left, right, mass, depth, member)]


def _tell(run: Run, forest: Forest, test: Any) -> None:
    """How well a threshold of mean + 3 deviations finds the rows labelled 1."""
    if test.labels is None:
        raise ClientError("Channel 'test' has no labels.")
    scores = forest.scores(checked(test, forest.width, "test").astype(np.float64))
    truth, said = test.labels > 0, scores > scores.mean() + 3 * scores.std()
    found = {"accuracy": quality.accuracy(truth, said)} if "accuracy" in run.hp["eval_metrics"] else {}
    if "precision_recall_fscore" in run.hp["eval_metrics"]:
        found |= {
            "precision": quality.precision(truth, said),
            "recall": quality.recall(truth, said),
            "f1": quality.f_beta(truth, said),
        }
    for name, value in found.items():
        run.report.score("test", name, value)


def save(path: Path, forest: Forest) -> None:
    with path.open("wb") as file:
        np.savez(file, about=np.array(json.dumps({"version": 1})), **{name: getattr(forest, name) for name in Forest.__slots__})


def load(model_dir: Path) -> Forest:
    with np.load(next(iter(sorted(model_dir.glob("model_algo-*")))), allow_pickle=False) as found:
        return Forest(*(found[name] for name in Forest.__slots__))


def predict(model: Forest, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
    """`score`: low for ordinary rows, high for anomalies."""
    table = request_table(body, content_type, width=model.width)
    scores = model.scores(table.dense().astype(np.float64))
    return respond([{"score": float(score)} for score in scores], accept, wrapper="scores")
