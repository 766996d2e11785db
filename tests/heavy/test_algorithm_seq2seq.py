"""Seq2Seq: a toy translation, words by number read backwards."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pilvi.testing.server import Account, TestServer
from tests.heavy.algorithm_lab import AlgorithmLab
from tests.services.sagemaker.conftest import Lab

SENTENCES = """
import random
from pathlib import Path
import numpy as np
from pilvi_algorithms.kit import recordio

rng = random.Random(0)
for name, count in (("train", 1000), ("validation", 80)):
    Path(name).mkdir()
    records = []
    for _ in range(count):
        source = [rng.randint(4, 13) for _ in range(rng.randint(2, 5))]
        pair = {"source": source, "target": source[::-1]}
        records.append(recordio.Record({role: recordio.Tensor(np.array(tokens, np.int32)) for role, tokens in pair.items()}))
    Path(name, name + ".rec").write_bytes(recordio.write(records))
"""
SOURCE = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
TARGET = ["eins", "zwei", "drei", "vier", "fuenf", "sechs", "sieben", "acht", "neun", "zehn"]
RECORDIO = "application/x-recordio-protobuf"


@pytest.fixture
def algorithm(server: TestServer, aws: Account, tmp_path: Path) -> AlgorithmLab:
    return AlgorithmLab(server, Lab(aws), "seq2seq", tmp_path)


def vocabulary(words: list[str]) -> str:
    return json.dumps({word: number for number, word in enumerate(["<pad>", "<unk>", "<s>", "</s>", *words])})


def channels(algorithm: AlgorithmLab) -> list[dict[str, object]]:
    made = algorithm.make(SENTENCES)
    words = {"vocab.src.json": vocabulary(SOURCE), "vocab.trg.json": vocabulary(TARGET)}
    return [
        *(algorithm.channel(name, made / name, RECORDIO) for name in ("train", "validation")),
        algorithm.channel("vocab", words),
    ]


SMALL = {
    "num_embed_source": 32, "num_embed_target": 32, "rnn_num_hidden": 64, "learning_rate": 0.01, "max_num_epochs": 8, "batch_size": 32,
    "checkpoint_frequency_num_batches": 80, "max_seq_len_source": 10, "max_seq_len_target": 10, "optimized_metric": "bleu",
}  # fmt: skip


def test_create_training_job_learns_a_toy_translation(algorithm: AlgorithmLab) -> None:
    metrics = algorithm.trained("translation", SMALL, channels(algorithm))
    assert metrics["validation:perplexity"] < 1.5
    assert metrics["validation:bleu"] > 0.7
    request = json.dumps({"instances": [{"data": "one two three"}], "configuration": {"attention_matrix": "true"}})
    line = json.dumps({"source": "nine ten"})
    (body, _), (answer, _) = algorithm.ask(
        "translation", (request, "application/json", "application/json"), (line, "application/jsonlines", "application/jsonlines")
    )
    found = json.loads(body)["predictions"][0]
    assert found["target"] == "drei zwei eins"
    assert [len(row) for row in found["matrix"]] == [3, 3, 3]
    assert json.loads(answer) == {"target": "zehn neun"}


def test_create_training_job_refuses_what_is_not_built(algorithm: AlgorithmLab) -> None:
    found = algorithm.train("cnn", {**SMALL, "encoder_type": "cnn"}, channels(algorithm))
    assert "encoder_type and decoder_type cnn and rnn_residual_connections are not supported" in found["FailureReason"]
