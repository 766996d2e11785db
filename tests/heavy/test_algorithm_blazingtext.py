"""BlazingText: texts are classified, words that stand for alike things are close, models are fastText files."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from pilvi.testing.server import Account, TestServer
from tests.heavy.algorithm_lab import AlgorithmLab
from tests.services.sagemaker.conftest import Lab

GOOD = ["love", "perfect", "great", "beautiful", "comfortable", "soft", "wonderful", "happy", "gorgeous", "flattering"]
BAD = ["return", "awful", "cheap", "itchy", "disappointed", "poor", "terrible", "tight", "ugly", "ripped"]
PLAIN = [
    "the",
    "dress",
    "this",
    "it",
    "was",
    "i",
    "bought",
    "and",
    "color",
    "size",
    "top",
    "fabric",
    "for",
    "my",
    "a",
    "with",
    "very",
    "wear",
]
COLOURS, SIZES = ["red", "blue", "green", "purple", "orange"], ["small", "medium", "large", "tiny", "huge"]


@pytest.fixture
def algorithm(server: TestServer, aws: Account, tmp_path: Path) -> AlgorithmLab:
    return AlgorithmLab(server, Lab(aws), "blazingtext", tmp_path)


def reviews(count: int) -> str:
    rng = random.Random(count)
    lines = []
    for _ in range(count):
        is_good = rng.random() < 0.5
        words = rng.choices(PLAIN, k=12) + rng.choices(GOOD if is_good else BAD, k=2) + rng.choices(GOOD + BAD, k=1)
        rng.shuffle(words)
        lines.append(f"__label__{1 if is_good else 2} {' '.join(words)}\n")
    return "".join(lines)


def test_create_training_job_classifies_texts_above_80_percent(algorithm: AlgorithmLab) -> None:
    channels = [
        algorithm.channel(name, {"text": reviews(count)}, "text/plain") for name, count in (("train", 1500), ("validation", 300))
    ]
    hyperparameters = {
        "mode": "supervised", "epochs": 8, "vector_dim": 10, "min_count": 1, "buckets": 5000, "early_stopping": True, "min_epochs": 2,
        "patience": 2,
    }  # fmt: skip
    metrics = algorithm.trained("texts", hyperparameters, channels)
    assert metrics["validation:accuracy"] > 0.8
    good, bad = "i love this perfect dress", "itchy and awful , return"
    request = json.dumps({"instances": [good, bad], "configuration": {"k": 2}})
    lines = "".join(json.dumps({"source": text}) + "\n" for text in (good, bad))
    asked = algorithm.ask(
        "texts", (request, "application/json", "application/json"), (lines, "application/jsonlines", "application/jsonlines")
    )
    found = json.loads(asked[0][0])
    assert [one["label"][0] for one in found] == ["__label__1", "__label__2"]
    assert all(len(one["prob"]) == 2 for one in found)
    assert [json.loads(line)["label"] for line in asked[1][0].splitlines()] == [["__label__1"], ["__label__2"]]


def test_create_training_job_puts_alike_words_together(algorithm: AlgorithmLab) -> None:
    rng = random.Random(1)
    lines = [
        f"{rng.choice(PLAIN)} {rng.choice(PLAIN)} paint it {rng.choice(COLOURS)} bright" if rng.random() < 0.5
        else f"{rng.choice(PLAIN)} fits {rng.choice(SIZES)} people {rng.choice(PLAIN)}"
        for _ in range(3000)
    ]  # fmt: skip
    pairs = "red,blue,9\nsmall,large,9\nred,large,1\nblue,tiny,1\ngreen,purple,8\ngreen,huge,2\n"
    channels = [algorithm.channel("train", {"text": "\n".join(lines)}), algorithm.channel("evaluation", {"pairs.csv": pairs})]
    hyperparameters = {"mode": "batch_skipgram", "epochs": 5, "vector_dim": 20, "window_size": 2, "sampling_threshold": 0.01}
    metrics = algorithm.trained("words", hyperparameters, channels)
    assert metrics["train:mean_rho"] > 0.7
    assert {"vectors.txt", "vectors.bin", "eval.json"} <= set(algorithm.lab.members("out/words/output/model.tar.gz"))
    [(body, _)] = algorithm.ask("words", (json.dumps({"instances": ["red", "unheard-of"]}), "application/json", ""))
    known, unknown = json.loads(body)
    assert (known["word"], len(known["vector"])) == ("red", 20)
    assert set(unknown["vector"]) == {0.0}


def test_create_training_job_without_mode_fails(algorithm: AlgorithmLab) -> None:
    found = algorithm.train("none", {}, [algorithm.channel("train", {"text": "a b"})])
    assert found["FailureReason"].startswith("ClientError: No value(s) were specified for 'mode'")
