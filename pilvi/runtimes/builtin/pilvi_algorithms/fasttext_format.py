"""fastText's binary model file (`model.bin`, version 12) and its dictionary: read and written, so that models go both ways.

    i32 magic | i32 version | args | dictionary | bool quantised | input matrix | bool quantised | output matrix

Rows of the input matrix are the words, then the buckets that n-grams of words or letters are hashed into.
Source: the format as the library at github.com/facebookresearch/fastText writes it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

MAGIC, VERSION = 793712314, 12
CBOW, SKIPGRAM, SUPERVISED = 1, 2, 3
HIERARCHICAL, NEGATIVE, SOFTMAX, ONE_VS_ALL = 1, 2, 3, 4
EOS = "</s>"
LABEL = "__label__"
_ARGS = ("dim", "ws", "epoch", "min_count", "neg", "word_ngrams", "loss", "model", "bucket", "minn", "maxn", "lr_update_rate")
_ROWS = 65536


class Unreadable(ValueError):
    """Not a model file that can be read here."""


@dataclass
class Args:
    dim: int
    ws: int = 5
    epoch: int = 5
    min_count: int = 5
    neg: int = 5
    word_ngrams: int = 1
    loss: int = SOFTMAX
    model: int = SUPERVISED
    bucket: int = 0
    minn: int = 0
    maxn: int = 0
    lr_update_rate: int = 100
    t: float = 1e-4


@dataclass
class Dictionary:
    words: list[str]
    counts: list[int]
    labels: list[str] = field(default_factory=list)
    label_counts: list[int] = field(default_factory=list)
    tokens: int = 0

    def __post_init__(self) -> None:
        self.ids = {word: number for number, word in enumerate(self.words)}
        self.label_ids = {label: number for number, label in enumerate(self.labels)}


@dataclass
class Model:
    args: Args
    dictionary: Dictionary
    inputs: Any
    """(words + buckets) x dim, float32"""
    outputs: Any
    """labels (or words) x dim, float32"""

    def vector(self, word: str) -> Any:
        """A word's vector: the mean over itself and its letter n-grams; zeros for a word that nothing is known of."""
        rows = word_rows(word, self.dictionary, self.args)
        return self.inputs[rows].mean(0) if rows else np.zeros(self.args.dim, np.float32)


# -- hashing --------------------------------------------------------------------------------------------------------------


def word_hash(word: str) -> int:
    """FNV-1a over signed bytes, 32 bits."""
    found = 2166136261
    for byte in word.encode():
        found = ((found ^ (byte if byte < 128 else byte | 0xFFFFFF00)) * 16777619) & 0xFFFFFFFF
    return found


def word_rows(word: str, dictionary: Dictionary, args: Args) -> list[int]:
    """The rows of the input matrix that a word stands for."""
    number = dictionary.ids.get(word)
    rows = [number] if number is not None else []
    if args.maxn > 0 and word != EOS:
        rows += letter_rows(word, len(dictionary.words), args)
    return rows


def letter_rows(word: str, words: int, args: Args) -> list[int]:
    """Rows of the letter n-grams of <word>; the edges alone do not count."""
    marked = f"<{word}>"
    grams = [
        marked[start : start + length]
        for start in range(len(marked))
        for length in range(args.minn, args.maxn + 1)
        if start + length <= len(marked) and not (length == 1 and (start == 0 or start + length == len(marked)))
    ]
    return [words + word_hash(gram) % args.bucket for gram in grams]


def line_rows(tokens: Sequence[str], dictionary: Dictionary, args: Args, hashes: dict[str, int]) -> list[int]:
    """The rows of a line of text: its words, and the buckets of its word n-grams. `hashes` keeps what was worked out."""
    rows: list[int] = []
    kept: list[int] = []
    for token in (*tokens, EOS):
        rows += word_rows(token, dictionary, args)
        if (found := hashes.get(token)) is None:
            found = word_hash(token)
            hashes[token] = found = found - (1 << 32) if found >= 1 << 31 else found
        kept.append(found)
    if args.word_ngrams > 1 and args.bucket:
        rows += _ngram_rows(kept, args, len(dictionary.words))
    return rows


def _ngram_rows(hashes: list[int], args: Args, words: int) -> list[int]:
    signed = np.array(hashes, np.int64).astype(np.uint64)
    found = []
    joined = signed.copy()
    for length in range(2, args.word_ngrams + 1):
        if len(signed) < length:
            break
        joined = joined[: len(signed) - length + 1] * np.uint64(116049371) + signed[length - 1 :]
        found.append(words + (joined % np.uint64(args.bucket)).astype(np.int64))
    return [int(row) for part in found for row in part]


# -- files ----------------------------------------------------------------------------------------------------------------


def write(path: Path, model: Model) -> None:
    args, dictionary = model.args, model.dictionary
    with path.open("wb") as file:
        file.write(struct.pack("<ii", MAGIC, VERSION))
        file.write(struct.pack("<12id", *(getattr(args, name) for name in _ARGS), args.t))
        words, labels = len(dictionary.words), len(dictionary.labels)
        file.write(struct.pack("<iiiqq", words + labels, words, labels, dictionary.tokens, -1))
        for kind, names, counts in ((0, dictionary.words, dictionary.counts), (1, dictionary.labels, dictionary.label_counts)):
            for name, count in zip(names, counts, strict=True):
                file.write(name.encode() + b"\0" + struct.pack("<qb", count, kind))
        _write_matrix(file, model.inputs)
        _write_matrix(file, model.outputs)


def _write_matrix(file: BinaryIO, matrix: Any) -> None:
    file.write(struct.pack("<?qq", False, *matrix.shape))
    for start in range(0, len(matrix), _ROWS):
        file.write(np.ascontiguousarray(matrix[start : start + _ROWS], "<f4").tobytes())


def read(path: Path) -> Model:
    """The model, its matrices mapped from the file. Raises Unreadable."""
    with path.open("rb") as file:
        head = file.read(8)
        if len(head) < 8 or struct.unpack("<ii", head) != (MAGIC, VERSION):
            raise Unreadable(f"{path.name} is not a fastText model of version {VERSION}")
        *values, t = struct.unpack("<12id", file.read(56))
        args = Args(**dict(zip(_ARGS, values, strict=True)), t=t)
        _, words, labels, tokens, pruned = struct.unpack("<iiiqq", file.read(28))
        if pruned >= 0:
            raise Unreadable("pruned and quantised models are not supported")
        entries = [_entry(file) for _ in range(words + labels)]
        dictionary = Dictionary(*_columns(entries[:words]), *_columns(entries[words:]), tokens=tokens)
        inputs = _read_matrix(path, file)
        outputs = _read_matrix(path, file)
    return Model(args, dictionary, inputs, outputs)


def _entry(file: BinaryIO) -> tuple[str, int]:
    name = bytearray()
    while (byte := file.read(1)) not in (b"\0", b""):
        name += byte
    count, _ = struct.unpack("<qb", file.read(9))
    return name.decode(errors="replace"), count


def _columns(entries: Iterable[tuple[str, int]]) -> tuple[list[str], list[int]]:
    listed = list(entries)
    return [name for name, _ in listed], [count for _, count in listed]


def _read_matrix(path: Path, file: BinaryIO) -> Any:
    is_quantised, rows, width = struct.unpack("<?qq", file.read(17))
    if is_quantised:
        raise Unreadable("quantised models are not supported")
    start = file.tell()
    file.seek(start + rows * width * 4)
    return np.memmap(path, "<f4", "r", start, (rows, width)) if rows * width else np.zeros((rows, width), np.float32)
