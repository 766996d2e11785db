"""DeepAR: one recurrent network over many time series, whose output at each step is a distribution.

Source: SageMaker Developer Guide, "DeepAR forecasting algorithm"; Salinas et al., "DeepAR: Probabilistic forecasting with autoregressive
recurrent networks" (2017).
Differs: an epoch draws as many windows as the series hold stretches of prediction_length, at least 4 batches. Lags are ours, in AWS's spirit.
"""

from __future__ import annotations

import copy
import json
import math
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pilvi_algorithms import deep
from pilvi_algorithms.kit import (
    JSON,
    JSONLINES,
    PARQUET,
    ChannelRule,
    ClientError,
    RequestError,
    Run,
    choice,
    integer,
    json_value,
    real,
    text,
)
from pilvi_algorithms.kit.content_type import parse
from pilvi_algorithms.series import BadSeries, Frequency, Series, records, series_of
from torch import nn
from torch.nn import functional

NAME = "AWS/DeepAR"
LIKELIHOODS = ("student-T", "gaussian", "beta", "negative-binomial", "deterministic-L1")
HYPERPARAMETERS = (
    integer("context_length", 1, required=True),
    integer("epochs", 1, required=True),
    integer("prediction_length", 1, required=True),
    text("time_freq", required=True),
    text("cardinality", "auto"),
    real("dropout_rate", 0, 1, 0.1),
    integer("early_stopping_patience", 1),
    integer("embedding_dimension", 1, default=10),
    real("learning_rate", 0, default=1e-3, open_low=True),
    choice("likelihood", *LIKELIHOODS, default="student-T"),
    integer("mini_batch_size", 1, default=128),
    integer("num_cells", 1, default=40),
    text("num_dynamic_feat", "auto"),
    integer("num_eval_samples", 1, default=100),
    integer("num_layers", 1, default=2),
    json_value("test_quantiles", default=[0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]),
)
CHANNELS = (
    ChannelRule("train", True, ("json", JSON, JSONLINES, PARQUET, "auto")),
    ChannelRule("test", False, ("json", JSON, JSONLINES, PARQUET, "auto")),
)
_LEAST_BATCHES = 4
_AT_ONCE = 4096
_SMALL_CELLS = 128


class Network(nn.Module):
    """LSTM over (lagged values, calendar, age, scale, categories, dynamic features) -> parameters of a distribution."""

    def __init__(self, config: dict[str, Any]) -> None:
        super().__init__()
        self.config = config
        self.embeddings = nn.ModuleList(nn.Embedding(count, config["embedding_dimension"]) for count in config["cardinality"])
        width = len(config["lags"]) + config["calendar"] + 2 + config["num_dynamic_feat"]
        width += len(config["cardinality"]) * config["embedding_dimension"]
        dropout = config["dropout_rate"] if config["num_layers"] > 1 else 0.0
        self.lstm = nn.LSTM(width, config["num_cells"], config["num_layers"], batch_first=True, dropout=dropout)
        self.dropout = nn.Dropout(config["dropout_rate"])
        self.out = nn.Linear(config["num_cells"], 3)

    def forward(self, lagged: Any, known: Any, cat: Any, scale: Any, state: Any = None) -> tuple[Any, Any]:
        """lagged, known: batch x time x features; scale: batch x 1. The raw parameters and the LSTM's state."""
        steps = lagged.shape[1]
        parts = [lagged, known, scale.log()[:, None].expand(-1, steps, -1)]
        parts += [table(cat[:, number])[:, None].expand(-1, steps, -1) for number, table in enumerate(self.embeddings)]
        hidden, state = self.lstm(torch.cat(parts, 2), state)
        return self.out(self.dropout(hidden)), state


def distribution(kind: str, raw: Any, scale: Any) -> Any:
    """torch's distribution of the values themselves; `scale` is broadcast over raw's steps. None for deterministic-L1."""
    a, b, c = raw.unbind(-1)
    spread = functional.softplus(b) + 1e-5
    if kind == "student-T":
        return torch.distributions.StudentT(2 + functional.softplus(c), a * scale, spread * scale)
    if kind == "gaussian":
        return torch.distributions.Normal(a * scale, spread * scale)
    if kind == "beta":
        return torch.distributions.Beta(functional.softplus(a) + 1e-3, spread + 1e-3)
    if kind == "negative-binomial":
        mean = functional.softplus(a) * scale + 1e-6
        count = 1 / spread
        return torch.distributions.NegativeBinomial(count, logits=(mean / count).log())
    return None


def losses(kind: str, raw: Any, scale: Any, y: Any) -> Any:
    found = distribution(kind, raw, scale)
    if found is None:
        return (raw[..., 0] * scale - y).abs() / scale
    if kind == "beta":
        y = y.clamp(1e-4, 1 - 1e-4)
    return -found.log_prob(y)


# -- windows --------------------------------------------------------------------------------------------------------------


class Windows:
    """Series made ready: padded on the left so that every lag of every window is inside."""

    def __init__(self, found: Sequence[Series], config: dict[str, Any]) -> None:
        self.config = config
        self.pad = max(config["lags"]) + config["context_length"] + config["prediction_length"]
        self._frequency = Frequency.parse(config["time_freq"])
        self.series = found
        self.values = [np.concatenate((np.full(self.pad, np.nan), one.target)) for one in found]
        self.default_scale = [_mean_size(one.target) for one in found]
        self.known = [self._known(one) for one in found]
        self.cat = np.array([one.cat if config["cardinality"] else () for one in found], np.int64).reshape(len(found), -1)

    def _known(self, one: Series) -> Any:
        """Calendar, age and dynamic features from the padding to prediction_length after the end."""
        config, total = self.config, self.pad + len(one) + self.config["prediction_length"]
        instants = self._frequency.instants(one.start, -self.pad, total)
        age = np.log10(2.0 + np.maximum(np.arange(total) - self.pad, 0))[:, None] - 1.5
        parts = [self._frequency.calendar(instants), age.astype(np.float32)]
        if config["num_dynamic_feat"]:
            rows = np.zeros((total, config["num_dynamic_feat"]), np.float32)
            given = one.features[:, : total - self.pad].T
            rows[self.pad : self.pad + len(given)] = given
            parts.append(rows)
        return np.concatenate(parts, 1)

    def batch(self, picks: Sequence[tuple[int, int]], steps: int) -> dict[str, Any]:
        """(series, end) pairs -> windows of `steps` before each end; ends count from the series' first value."""
        lags = np.array(self.config["lags"])
        horizon = steps - self.config["context_length"]
        y, lagged, known, scales = [], [], [], []
        for number, end in picks:
            at = self.pad + end - steps + np.arange(steps)
            values = self.values[number]
            window = np.where(at < len(values), values[np.minimum(at, len(values) - 1)], np.nan)
            before = values[np.minimum(at[:, None] - lags, len(values) - 1)]
            scale = (
                _mean_size(window[: steps - horizon], self.default_scale[number]) if self.config["likelihood"] != "beta" else 1.0
            )
            y.append(window)
            lagged.append(np.nan_to_num(before) / scale)
            known.append(self.known[number][at])
            scales.append(scale)
        numbers = [number for number, _ in picks]
        target = np.array(y, np.float32)
        return {
            "y": torch.from_numpy(np.nan_to_num(target)),
            "seen": torch.from_numpy(~np.isnan(target)).float(),
            "lagged": torch.from_numpy(np.array(lagged, np.float32)),
            "known": torch.from_numpy(np.array(known, np.float32)),
            "scale": torch.tensor(scales, dtype=torch.float32)[:, None],
            "cat": torch.from_numpy(self.cat[numbers]),
        }


def _mean_size(values: Any, otherwise: float = 1.0) -> float:
    seen = np.abs(values[~np.isnan(values)])
    size = float(seen.mean()) if len(seen) else 0.0
    return size if size > 1e-10 else otherwise


# -- training -------------------------------------------------------------------------------------------------------------


def train(run: Run) -> None:
    hp, report = run.hp, run.report
    deep.seed()
    if hp["num_cells"] <= _SMALL_CELLS:
        deep.one_thread()
    try:
        frequency = Frequency.parse(hp["time_freq"])
    except BadSeries as error:
        raise ClientError(str(error)) from None
    found = _read(run, "train", frequency)
    assert found is not None
    config = config_of(hp, found, frequency)
    report.say(f"Number of time series: {len(found)}. Device: {deep.describe_device()}")
    network = Network(config).to(deep.device())
    _learn(run, config, network, [one for one in found if np.isfinite(one.target).any()])
    if run.cluster.is_leader:
        deep.save(run.model_dir, config, network)
    if (test := _read(run, "test", frequency)) is not None:
        _check(test, config, "test")
        for name, value in evaluate(network, config, test, hp["num_eval_samples"], hp["test_quantiles"]).items():
            report.say(f"#test_score ({report.host}, {name}): {value}")


def _read(run: Run, name: str, frequency: Frequency) -> list[Series] | None:
    """This host's share of a channel's series. Raises ClientError."""
    if (channel := run.channel(name)) is None:
        return None
    try:
        found = [series_of(record, frequency) for file, data in channel.objects() for record in records(file, data)]
    except (BadSeries, UnicodeDecodeError) as error:
        raise ClientError(f"Unable to read data channel '{name}': {error}") from None
    if not found:
        raise ClientError(f"No time series in channel '{name}'.")
    return found


def config_of(hp: dict[str, Any], found: list[Series], frequency: Frequency) -> dict[str, Any]:
    """What the model's file keeps; `auto` is settled by the data. Raises ClientError."""
    longest = max(len(one) for one in found)
    if not any(np.isfinite(one.target).any() for one in found):
        raise ClientError("All time series in channel 'train' are empty.")
    config = {
        **{name: hp[name] for name in ("context_length", "prediction_length", "time_freq", "dropout_rate", "embedding_dimension")},
        **{name: hp[name] for name in ("likelihood", "num_cells", "num_layers")},
        "algorithm": "forecasting-deepar",
        "cardinality": _cardinality(hp["cardinality"], found),
        "num_dynamic_feat": _dynamic(hp["num_dynamic_feat"], found),
        "lags": frequency.lags(max(1, longest - hp["prediction_length"])),
        "calendar": frequency.calendar(frequency.instants(found[0].start, 0, 1)).shape[1],
    }
    _check(found, config, "train")
    if config["likelihood"] == "beta" and any(_outside(one, 0, 1) for one in found):
        raise ClientError("likelihood beta needs targets between 0 and 1.")
    if config["likelihood"] == "negative-binomial" and any(_outside(one, 0, math.inf) or _is_fractional(one) for one in found):
        raise ClientError("likelihood negative-binomial needs targets that are counts: integers from 0.")
    return config


def _outside(one: Series, low: float, high: float) -> bool:
    return bool((np.nan_to_num(one.target, nan=low) < low).any() or (np.nan_to_num(one.target, nan=low) > high).any())


def _is_fractional(one: Series) -> bool:
    seen = one.target[np.isfinite(one.target)]
    return bool((seen != np.round(seen)).any())


def _cardinality(given: str, found: list[Series]) -> list[int]:
    if given == "ignore":
        return []
    widths = {len(one.cat) for one in found}
    if len(widths) > 1:
        raise ClientError("cat must have the same number of categories in all time series.")
    seen = [max(one.cat[place] for one in found) + 1 for place in range(widths.pop())]
    if given == "auto":
        return seen
    try:
        told = json.loads(given)
        told = [int(one) for one in (told if isinstance(told, list) else [told])]
    except (ValueError, TypeError):
        raise ClientError(f"cardinality must be auto, ignore or a list of integers, but it is {given}") from None
    if len(told) != len(seen) or any(most < need for most, need in zip(told, seen, strict=True)):
        raise ClientError(f"cardinality is {told}, but the data have the categories {seen}.")
    return told


def _dynamic(given: str, found: list[Series]) -> int:
    if given == "ignore":
        return 0
    counts = {0 if one.features is None else len(one.features) for one in found}
    if len(counts) > 1:
        raise ClientError("dynamic_feat must have the same number of features in all time series.")
    count = counts.pop()
    if given != "auto" and given != str(count):
        raise ClientError(f"num_dynamic_feat is {given}, but the data have {count}.")
    return count


def _check(found: Sequence[Series], config: dict[str, Any], where: str, ahead: int = 0) -> None:
    """Categories and dynamic features are as the model knows them. `ahead`: how far dynamic features reach beyond the target."""
    for number, one in enumerate(found):
        if config["cardinality"]:
            fits = len(one.cat) == len(config["cardinality"])
            if not fits or any(not 0 <= cat < most for cat, most in zip(one.cat, config["cardinality"], strict=True)):
                raise ClientError(
                    f"Time series {number} in {where}: cat {list(one.cat)} does not fit cardinality {config['cardinality']}."
                )
        if config["num_dynamic_feat"]:
            need = len(one) + ahead
            if one.features is None or len(one.features) != config["num_dynamic_feat"] or one.features.shape[1] < need:
                raise ClientError(
                    f"Time series {number} in {where}: dynamic_feat must be {config['num_dynamic_feat']} x {need} numbers."
                )


def _learn(run: Run, config: dict[str, Any], network: Network, found: list[Series]) -> None:
    hp, report, device = run.hp, run.report, deep.device()
    windows = Windows(found, config)
    optimizer = torch.optim.Adam(network.parameters(), hp["learning_rate"])
    steps, horizon = config["context_length"] + config["prediction_length"], config["prediction_length"]
    sizes = np.array([max(len(one) - horizon, 1) for one in found], np.float64)
    batches = deep.agreed_steps(run, max(_LEAST_BATCHES, math.ceil(sizes.sum() / horizon / hp["mini_batch_size"])))
    checkpoints = deep.Checkpoints(run.checkpoint_dir)
    first, _ = checkpoints.restore(network, optimizer)
    best, waited, kept = math.inf, 0, copy.deepcopy(network.state_dict())
    for epoch in range(first, hp["epochs"]):
        rng, begun, told = np.random.default_rng([epoch, run.cluster.rank]), time.time(), []
        network.train()
        for _ in range(batches):
            numbers = rng.choice(len(found), hp["mini_batch_size"], p=sizes / sizes.sum())
            ends = [min(horizon, len(found[n])) + rng.integers(0, max(len(found[n]) - horizon, 0) + 1) for n in numbers]
            batch = {name: value.to(device) for name, value in windows.batch(list(zip(numbers, ends, strict=True)), steps).items()}
            raw, _ = network(batch["lagged"], batch["known"], batch["cat"], batch["scale"])
            loss = (losses(config["likelihood"], raw, batch["scale"], batch["y"]) * batch["seen"]).sum() / batch[
                "seen"
            ].sum().clamp(min=1)
            optimizer.zero_grad()
            loss.backward()
            deep.average_gradients(run, network)
            nn.utils.clip_grad_norm_(network.parameters(), 10.0)
            optimizer.step()
            told.append(float(loss.detach()))
        mean = deep.agreed_score(run, float(np.mean(told)))
        report.quality("train", "loss", mean, epoch=epoch)
        report.throughput(batches * hp["mini_batch_size"], time.time() - begun)
        report.progress((epoch + 1) / hp["epochs"])
        if not math.isfinite(mean):
            raise ClientError("The loss is not a number any more: try a smaller learning_rate.")
        if mean < best:
            best, waited, kept = mean, 0, copy.deepcopy(network.state_dict())
        else:
            waited += 1
        if run.cluster.is_leader:
            checkpoints.save(epoch, network, optimizer)
        if hp["early_stopping_patience"] and waited >= hp["early_stopping_patience"]:
            report.say(f"Early stopping condition met: no improvement for {waited} epochs.")
            break
        if deep.has_stopped(run):
            break
    network.load_state_dict(kept)
    report.quality("train", "final_loss", best)


def evaluate(
    network: Network, config: dict[str, Any], found: list[Series], samples: int, quantiles: Sequence[float]
) -> dict[str, float]:
    """The last prediction_length values of each series, forecast from those before."""
    horizon = config["prediction_length"]
    known = [one for one in found if len(one) > horizon]
    if not known:
        raise ClientError(f"Channel 'test' has no time series longer than prediction_length ({horizon}).")
    cut = [Series(one.start, one.target[:-horizon], one.cat, one.features) for one in known]
    drawn = forecast(network, config, cut, samples)
    truth = np.array([one.target[-horizon:] for one in known])
    seen = np.isfinite(truth)
    y = np.nan_to_num(truth)
    size = np.abs(y[seen]).sum() or 1.0
    weighted, absolute = {}, []
    for quantile in quantiles:
        value = np.quantile(drawn, quantile, axis=1)
        loss = 2 * (np.abs((value - y) * ((y <= value) - quantile)))[seen].sum()
        absolute.append(loss)
        weighted[f"wQuantileLoss[{quantile}]"] = float(loss / size)
    return {
        "RMSE": float(np.sqrt(((drawn.mean(1) - y) ** 2)[seen].mean())),
        "mean_absolute_QuantileLoss": float(np.mean(absolute)),
        "mean_wQuantileLoss": float(np.mean(list(weighted.values()))),
        **weighted,
    }


# -- forecasting ----------------------------------------------------------------------------------------------------------


@torch.no_grad()
def forecast(network: Network, config: dict[str, Any], found: Sequence[Series], samples: int) -> Any:
    """series x samples x prediction_length"""
    network.eval()
    at_once = max(1, _AT_ONCE // samples)
    return np.concatenate([_drawn(network, config, found[at : at + at_once], samples) for at in range(0, len(found), at_once)])


def _drawn(network: Network, config: dict[str, Any], found: Sequence[Series], samples: int) -> Any:
    windows, device = Windows(found, config), deep.device()
    context, horizon, kind = config["context_length"], config["prediction_length"], config["likelihood"]
    picks = [(number, len(one) + horizon) for number, one in enumerate(found)]
    batch = {name: value.to(device) for name, value in windows.batch(picks, context + horizon).items()}
    scale, cat = batch["scale"], batch["cat"]
    _, state = network(batch["lagged"][:, :context], batch["known"][:, :context], cat, scale)
    longest = max(config["lags"])
    past = np.stack([np.nan_to_num(values[-longest:]) for values in windows.values])
    past = torch.from_numpy(past.astype(np.float32)).to(device) / scale

    def many(values: Any) -> Any:
        return values.repeat_interleave(samples, 0)

    state = tuple(part.repeat_interleave(samples, 1) for part in state)
    history, known, scale, cat = many(past), many(batch["known"][:, context:]), many(scale), many(cat)
    back = torch.tensor([-lag for lag in config["lags"]], device=device)
    drawn = []
    for step in range(horizon):
        lagged = history[:, back + history.shape[1]]
        raw, state = network(lagged[:, None], known[:, step : step + 1], cat, scale, state)
        found_here = distribution(kind, raw, scale)
        value = raw[..., 0] * scale if found_here is None else found_here.sample()
        drawn.append(value)
        history = torch.cat((history, value / scale), 1)
    return torch.cat(drawn, 1).reshape(len(found), samples, horizon).cpu().numpy()


class Model:
    def __init__(self, folder: Path) -> None:
        self.config = deep.read_config(folder)
        self.network = Network(self.config)
        self.network.load_state_dict(deep.read_state(folder))
        self.network.to(deep.device())


def load(model_dir: Path) -> Model:
    return Model(model_dir)


def predict(model: Model, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
    """Time series -> mean, quantiles, samples of the next prediction_length values. JSON Lines take DEEPAR_INFERENCE_CONFIG."""
    kind = parse(content_type or JSON).name
    if kind not in (JSON, JSONLINES):
        raise RequestError(f"Content-type {kind} not supported. Supported content-types are {JSON}, {JSONLINES}", 415)
    try:
        if kind == JSON:
            request = json.loads(body)
            instances, wanted = request["instances"], request.get("configuration") or {}
        else:
            instances = [json.loads(line) for line in body.decode().splitlines() if line.strip()]
            wanted = json.loads(os.environ.get("DEEPAR_INFERENCE_CONFIG") or "{}")
        samples = int(wanted.get("num_samples", 100))
        types = wanted.get("output_types") or ["mean", "quantiles", "samples"]
        quantiles = [str(one) for one in wanted.get("quantiles") or [f"0.{tenth}" for tenth in range(1, 10)]]
        frequency = Frequency.parse(model.config["time_freq"])
        found = [series_of(instance, frequency) for instance in instances]
        _check(found, model.config, "the request", model.config["prediction_length"])
        if (
            not found
            or samples < 1
            or any(not 0 < float(one) < 1 for one in quantiles)
            or set(types) - {"mean", "quantiles", "samples"}
        ):
            raise ValueError("no instances, or a configuration that is none")
    except (BadSeries, ClientError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"unable to evaluate payload provided: {error}") from error
    drawn = forecast(model.network, model.config, found, samples)
    answers = [_answer(one, types, quantiles) for one in drawn]
    if parse(accept or kind).name == JSONLINES or kind == JSONLINES:
        return "".join(json.dumps(one) + "\n" for one in answers).encode(), JSONLINES
    return json.dumps({"predictions": answers}).encode(), JSON


def _answer(drawn: Any, types: Sequence[str], quantiles: Sequence[str]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if "mean" in types:
        found["mean"] = drawn.mean(0).tolist()
    if "quantiles" in types:
        found["quantiles"] = {one: np.quantile(drawn, float(one), axis=0).tolist() for one in quantiles}
    if "samples" in types:
        found["samples"] = drawn.tolist()
    return found
