"""Latent Dirichlet allocation: topics as distributions of words, documents as mixtures of topics. Variational Bayes in numpy.

Source: Hoffman, Blei, Bach, "Online learning for latent Dirichlet allocation" (NIPS 2010), in batches of all documents; SageMaker Developer
Guide, "LDA hyperparameters". The artefact has AWS's two arrays, alpha (topics) and beta (topics x words).
Differs: AWS decomposes a moment tensor; `max_restarts` are short runs here, of which the best goes on, and `tol` is the relative gain
per word below which it ends (never less than 1e-5). One host only, as on AWS.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pilvi_algorithms.kit import CSV, RECORDIO, ChannelRule, ClientError, Run, Table, integer, real, request_table, respond
from pilvi_algorithms.mxnet_file import read_arrays, write_arrays

NAME = "LDA"
HYPERPARAMETERS = (
    integer("num_topics", 1, required=True),
    integer("feature_dim", 1, required=True),
    integer("mini_batch_size", 1, required=True),
    real("alpha0", 0, default=1.0, open_low=True),
    integer("max_restarts", 1, default=10),
    integer("max_iterations", 1, default=1000),
    real("tol", 0, default=1e-8, open_low=True),
)
CHANNELS = tuple(ChannelRule(name, name == "train", (RECORDIO, CSV)) for name in ("train", "test"))
MODEL = "model_algo-1"
_SHORT = 8
_LEAST_GAIN = 1e-5


@dataclass(frozen=True, slots=True)
class Model:
    alpha: Any
    """The prior of each topic."""
    beta: Any
    """topics x words; each row adds up to one."""

    def mixtures(self, counts: Any) -> Any:
        """The topics of each document; rows add up to one."""
        gamma = _documents(counts, self.alpha, np.maximum(self.beta, 1e-12), 100)[0]
        return gamma / gamma.sum(axis=1, keepdims=True)

    def log_likelihood(self, counts: Any) -> float:
        """Per word."""
        counts = counts.tocsr()
        rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
        chance = np.einsum("ij,ij->i", self.mixtures(counts)[rows], self.beta[:, counts.indices].T)
        return float((counts.data * np.log(np.maximum(chance, 1e-100))).sum() / counts.data.sum())


def train(run: Run) -> None:
    hp, report = run.hp, run.report
    if run.cluster.is_many:
        raise ClientError("LDA supports training on a single instance only.")
    table = run.table("train", 0)
    assert table is not None
    counts = word_counts(table, hp["feature_dim"], "train")
    prior = np.full(hp["num_topics"], hp["alpha0"] / hp["num_topics"])
    began = time.time()
    starts = [_Topics(counts, prior, seed) for seed in range(hp["max_restarts"])]
    best, most = starts[0], -np.inf
    for number, start in enumerate(starts):
        for _ in range(min(_SHORT, hp["max_iterations"])):
            told = start.step()
        report.say(f"Start {number}: log likelihood per word {told:.6f}")
        if told > most:
            best, most = start, told
        if run.is_stopping:
            break
    for iteration in range(_SHORT, hp["max_iterations"]):
        told = best.step()
        report.quality("train", "pwll", told, epoch=iteration, kind="score")
        if run.is_stopping or told - most <= max(hp["tol"], _LEAST_GAIN) * abs(told):
            break
        most = told
    report.progress(1.0, "iterations")
    report.throughput(len(table), time.time() - began)
    model = Model(prior, best.beta())
    if (test := run.table("test", 0)) is not None:
        report.score("test", "pwll", model.log_likelihood(word_counts(test, hp["feature_dim"], "test")))
    (run.model_dir / MODEL).write_bytes(write_arrays({"alpha": model.alpha, "beta": model.beta}))


def word_counts(table: Table, width: int, channel: str) -> Any:
    """Documents x words, sparse. Raises ClientError for what is no count."""
    from scipy import sparse

    if table.width > width or (table.width < width and not table.is_sparse):
        raise ClientError(f"The value of feature_dim ({width}) does not match the {table.width} features of channel '{channel}'.")
    counts = sparse.csr_matrix(table.features, dtype=np.float64)
    counts.resize(len(table), width)
    counts.eliminate_zeros()
    if not (counts.data > 0).all() or not len(counts.data):
        raise ClientError(f"Channel '{channel}' must hold word counts, none negative and not all zero.")
    return counts


class _Topics:
    """One run of variational Bayes: `weights` are the Dirichlet parameters of each topic's words."""

    def __init__(self, counts: Any, prior: Any, seed: int) -> None:
        generator = np.random.default_rng(seed)
        self._counts, self._prior, self._word_prior = counts, prior, 0.01
        share = np.asarray(counts.sum(axis=0)).ravel() / len(prior)
        self._weights = generator.gamma(1.0, 1.0, (len(prior), counts.shape[1])) * (share + 0.01) + self._word_prior

    def beta(self) -> Any:
        return self._weights / self._weights.sum(axis=1, keepdims=True)

    def step(self) -> float:
        """One pass over all documents; the log likelihood per word before it."""
        from scipy.special import psi

        words = np.exp(psi(self._weights) - psi(self._weights.sum(axis=1, keepdims=True)))
        gamma, mixture, weighted = _documents(self._counts, self._prior, words, 30)
        theta, beta = gamma / gamma.sum(axis=1, keepdims=True), self.beta()
        rows = np.repeat(np.arange(self._counts.shape[0]), np.diff(self._counts.indptr))
        chance = np.einsum("ij,ij->i", theta[rows], beta[:, self._counts.indices].T)
        told = float((self._counts.data * np.log(np.maximum(chance, 1e-100))).sum() / self._counts.data.sum())
        self._weights = self._word_prior + words * np.asarray((weighted.T @ mixture).T)
        return told


def _documents(counts: Any, prior: Any, words: Any, most: int) -> tuple[Any, Any, Any]:
    """(gamma, exp E[log theta], counts over what the topics expect of them) of documents under topics' words."""
    from scipy import sparse
    from scipy.special import psi

    counts = counts.tocsr()
    rows = np.repeat(np.arange(counts.shape[0]), np.diff(counts.indptr))
    at = words[:, counts.indices].T
    gamma = np.full((counts.shape[0], len(prior)), 1.0) * (prior + np.asarray(counts.sum(axis=1)) / len(prior))
    weighted = counts
    for _ in range(most):
        mixture = np.exp(psi(gamma) - psi(gamma.sum(axis=1, keepdims=True)))
        expected = np.einsum("ij,ij->i", mixture[rows], at) + 1e-100
        weighted = sparse.csr_matrix((counts.data / expected, counts.indices, counts.indptr), shape=counts.shape)
        found = prior + mixture * np.asarray(weighted @ words.T)
        change = float(np.abs(found - gamma).mean())
        gamma = found
        if change < 1e-3:
            break
    return gamma, mixture, weighted


def load(model_dir: Path) -> Model:
    arrays = list(read_arrays(next(iter(sorted(model_dir.glob("model_algo-*")))).read_bytes()).values())
    return Model(arrays[0].astype(np.float64), arrays[1].astype(np.float64))


def predict(model: Model, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
    """`topic_mixture`: how much of each topic is in a document."""
    from scipy import sparse

    table = request_table(body, content_type, width=model.beta.shape[1])
    found = model.mixtures(sparse.csr_matrix(table.features, dtype=np.float64))
    return respond([{"topic_mixture": row.tolist()} for row in found], accept)
