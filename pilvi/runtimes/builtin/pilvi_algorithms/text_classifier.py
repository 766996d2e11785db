"""The text classifier of BlazingText's supervised mode: the mean of word and n-gram vectors, a linear layer, softmax (fastText's model)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from pilvi_algorithms import deep, fasttext_format
from pilvi_algorithms.fasttext_format import EOS, LABEL, Args, Dictionary, Model

BATCH = 16
"""Lines whose gradients are added up before a step: few enough that it learns as line by line would."""


@dataclass(frozen=True)
class Line:
    labels: tuple[str, ...]
    tokens: tuple[str, ...]


def parse_line(text: str) -> Line:
    parts = text.split()
    return Line(
        tuple(part for part in parts if part.startswith(LABEL)), tuple(part for part in parts if not part.startswith(LABEL))
    )


def dictionary_of(lines: Sequence[Line], min_count: int) -> Dictionary:
    """Words that occur min_count times, the most frequent first, and all labels."""
    words = Counter(token for line in lines for token in line.tokens)
    words[EOS] = max(len(lines), min_count)
    labels = Counter(label for line in lines for label in line.labels)
    kept = sorted(((count, word) for word, count in words.items() if count >= min_count), key=lambda pair: (-pair[0], pair[1]))
    marks = sorted(((count, label) for label, count in labels.items()), key=lambda pair: (-pair[0], pair[1]))
    return Dictionary(
        [word for _, word in kept],
        [count for count, _ in kept],
        [label for _, label in marks],
        [count for count, _ in marks],
        words.total() + labels.total(),
    )


class Bags:
    """Lines as rows of the input matrix, one after the other, with where each begins."""

    def __init__(self, lines: Sequence[Line], dictionary: Dictionary, args: Args) -> None:
        hashes: dict[str, int] = {}
        rows = [fasttext_format.line_rows(line.tokens, dictionary, args, hashes) or [0] for line in lines]
        self.lengths = np.array([len(part) for part in rows], np.int64)
        self.rows = np.fromiter((row for part in rows for row in part), np.int64, int(self.lengths.sum()))
        self.starts = np.concatenate(([0], np.cumsum(self.lengths)[:-1])) if rows else np.zeros(0, np.int64)
        self.labels = [[dictionary.label_ids[label] for label in line.labels if label in dictionary.label_ids] for line in lines]

    def __len__(self) -> int:
        return len(self.lengths)

    def take(self, numbers: Any) -> tuple[Any, Any]:
        """(rows, begins) of some lines."""
        lengths = self.lengths[numbers]
        begins = np.concatenate(([0], np.cumsum(lengths)[:-1]))
        at = np.repeat(self.starts[numbers] - begins, lengths) + np.arange(int(lengths.sum()))
        return self.rows[at], begins


class Classifier:
    """The two matrices while they learn. Only rows that occur are kept in memory; the others are zero in the model."""

    def __init__(self, args: Args, dictionary: Dictionary, train: Bags) -> None:
        self.args, self.dictionary = args, dictionary
        self._used = np.union1d(np.arange(len(dictionary.words)), train.rows)
        self._place = np.full(len(dictionary.words) + args.bucket, -1, np.int64)
        self._place[self._used] = np.arange(len(self._used))
        device = deep.device()
        self.inputs = torch.empty(len(self._used), args.dim, device=device).uniform_(-1 / args.dim, 1 / args.dim)
        self.outputs = torch.zeros(len(dictionary.labels), args.dim, device=device)

    def learn(self, bags: Bags, rate_of: Callable[[float], float], epoch: int, on_progress: Callable[[float], None]) -> None:
        """One pass. `rate_of` gives the learning rate for the share of this pass that is done."""
        rng = np.random.default_rng(epoch)
        order = rng.permutation([number for number, labels in enumerate(bags.labels) if labels])
        for start in range(0, len(order), BATCH):
            numbers = order[start : start + BATCH]
            self._step(
                bags, numbers, np.array([rng.choice(bags.labels[number]) for number in numbers]), rate_of(start / len(order))
            )
            if start % (BATCH * 200) == 0:
                on_progress(start / len(order))

    @torch.no_grad()
    def _step(self, bags: Bags, numbers: Any, labels: Any, rate: float) -> None:
        rows, begins = bags.take(numbers)
        device = self.inputs.device
        index = torch.from_numpy(self._place[rows]).to(device)
        hidden = torch.nn.functional.embedding_bag(index, self.inputs, torch.from_numpy(begins).to(device), mode="mean")
        error = -torch.softmax(hidden @ self.outputs.T, 1)
        error[torch.arange(len(numbers), device=device), torch.from_numpy(labels).to(device)] += 1
        lengths = torch.from_numpy(bags.lengths[numbers]).to(device)
        change = (error @ self.outputs) * (rate / lengths[:, None])
        self.outputs += rate * (error.T @ hidden)
        self.inputs.index_add_(0, index, change.repeat_interleave(lengths, 0))

    @torch.no_grad()
    def accuracy(self, bags: Bags) -> float:
        """The share of lines whose likeliest label is one of theirs; lines without a known label count as wrong."""
        right = 0
        device = self.inputs.device
        for start in range(0, len(bags), 1024):
            numbers = np.arange(start, min(start + 1024, len(bags)))
            rows, begins = bags.take(numbers)
            places = self._place[rows]
            index = torch.from_numpy(np.where(places < 0, 0, places)).to(device)
            weights = torch.from_numpy((places >= 0).astype(np.float32)).to(device)
            # An n-gram that training never saw adds zeros, but counts in the mean.
            total = torch.nn.functional.embedding_bag(
                index, self.inputs, torch.from_numpy(begins).to(device), mode="sum", per_sample_weights=weights
            )
            best = (total @ self.outputs.T).argmax(1).cpu().numpy()
            right += sum(int(best[place]) in bags.labels[number] for place, number in enumerate(numbers))
        return right / max(len(bags), 1)

    def state(self) -> tuple[torch.Tensor, torch.Tensor]:
        return self.inputs.clone(), self.outputs.clone()

    def restore(self, state: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.inputs, self.outputs = state

    def model(self) -> Model:
        full = np.zeros((len(self.dictionary.words) + self.args.bucket, self.args.dim), np.float32)
        full[self._used] = self.inputs.cpu().numpy()
        return Model(self.args, self.dictionary, full, self.outputs.cpu().numpy())


def most_likely(model: Model, text: str, k: int, hashes: dict[str, int]) -> tuple[list[str], list[float]]:
    """The k likeliest labels of a text with their probabilities."""
    rows = fasttext_format.line_rows(
        [part for part in text.split() if not part.startswith(LABEL)], model.dictionary, model.args, hashes
    )
    hidden = np.asarray(model.inputs[rows]).mean(0) if rows else np.zeros(model.args.dim, np.float32)
    logits = np.asarray(model.outputs) @ hidden
    if model.args.loss == fasttext_format.ONE_VS_ALL:
        found = 1 / (1 + np.exp(-logits))
    else:
        shifted = np.exp(logits - logits.max())
        found = shifted / shifted.sum()
    best = np.argsort(-found, kind="stable")[: max(k, 1)]
    return [model.dictionary.labels[number] for number in best], [float(found[number]) for number in best]
