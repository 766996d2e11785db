"""IP Insights: which addresses an entity (a user, an account) uses; a low dot product means an unusual one. Plain numpy.

Entities are hashed to vectors; an address's 32 bits go through a small network to a vector; the two vectors' product tells a pair that
was seen from pairs made up of random and of shuffled addresses. Learned by Adam with those negative samples. The first host trains on
all hosts' data.

Source: SageMaker Developer Guide, "How IP Insights works" and "IP Insights hyperparameters".
Differs: a mini batch is at most a sixty-fourth of the rows, but at least 32: AWS's default of 10,000 is made for millions of rows.
"""

from __future__ import annotations

import csv
import hashlib
import io
import itertools
import json
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from pilvi_algorithms.kit import (
    CSV,
    JSON,
    JSONLINES,
    ChannelRule,
    ClientError,
    RequestError,
    Run,
    accept_type,
    integer,
    quality,
    real,
    respond,
)
from pilvi_algorithms.kit.content_type import parse
from pilvi_algorithms.kit.table import Unreadable, json_instances

NAME = "IPInsights"
HYPERPARAMETERS = (
    integer("feature_dim", 1),  # the SDK sends it; a row is always entity and address
    integer("num_entity_vectors", 1, 250_000_000, required=True),
    integer("vector_dim", 1, 4096, required=True),
    integer("batch_metrics_publish_interval", 1, default=1000),
    integer("epochs", 1, default=10),
    real("learning_rate", 1e-6, 10.0, default=0.001),
    integer("mini_batch_size", 1, default=10_000),
    integer("num_ip_encoder_layers", 0, 100, default=1),
    integer("random_negative_sampling_rate", 0, 500, default=1),
    integer("shuffled_negative_sampling_rate", 0, 500, default=1),
    real("weight_decay", 0, 10.0, default=0.00001),
)
CHANNELS = tuple(ChannelRule(name, name == "train", (CSV,)) for name in ("train", "validation"))
MODEL = "model_algo-1"
_SMALLEST_BATCH, _BATCHES = 32, 64
_SHIFTS = np.arange(31, -1, -1, dtype=np.uint32)


@dataclass(slots=True)
class Model:
    entities: Any
    """num_entity_vectors x vector_dim, float32"""
    layers: list[tuple[Any, Any]]
    """(weights, bias) from an address's bits to its vector, with ReLU between"""

    def entity_vectors(self, numbers: Any) -> Any:
        return self.entities[numbers]

    def address_vectors(self, addresses: Any) -> Any:
        return self._through(bits_of(addresses))[-1]

    def _through(self, x: Any) -> list[Any]:
        """The output of every layer, the input first."""
        outputs = [x]
        for number, (weights, bias) in enumerate(self.layers):
            x = x @ weights + bias
            x = np.maximum(x, 0) if number < len(self.layers) - 1 else x
            outputs.append(x)
        return outputs

    def products(self, numbers: Any, addresses: Any) -> Any:
        return np.einsum("ij,ij->i", self.entity_vectors(numbers), self.address_vectors(addresses))


def new_model(hp: dict[str, Any], generator: Any) -> Model:
    width, hidden = hp["vector_dim"], max(hp["vector_dim"], 64)
    sizes = [32, *[hidden] * hp["num_ip_encoder_layers"], width]
    layers = [
        (generator.normal(0, np.sqrt(2 / before), (before, after)).astype(np.float32), np.zeros(after, np.float32))
        for before, after in itertools.pairwise(sizes)
    ]
    entities = generator.standard_normal((hp["num_entity_vectors"], width), np.float32) * np.float32(0.5 / np.sqrt(width))
    return Model(entities, layers)


# -- training -------------------------------------------------------------------------------------------------------------


def train(run: Run) -> None:
    hp, report = run.hp, run.report
    numbers, addresses = _pairs_of_channel(run, "train")
    validation = _pairs_of_channel(run, "validation") if "validation" in run.channels else None
    if not run.cluster.is_leader:
        return
    rows = len(numbers)
    batch = min(hp["mini_batch_size"], max(_SMALLEST_BATCH, rows // _BATCHES), rows)
    if batch < hp["mini_batch_size"]:
        report.say(f"Batches of {batch} rows instead of mini_batch_size {hp['mini_batch_size']}: the data have {rows} rows.")
    generator = np.random.default_rng(0)
    learner = Learner(new_model(hp, generator), hp, generator)
    for epoch in range(hp["epochs"]):
        began, total, order = time.time(), 0.0, generator.permutation(rows)
        for step, start in enumerate(range(0, rows, batch)):
            chosen = order[start : start + batch]
            loss = learner.step(numbers[chosen], addresses[chosen])
            total += loss * len(chosen)
            if (step + 1) % hp["batch_metrics_publish_interval"] == 0:
                report.quality("train", "xentropy", loss, epoch=epoch, batch=step)
            if run.is_stopping:
                break
        report.metrics({"train_xentropy": total / rows}, epoch=epoch)
        report.quality("train", "xentropy", total / rows, epoch=epoch)
        if validation is not None:
            _tell(run, learner.model, validation, addresses, epoch)
        report.progress((epoch + 1) / hp["epochs"])
        report.throughput(rows, time.time() - began)
        if run.is_stopping:
            break
    save(run.model_dir / MODEL, learner.model)


def _pairs_of_channel(run: Run, name: str) -> tuple[Any, Any]:
    """(entity numbers, addresses) of a channel, of all hosts on the first."""
    channel = run.channels[name]
    entities: list[str] = []
    addresses: list[Any] = []
    for file, data in channel.objects():
        try:
            found = pairs(data)
        except Unreadable as error:
            raise ClientError(
                f"Unable to read data channel '{name}'. Requested content-type is '{channel.content_type}'. "
                "Please verify the data matches the requested content-type.",
                f"{file}: {error}",
                "Unreadable",
            ) from error
        entities += found[0]
        addresses.append(found[1])
    parts = run.cluster.gather((entities, addresses)) if channel.is_sharded else [(entities, addresses)]
    if parts is None:
        return np.zeros(0, np.int64), np.zeros(0, np.uint32)
    entities = [entity for part in parts for entity in part[0]]
    if not entities:
        raise ClientError(f"No data in channel '{name}'.")
    joined = np.concatenate([address for part in parts for address in part[1]])
    return entity_numbers(entities, run.hp["num_entity_vectors"]), joined


def _tell(run: Run, model: Model, pairs_seen: tuple[Any, Any], known: Any, epoch: int) -> None:
    """How well seen pairs stand out from pairs with addresses of others."""
    numbers, addresses = pairs_seen
    generator = np.random.default_rng(epoch)
    made_up = np.concatenate([generator.choice(known, len(numbers)), generator.integers(0, 2**32, len(numbers), np.uint32)])
    scores = np.concatenate([model.products(numbers, addresses), model.products(np.tile(numbers, 2), made_up)])
    truth = np.arange(len(scores)) < len(numbers)
    run.report.quality("validation", "discriminator_auc", quality.roc_auc(truth, scores), epoch=epoch, kind="score")


class Learner:
    def __init__(self, model: Model, hp: dict[str, Any], generator: Any) -> None:
        self.model, self._hp, self._generator = model, hp, generator
        self._entity_moments = np.zeros_like(model.entities), np.zeros_like(model.entities)
        self._moments = [[np.zeros_like(part) for part in (*layer, *layer)] for layer in model.layers]
        self._steps = 0

    def step(self, numbers: Any, addresses: Any) -> float:
        """One batch of seen pairs with its made-up ones; the mean cross entropy."""
        hp, count = self._hp, len(numbers)
        random = self._generator.integers(0, 2**32, count * hp["random_negative_sampling_rate"], np.uint32)
        shuffled = self._generator.choice(addresses, count * hp["shuffled_negative_sampling_rate"])
        who = np.concatenate(
            [
                numbers,
                np.tile(numbers, hp["random_negative_sampling_rate"]),
                np.tile(numbers, hp["shuffled_negative_sampling_rate"]),
            ]
        )
        truth = (np.arange(len(who)) < count).astype(np.float32)
        outputs = self.model._through(bits_of(np.concatenate([addresses, random, shuffled])))
        vectors, entities = outputs[-1], self.model.entities[who]
        product = np.einsum("ij,ij->i", entities, vectors)
        error = ((0.5 * (1 + np.tanh(0.5 * product)) - truth) / len(who)).astype(np.float32)
        self._steps += 1
        self._move_layers(outputs, error[:, None] * entities)
        self._move_entities(who, error[:, None] * vectors)
        return float(np.mean(np.logaddexp(0, product) - truth * product))

    def _move_layers(self, outputs: list[Any], slope: Any) -> None:
        for number in reversed(range(len(self.model.layers))):
            weights, bias = self.model.layers[number]
            below = (slope @ weights.T) * (outputs[number] > 0) if number else None
            moments = self._moments[number]
            for value, part, first, second in (
                (weights, outputs[number].T @ slope, moments[0], moments[2]),
                (bias, slope.sum(axis=0), moments[1], moments[3]),
            ):
                value -= self._adam(part + self._hp["weight_decay"] * value, first, second)
            slope = below

    def _move_entities(self, who: Any, slope: Any) -> None:
        """Only the entities of the batch move."""
        rows, places = np.unique(who, return_inverse=True)
        summed = np.zeros((len(rows), slope.shape[1]), np.float32)
        np.add.at(summed, places, slope)
        summed += self._hp["weight_decay"] * self.model.entities[rows]
        first, second = (moment[rows] for moment in self._entity_moments)
        self.model.entities[rows] -= self._adam(summed, first, second)
        self._entity_moments[0][rows], self._entity_moments[1][rows] = first, second

    def _adam(self, slope: Any, first: Any, second: Any) -> Any:
        first *= 0.9
        first += 0.1 * slope
        second *= 0.999
        second += 0.001 * slope**2
        steps = self._steps
        return self._hp["learning_rate"] * (first / (1 - 0.9**steps)) / (np.sqrt(second / (1 - 0.999**steps)) + 1e-8)


# -- data -----------------------------------------------------------------------------------------------------------------


def pairs(data: bytes) -> tuple[list[str], Any]:
    """(entities, addresses as numbers) of `entity,ipv4` lines. Raises Unreadable."""
    entities, addresses = [], []
    for number, row in enumerate(csv.reader(io.StringIO(data.decode())), 1):
        if not row:
            continue
        if len(row) != 2:
            raise Unreadable(f"line {number} has {len(row)} columns, not entity and address")
        entities.append(row[0].strip())
        addresses.append(address_number(row[1].strip()))
    return entities, np.array(addresses, np.uint32)


def address_number(written: str) -> int:
    parts = written.split(".")
    if len(parts) != 4 or not all(part.isdecimal() and int(part) < 256 for part in parts):
        raise Unreadable(f"{written[:40]!r} is not an IPv4 address")
    return int.from_bytes(bytes(int(part) for part in parts), "big")


def entity_numbers(entities: Sequence[str], count: int) -> Any:
    """Each entity's vector: its hash, so that nobody needs to know all entities beforehand."""
    known: dict[str, int] = {}
    return np.array([known[one] if one in known else known.setdefault(one, _hashed(one, count)) for one in entities], np.int64)


def _hashed(entity: str, count: int) -> int:
    return int.from_bytes(hashlib.blake2b(entity.encode(), digest_size=8).digest(), "big") % count


def bits_of(addresses: Any) -> Any:
    """n x 32 of -1 and 1."""
    return (((addresses[:, None] >> _SHIFTS) & 1).astype(np.float32) * 2 - 1).astype(np.float32)


# -- the artefact and inference -------------------------------------------------------------------------------------------


def save(path: Path, model: Model) -> None:
    arrays = {
        f"layer_{number}_{part}": value
        for number, layer in enumerate(model.layers)
        for part, value in zip("wb", layer, strict=True)
    }
    with path.open("wb") as file:
        np.savez(file, about=np.array(json.dumps({"layers": len(model.layers)})), entities=model.entities, **arrays)


def load(model_dir: Path) -> Model:
    with np.load(next(iter(sorted(model_dir.glob("model_algo-*")))), allow_pickle=False) as found:
        count = json.loads(str(found["about"]))["layers"]
        return Model(found["entities"], [(found[f"layer_{number}_w"], found[f"layer_{number}_b"]) for number in range(count)])


def predict(model: Model, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
    """`dot_product`: the lower, the less usual the address for the entity; with `verbose=true` the two vectors too."""
    try:
        entities, addresses = _request(body, content_type)
    except (Unreadable, UnicodeDecodeError) as error:
        raise RequestError(f"unable to evaluate payload provided: {error}") from error
    numbers = entity_numbers(entities, len(model.entities))
    found = [{"dot_product": float(value)} for value in model.products(numbers, addresses)]
    if not accept_type(accept, (JSON, JSONLINES)).is_set("verbose"):
        return respond(found, accept, (JSON, JSONLINES))
    vectors = zip(found, model.address_vectors(addresses), model.entity_vectors(numbers), strict=True)
    return respond(
        [{**one, "ip_embedding": address.tolist(), "entity_embedding": entity.tolist()} for one, address, entity in vectors],
        accept,
        (JSON, JSONLINES),
    )


def _request(body: bytes, content_type: str) -> tuple[list[str], Any]:
    kind = parse(content_type or CSV)
    if kind.name == CSV:
        return pairs(body)
    if kind.name not in (JSON, JSONLINES):
        raise RequestError(f"Content-type {kind.name} not supported. Supported content-type is {CSV}, {JSON}, {JSONLINES}", 415)
    entities, addresses = [], []
    for instance in json_instances(body, kind):
        features = instance.get("features") if isinstance(instance, dict) else instance
        if not isinstance(features, list) or len(features) != 2:
            raise Unreadable("an instance's features are not entity and address")
        entities.append(str(features[0]))
        addresses.append(address_number(str(features[1])))
    return entities, np.array(addresses, np.uint32)
