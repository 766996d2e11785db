"""Object2Vec: two encoders whose embeddings are compared, learned from pairs of token sequences that belong together or not.

Source: SageMaker Developer Guide, "Object2Vec algorithm": hyperparameters, JSON Lines data, auxiliary files, inference formats.
Differs: token_embedding_storage_type row_sparse is stored dense; bucket_width changes nothing (batches are padded to their longest pair).
"""

from __future__ import annotations

import copy
import itertools
import json
import math
import os
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pilvi_algorithms import deep
from pilvi_algorithms.kit import (
    JSON,
    JSONLINES,
    ChannelRule,
    ClientError,
    RequestError,
    Run,
    choice,
    flag,
    integer,
    real,
    respond,
    text,
)
from pilvi_algorithms.kit.content_type import parse
from torch import nn
from torch.nn import functional

NAME = "Object2Vec"
ENCODERS = ("hcnn", "bilstm", "pooled_embedding")


def _encoder_hyperparameters(side: int) -> tuple[Any, ...]:
    is_first = side == 0
    return (
        integer(f"enc{side}_max_seq_len", 1, 5000, required=is_first),
        integer(f"enc{side}_vocab_size", 2, 3000000, required=is_first),
        choice(f"enc{side}_network", *ENCODERS, default="hcnn")
        if is_first
        else choice("enc1_network", "enc0", *ENCODERS, default="enc0"),
        integer(f"enc{side}_cnn_filter_width", 1, 9, 3),
        flag(f"enc{side}_freeze_pretrained_embedding", True),
        text(f"enc{side}_layers", "auto"),
        text(f"enc{side}_pretrained_embedding_file", ""),
        integer(f"enc{side}_token_embedding_dim", 2, 1000, 300),
        text(f"enc{side}_vocab_file", ""),
    )


HYPERPARAMETERS = (
    *_encoder_hyperparameters(0),
    *_encoder_hyperparameters(1),
    integer("bucket_width", 0, 100, 0),
    text("comparator_list", "hadamard, concat, abs_diff"),
    real("dropout", 0, 1, 0.0),
    integer("early_stopping_patience", 1, 5, 3),
    real("early_stopping_tolerance", 1e-6, 0.1, 0.01),
    integer("enc_dim", 4, 10000, 4096),
    integer("epochs", 1, 100, 30),
    real("learning_rate", 1e-6, 1.0, 0.0004),
    integer("mini_batch_size", 1, 10000, 32),
    choice("mlp_activation", "tanh", "relu", "linear", default="linear"),
    integer("mlp_dim", 2, 10000, 512),
    integer("mlp_layers", 0, 10, 2),
    integer("negative_sampling_rate", 0, default=0),
    integer("num_classes", 2, 30, 2),
    choice("optimizer", "adadelta", "adagrad", "adam", "sgd", "rmsprop", default="adam"),
    choice("output_layer", "softmax", "mean_squared_error", default="softmax"),
    flag("tied_token_embedding_weight", False),
    choice("token_embedding_storage_type", "dense", "row_sparse", default="dense"),
    real("weight_decay", 0, 10000, 0.0),
)
CHANNELS = (
    ChannelRule("train", True, (JSONLINES,)),
    ChannelRule("validation", False, (JSONLINES,)),
    ChannelRule("test", False, (JSONLINES,)),
    ChannelRule("auxiliary"),
)
COMPARATORS = ("hadamard", "concat", "abs_diff")
_AUTO_LAYERS = {"hcnn": 4, "bilstm": 1, "pooled_embedding": 0}
_ACTIVATIONS = {"tanh": nn.Tanh, "relu": nn.ReLU, "linear": nn.Identity}
_SMALL = 600


@dataclass(frozen=True, slots=True)
class Pair:
    in0: tuple[int, ...]
    in1: tuple[int, ...]
    label: float


# -- the network ----------------------------------------------------------------------------------------------------------


class Encoder(nn.Module):
    """Tokens -> one vector. The table's last row stands for padding."""

    def __init__(self, config: Mapping[str, Any], width: int, table: nn.Embedding | None = None) -> None:
        super().__init__()
        self.kind, inputs = config["network"], config["token_embedding_dim"]
        self.padding = config["vocab_size"]
        self.table = (
            table if table is not None else nn.Embedding(config["vocab_size"] + 1, inputs, padding_idx=config["vocab_size"])
        )
        hidden = min(width, inputs)
        if self.kind == "hcnn":
            kernel = config["cnn_filter_width"]
            widths = [inputs, *[hidden] * config["layers"]]
            self.layers = nn.ModuleList(nn.Conv1d(a, b, kernel, padding=kernel // 2) for a, b in itertools.pairwise(widths))
            self.out = nn.Linear(hidden * config["layers"], width)
        elif self.kind == "bilstm":
            self.lstm = nn.LSTM(inputs, hidden, config["layers"], batch_first=True, bidirectional=True)
            self.out = nn.Linear(2 * hidden, width)
        else:
            self.out = nn.Linear(inputs, width)

    def forward(self, tokens: torch.Tensor) -> torch.Tensor:
        seen = (tokens != self.padding).float()
        x = self.table(tokens)
        if self.kind == "pooled_embedding":
            return self._out((x * seen[..., None]).sum(1) / seen.sum(1, keepdim=True).clamp(min=1))
        if self.kind == "bilstm":
            lengths = seen.sum(1).clamp(min=1).long().cpu()
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            hidden, _ = nn.utils.rnn.pad_packed_sequence(self.lstm(packed)[0], batch_first=True)
            return self._out(_largest(hidden, seen[:, : hidden.shape[1]]))
        # Each layer sees more of the sequence; what is largest in each is kept.
        views, hidden = [], x.transpose(1, 2)
        for layer in self.layers:
            hidden = functional.relu(layer(hidden * seen[:, None]))[:, :, : seen.shape[1]]
            views.append(_largest(hidden.transpose(1, 2), seen))
        return self._out(torch.cat(views, 1))

    def _out(self, x: torch.Tensor) -> torch.Tensor:
        found: torch.Tensor = self.out(x)
        return found


def _largest(hidden: torch.Tensor, seen: torch.Tensor) -> torch.Tensor:
    return hidden.masked_fill(seen[..., None] == 0, -1e4).amax(1)


class Network(nn.Module):
    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        first = Encoder(config["enc0"], config["enc_dim"])
        self.encoders = nn.ModuleList(
            [first, Encoder(config["enc1"], config["enc_dim"], first.table if config["is_tied"] else None)]
        )
        width = sum(2 if name == "concat" else 1 for name in config["comparators"]) * config["enc_dim"]
        layers: list[nn.Module] = [nn.Dropout(config["dropout"])]
        for _ in range(config["mlp_layers"]):
            layers += [nn.Linear(width, config["mlp_dim"]), _ACTIVATIONS[config["mlp_activation"]](), nn.Dropout(config["dropout"])]
            width = config["mlp_dim"]
        self.mlp = nn.Sequential(*layers, nn.Linear(width, config["num_classes"] if config["is_classifier"] else 1))

    def forward(self, in0: torch.Tensor, in1: torch.Tensor) -> torch.Tensor:
        a, b = self.encoders[0](in0), self.encoders[1](in1)
        views = {"hadamard": lambda: [a * b], "concat": lambda: [a, b], "abs_diff": lambda: [(a - b).abs()]}
        found: torch.Tensor = self.mlp(torch.cat([part for name in self.config["comparators"] for part in views[name]()], 1))
        return found


# -- data -----------------------------------------------------------------------------------------------------------------


def _tokens(value: Any) -> tuple[int, ...]:
    return tuple(int(one) for one in value) if isinstance(value, list) else (int(value),)


def read(run: Run, name: str, config: dict[str, Any]) -> list[Pair] | None:
    """The pairs of a channel. Raises ClientError."""
    if (channel := run.channel(name)) is None:
        return None
    found = []
    for file, data in channel.objects():
        for number, line in enumerate(data.decode().splitlines(), 1):
            if not line.strip():
                continue
            try:
                entry = json.loads(line)
                pair = Pair(_tokens(entry["in0"]), _tokens(entry["in1"]), float(entry["label"]))
            except (ValueError, KeyError, TypeError) as error:
                raise ClientError(f"Line {number} of {file} in channel '{name}' must have label, in0 and in1: {error}") from None
            _check(pair, config, f"line {number} of {file} in channel '{name}'")
            found.append(pair)
    if not found:
        raise ClientError(f"No data in channel '{name}'.")
    return found


def _check(pair: Pair, config: dict[str, Any], where: str) -> None:
    for side, tokens in (("enc0", pair.in0), ("enc1", pair.in1)):
        most = config[side]["vocab_size"]
        if not tokens or min(tokens) < 0 or max(tokens) >= most:
            raise ClientError(f"Tokens of in{side[-1]} must be between 0 and {side}_vocab_size - 1 ({most - 1}): {where}")
    if config["is_classifier"] and not (pair.label == int(pair.label) and 0 <= pair.label < config["num_classes"]):
        raise ClientError(f"label must be an integer between 0 and num_classes - 1 ({config['num_classes'] - 1}): {where}")


def padded(sequences: Sequence[Sequence[int]], encoder: Mapping[str, Any]) -> torch.Tensor:
    """Cut to max_seq_len, filled up with the padding token."""
    cut = [list(one[: encoder["max_seq_len"]]) for one in sequences]
    longest = max(len(one) for one in cut)
    return torch.tensor([one + [encoder["vocab_size"]] * (longest - len(one)) for one in cut])


# -- training -------------------------------------------------------------------------------------------------------------


def config_of(hp: dict[str, Any]) -> dict[str, Any]:
    """What the model's file keeps. Raises ClientError."""
    comparators = [name.strip() for name in hp["comparator_list"].split(",") if name.strip()]
    if not comparators or set(comparators) - set(COMPARATORS):
        raise ClientError(f"comparator_list must be made of {', '.join(COMPARATORS)}, but it is {hp['comparator_list']}")
    first = _encoder_config(hp, 0)
    second = first if hp["enc1_network"] == "enc0" else _encoder_config(hp, 1)
    if hp["enc1_vocab_size"] and second is first:
        second = {**first, "vocab_size": hp["enc1_vocab_size"], "max_seq_len": hp["enc1_max_seq_len"] or first["max_seq_len"]}
    if second is not first and None in (second["vocab_size"], second["max_seq_len"]):
        raise ClientError("enc1_network needs enc1_vocab_size and enc1_max_seq_len.")
    if hp["tied_token_embedding_weight"] and (first["vocab_size"], first["token_embedding_dim"]) != (
        second["vocab_size"],
        second["token_embedding_dim"],
    ):
        raise ClientError("tied_token_embedding_weight needs both encoders to have the same vocab_size and token_embedding_dim.")
    return {
        "algorithm": "object2vec",
        "enc0": first,
        "enc1": second,
        "comparators": comparators,
        "is_tied": hp["tied_token_embedding_weight"],
        "is_classifier": hp["output_layer"] == "softmax",
        **{name: hp[name] for name in ("enc_dim", "mlp_layers", "mlp_dim", "mlp_activation", "dropout", "num_classes")},
    }


def _encoder_config(hp: dict[str, Any], side: int) -> dict[str, Any]:
    kind = hp[f"enc{side}_network"]
    layers = hp[f"enc{side}_layers"]
    if layers != "auto" and layers not in ("1", "2", "3", "4"):
        raise ClientError(f"enc{side}_layers must be auto or between 1 and 4, but it is {layers}")
    return {
        "network": kind,
        "layers": _AUTO_LAYERS[kind] if layers == "auto" else int(layers),
        **{name: hp[f"enc{side}_{name}"] for name in ("max_seq_len", "vocab_size", "cnn_filter_width", "token_embedding_dim")},
    }


def train(run: Run) -> None:
    deep.seed()
    hp, report = run.hp, run.report
    if run.cluster.is_many:
        raise ClientError("Object2Vec trains on one instance.")
    config = config_of(hp)
    if max(hp["enc_dim"], hp["mlp_dim"]) <= _SMALL:
        deep.one_thread()
    found, held_out, test = (read(run, name, config) for name in ("train", "validation", "test"))
    assert found is not None
    network = Network(config)
    for side in (0, 1):
        _put_pretrained(run, network, side)
    network.to(deep.device())
    report.say(f"Pairs: {len(found)}. Device: {deep.describe_device()}")
    _learn(run, config, network, found, held_out)
    deep.save(run.model_dir, config, network)
    if test is not None:
        for name, value in evaluate(network, config, test, hp["mini_batch_size"]).items():
            report.quality("test", name, value, epoch=hp["epochs"] - 1, kind="score" if name == "accuracy" else "loss")


def _put_pretrained(run: Run, network: Network, side: int) -> None:
    """Vectors of the channel auxiliary (token and numbers a line) for the tokens of a vocabulary file ({token: number})."""
    hp = run.hp
    source = hp[f"enc{side}_pretrained_embedding_file"]
    if not source:
        return
    words, vectors = hp[f"enc{side}_vocab_file"], run.channel("auxiliary")
    if vectors is None or not words:
        raise ClientError(f"enc{side}_pretrained_embedding_file needs the channel 'auxiliary' and enc{side}_vocab_file.")
    for name in (source, words):
        if not (vectors.folder / name).is_file():
            raise ClientError(f"The channel 'auxiliary' has no file {name}.")
    ids = json.loads((vectors.folder / words).read_text())
    table = network.encoders[side].table
    count = 0
    with torch.no_grad():
        for line in (vectors.folder / source).read_text().splitlines():
            token, *numbers = line.rstrip().split(" ")
            if token in ids and len(numbers) == table.embedding_dim:
                table.weight[int(ids[token])] = torch.tensor([float(number) for number in numbers])
                count += 1
    if not count:
        raise ClientError(f"{source} has no vector of {table.embedding_dim} numbers for a token of {words}.")
    table.weight.requires_grad = not hp[f"enc{side}_freeze_pretrained_embedding"]
    run.report.say(f"enc{side}: {count} pre-trained token vectors.")


def _with_negatives(found: list[Pair], rate: int, rng: np.random.Generator) -> list[Pair]:
    """Beside each pair, `rate` pairs of its first with a random second, labelled 0."""
    strangers = rng.integers(0, len(found), (len(found), rate)) if rate else np.zeros((len(found), 0), np.int64)
    return found + [Pair(pair.in0, found[other].in1, 0.0) for pair, row in zip(found, strangers, strict=True) for other in row]


def _learn(run: Run, config: dict[str, Any], network: Network, found: list[Pair], held_out: list[Pair] | None) -> None:
    hp, report, device = run.hp, run.report, deep.device()
    moving = [parameter for parameter in network.parameters() if parameter.requires_grad]
    optimizer = deep.optimizer_for(hp["optimizer"], moving, hp["learning_rate"], weight_decay=hp["weight_decay"])
    best, waited, kept = math.inf, 0, None
    for epoch in range(hp["epochs"]):
        rng, begun, told = np.random.default_rng(epoch), time.time(), []
        pairs = _with_negatives(found, hp["negative_sampling_rate"], rng)
        order = rng.permutation(len(pairs))
        network.train()
        for start in range(0, len(pairs), hp["mini_batch_size"]):
            batch = [pairs[number] for number in order[start : start + hp["mini_batch_size"]]]
            loss = _loss(network(*_inputs(batch, config)), _labels(batch, config).to(device), config)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            told.append(float(loss.detach()))
            if run.is_stopping:
                break
        name = "cross_entropy" if config["is_classifier"] else "mean_squared_error"
        report.quality("train", name, float(np.mean(told)), epoch=epoch)
        report.throughput(len(pairs), time.time() - begun)
        report.progress((epoch + 1) / hp["epochs"])
        if not math.isfinite(told[-1]):
            raise ClientError("The loss is not a number any more: try a smaller learning_rate.")
        if held_out is not None:
            measured = evaluate(network, config, held_out, hp["mini_batch_size"])
            for key, value in measured.items():
                report.quality("validation", key, value, epoch=epoch, kind="score" if key == "accuracy" else "loss")
            if measured[name] < best * (1 - hp["early_stopping_tolerance"]):
                best, waited, kept = measured[name], 0, copy.deepcopy(network.state_dict())
            else:
                waited += 1
            if waited >= hp["early_stopping_patience"]:
                report.say(f"Early stopping: validation {name} has not improved for {waited} epochs.")
                break
        if run.is_stopping:
            break
    if kept is not None:
        network.load_state_dict(kept)


def _inputs(batch: Sequence[Pair], config: dict[str, Any]) -> tuple[torch.Tensor, torch.Tensor]:
    device = deep.device()
    return padded([one.in0 for one in batch], config["enc0"]).to(device), padded([one.in1 for one in batch], config["enc1"]).to(
        device
    )


def _labels(batch: Sequence[Pair], config: dict[str, Any]) -> torch.Tensor:
    return torch.tensor([one.label for one in batch], dtype=torch.long if config["is_classifier"] else torch.float32)


def _loss(said: torch.Tensor, labels: torch.Tensor, config: dict[str, Any]) -> torch.Tensor:
    return functional.cross_entropy(said, labels) if config["is_classifier"] else functional.mse_loss(said[:, 0], labels)


@torch.no_grad()
def evaluate(network: Network, config: dict[str, Any], found: list[Pair], size: int) -> dict[str, float]:
    network.eval()
    said = torch.cat([network(*_inputs(found[at : at + size], config)).cpu() for at in range(0, len(found), size)])
    labels = _labels(found, config)
    loss = float(_loss(said, labels, config))
    if not config["is_classifier"]:
        return {"mean_squared_error": loss}
    return {"accuracy": float((said.argmax(1) == labels).float().mean()), "cross_entropy": loss}


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
    """Pairs -> scores; single in0 or in1, or INFERENCE_PREFERRED_MODE=embedding -> embeddings."""
    kind = parse(content_type or JSON).name
    if kind not in (JSON, JSONLINES):
        raise RequestError(f"Content-type {kind} not supported. Supported content-types are {JSON}, {JSONLINES}", 415)
    try:
        lines = body.decode().splitlines()
        instances = json.loads(body)["instances"] if kind == JSON else [json.loads(line) for line in lines if line.strip()]
        sides = [{side: _tokens(one[side]) for side in ("in0", "in1") if side in one} for one in instances]
        if not sides or any(not one for one in sides):
            raise ValueError("an instance needs in0 or in1")
        for one in sides:
            _check(Pair(one.get("in0", (0,)), one.get("in1", (0,)), 0.0), model.config, "the request")
    except (ValueError, KeyError, TypeError, ClientError) as error:
        raise RequestError(f"unable to evaluate payload provided: {error}") from error
    wants_embedding = os.environ.get("INFERENCE_PREFERRED_MODE", "").lower() == "embedding"
    found = [_answer(model, one, wants_embedding) for one in sides]
    return respond(found, accept or kind, (JSON, JSONLINES))


@torch.no_grad()
def _answer(model: Model, sides: Mapping[str, tuple[int, ...]], wants_embedding: bool) -> dict[str, Any]:
    config, device = model.config, deep.device()
    tokens = {side: padded([value], config[f"enc{side[-1]}"]).to(device) for side, value in sides.items()}
    if len(tokens) == 2 and not wants_embedding:
        said = model.network(tokens["in0"], tokens["in1"])[0].cpu()
        return {"scores": (torch.softmax(said, 0) if config["is_classifier"] else said).tolist()}
    side = "in0" if "in0" in tokens else "in1"
    return {"embeddings": model.network.encoders[int(side[-1])](tokens[side])[0].cpu().tolist()}
