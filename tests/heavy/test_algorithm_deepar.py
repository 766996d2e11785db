"""DeepAR: forecasts of seasonal series beat the season before."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import pytest

from pilvi.testing.server import Account, TestServer
from tests.heavy.algorithm_lab import AlgorithmLab
from tests.services.sagemaker.conftest import Lab


@pytest.fixture
def algorithm(server: TestServer, aws: Account, tmp_path: Path) -> AlgorithmLab:
    return AlgorithmLab(server, Lab(aws), "forecasting-deepar", tmp_path)


def series(count: int, length: int) -> list[dict[str, object]]:
    """Hours of days with a shape of their own, in two groups."""
    rng = random.Random(0)
    found: list[dict[str, object]] = []
    for number in range(count):
        size, noise = rng.uniform(5, 50), rng.uniform(1, 3)
        target = [
            size * (1.5 + math.sin(2 * math.pi * (hour + 3 * (number % 2)) / 24)) + rng.gauss(0, noise) for hour in range(length)
        ]
        found.append({"start": "2024-01-01 00:00:00", "target": target, "cat": [number % 2]})
    return found


def lines(found: list[dict[str, object]]) -> str:
    return "".join(json.dumps(one) + "\n" for one in found)


def test_create_training_job_beats_the_season_before(algorithm: AlgorithmLab) -> None:
    horizon, whole = 24, series(16, 240)
    targets = [list(one["target"]) for one in whole]  # type: ignore[call-overload]
    known = [
        {**one, "target": [None if place == 5 else value for place, value in enumerate(target[:-horizon])]}
        for one, target in zip(whole, targets, strict=True)
    ]
    channels = [algorithm.channel(name, {"a.json": lines(rows)}, "json") for name, rows in (("train", known), ("test", whole))]
    hyperparameters = {
        "time_freq": "H", "context_length": 48, "prediction_length": horizon, "epochs": 30, "mini_batch_size": 32, "learning_rate": 0.005,
        "num_eval_samples": 50,
    }  # fmt: skip
    metrics = algorithm.trained("hours", hyperparameters, channels)
    total = sum(abs(value) for target in targets for value in target[-horizon:])
    naive = sum(
        abs(now - before)
        for target in targets
        for now, before in zip(target[-horizon:], target[-2 * horizon : -horizon], strict=True)
    )
    assert metrics["test:mean_wQuantileLoss"] < naive / total
    assert metrics["train:final_loss"] < 5
    configuration = {"num_samples": 30, "output_types": ["mean", "quantiles", "samples"], "quantiles": ["0.1", "0.9"]}
    wrong = {**known[0], "cat": [7]}
    [(body, _)] = algorithm.ask(
        "hours", (json.dumps({"instances": known[:2], "configuration": configuration}), "application/json", "")
    )
    first = json.loads(body)["predictions"][0]
    assert (len(first["mean"]), sorted(first["quantiles"]), len(first["samples"])) == (horizon, ["0.1", "0.9"], 30)
    assert all(low < high for low, high in zip(first["quantiles"]["0.1"], first["quantiles"]["0.9"], strict=True))
    with pytest.raises(AssertionError, match="does not fit cardinality"):
        algorithm.ask("hours", (json.dumps({"instances": [wrong]}), "application/json", ""))


@pytest.mark.parametrize(
    ("changes", "row", "reason"),
    [
        (
            {"time_freq": "fortnight"},
            {"start": "2024-01-01", "target": [1]},
            "ClientError: time_freq must be a number and one of M, W, D, H, min",
        ),
        ({}, {"target": [1]}, "ClientError: Unable to read data channel 'train': a time series needs the fields start and target"),
        (
            {"likelihood": "beta"},
            {"start": "2024-01-01", "target": [7, 8]},
            "ClientError: likelihood beta needs targets between 0 and 1.",
        ),
    ],
)
def test_create_training_job_with_wrong_data_fails(
    algorithm: AlgorithmLab, changes: dict[str, str], row: dict[str, object], reason: str
) -> None:
    hyperparameters = {"time_freq": "D", "context_length": 2, "prediction_length": 1, "epochs": 1, **changes}
    found = algorithm.train("wrong", hyperparameters, [algorithm.channel("train", {"a.json": json.dumps(row)}, "json")])
    assert found["FailureReason"].startswith(reason)
