"""Object2Vec: pairs that belong together, and their embeddings; labels of documents."""

from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from pilvi.testing.server import Account, TestServer
from tests.heavy.algorithm_lab import AlgorithmLab
from tests.services.sagemaker.conftest import Lab


@pytest.fixture
def algorithm(server: TestServer, aws: Account, tmp_path: Path) -> AlgorithmLab:
    return AlgorithmLab(server, Lab(aws), "object2vec", tmp_path)


def pairs(count: int) -> str:
    """Sequences of one of five groups of tokens; label 1 where both are of the same."""
    rng = random.Random(count)
    rows = []
    for _ in range(count):
        group, label = rng.randrange(5), rng.randrange(2)
        other = group if label else (group + rng.randint(1, 4)) % 5
        first, second = ([one * 10 + rng.randrange(10) for _ in range(rng.randint(3, 8))] for one in (group, other))
        rows.append(json.dumps({"label": label, "in0": first, "in1": second}))
    return "\n".join(rows)


SMALL = {
    "enc0_max_seq_len": 10, "enc0_vocab_size": 50, "enc_dim": 32, "enc0_token_embedding_dim": 16, "mlp_dim": 32, "mlp_activation": "relu",
    "epochs": 6, "learning_rate": 0.005, "enc0_network": "pooled_embedding",
}  # fmt: skip


def distance(a: list[float], b: list[float]) -> float:
    return sum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def test_create_training_job_puts_pairs_closer_than_strangers(algorithm: AlgorithmLab) -> None:
    channels = [
        algorithm.channel(name, {"pairs.jsonl": pairs(count)}, "application/jsonlines")
        for name, count in (("train", 1200), ("validation", 150), ("test", 151))
    ]
    metrics = algorithm.trained("pairs", {**SMALL, "comparator_list": "abs_diff"}, channels)
    assert metrics["validation:accuracy"] > 0.9
    assert metrics["test:cross_entropy"] < 0.4
    singles = "".join(json.dumps({"in0": tokens}) + "\n" for tokens in ([1, 2, 3], [4, 5, 6], [41, 42, 43]))
    request = json.dumps(
        {"instances": [{"in0": [1, 2, 3, 4], "in1": [5, 6, 7, 8]}, {"in0": [1, 2, 3, 4], "in1": [45, 46, 47, 48]}]}
    )
    (body, _), (lines, _) = algorithm.ask(
        "pairs", (request, "application/json", "application/json"), (singles, "application/jsonlines", "application/jsonlines")
    )
    same, other = (one["scores"] for one in json.loads(body)["predictions"])
    assert same[1] > 0.5 > other[1]
    near, near_too, far = (json.loads(line)["embeddings"] for line in lines.splitlines())
    assert distance(near, near_too) < distance(near, far)


def test_create_training_job_learns_labels_of_documents(algorithm: AlgorithmLab) -> None:
    """Several labels a document: each is a pair of the document and the label, strangers are drawn beside them."""
    rng = random.Random(0)
    rows = []
    for _ in range(300):
        groups = rng.sample(range(5), 2)
        document = [group * 10 + rng.randrange(10) for group in groups for _ in range(4)]
        rows += [json.dumps({"label": 1, "in0": document, "in1": [group]}) for group in groups]
    changes = {
        "enc1_network": "pooled_embedding",
        "enc1_max_seq_len": 1,
        "enc1_vocab_size": 5,
        "enc1_token_embedding_dim": 16,
        "negative_sampling_rate": 2,
    }
    algorithm.trained(
        "labels", {**SMALL, **changes, "epochs": 8}, [algorithm.channel("train", {"a": "\n".join(rows)}, "application/jsonlines")]
    )
    document = [1, 5, 3, 2, 41, 45, 43, 42]
    request = json.dumps({"instances": [{"in0": document, "in1": [label]} for label in range(5)]})
    [(body, _)] = algorithm.ask("labels", (request, "application/json", ""))
    scores = [one["scores"][1] for one in json.loads(body)["predictions"]]
    assert sorted(range(5), key=lambda label: -scores[label])[:2] in ([0, 4], [4, 0])


def test_create_training_job_with_unknown_tokens_fails(algorithm: AlgorithmLab) -> None:
    row = json.dumps({"label": 1, "in0": [50], "in1": [1]})
    found = algorithm.train("unknown", SMALL, [algorithm.channel("train", {"a": row}, "application/jsonlines")])
    assert found["FailureReason"].startswith("ClientError: Tokens of in0 must be between 0 and enc0_vocab_size - 1 (49)")
