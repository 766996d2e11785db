"""Sequence to Sequence: from one sequence of tokens to another, such as translation or summaries.

Source: SageMaker Developer Guide, "Sequence-to-Sequence algorithm": hyperparameters, channels, formats, metrics, responses.
Differs: encoder_type and decoder_type cnn are refused. Residual connections and attention in upper layers only are not built: other values than
the defaults of rnn_residual_connections are refused, rnn_attention_in_upper_layers and rnn_first_residual_layer change nothing. xavier_factor_type is always
avg, and training_metric tells nothing: the log has the perplexity.
"""

from __future__ import annotations

import copy
import json
import math
import random
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pilvi_algorithms import deep
from pilvi_algorithms.kit import (
    JSON,
    JSONLINES,
    RECORDIO,
    ChannelRule,
    ClientError,
    RequestError,
    Run,
    choice,
    flag,
    integer,
    real,
    recordio,
)
from pilvi_algorithms.kit.content_type import parse
from pilvi_algorithms.translator import BOS, EOS, PAD, UNK, Translator, bleu
from torch import nn
from torch.nn import functional

NAME = "AWS/Seq2Seq"
HYPERPARAMETERS = (
    integer("batch_size", 1, default=64),
    integer("beam_size", 1, default=5),
    integer("bleu_sample_size", 0, default=0),
    integer("bucket_width", 1, default=10),
    flag("bucketing_enabled", True),
    integer("checkpoint_frequency_num_batches", 1, default=1000),
    integer("checkpoint_threshold", 1, default=3),
    real("clip_gradient", 0, default=1.0),
    choice("cnn_activation_type", "glu", "relu", "softrelu", "sigmoid", "tanh", default="glu"),
    real("cnn_hidden_dropout", 0, 1, 0.0),
    integer("cnn_kernel_width_decoder", 1, default=5),
    integer("cnn_kernel_width_encoder", 1, default=3),
    integer("cnn_num_hidden", 1, default=512),
    choice("decoder_type", "rnn", "cnn", default="rnn"),
    real("embed_dropout_source", 0, 1, 0.0),
    real("embed_dropout_target", 0, 1, 0.0),
    choice("encoder_type", "rnn", "cnn", default="rnn"),
    real("fixed_rate_lr_half_life", 0, default=10.0, open_low=True),
    real("learning_rate", 0, default=0.0003, open_low=True),
    choice("loss_type", "cross-entropy", default="cross-entropy"),
    choice("lr_scheduler_type", "plateau_reduce", "fixed_rate_inv_t", "fixed_rate_inv_sqrt_t", default="plateau_reduce"),
    integer("max_num_batches", 1),
    integer("max_num_epochs", 1),
    integer("max_seq_len_source", 1, default=100),
    integer("max_seq_len_target", 1, default=100),
    integer("min_num_epochs", 0, default=0),
    real("momentum", 0, 1),
    integer("num_embed_source", 1, default=512),
    integer("num_embed_target", 1, default=512),
    integer("num_layers_decoder", 1, default=1),
    integer("num_layers_encoder", 1, default=1),
    choice("optimized_metric", "perplexity", "accuracy", "bleu", default="perplexity"),
    choice("optimizer_type", "adam", "sgd", "rmsprop", default="adam"),
    real("plateau_reduce_lr_factor", 0, 1, 0.5, open_low=True),
    integer("plateau_reduce_lr_threshold", 1, default=3),
    flag("rnn_attention_in_upper_layers", True),
    integer("rnn_attention_num_hidden", 1),
    choice("rnn_attention_type", "mlp", "dot", "fixed", "bilinear", default="mlp"),
    choice("rnn_cell_type", "lstm", "gru", default="lstm"),
    choice("rnn_decoder_state_init", "last", "avg", "zero", default="last"),
    real("rnn_decoder_hidden_dropout", 0, 1, 0.0),
    integer("rnn_first_residual_layer", 1, default=2),
    integer("rnn_num_hidden", 1, default=1024),
    flag("rnn_residual_connections", False),
    choice("training_metric", "perplexity", "accuracy", default="perplexity"),
    real("weight_decay", 0, default=0.0),
    real("weight_init_scale", 0, default=2.34),
    choice("weight_init_type", "xavier", "uniform", default="xavier"),
    choice("xavier_factor_type", "in", "out", "avg", default="in"),
)
CHANNELS = (
    ChannelRule("train", True, (RECORDIO,)),
    ChannelRule("validation", True, (RECORDIO,)),
    ChannelRule("vocab", is_required=True),
)
VOCABULARIES = ("vocab.src.json", "vocab.trg.json")
_NETWORK = (
    "num_embed_source", "num_embed_target", "num_layers_encoder", "num_layers_decoder", "rnn_num_hidden", "rnn_cell_type", "rnn_attention_type",
    "rnn_attention_num_hidden", "rnn_decoder_state_init", "embed_dropout_source", "embed_dropout_target", "rnn_decoder_hidden_dropout",
    "weight_init_type", "weight_init_scale", "max_seq_len_source", "max_seq_len_target", "beam_size",
)  # fmt: skip
_SMALL = 300
_MOST_EPOCHS = 1000
Pairs = list[tuple[list[int], list[int]]]


def train(run: Run) -> None:
    deep.seed()
    hp, report = run.hp, run.report
    if run.cluster.is_many:
        raise ClientError("Seq2Seq trains on one instance.")
    if "cnn" in (hp["encoder_type"], hp["decoder_type"]) or hp["rnn_residual_connections"]:
        raise ClientError("encoder_type and decoder_type cnn and rnn_residual_connections are not supported by this server yet.")
    vocabularies = [_vocabulary(run, name) for name in VOCABULARIES]
    config = {
        "algorithm": "seq2seq",
        "source_vocab": max(vocabularies[0].values()) + 1,
        "target_vocab": max(vocabularies[1].values()) + 1,
        **{name: hp[name] for name in _NETWORK},
    }
    if hp["rnn_num_hidden"] <= _SMALL:
        deep.one_thread()
    found, held_out = _read(run, "train", config), _read(run, "validation", config)
    network = Translator(config).to(deep.device())
    report.say(
        f"Training pairs: {len(found)}; vocabularies: {[len(one) for one in vocabularies]}. Device: {deep.describe_device()}"
    )
    Training(run, config, network, held_out).go(found)
    deep.save(run.model_dir, config, network)
    for name, words in zip(VOCABULARIES, vocabularies, strict=True):
        (run.model_dir / name).write_text(json.dumps(words))


def _vocabulary(run: Run, name: str) -> dict[str, int]:
    path = run.channels["vocab"].folder / name
    if not path.is_file():
        raise ClientError(f"The channel 'vocab' must have the file {name}.")
    try:
        found = {str(word): int(number) for word, number in json.loads(path.read_text()).items()}
    except (ValueError, AttributeError, TypeError) as error:
        raise ClientError(f"{name} must be a JSON map from tokens to integers: {error}") from None
    for word, number in (("<pad>", PAD), ("<unk>", UNK), ("<s>", BOS), ("</s>", EOS)):
        if found.get(word, number) != number:
            raise ClientError(f"{name} must have {word} as {number}, but it is {found[word]}.")
    return found


def _read(run: Run, name: str, config: dict[str, Any]) -> Pairs:
    """Pairs of token lists without the marks of begin and end, not longer than the hyperparameters allow. Raises ClientError."""
    found: Pairs = []
    longest = config["max_seq_len_source"], config["max_seq_len_target"]
    count = 0
    for file, data in run.channels[name].objects():
        try:
            for record in recordio.read(data):
                count += 1
                pair = [_plain_tokens(record, role) for role in ("source", "target")]
                for tokens, most, role in zip(
                    pair, (config["source_vocab"], config["target_vocab"]), ("source", "target"), strict=True
                ):
                    if tokens and (max(tokens) >= most or min(tokens) < 0):
                        raise ClientError(
                            f"A {role} of {file} in channel '{name}' has a token that is not in the vocabulary: {max(tokens)}"
                        )
                if pair[0] and pair[1] and all(len(tokens) <= most for tokens, most in zip(pair, longest, strict=True)):
                    found.append((pair[0], pair[1]))
        except (recordio.BadRecord, KeyError, AttributeError) as error:
            raise ClientError(
                f"{file} in channel '{name}' must hold records with int32 features source and target: {error}"
            ) from None
    if not found:
        raise ClientError(f"No pairs in channel '{name}' that are not longer than max_seq_len_source and max_seq_len_target.")
    if len(found) < count:
        run.report.say(f"{count - len(found)} of {count} pairs in channel '{name}' are empty or too long and left out.", "WARNING")
    return found


def _plain_tokens(record: Any, role: str) -> list[int]:
    return [int(token) for token in record.features[role].values if int(token) not in (PAD, BOS, EOS)]


def batches(found: Pairs, size: int, width: int, rng: random.Random) -> Iterator[tuple[torch.Tensor, torch.Tensor, torch.Tensor]]:
    """Source, previous words, next words; pairs of like length (in buckets of `width`) together."""
    order = list(range(len(found)))
    rng.shuffle(order)
    order.sort(key=lambda number: (len(found[number][0]) // width, len(found[number][1]) // width))
    chunks = [order[at : at + size] for at in range(0, len(order), size)]
    rng.shuffle(chunks)
    device = deep.device()
    for chunk in chunks:
        sources, targets = zip(*(found[number] for number in chunk), strict=True)
        yield (
            _padded(sources).to(device),
            _padded([[BOS, *target] for target in targets]).to(device),
            _padded([[*target, EOS] for target in targets]).to(device),
        )


def _padded(rows: Any) -> torch.Tensor:
    longest = max(len(row) for row in rows)
    return torch.tensor([list(row) + [PAD] * (longest - len(row)) for row in rows])


class Training:
    """One run: batches, and every so many a checkpoint that measures, lowers the rate, keeps the best, and may end it."""

    def __init__(self, run: Run, config: dict[str, Any], network: Translator, held_out: Pairs) -> None:
        hp = run.hp
        self.run, self.config, self.network, self.held_out = run, config, network, held_out
        self.optimizer = deep.optimizer_for(
            hp["optimizer_type"],
            network.parameters(),
            hp["learning_rate"],
            momentum=hp["momentum"] or 0.0,
            weight_decay=hp["weight_decay"],
        )
        self.rate = hp["learning_rate"]
        self.done = self.checkpoints = self.waited = 0
        self.best = -math.inf
        self.kept: Any = None
        self.epoch = 0

    def go(self, found: Pairs) -> None:
        hp, report = self.run.hp, self.run.report
        width = hp["bucket_width"] if hp["bucketing_enabled"] else max(hp["max_seq_len_source"], hp["max_seq_len_target"]) + 1
        is_over, since = False, self.done
        for self.epoch in range(hp["max_num_epochs"] or _MOST_EPOCHS):
            begun, losses, right, words = time.time(), 0.0, 0, 0
            for batch in batches(found, hp["batch_size"], width, random.Random(self.epoch)):
                loss, hits, count = self._step(batch)
                losses, right, words = losses + loss * count, right + hits, words + count
                if self.done % hp["checkpoint_frequency_num_batches"] == 0:
                    since, is_over = self.done, self._checkpoint()
                if is_over or self.run.is_stopping or self.done == hp["max_num_batches"]:
                    is_over = True
                    break
            report.say(f"Epoch[{self.epoch}] Train-perplexity={math.exp(min(losses / max(words, 1), 50)):f}")
            report.say(f"Epoch[{self.epoch}] Train-accuracy={right / max(words, 1):f}")
            report.say(f"Epoch[{self.epoch}] Time cost={time.time() - begun:.3f}")
            if is_over:
                break
        if since != self.done or self.kept is None:
            self._checkpoint()
        self.network.load_state_dict(self.kept)

    def _step(self, batch: tuple[torch.Tensor, torch.Tensor, torch.Tensor]) -> tuple[float, int, int]:
        hp, (source, previous, following) = self.run.hp, batch
        self.network.train()
        if hp["lr_scheduler_type"] != "plateau_reduce":
            # Half the rate after fixed_rate_lr_half_life checkpoints.
            age = self.done / hp["checkpoint_frequency_num_batches"] / hp["fixed_rate_lr_half_life"]
            self.rate = hp["learning_rate"] / (
                (1 + age) if hp["lr_scheduler_type"] == "fixed_rate_inv_t" else math.sqrt(1 + 3 * age)
            )
        deep.set_learning_rate(self.optimizer, self.rate)
        logits = self.network(source, previous)
        loss = functional.cross_entropy(logits.flatten(0, 1), following.flatten(), ignore_index=PAD)
        self.optimizer.zero_grad()
        loss.backward()
        if hp["clip_gradient"]:
            nn.utils.clip_grad_norm_(self.network.parameters(), hp["clip_gradient"])
        self.optimizer.step()
        self.done += 1
        value = float(loss.detach())
        if not math.isfinite(value):
            raise ClientError("The loss is not a number any more: try a smaller learning_rate.")
        seen = following != PAD
        return value, int(((logits.argmax(2) == following) & seen).sum()), int(seen.sum())

    def _checkpoint(self) -> bool:
        """Whether training is over."""
        hp, report = self.run.hp, self.run.report
        self.checkpoints += 1
        measured = evaluate(self.network, self.held_out, hp["batch_size"])
        if hp["optimized_metric"] == "bleu":
            sample = self.held_out[: hp["bleu_sample_size"] or len(self.held_out)]
            said = [self.network.translate(source, 1, hp["max_seq_len_target"])[0] for source, _ in sample]
            measured["bleu"] = bleu(said, [target for _, target in sample])
        for name, value in measured.items():
            report.say(f"Checkpoint [{self.checkpoints}] Validation-{name}={value:f}")
        score = measured[hp["optimized_metric"]] * (-1 if hp["optimized_metric"] == "perplexity" else 1)
        if score > self.best:
            self.best, self.waited, self.kept = score, 0, copy.deepcopy(self.network.state_dict())
            return False
        self.waited += 1
        if hp["lr_scheduler_type"] == "plateau_reduce" and self.waited % hp["plateau_reduce_lr_threshold"] == 0:
            self.rate *= hp["plateau_reduce_lr_factor"]
            report.say(f"Learning rate lowered to {self.rate:g}")
        if self.waited >= hp["checkpoint_threshold"] and self.epoch >= hp["min_num_epochs"]:
            report.say(
                f"Maximum number of not improved checkpoints ({hp['checkpoint_threshold']}) reached: {self.waited}; stopping."
            )
            return True
        return False


@torch.no_grad()
def evaluate(network: Translator, found: Pairs, size: int) -> dict[str, float]:
    network.eval()
    loss, right, words = 0.0, 0, 0
    for source, previous, following in batches(found, size, 10, random.Random(0)):
        logits = network(source, previous)
        seen = following != PAD
        loss += float(functional.cross_entropy(logits.flatten(0, 1), following.flatten(), ignore_index=PAD, reduction="sum"))
        right += int(((logits.argmax(2) == following) & seen).sum())
        words += int(seen.sum())
    return {"perplexity": math.exp(min(loss / words, 50)), "accuracy": right / words}


# -- inference ------------------------------------------------------------------------------------------------------------


class Model:
    def __init__(self, folder: Path) -> None:
        self.config = deep.read_config(folder)
        self.network = Translator(self.config)
        self.network.load_state_dict(deep.read_state(folder))
        self.network.to(deep.device()).eval()
        self.source, self.target = (json.loads((folder / name).read_text()) for name in VOCABULARIES)
        self.words = {number: word for word, number in self.target.items()}

    def translate(self, tokens: list[int]) -> tuple[list[int], Any]:
        return self.network.translate(tokens, self.config["beam_size"], self.config["max_seq_len_target"])

    def translate_text(self, text: str) -> tuple[str, Any]:
        found, matrix = self.translate([self.source.get(word, UNK) for word in text.split()])
        return " ".join(self.words.get(number, "<unk>") for number in found), matrix


def load(model_dir: Path) -> Model:
    return Model(model_dir)


def predict(model: Model, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
    """Texts -> {"target": ...} (with "matrix" where the attention is asked for), or records of tokens -> records of tokens."""
    kind = parse(content_type or JSON).name
    if accept not in ("", "*/*") and parse(accept).name != kind:
        raise RequestError(f"Accept type {accept} not supported: the response has the request's type, {kind}", 406)
    try:
        if kind == JSON:
            request = json.loads(body)
            wants_matrix = str((request.get("configuration") or {}).get("attention_matrix", "")).lower() == "true"
            texts = [instance["data"] for instance in request["instances"]]
        elif kind == JSONLINES:
            wants_matrix = False
            texts = [json.loads(line)["source"] for line in body.decode().splitlines() if line.strip()]
        elif kind == RECORDIO:
            return _records(model, body), kind
        else:
            raise RequestError(
                f"Content-type {kind} not supported. Supported content-types are {JSON}, {JSONLINES}, {RECORDIO}", 415
            )
        found = [model.translate_text(text) for text in texts]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"unable to evaluate payload provided: {error}") from error
    answers = [{"target": text, **({"matrix": matrix} if wants_matrix else {})} for text, matrix in found]
    if kind == JSON:
        return json.dumps({"predictions": answers}).encode(), kind
    return "".join(json.dumps(answer) + "\n" for answer in answers).encode(), kind


def _records(model: Model, body: bytes) -> bytes:
    found = [model.translate(_plain_tokens(record, "source"))[0] for record in recordio.read(body)]
    return recordio.write(recordio.Record({"target": recordio.Tensor(np.array(tokens, np.int32))}) for tokens in found)
