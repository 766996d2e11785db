"""Neural Topic Model: planted word groups come back as topics."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from pilvi.testing.server import Account, TestServer
from tests.heavy.algorithm_lab import AlgorithmLab
from tests.services.sagemaker.conftest import Lab

TOPICS, WORDS = 4, 10


@pytest.fixture
def algorithm(server: TestServer, aws: Account, tmp_path: Path) -> AlgorithmLab:
    return AlgorithmLab(server, Lab(aws), "ntm", tmp_path)


def documents(count: int, seed: int) -> str:
    rng = random.Random(seed)
    rows = []
    for _ in range(count):
        counts = [0] * (TOPICS * WORDS)
        topic = rng.randrange(TOPICS)
        for _ in range(40):
            counts[(topic if rng.random() < 0.85 else rng.randrange(TOPICS)) * WORDS + rng.randrange(WORDS)] += 1
        rows.append(",".join(map(str, counts)))
    return "\n".join(rows)


def test_create_training_job_finds_planted_topics(algorithm: AlgorithmLab) -> None:
    channels = [
        algorithm.channel(name, {"rows.csv": documents(count, count)}, "text/csv")
        for name, count in (("train", 400), ("validation", 100))
    ]
    vocabulary = "\n".join(f"group{number // WORDS}word{number}" for number in range(TOPICS * WORDS))
    channels.append(algorithm.channel("auxiliary", {"vocab.txt": vocabulary}, "text/plain"))
    hyperparameters = {
        "feature_dim": TOPICS * WORDS,
        "num_topics": TOPICS,
        "epochs": 40,
        "mini_batch_size": 40,
        "num_patience_epochs": 10,
    }
    metrics = algorithm.trained("topics", hyperparameters, channels)
    assert metrics["validation:total_loss"] < 150  # 40 words drawn from 40 evenly cost 147.6 without any model
    lines = algorithm.lab.lines("topics")
    start = next(number for number, line in enumerate(lines) if "Topics from epoch:final (num_topics:4)" in line)
    groups = [{word[:6] for word in line.split("] ")[-1].split()[:8]} for line in lines[start + 1 : start + 1 + TOPICS]]
    assert all(len(group) == 1 for group in groups), groups
    assert len(set.union(*groups)) == TOPICS
    rows = documents(2, 7)
    (body, _), (row, kind) = algorithm.ask(
        "topics", (rows, "text/csv", "application/json"), (rows, "text/csv", "application/jsonlines")
    )
    weights = [one["topic_weights"] for one in json.loads(body)["predictions"]]
    assert all(len(one) == TOPICS and sum(one) == pytest.approx(1, abs=1e-4) for one in weights)
    assert kind == "application/jsonlines"
    assert set(json.loads(row.splitlines()[0])) == {"topic_weights"}


def test_create_training_job_with_another_vocabulary_fails(algorithm: AlgorithmLab) -> None:
    channels = [
        algorithm.channel("train", {"a.csv": "1,2\n"}, "text/csv"),
        algorithm.channel("auxiliary", {"vocab.txt": "one"}, "text/plain"),
    ]
    found = algorithm.train("short", {"feature_dim": 2, "num_topics": 2}, channels)
    assert found["FailureReason"].startswith(
        "ClientError: The vocabulary in channel 'auxiliary' has 1 words, but feature_dim is 2."
    )


def test_create_training_job_on_two_instances_learns_one_model(algorithm: AlgorithmLab) -> None:
    channel = algorithm.channel("train", {"a.csv": documents(300, 1), "b.csv": documents(200, 2)}, "text/csv")
    channel["DataSource"]["S3DataSource"]["S3DataDistributionType"] = "ShardedByS3Key"
    hyperparameters = {
        "feature_dim": TOPICS * WORDS,
        "num_topics": TOPICS,
        "epochs": 30,
        "mini_batch_size": 40,
        "num_patience_epochs": 10,
    }
    resources = {"InstanceType": "ml.m5.large", "InstanceCount": 2, "VolumeSizeInGB": 10}
    metrics = algorithm.trained("two", hyperparameters, [channel], ResourceConfig=resources)
    assert metrics["train:total_loss"] < 150
    assert sorted(algorithm.lab.members("out/two/output/model.tar.gz")) == ["model.json", "model.pt"]
