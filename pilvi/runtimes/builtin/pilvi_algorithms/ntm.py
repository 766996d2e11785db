"""Neural Topic Model: a variational auto-encoder over word counts whose hidden units are topics.

Source: SageMaker Developer Guide, "Neural Topic Model algorithm"; Miao et al., "Discovering discrete latent topics with neural variational
inference" (2017).
Differs: topics are judged by NPMI over the training documents, not by WETC (which needs word embeddings); topic uniqueness is AWS's.
"""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pilvi_algorithms import deep
from pilvi_algorithms.kit import (
    CSV,
    RECORDIO,
    ChannelRule,
    ClientError,
    Run,
    Table,
    choice,
    flag,
    integer,
    real,
    request_table,
    respond,
    text,
)
from torch import nn

NAME = "AWS/NTM"
HYPERPARAMETERS = (
    integer("feature_dim", 1, 1000000, required=True),
    integer("num_topics", 2, 1000, required=True),
    flag("batch_norm", False),
    real("clip_gradient", 0.001, default=math.inf),
    text("encoder_layers", "auto"),
    choice("encoder_layers_activation", "sigmoid", "tanh", "relu", default="sigmoid"),
    integer("epochs", 1, default=50),
    real("learning_rate", 1e-6, 1.0, 0.001),
    integer("mini_batch_size", 1, 10000, 256),
    integer("num_patience_epochs", 1, 10, 3),
    choice("optimizer", "sgd", "adam", "adagrad", "adadelta", "rmsprop", default="adadelta"),
    real("rescale_gradient", 0.001, 1.0, 1.0),
    real("sub_sample", 0, 1, 1.0, open_low=True),
    real("tolerance", 1e-6, 0.1, 0.001),
    real("weight_decay", 0, 1, 0.0),
)
CHANNELS = (
    ChannelRule("train", True, (RECORDIO, CSV)),
    ChannelRule("validation", False, (RECORDIO, CSV)),
    ChannelRule("test", False, (RECORDIO, CSV)),
    ChannelRule("auxiliary", False, ("text/plain",)),
)
_ACTIVATIONS = {"sigmoid": nn.Sigmoid, "tanh": nn.Tanh, "relu": nn.ReLU}
_TOP_WORDS = 20
_COHERENCE_WORDS = 10
_SMALL = 200_000


class Network(nn.Module):
    """Counts -> layers -> mean and variance of the topics -> shares of topics -> shares of words."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        inputs = config["feature_dim"]
        for width in config["layers"]:
            layers += [nn.Linear(inputs, width), _ACTIVATIONS[config["activation"]]()]
            if config["batch_norm"]:
                layers.append(nn.BatchNorm1d(width))
            inputs = width
        self.encoder = nn.Sequential(*layers)
        self.mean = nn.Linear(inputs, config["num_topics"])
        self.log_variance = nn.Linear(inputs, config["num_topics"])
        self.decoder = nn.Linear(config["num_topics"], config["feature_dim"])
        # Wide enough for topics to part, narrow enough that words nobody wrote do not stand on top of them.
        nn.init.normal_(self.decoder.weight, std=0.1)
        nn.init.zeros_(self.log_variance.weight)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Reconstruction loss and divergence from the prior, of each document."""
        hidden = self.encoder(torch.log1p(x))
        mean, log_variance = self.mean(hidden), self.log_variance(hidden).clamp(-8, 8)
        z = mean + torch.randn_like(mean) * (log_variance / 2).exp() if self.training else mean
        words = torch.log_softmax(self.decoder(torch.softmax(z, 1)), 1)
        divergence = 0.5 * (mean**2 + log_variance.exp() - log_variance - 1).sum(1)
        return -(x * words).sum(1), divergence

    def topics(self, x: torch.Tensor) -> torch.Tensor:
        return torch.softmax(self.mean(self.encoder(torch.log1p(x))), 1)


def train(run: Run) -> None:
    deep.seed()
    hp, report = run.hp, run.report
    tables = {name: _table(run, name) for name in ("train", "validation", "test")}
    found = tables["train"]
    assert found is not None
    if run.cluster.is_many and not run.channels["train"].is_sharded:
        found = found[run.cluster.rank :: run.cluster.size]
    vocabulary = _vocabulary(run)
    config = {
        "feature_dim": hp["feature_dim"],
        "num_topics": hp["num_topics"],
        "layers": _layers(hp),
        "activation": hp["encoder_layers_activation"],
        "batch_norm": hp["batch_norm"],
    }
    if hp["feature_dim"] * config["layers"][0] < _SMALL:
        deep.one_thread()
    network = Network(config).to(deep.device())
    report.say(f"Documents: {found.shape[0]}; encoder layers: {config['layers']}. Device: {deep.describe_device()}")
    _learn(run, network, found, tables["validation"])
    if run.cluster.is_leader:
        deep.save(run.model_dir, config, network)
    _tell_topics(run, network, found, vocabulary)
    if tables["test"] is not None:
        report.score("test", "total_loss", sum(evaluate(network, tables["test"], hp["mini_batch_size"])))


def _table(run: Run, name: str) -> Any:
    """A channel's counts, n x feature_dim, or None. Raises ClientError."""
    if (table := run.table(name, label_size=0)) is None:
        return None
    width = run.hp["feature_dim"]
    features = table.features
    if table.is_sparse and table.width < width:
        features.resize(len(table), width)
    if features.shape[1] != width:
        raise ClientError(f"Channel '{name}' has {table.width} features, but feature_dim is {width}.")
    values = features.data if table.is_sparse else features
    if len(values) and values.min() < 0:
        raise ClientError(f"Channel '{name}' has negative numbers; features are counts of words.")
    return features


def _layers(hp: dict[str, Any]) -> list[int]:
    if hp["encoder_layers"] == "auto":
        return [max(3 * hp["num_topics"], 64)]
    try:
        found = [int(part) for part in hp["encoder_layers"].strip("[] ").split(",")]
    except ValueError:
        found = []
    if not found or min(found) < 1:
        raise ClientError(f"encoder_layers must be auto or a list of widths such as [100, 50], but it is {hp['encoder_layers']}")
    return found


def _vocabulary(run: Run) -> list[str] | None:
    """One word a line in the channel auxiliary; as many as feature_dim."""
    if (channel := run.channel("auxiliary")) is None:
        return None
    words = [line.strip() for _, data in channel.objects() for line in data.decode().splitlines()]
    if len(words) != run.hp["feature_dim"]:
        raise ClientError(
            f"The vocabulary in channel 'auxiliary' has {len(words)} words, but feature_dim is {run.hp['feature_dim']}."
        )
    return words


def _learn(run: Run, network: Network, found: Any, held_out: Any) -> None:
    hp, report = run.hp, run.report
    optimizer = deep.optimizer_for(hp["optimizer"], network.parameters(), hp["learning_rate"], weight_decay=hp["weight_decay"])
    count = max(1, round(found.shape[0] * hp["sub_sample"]))
    size = min(hp["mini_batch_size"], count)
    steps = deep.agreed_steps(run, count // size)
    best, waited = math.inf, 0
    for epoch in range(hp["epochs"]):
        begun, order = time.time(), np.random.default_rng(epoch).permutation(found.shape[0])[:count]
        network.train()
        told = []
        for step in range(steps):
            start = step * size
            parts = network(_dense(found[order[start : start + size]]))
            loss = (parts[0] + parts[1]).mean()
            optimizer.zero_grad()
            (loss * hp["rescale_gradient"]).backward()
            deep.average_gradients(run, network)
            if math.isfinite(hp["clip_gradient"]):
                nn.utils.clip_grad_value_(network.parameters(), hp["clip_gradient"])
            optimizer.step()
            told.append([float(part.detach().mean()) for part in parts])
        recons, kld = np.mean(told, 0)
        score = float(recons + kld)
        _tell(report, "train", epoch, float(recons), float(kld))
        if held_out is not None:
            score = sum(parts := evaluate(network, held_out, hp["mini_batch_size"]))
            _tell(report, "validation", epoch, *parts)
        report.throughput(count, time.time() - begun)
        report.progress((epoch + 1) / hp["epochs"])
        if not math.isfinite(score):
            raise ClientError("The loss is not a number any more: try a smaller learning_rate.")
        score = deep.agreed_score(run, score)
        if best - score > hp["tolerance"] * abs(score):
            best, waited = score, 0
        else:
            waited += 1
        if waited >= hp["num_patience_epochs"]:
            report.say(f"patience losses exceeded {hp['num_patience_epochs']}; stopping early after epoch {epoch}.")
            break
        if deep.has_stopped(run):
            break


def _tell(report: Any, part: str, epoch: int, recons: float, kld: float) -> None:
    for name, value in (("recons", recons), ("kld", kld), ("total_loss", recons + kld)):
        report.quality(part, name, value, epoch=epoch)


@torch.no_grad()
def evaluate(network: Network, found: Any, size: int) -> tuple[float, float]:
    network.eval()
    parts = [network(_dense(found[at : at + size])) for at in range(0, found.shape[0], size)]
    return float(torch.cat([one for one, _ in parts]).mean()), float(torch.cat([one for _, one in parts]).mean())


def _dense(rows: Any) -> torch.Tensor:
    values = rows if isinstance(rows, np.ndarray) else rows.toarray()
    return torch.from_numpy(np.ascontiguousarray(values, np.float32)).to(deep.device())


# -- topics ---------------------------------------------------------------------------------------------------------------


def top_words(network: Network, count: int = _TOP_WORDS) -> Any:
    """topics x count, the likeliest words of each topic first"""
    weights = network.decoder.weight.detach().cpu().numpy().T
    return np.argsort(-weights, axis=1)[:, :count]


def coherence(words: Sequence[int], documents: Any) -> float:
    """Normalised pointwise mutual information of a topic's words over documents, between -1 and 1."""
    columns = documents[:, list(words)]
    present = (columns if isinstance(columns, np.ndarray) else columns.toarray()) > 0
    single = present.mean(0)
    found = []
    for i in range(len(words)):
        for j in range(i):
            both = float((present[:, i] & present[:, j]).mean())
            if both == 0:
                found.append(-1.0)
            elif both < 1:
                found.append(math.log(both / (single[i] * single[j])) / -math.log(both))
    return float(np.mean(found)) if found else 0.0


def _tell_topics(run: Run, network: Network, documents: Any, vocabulary: list[str] | None) -> None:
    words = top_words(network)
    often = np.bincount(words.ravel(), minlength=run.hp["feature_dim"])
    unique = [(1 / often[row]).mean() for row in words]
    close = [coherence(row[:_COHERENCE_WORDS], documents) for row in words]
    run.report.say(f"Topics from epoch:final (num_topics:{len(words)}) [npmi {np.mean(close):.2f}, tu {np.mean(unique):.2f}]:")
    if vocabulary is not None:
        for row, npmi, tu in zip(words, close, unique, strict=True):
            run.report.say(f"[{npmi:.2f}, {tu:.2f}] {' '.join(vocabulary[number] for number in row)}")


# -- inference ------------------------------------------------------------------------------------------------------------


class Model:
    def __init__(self, folder: Path) -> None:
        self.config = deep.read_config(folder)
        self.network = Network(self.config)
        self.network.load_state_dict(deep.read_state(folder))
        self.network.to(deep.device()).eval()


def load(model_dir: Path) -> Model:
    return Model(model_dir)


def predict(model: Model, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
    """Documents -> {"topic_weights": [...]}"""
    table: Table = request_table(body, content_type, width=model.config["feature_dim"])
    with torch.no_grad():
        found = model.network.topics(_dense(table.features)).cpu().numpy()
    return respond([{"topic_weights": row} for row in found], accept)
