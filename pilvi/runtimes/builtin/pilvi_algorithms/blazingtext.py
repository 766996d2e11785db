"""BlazingText: word vectors (cbow, skipgram, batch_skipgram) and text classification (supervised).

Source: SageMaker Developer Guide, "BlazingText algorithm": hyperparameters, channels, artifacts, inference formats.
Differs: negative samples are shared by the words of a window in all word-vector modes; batch_size has no effect.
Differs: WordSimilarity-353 is not part of this server: `evaluation` reads word pairs (word,word,score) from the channel `evaluation`, and
train:mean_rho is told only then. vectors.bin and model.bin are fastText files.
"""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from pilvi_algorithms import deep, fasttext_format, text_classifier, word_vectors
from pilvi_algorithms.fasttext_format import LABEL, Args
from pilvi_algorithms.kit import (
    JSON,
    JSONLINES,
    ChannelRule,
    ClientError,
    RequestError,
    Run,
    accept_type,
    choice,
    flag,
    integer,
    real,
)
from pilvi_algorithms.kit.channel import Channel
from pilvi_algorithms.kit.content_type import parse

NAME = "BlazingText"
HYPERPARAMETERS = (
    choice("mode", "batch_skipgram", "skipgram", "cbow", "supervised", required=True),
    integer("batch_size", 1, default=11),
    integer("buckets", 1, default=2000000),
    flag("early_stopping", False),
    integer("epochs", 1, default=5),
    flag("evaluation", True),
    real("learning_rate", 0, default=0.05, open_low=True),
    integer("max_char", 1, default=6),
    integer("min_char", 1, default=3),
    integer("min_count", 0, default=5),
    integer("min_epochs", 1, default=5),
    integer("negative_samples", 1, default=5),
    integer("patience", 1, default=4),
    real("sampling_threshold", 0, default=0.0001),
    flag("subwords", False),
    integer("vector_dim", 1, default=100),
    integer("window_size", 1, default=5),
    integer("word_ngrams", 1, default=2),
)
CHANNELS = (ChannelRule("train", is_required=True), ChannelRule("validation"), ChannelRule("evaluation"))
_MODELS = {"cbow": fasttext_format.CBOW, "skipgram": fasttext_format.SKIPGRAM, "batch_skipgram": fasttext_format.SKIPGRAM}


def train(run: Run) -> None:
    deep.seed()
    deep.one_thread()
    if run.hp["mode"] == "supervised":
        _train_classifier(run)
    else:
        _train_vectors(run)


# -- supervised -----------------------------------------------------------------------------------------------------------


def _train_classifier(run: Run) -> None:
    hp, report = run.hp, run.report
    if run.cluster.is_many:
        raise ClientError("mode supervised trains on one instance; for several instances use batch_skipgram.")
    lines = _labelled(run.channels["train"])
    held_out = _labelled(run.channels["validation"]) if "validation" in run.channels else None
    if hp["early_stopping"] and held_out is None:
        raise ClientError("early_stopping requires a validation channel.")
    dictionary = text_classifier.dictionary_of(lines, hp["min_count"])
    if not dictionary.labels:
        raise ClientError(f"No labels in channel 'train': each line must begin with {LABEL}.")
    bucket = hp["buckets"] if hp["word_ngrams"] > 1 else 0
    args = Args(hp["vector_dim"], epoch=hp["epochs"], min_count=hp["min_count"], word_ngrams=hp["word_ngrams"], bucket=bucket)
    report.say(
        f"Number of words: {len(dictionary.words)}; number of labels: {len(dictionary.labels)}. Device: {deep.describe_device()}"
    )
    bags = text_classifier.Bags(lines, dictionary, args)
    checked = text_classifier.Bags(held_out, dictionary, args) if held_out is not None else None
    classifier = text_classifier.Classifier(args, dictionary, bags)
    begun = time.time()
    stopper, best = deep.EarlyStopping(hp["patience"], 0.0, hp["min_epochs"], hp["early_stopping"]), None
    for epoch in range(hp["epochs"]):
        classifier.learn(bags, _rate(hp, epoch), epoch, _teller(run, epoch, begun, dictionary.tokens))
        if hp["early_stopping"] and checked is not None:
            score = classifier.accuracy(checked)
            report.say(f"Validation accuracy: {score:.4f} after epoch {epoch + 1}")
            is_better = score > stopper.best
            is_over = stopper.is_over(epoch, score)
            best = classifier.state() if is_better else best
            if is_over:
                report.say(f"Early stopping: validation accuracy has not improved for {hp['patience']} epochs.")
                break
        if run.is_stopping:
            break
    if best is not None:
        classifier.restore(best)
    _tell_end(run, begun, dictionary.tokens)
    report.line(f"#train_accuracy: {classifier.accuracy(bags):.4f}")
    report.line(f"Number of train examples: {len(bags)}")
    if checked is not None:
        report.line(f"#validation_accuracy: {classifier.accuracy(checked):.4f}")
        report.line(f"Number of validation examples: {len(checked)}")
    fasttext_format.write(run.model_dir / "model.bin", classifier.model())


def _rate(hp: dict[str, Any], epoch: int) -> Callable[[float], float]:
    """From learning_rate to 0 over all epochs."""
    return lambda done: float(hp["learning_rate"] * (1 - (epoch + done) / hp["epochs"]))


def _teller(run: Run, epoch: int, begun: float, words: int) -> Callable[[float], None]:
    hp = run.hp

    def tell(done: float) -> None:
        share = (epoch + done) / hp["epochs"]
        speed = share * words * hp["epochs"] / 1e6 / max(time.time() - begun, 1e-9)
        run.report.line(
            f"##### Alpha: {hp['learning_rate'] * (1 - share):.4f}  Progress: {share * 100:.2f}%  Million Words/sec: {speed:.2f} #####"
        )

    return tell


def _tell_end(run: Run, begun: float, words: int) -> None:
    seconds = time.time() - begun
    run.report.line("##### Alpha: 0.0000  Progress: 100.00% #####")
    run.report.line("Training finished!")
    run.report.line(f"Average throughput in Million words/sec: {words * run.hp['epochs'] / 1e6 / max(seconds, 1e-9):.2f}")
    run.report.line(f"Total training time in seconds: {seconds:.2f}")


def _labelled(channel: Channel) -> list[text_classifier.Line]:
    """Lines of text with labels, or of JSON with source and label. Raises ClientError for a channel without any."""
    found = [text_classifier.parse_line(line) for line in _lines(channel) if line.strip()]
    if not found:
        raise ClientError(f"No data in channel '{channel.name}'.")
    return found


def _lines(channel: Channel) -> list[str]:
    texts = [data.decode(errors="replace") for _, data in channel.objects()]
    if channel.is_wrapped:  # an augmented manifest's source and label by turns
        return [_with_labels(source, label) for source, label in zip(texts[::2], texts[1::2], strict=False)]
    return [_from_json(line) if line.startswith("{") else line for text in texts for line in text.split("\n")]


def _from_json(line: str) -> str:
    try:
        entry = json.loads(line)
        return _with_labels(entry["source"], json.dumps(entry["label"])) if "label" in entry else str(entry["source"])
    except (ValueError, KeyError, TypeError):
        raise ClientError(f"A line of JSON must have source and label: {line[:100]}") from None


def _with_labels(source: str, label: str) -> str:
    try:
        parsed = json.loads(label)
    except ValueError:
        parsed = label
    labels = parsed if isinstance(parsed, list) else [parsed]
    marks = [str(one) if str(one).startswith(LABEL) else f"{LABEL}{one}" for one in labels]
    return " ".join([*marks, source.replace("\n", " ")])


# -- word vectors ---------------------------------------------------------------------------------------------------------


def _train_vectors(run: Run) -> None:
    hp, cluster = run.hp, run.cluster
    if cluster.is_many and hp["mode"] != "batch_skipgram":
        raise ClientError(f"mode {hp['mode']} trains on one instance; for several instances use batch_skipgram.")
    if hp["subwords"] and hp["min_char"] > hp["max_char"]:
        raise ClientError("min_char must not be larger than max_char.")
    sentences = [line.split() for line in _lines(run.channels["train"])]
    if cluster.is_many and not run.channels["train"].is_sharded:
        sentences = sentences[cluster.rank :: cluster.size]
    parts = cluster.gather(word_vectors.counted(sentences))
    counts = cluster.broadcast(sum(parts, Counter()) if parts is not None else None)
    dictionary = word_vectors.dictionary_of(counts, hp["min_count"])
    if len(dictionary.words) < 2:
        raise ClientError(f"Channel 'train' has no two words that occur at least min_count ({hp['min_count']}) times.")
    letters = (hp["min_char"], hp["max_char"]) if hp["subwords"] else (0, 0)
    args = Args(
        hp["vector_dim"], hp["window_size"], hp["epochs"], hp["min_count"], hp["negative_samples"], 1, fasttext_format.NEGATIVE,
        _MODELS[hp["mode"]], hp["buckets"] if hp["subwords"] else 0, *letters, t=hp["sampling_threshold"],
    )  # fmt: skip
    run.report.say(
        f"Vocab size: {len(dictionary.words)}. Words in train file: {dictionary.tokens}. Device: {deep.describe_device()}"
    )
    learner, corpus, begun = word_vectors.Learner(args, dictionary), word_vectors.Corpus(sentences, dictionary), time.time()
    for epoch in range(hp["epochs"]):
        learner.learn(corpus, _rate(hp, epoch), epoch, _teller(run, epoch, begun, dictionary.tokens))
        if cluster.is_many:
            learner.average(cluster.sum, cluster.size)
        if cluster.sum(int(run.is_stopping)):
            break
    _tell_end(run, begun, dictionary.tokens)
    if cluster.is_leader:
        _leave_vectors(run, learner.model())


def _leave_vectors(run: Run, model: fasttext_format.Model) -> None:
    words = model.dictionary.words
    with (run.model_dir / "vectors.txt").open("w") as file:
        file.write(f"{len(words)} {model.args.dim}\n")
        for word in words:
            file.write(f"{word} {' '.join(f'{value:.6g}' for value in model.vector(word))}\n")
    fasttext_format.write(run.model_dir / "vectors.bin", model)
    if not run.hp["evaluation"]:
        return
    if (channel := run.channel("evaluation")) is None:
        run.report.say("evaluation: no word pairs in a channel 'evaluation', so mean_rho is not measured.", "WARNING")
        return
    rho, known = word_vectors.similarity_correlation(model, _pairs(channel))
    run.report.line(f"#mean_rho: {rho}")
    (run.model_dir / "eval.json").write_text(json.dumps({"mean_rho": rho, "pairs": known}))


def _pairs(channel: Channel) -> list[tuple[str, str, float]]:
    """word,word,score lines; a header is passed over."""
    found = []
    for line in _lines(channel):
        parts = line.replace("\t", ",").split(",")
        try:
            found.append((parts[0].strip().lower(), parts[1].strip().lower(), float(parts[2])))
        except (IndexError, ValueError):
            continue
    return found


# -- inference ------------------------------------------------------------------------------------------------------------


class Model:
    def __init__(self, folder: Path) -> None:
        path = next((folder / name for name in ("model.bin", "vectors.bin") if (folder / name).is_file()), None)
        if path is None:
            path = next(iter(sorted(folder.glob("*.bin"))), folder / "model.bin")
        self.file = fasttext_format.read(path)
        self.is_classifier = self.file.args.model == fasttext_format.SUPERVISED
        self.hashes: dict[str, int] = {}


def load(model_dir: Path) -> Model:
    """Also a model that fastText itself made, if it is not quantised."""
    return Model(model_dir)


def predict(model: Model, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
    """Texts -> labels with probabilities, or words -> vectors."""
    asked = parse(content_type or JSON).name
    try:
        if asked == JSON:
            request = json.loads(body)
            k = int((request.get("configuration") or {}).get("k", 1))
            instances = [(one, k) for one in request["instances"]]
        elif asked == JSONLINES:
            lines = [json.loads(line) for line in body.decode().splitlines() if line.strip()]
            instances = [(line["source"], int(line.get("k", 1))) for line in lines]
        else:
            raise RequestError(f"Content-type {asked} not supported. Supported content-types are {JSON}, {JSONLINES}", 415)
        if not all(isinstance(text, str) for text, _ in instances):
            raise TypeError("an instance is not a text")
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise RequestError(f"unable to evaluate payload provided: {error}") from error
    found = [_answer(model, text, k) for text, k in instances]
    kind = accept_type(accept or asked, (JSON, JSONLINES)).name
    if accept in ("", "*/*") and asked == JSONLINES:
        kind = JSONLINES
    if kind == JSONLINES:
        return "".join(json.dumps(one) + "\n" for one in found).encode(), kind
    if kind != JSON:
        raise RequestError(f"Accept type {accept} not supported. Supported accept types are {JSON}, {JSONLINES}", 406)
    return json.dumps(found).encode(), JSON


def _answer(model: Model, text: str, k: int) -> dict[str, Any]:
    if not model.is_classifier:
        return {"vector": np.asarray(model.file.vector(text)).tolist(), "word": text}
    labels, shares = text_classifier.most_likely(model.file, text, k, model.hashes)
    return {"label": labels, "prob": shares}
