"""Word vectors by negative sampling: BlazingText's cbow, skipgram and batch_skipgram, with letter n-grams where asked for.

Many windows at a time are one matrix product, and the negative samples of a window are shared by its words: the idea of
Ji et al., "Parallelizing Word2Vec in Shared and Distributed Memory" (2016), that batch_skipgram is built on.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import torch
from pilvi_algorithms import deep, fasttext_format
from pilvi_algorithms.fasttext_format import Args, Dictionary, Model

WINDOWS = 128
"""Windows in one step: few enough that frequent words are not pushed too far at once."""
_POWER = 0.75


def counted(sentences: Iterable[Sequence[str]]) -> Counter[str]:
    return Counter(word for sentence in sentences for word in sentence)


def dictionary_of(counts: Counter[str], min_count: int) -> Dictionary:
    kept = sorted(((count, word) for word, count in counts.items() if count >= min_count), key=lambda pair: (-pair[0], pair[1]))
    return Dictionary([word for _, word in kept], [count for count, _ in kept], tokens=counts.total())


class Corpus:
    """All known words in their order, and the sentence each stands in."""

    def __init__(self, sentences: Sequence[Sequence[str]], dictionary: Dictionary) -> None:
        ids = dictionary.ids
        kept = [[ids[word] for word in sentence if word in ids] for sentence in sentences]
        self.words = np.array([word for sentence in kept for word in sentence], np.int64)
        self.sentences = np.repeat(np.arange(len(kept)), [len(sentence) for sentence in kept])


class Learner:
    def __init__(self, args: Args, dictionary: Dictionary) -> None:
        self.args, self.dictionary = args, dictionary
        device, words = deep.device(), len(dictionary.words)
        bags = [fasttext_format.word_rows(word, dictionary, args) for word in dictionary.words]
        used = np.union1d(np.arange(words), np.array([row for bag in bags for row in bag], np.int64))
        place = {int(row): number for number, row in enumerate(used)}
        self._used = used
        self._lengths = torch.tensor([len(bag) for bag in bags], device=device)
        self._begins = torch.cumsum(self._lengths, 0) - self._lengths
        self._rows = torch.tensor([place[row] for bag in bags for row in bag], device=device)
        self._has_letters = args.maxn > 0
        self.inputs = torch.empty(len(used), args.dim, device=device).uniform_(-0.5 / args.dim, 0.5 / args.dim)
        self.outputs = torch.zeros(words, args.dim, device=device)
        frequency = np.array(dictionary.counts, np.float64)
        self._negatives = np.cumsum(frequency**_POWER) / (frequency**_POWER).sum()
        share = frequency / frequency.sum()
        self._kept_share = np.minimum(1.0, np.sqrt(args.t / share) + args.t / share) if args.t > 0 else np.ones(words)

    def learn(self, corpus: Corpus, rate_of: Callable[[float], float], epoch: int, on_progress: Callable[[float], None]) -> None:
        """One pass over the text; frequent words are left out by chance."""
        rng = np.random.default_rng(epoch)
        is_kept = rng.random(len(corpus.words)) < self._kept_share[corpus.words]
        words, sentences = corpus.words[is_kept], corpus.sentences[is_kept]
        offsets = np.array([offset for offset in range(-self.args.ws, self.args.ws + 1) if offset])
        for start in range(0, len(words), WINDOWS):
            middle = np.arange(start, min(start + WINDOWS, len(words)))
            near = middle[:, None] + offsets
            inside = near.clip(0, len(words) - 1)
            reach = rng.integers(1, self.args.ws + 1, len(middle))
            is_in = (near == inside) & (np.abs(offsets) <= reach[:, None]) & (sentences[inside] == sentences[middle][:, None])
            negatives = np.searchsorted(self._negatives, rng.random((len(middle), self.args.neg))).clip(0, len(self._negatives) - 1)
            self._step(words[middle], words[inside], is_in, negatives, rate_of(start / len(words)))
            if start % (WINDOWS * 100) == 0:
                on_progress(start / len(words))

    @torch.no_grad()
    def _step(self, middle: Any, near: Any, is_in: Any, negatives: Any, rate: float) -> None:
        device = self.inputs.device
        mask = torch.from_numpy(is_in).to(device).float()
        outs = torch.from_numpy(np.concatenate((middle[:, None], negatives), 1)).to(device)
        truth = torch.zeros(outs.shape, device=device)
        truth[:, 0] = 1
        is_other = (outs != outs[:, :1]).float()
        is_other[:, 0] = 1
        v = self.outputs[outs]
        flat, inverse = np.unique(near, return_inverse=True)
        ids, back = torch.from_numpy(flat).to(device), torch.from_numpy(inverse.reshape(near.shape)).to(device)
        known = self._vectors(ids)
        u = known[back] * mask[..., None]
        if self.args.model == fasttext_format.CBOW:
            many = mask.sum(1, keepdim=True).clamp(min=1)
            u = u.sum(1, keepdim=True) / many[..., None]
            error = (truth[:, None] - torch.sigmoid(u @ v.mT)) * is_other[:, None] * (mask.sum(1) > 0)[:, None, None]
            du = (error @ v).expand(-1, near.shape[1], -1) * (mask / many)[..., None]
        else:
            error = (truth[:, None] - torch.sigmoid(u @ v.mT)) * is_other[:, None] * mask[..., None]
            du = error @ v
        self.outputs.index_add_(0, outs.reshape(-1), rate * (error.mT @ u).reshape(-1, self.args.dim))
        change = torch.zeros_like(known).index_add_(0, back.reshape(-1), rate * du.reshape(-1, self.args.dim))
        self._move(ids, change)

    def _vectors(self, ids: torch.Tensor) -> torch.Tensor:
        if not self._has_letters:
            return self.inputs[ids]
        rows, lengths = self._bags(ids)
        return torch.nn.functional.embedding_bag(rows, self.inputs, torch.cumsum(lengths, 0) - lengths, mode="mean")

    def _move(self, ids: torch.Tensor, change: torch.Tensor) -> None:
        if not self._has_letters:
            self.inputs.index_add_(0, ids, change)
            return
        rows, lengths = self._bags(ids)
        self.inputs.index_add_(0, rows, change.repeat_interleave(lengths, 0))

    def _bags(self, ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The rows of some words, one word's after the other's, and how many each has."""
        lengths = self._lengths[ids]
        starts = torch.repeat_interleave(self._begins[ids] - (torch.cumsum(lengths, 0) - lengths), lengths)
        return self._rows[starts + torch.arange(len(starts), device=starts.device)], lengths

    def average(self, total: Callable[[Any], Any], hosts: int) -> None:
        """The mean over hosts, each of which has learned from its own part."""
        for matrix in (self.inputs, self.outputs):
            matrix.copy_(torch.from_numpy(total(matrix.cpu().numpy()) / hosts))

    def model(self) -> Model:
        full = np.zeros((len(self.dictionary.words) + self.args.bucket, self.args.dim), np.float32)
        full[self._used] = self.inputs.cpu().numpy()
        return Model(self.args, self.dictionary, full, self.outputs.cpu().numpy())


def similarity_correlation(model: Model, pairs: Sequence[tuple[str, str, float]]) -> tuple[float, int]:
    """Spearman's rank correlation of cosine similarity with people's judgement, and how many of the pairs were known."""
    known = [(a, b, score) for a, b, score in pairs if a in model.dictionary.ids and b in model.dictionary.ids]
    if len(known) < 2:
        return float("nan"), len(known)
    found = [_cosine(model.vector(a), model.vector(b)) for a, b, _ in known]
    return float(np.corrcoef(_ranks(found), _ranks([score for _, _, score in known]))[0, 1]), len(known)


def _cosine(a: Any, b: Any) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b) + 1e-12))


def _ranks(values: Sequence[float]) -> Any:
    _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
    return (np.cumsum(counts) - (counts - 1) / 2)[inverse]
