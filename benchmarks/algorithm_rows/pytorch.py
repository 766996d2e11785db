"""Rows of the environment `pytorch`: text, pictures, time series, pairs."""

from __future__ import annotations

import csv
import io
import json
import random
import re
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from algorithm_rows.jobs import Trained, main, needs_data, row
from PIL import Image, ImageDraw
from pilvi_algorithms import ntm, pictures
from pilvi_algorithms.kit import recordio
from sklearn import datasets, decomposition, svm
from sklearn.feature_extraction.text import CountVectorizer

Job = dict[str, tuple[bytes, str]]


def told(
    algorithm: str, data: str, measure: str, ours: float, job: Trained, plain: float | None = None, library: str = "", **more: Any
) -> dict[str, Any]:
    found = {
        "algorithm": algorithm,
        "data": data,
        "measure": measure,
        "ours": float(ours),
        "library": library,
        "seconds": job.seconds,
    }
    return {**found, "plain": None if plain is None else float(plain), **more}


def figure(job: Trained, pattern: str) -> float:
    """The last figure of the log that a regular expression finds."""
    return float(re.findall(pattern, job.log)[-1])


def reviews(folder: Path) -> list[tuple[str, str]]:
    """(label, words) of clothing reviews that are good or bad."""
    with (folder / "reviews" / "womens_clothing_reviews_balanced.csv").open() as file:
        rows = [
            (entry["sentiment"], " ".join(re.findall(r"[a-z']+", entry["review_body"].lower()))) for entry in csv.DictReader(file)
        ]
    random.Random(0).shuffle(rows)
    return [one for one in rows if one[0] in ("1", "-1")]


@needs_data
def blazingtext(folder: Path) -> dict[str, Any]:
    import fasttext

    rows = [f"__label__{label} {words}\n" for label, words in reviews(folder)]
    cut = len(rows) * 4 // 5
    parts = {"train": "".join(rows[:cut]).encode(), "validation": "".join(rows[cut:]).encode()}
    given = {"mode": "supervised", "epochs": 10, "vector_dim": 20, "learning_rate": 0.1, "min_count": 2, "buckets": 200000}
    job = Trained("blazingtext", given, {name: (data, "text/plain") for name, data in parts.items()})
    with tempfile.TemporaryDirectory() as scratch:
        for name, data in parts.items():
            Path(scratch, name).write_bytes(data)
        model = fasttext.train_supervised(
            f"{scratch}/train", dim=20, epoch=10, lr=0.1, minCount=2, wordNgrams=2, bucket=200000, thread=1, verbose=0
        )
        _, plain, _ = model.test(f"{scratch}/validation")
    return told(
        "BlazingText, supervised",
        "clothing reviews, good or bad",
        "accuracy",
        figure(job, r"#validation_accuracy: (\S+)"),
        job,
        plain,
        "fastText",
    )


@needs_data
def topics(folder: Path) -> dict[str, Any]:
    counter = CountVectorizer(max_features=1000, stop_words="english", min_df=5)
    counts = counter.fit_transform([words for _, words in reviews(folder)]).astype(np.float32)
    body = recordio.write(
        recordio.Record({"values": recordio.Tensor(line.data, line.indices.astype(np.int64), (counts.shape[1],))})
        for line in counts
    )
    given = {"feature_dim": counts.shape[1], "num_topics": 8, "epochs": 60, "num_patience_epochs": 10}
    job = Trained("ntm", given, {"train": (body, "application/x-recordio-protobuf")})
    lda = decomposition.LatentDirichletAllocation(8, random_state=0).fit(counts)
    plain = np.mean([ntm.coherence(np.argsort(-line)[:10], counts) for line in lda.components_])
    ours = figure(job, r"\[npmi (\S+),")
    return told(
        "Neural Topic Model",
        "clothing reviews, 8 topics",
        "NPMI of 10 words",
        ours,
        job,
        plain,
        "scikit-learn LatentDirichletAllocation",
    )


def hours(count: int = 20, length: int = 336) -> Any:
    """Days and weekends of different sizes, two of three shifted."""
    rng, time = np.random.default_rng(0), np.arange(length)
    return np.array(
        [
            rng.uniform(5, 50) * (1.5 + np.sin(2 * np.pi * (time + number % 3) / 24) + 0.4 * (time // 24 % 7 >= 5))
            + rng.normal(0, 3, length)
            for number in range(count)
        ]
    )


@row
def deepar() -> dict[str, Any]:
    whole, horizon = hours(), 24

    def lines(values: Any) -> bytes:
        return "".join(
            json.dumps({"start": "2024-01-01 00:00:00", "target": one.tolist(), "cat": [n % 3]}) + "\n"
            for n, one in enumerate(values)
        ).encode()

    given = {
        "time_freq": "H",
        "context_length": 48,
        "prediction_length": horizon,
        "epochs": 40,
        "mini_batch_size": 32,
        "learning_rate": 0.005,
    }
    job = Trained("forecasting-deepar", given, {"train": (lines(whole[:, :-horizon]), "json"), "test": (lines(whole), "json")})
    truth, before = whole[:, -horizon:], whole[:, -2 * horizon : -horizon]
    plain = np.abs(truth - before).sum() / np.abs(truth).sum()
    ours = figure(job, r"mean_wQuantileLoss\): (\S+)")
    return told("DeepAR", "made: 20 series of hours", "weighted quantile loss", ours, job, plain, "the day before")


@row
def image_classification() -> dict[str, Any]:
    digits = datasets.load_digits()
    order = np.random.default_rng(0).permutation(len(digits.target))
    cut = len(order) * 3 // 4

    def records(numbers: Any) -> bytes:
        return b"".join(pictures.write_image_record([digits.target[n]], _png(digits.images[n] / 16 * 255), int(n)) for n in numbers)

    given = {
        "num_classes": 10, "num_training_samples": cut, "num_layers": 20, "image_shape": "3,28,28", "epochs": 8, "learning_rate": 0.1,
        "lr_scheduler_step": "5,7",
    }  # fmt: skip
    kind = "application/x-recordio"
    job = Trained(
        "image-classification", given, {"train": (records(order[:cut]), kind), "validation": (records(order[cut:]), kind)}
    )
    plain = (
        svm.SVC()
        .fit(digits.data[order[:cut]], digits.target[order[:cut]])
        .score(digits.data[order[cut:]], digits.target[order[cut:]])
    )
    return told(
        "Image Classification",
        "digits, ResNet-20",
        "accuracy",
        figure(job, r"Validation-accuracy=(\S+)"),
        job,
        plain,
        "scikit-learn SVC",
    )


def _png(values: Any) -> bytes:
    out = io.BytesIO()
    Image.fromarray(values.astype(np.uint8)).resize((28, 28), Image.Resampling.BILINEAR).convert("RGB").save(out, "PNG")
    return out.getvalue()


def shapes(count: int, size: int, seed: int) -> list[tuple[bytes, Any, bytes]]:
    """(JPEG, m x (class, box), mask as PNG): a rectangle and an ellipse on a light ground."""
    rng, found = random.Random(seed), []
    for _ in range(count):
        picture, mask = (
            Image.new("RGB", (size, size), tuple(rng.randint(150, 255) for _ in range(3))),
            Image.new("L", (size, size), 0),
        )
        rows = []
        for kind in (0, 1):
            side = rng.randint(size // 4, size // 2)
            left, top = rng.randint(0, size - side), rng.randint(0, size - side)
            rows.append((kind, left / size, top / size, (left + side) / size, (top + side) / size))
            for each, fill in ((picture, tuple(rng.randint(0, 120) for _ in range(3))), (mask, kind + 1)):
                draw = ImageDraw.Draw(each)
                (draw.ellipse if kind else draw.rectangle)((left, top, left + side, top + side), fill=fill)
        files = []
        for each, form in ((picture, "JPEG"), (mask, "PNG")):
            out = io.BytesIO()
            each.save(out, form)
            files.append(out.getvalue())
        found.append((files[0], np.array(rows), files[1]))
    return found


@row
def object_detection() -> dict[str, Any]:
    def records(count: int, seed: int) -> bytes:
        return b"".join(
            pictures.write_image_record([2, 5, *boxes.ravel()], picture, n)
            for n, (picture, boxes, _) in enumerate(shapes(count, 300, seed))
        )

    given = {
        "num_classes": 2, "num_training_samples": 64, "epochs": 6, "mini_batch_size": 8, "optimizer": "adam", "learning_rate": 0.001,
        "freeze_layer_pattern": r"backbone\.(conv_stem|bn0|blocks\.\d\.)",
    }  # fmt: skip
    kind = "application/x-recordio"
    job = Trained("object-detection", given, {"train": (records(64, 0), kind), "validation": (records(24, 1), kind)})
    return told(
        "Object Detection", "made: overlapping shapes, transfer learning", "mAP", figure(job, r"mAP <score>=\((\S+)\)"), job
    )


@row
def object2vec() -> dict[str, Any]:
    rng = random.Random(0)

    def pairs(count: int) -> bytes:
        rows = []
        for _ in range(count):
            group, label = rng.randrange(5), rng.randrange(2)
            other = group if label else (group + rng.randint(1, 4)) % 5
            sides = [[one * 10 + rng.randrange(10) for _ in range(rng.randint(3, 8))] for one in (group, other)]
            rows.append(json.dumps({"label": label, "in0": sides[0], "in1": sides[1]}))
        return "\n".join(rows).encode()

    given = {
        "enc0_max_seq_len": 10, "enc0_vocab_size": 50, "enc_dim": 32, "enc0_token_embedding_dim": 16, "mlp_dim": 32, "mlp_activation": "relu",
        "epochs": 8, "learning_rate": 0.005,
    }  # fmt: skip
    kind = "application/jsonlines"
    job = Trained("object2vec", given, {"train": (pairs(1500), kind), "test": (pairs(300), kind)})
    return told(
        "Object2Vec", "made: pairs of five groups of tokens, hcnn", "accuracy", figure(job, r"test accuracy <score>=(\S+)"), job
    )


@row
def seq2seq() -> dict[str, Any]:
    """Numbers below a million in words, to be written in figures."""
    small = "one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen"
    ones = [*small.split(), "nineteen"]
    tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
    words = [*ones, *tens, "hundred", "thousand"]

    def below_thousand(number: int) -> list[str]:
        hundreds, rest = divmod(number, 100)
        found = [ones[hundreds - 1], "hundred"] if hundreds else []
        if rest < 20:
            return found + ([ones[rest - 1]] if rest else [])
        return found + [tens[rest // 10 - 2]] + ([ones[rest % 10 - 1]] if rest % 10 else [])

    def spoken(number: int) -> list[str]:
        thousands, rest = divmod(number, 1000)
        return ([*below_thousand(thousands), "thousand"] if thousands else []) + below_thousand(rest)

    numbers = random.Random(0).sample(range(1, 1_000_000), 4400)
    source, target = (
        {word: number for number, word in enumerate(["<pad>", "<unk>", "<s>", "</s>", *known])} for known in (words, "0123456789")
    )

    def records(chosen: list[int]) -> bytes:
        found = []
        for number in chosen:
            pair = {"source": [source[word] for word in spoken(number)], "target": [target[figure] for figure in str(number)]}
            found.append(recordio.Record({name: recordio.Tensor(np.array(tokens, np.int32)) for name, tokens in pair.items()}))
        return recordio.write(found)

    given = {
        "num_embed_source": 32, "num_embed_target": 32, "rnn_num_hidden": 64, "learning_rate": 0.005, "max_num_epochs": 12,
        "batch_size": 64, "checkpoint_frequency_num_batches": 150, "max_seq_len_source": 16, "max_seq_len_target": 10,
        "optimized_metric": "bleu",
    }  # fmt: skip
    kind = "application/x-recordio-protobuf"
    job = Trained(
        "seq2seq",
        given,
        {
            "train": (records(numbers[:4000]), kind),
            "validation": (records(numbers[4000:4200]), kind),
            "vocab": (
                {"vocab.src.json": json.dumps(source).encode(), "vocab.trg.json": json.dumps(target).encode()},
                "application/json",
            ),
        },
    )
    asked = numbers[4200:]
    body = json.dumps({"instances": [{"data": " ".join(spoken(number))} for number in asked]}).encode()
    answers = [found["target"].replace(" ", "") for found in job.predictions(body, "application/json")]
    right = np.mean([answer == str(number) for answer, number in zip(answers, asked, strict=True)])
    return told("Seq2Seq", "made: numbers in words, to be written in figures", "whole numbers right", right, job)


def scenes(numbers: Any, size: int = 96) -> tuple[dict[str, bytes], dict[str, bytes]]:
    """Pictures of two digits each on a coloured ground, and the masks that say which pixels are ink of which digit (0: none)."""
    digits, rng = datasets.load_digits(), random.Random(1)
    shown: dict[str, bytes] = {}
    masks: dict[str, bytes] = {}
    for number, pair in enumerate(numbers.reshape(-1, 2)):
        picture = Image.new("RGB", (size, size), tuple(rng.randint(150, 255) for _ in range(3)))
        mask = Image.new("L", (size, size), 0)
        for side, index in enumerate(pair):
            wide = size // 2 - 4
            ink = Image.fromarray((digits.images[index] * 15.9).astype(np.uint8)).resize((wide, wide), Image.Resampling.BILINEAR)
            place = (2 + side * size // 2, rng.randint(0, size - wide))
            form = ink.point(lambda value: 255 * (value > 110))
            picture.paste(tuple(rng.randint(0, 120) for _ in range(3)), place, form)
            mask.paste(int(digits.target[index]) + 1, place, form)
        for files, each, kind in ((shown, picture, "jpg"), (masks, mask, "png")):
            out = io.BytesIO()
            each.save(out, "PNG" if kind == "png" else "JPEG")
            files[f"{number}.{kind}"] = out.getvalue()
    return shown, masks


@row
def semantic_segmentation() -> dict[str, Any]:
    order = np.random.default_rng(0).permutation(1796)
    train, validation = scenes(order[:1000]), scenes(order[1000:1200])
    given = {
        "num_classes": 11, "num_training_samples": 500, "epochs": 6, "mini_batch_size": 16, "optimizer": "adam", "learning_rate": 0.001,
        "base_size": 96, "crop_size": 96,
    }  # fmt: skip
    job = Trained(
        "semantic-segmentation",
        given,
        {
            "train": (train[0], "image/jpeg"),
            "train_annotation": (train[1], "image/png"),
            "validation": (validation[0], "image/jpeg"),
            "validation_annotation": (validation[1], "image/png"),
        },
    )
    measure = figure(job, r"validation mIOU <score>=\(?(\S+?)\)?\s")
    return told("Semantic Segmentation", "digits, two a picture, transfer learning", "mIOU", measure, job)


if __name__ == "__main__":
    main()
