"""The kit: formats, hyperparameters, channels, log lines, responses, hosts."""

import contextlib
import gzip
import io
import json
import os
import threading

import numpy as np
import pyarrow as pa
from job import Job, records
from pilvi_algorithms.kit import RequestError, Table, quality, recordio, respond
from pilvi_algorithms.kit.channel import Channel
from pilvi_algorithms.kit.cluster import Cluster
from pilvi_algorithms.kit.content_type import accepted, parse
from pilvi_algorithms.kit.errors import ClientError
from pilvi_algorithms.kit.hyperparameter import AUTO, TOOLKIT, checked, choice, flag, integer, json_value, real
from pilvi_algorithms.kit.report import Report
from pilvi_algorithms.kit.table import Unreadable, joined, read
from pyarrow import parquet

RECORDIO = parse("application/x-recordio-protobuf")
GENERATOR = np.random.default_rng(0)


def refused(function, *arguments, error=ClientError, **more) -> str:
    try:
        function(*arguments, **more)
    except error as found:
        return str(found)
    raise AssertionError("nothing was refused")


# -- RecordIO-protobuf ----------------------------------------------------------------------------------------------------


def check_recordio_of_the_sdk(_):
    """The bytes that the SageMaker SDK writes for features [1, 2] with label 3."""
    tensor = b"\x0a\x08" + np.float32([1, 2]).tobytes()
    value = b"\x12" + bytes([len(tensor)]) + tensor
    entry = b"\x0a\x06values\x12" + bytes([len(value)]) + value
    tensor = b"\x0a\x04" + np.float32([3]).tobytes()
    value = b"\x12" + bytes([len(tensor)]) + tensor
    label = b"\x0a\x06values\x12" + bytes([len(value)]) + value
    message = b"\x0a" + bytes([len(entry)]) + entry + b"\x12" + bytes([len(label)]) + label
    framed = (0xCED7230A).to_bytes(4, "little") + len(message).to_bytes(4, "little") + message + b"\0" * (-len(message) % 4)
    assert recordio.write([recordio.Record({"values": np.float32([1, 2])}, {"values": np.float32([3])})]) == framed
    table = read(framed * 3, RECORDIO)
    assert table.features.tolist() == [[1, 2]] * 3
    assert table.labels.tolist() == [3] * 3


def check_recordio_dense_round_trip(_):
    rows, labels = GENERATOR.normal(size=(300, 7)).astype(np.float32), np.arange(300, dtype=np.float32)
    data = records(rows, labels)
    assert recordio.read_dense(data) is not None
    table = read(data, RECORDIO)
    assert (table.features == rows).all()
    assert (table.labels == labels).all()
    one_by_one = [record.features["values"].values for record in recordio.read(data)]
    assert (np.stack(one_by_one) == rows).all()


def check_recordio_doubles_integers_and_negatives(_):
    for values in (np.float64([1.5, -2]), np.int32([5, -7, 300, 0])):
        (found,) = recordio.read(recordio.write([recordio.Record({"values": values}, {"values": np.int32([-1])})]))
        assert found.features["values"].values.tolist() == values.tolist()
        assert found.label["values"].values.tolist() == [-1]


def check_recordio_sparse(_):
    tensors = [
        recordio.Tensor(np.float32([1, 2]), np.array([3, 70000]), (100000,)),
        recordio.Tensor(np.float32([]), np.array([], int), (100000,)),
    ]
    table = read(recordio.write(recordio.Record({"values": tensor}) for tensor in tensors), RECORDIO)
    assert table.features.shape == (2, 100000)
    assert table.features[0, 70000] == 2
    assert table.features[1].nnz == 0
    assert table.labels is None


def check_recordio_bytes(_):
    (found,) = recordio.read(recordio.write([recordio.Record({"image/jpeg": b"\xff\xd8" * 200}, metadata="m")]))
    assert found.features["image/jpeg"] == b"\xff\xd8" * 200
    assert found.metadata == "m"


def check_recordio_broken(_):
    data = records([[1, 2]], [3])
    for broken in (data[:-4], b"\0" + data, data[:8] + b"\xff" * (len(data) - 8), data[:5]):
        assert refused(read, broken, RECORDIO, error=Unreadable)


# -- tables ---------------------------------------------------------------------------------------------------------------


def check_csv(_):
    table = read(b"1,2,3\n4,5,6\n", parse("text/csv"), 1)
    assert table.labels.tolist() == [1, 4]
    assert table.features.tolist() == [[2, 3], [5, 6]]
    assert read(b"1,2,3\n", parse("text/csv;label_size=0"), 1).features.tolist() == [[1, 2, 3]]
    assert read(b"1;2;3\n", parse("text/csv; label_size=2")).labels.tolist() == [[1, 2]]
    assert np.isnan(read(b"1,,3\n2,3,4", parse("csv"), 1).features[0, 0])
    weighted = read(b"1,0.5,3\n", parse("csv"), 1, has_weights=True)
    assert weighted.weights.tolist() == [0.5]
    assert weighted.features.tolist() == [[3]]


def check_csv_refused(_):
    assert "holds text, such as 'age'" in refused(read, b"age,sex\n1,2\n", parse("csv"), 1, error=Unreadable)
    assert "Expected 2 columns, got 3" in refused(read, b"1,2\n1,2,3\n", parse("csv"), 1, error=Unreadable)
    assert refused(read, b"1\n2\n", parse("csv"), 1, error=Unreadable)
    assert refused(read, b"\n", parse("csv"), 1, error=Unreadable)


def check_libsvm(_):
    table = read(b"1:0.5 1:2 3:4 # said\n\n0:1 2:1\n", parse("text/x-libsvm"))
    assert table.features.toarray().tolist() == [[0, 2, 0, 4], [0, 0, 1, 0]]
    assert table.weights.tolist() == [0.5, 1]
    assert refused(read, b"1 a:b\n", parse("libsvm"), error=Unreadable)


def check_parquet(_):
    def file(*columns):
        out = io.BytesIO()
        parquet.write_table(pa.table([pa.array(column) for column in columns], names=[f"c{at}" for at in range(len(columns))]), out)
        return out.getvalue()

    one, other = file([1, 0], [2.5, None], [True, False]), file([7, 8], [1.0, 2.0], [False, True])
    table = read(one, parse("application/x-parquet"), 1)
    assert table.labels.tolist() == [1, 0]
    assert table.features[0].tolist() == [2.5, 1]
    assert np.isnan(table.features[1, 0])
    assert len(read(one + other, parse("parquet"), 1)) == 4  # as a pipe brings them
    assert "text" in refused(read, file(["a"], [1.0]), parse("parquet"), 1, error=Unreadable)
    assert refused(read, b"PAR1nonsense", parse("parquet"), 1, error=Unreadable)


def check_json_requests(_):
    dense = b'{"instances": [{"features": [1, 2]}, {"data": {"features": {"values": [3, 4]}}}]}'
    assert read(dense, parse("application/json")).features.tolist() == [[1, 2], [3, 4]]
    sparse = b'{"data": {"features": {"keys": [1], "shape": [3], "values": [9]}}}\n{"features": [1, 2, 3]}\n'
    assert read(sparse, parse("application/jsonlines")).features.toarray().tolist() == [[0, 9, 0], [1, 2, 3]]
    for broken in (b"[]", b"{}", b'{"instances": []}', b'{"instances": [{"features": ["a"]}]}', b"nonsense"):
        assert refused(read, broken, parse("application/json"), error=Unreadable)


def check_sparse_tables_join_to_the_widest(_):
    one, other = read(b"1 1:2\n", parse("libsvm")), read(b"0 4:3\n", parse("libsvm"))
    assert joined([one, other]).features.shape == (2, 5)
    assert refused(joined, [Table(np.zeros((1, 2))), Table(np.zeros((1, 3)))], error=Unreadable)


# -- channels -------------------------------------------------------------------------------------------------------------


def channel(root, *files, **more) -> Channel:
    folder = root / "train"
    for name, data in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return Channel("train", folder, **{"content_type": "text/csv", **more})


def check_channel_files(root):
    found = channel(
        root, ("b/x.csv", b"2,2\n"), ("a.csv.gz", gzip.compress(b"1,1\n")), (".hidden", b"x"), ("_SUCCESS", b""), ("empty", b"")
    )
    assert found.table(label_size=1).labels.tolist() == [1, 2]
    assert [path.name for path in found.paths()] == ["a.csv.gz", "x.csv", "empty"]


def check_channel_pipe(root):
    (root / "train").mkdir()
    os.mkfifo(root / "train_0")
    os.mkfifo(root / "train_1")
    feeder = threading.Thread(target=lambda: [(root / f"train_{epoch}").write_bytes(b"%d,5\n" % epoch) for epoch in range(2)])
    feeder.start()
    found = channel(root, mode="Pipe")
    assert found.table(label_size=1).labels.tolist() == [0]
    assert found.table(label_size=1).labels.tolist() == [1]
    feeder.join()


def check_channel_wrapped(root):
    wrapped = b"".join(recordio.framed(part) for part in (b"1,2\n", b"3,4"))
    assert channel(root, ("one", wrapped), is_wrapped=True).table(label_size=1).labels.tolist() == [1, 3]


def check_channel_refused(root):
    told = refused(channel(root, ("a.csv", b"a,b\n")).table, label_size=1)
    assert told.startswith(
        "Unable to read data channel 'train'. Requested content-type is 'text/csv'. Please verify the data matches"
    )
    assert "a.csv" in told
    assert refused(channel(root / "nothing").table) == "No data in channel 'train'."


# -- hyperparameters ------------------------------------------------------------------------------------------------------

DECLARED = (
    integer("k", 1, 10, required=True),
    integer("feature_dim", 1, required=True),
    real("rate", 0, 1, default=0.1, open_low=True, aliases=("learning_rate",)),
    choice("mode", "a", "b", default="a"),
    flag("is_used", default=True),
    json_value("wanted", default=["msd"]),
    integer("size", 1, auto=True),
    integer("classes", 3, required_when=("mode", "b")),
)


def check_hyperparameters(_):
    found = checked(DECLARED, {"k": "3", "feature_dim": "5.0", "learning_rate": "1e-3", "is_used": "False", "_kvstore": "x"})
    assert found == {
        "k": 3,
        "feature_dim": 5,
        "rate": 0.001,
        "mode": "a",
        "is_used": False,
        "wanted": ["msd"],
        "size": AUTO,
        "classes": None,
    }


def check_hyperparameters_refused(_):
    right = {"k": "3", "feature_dim": "5"}
    assert refused(checked, DECLARED, {}).startswith(
        "No value(s) were specified for 'k', 'feature_dim' which are required hyperparameter(s) (caused by ValidationError)"
    )
    assert refused(checked, DECLARED, right | {"mode": "b"}).startswith("No value(s) were specified for 'classes'")
    assert "Additional hyperparameters are not allowed ('foo' was unexpected) (caused by ValidationError)" in refused(
        checked, DECLARED, right | {"foo": "1"}
    )
    for wrong in (
        {"k": "11"},
        {"k": "0"},
        {"k": "x"},
        {"rate": "0"},
        {"rate": "nan"},
        {"mode": "c"},
        {"is_used": "perhaps"},
        {"k": "1.5"},
    ):
        assert f"'{next(iter(wrong))}'" in refused(checked, DECLARED, right | wrong)
    assert (
        refused(checked, DECLARED, right | {"wanted": "msd"})
        == "Hyperparameter must be valid json, but found wanted: msd (caused by ValueError)"
    )


def check_hyperparameters_of_the_toolkit(_):
    right = {"k": "3", "feature_dim": "5"}
    assert refused(checked, DECLARED, {"k": "3"}, TOOLKIT) == "Missing required hyperparameter: feature_dim"
    assert refused(checked, DECLARED, right | {"foo": "1"}, TOOLKIT) == "Extraneous hyperparameter found: foo"
    assert refused(checked, DECLARED, right | {"rate": "2"}, TOOLKIT) == "Hyperparameter rate: 2.0 is not in (0, 1]"
    assert (
        refused(checked, DECLARED, right | {"k": "x"}, TOOLKIT) == "Hyperparameter k: could not parse value (caused by ValueError)"
    )


# -- jobs -----------------------------------------------------------------------------------------------------------------


def check_job_without_its_channel(root):
    hyperparameters = {"k": 2, "feature_dim": 1}
    told = Job(root, "kmeans", hyperparameters, {"test": (b"1\n", "text/csv;label_size=0")}).failure
    assert told.startswith("ClientError: Unable to initialize the algorithm. Failed to validate input data configuration.")
    assert "'train' is a required property" in told
    told = Job(root, "kmeans", hyperparameters, {"train": (b"1\n", ""), "more": (b"1\n", "")}).failure
    assert "('more' was unexpected)" in told
    assert "not one of" in Job(root, "kmeans", hyperparameters, {"train": (b"1\n", "image/png")}).failure


def check_job_of_no_algorithm(root):
    assert Job(root, "nonsense", {}, {}).failure == "ClientError: The algorithm of image nonsense is not available."


def check_job_that_breaks(root):
    job = Job(root, "kmeans", {"k": 2, "feature_dim": 1}, {"train": (b"1\n2\n3\n", "text/csv;label_size=0")})
    job.module._streamed, kept = None, job.module._streamed
    try:
        assert job.run().code == 1
    finally:
        job.module._streamed = kept
    assert (root / "output/failure").read_text().startswith("TypeError: ")
    assert "Traceback" in job.log


# -- lines and responses --------------------------------------------------------------------------------------------------


def check_lines(_):
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        report = Report("Linear Learner", "algo-2")
        report.quality("train", "objective_loss", 0.5, epoch=3)
        report.score("validation", "accuracy", 0.9)
        report.progress(0.1)
        report.metrics({"loss": 1.0, "none": float("nan")}, epoch=0)
    first, second, third, fourth, fifth = out.getvalue().splitlines()
    assert first.endswith("#quality_metric: host=algo-2, epoch=3, train objective_loss <loss>=0.5")
    assert second.endswith("#validation_score (algo-2) : ('accuracy', 0.9)")
    assert third.endswith("#quality_metric: host=algo-2, validation accuracy <score>=0.9")
    assert fourth.endswith("#progress_metric: host=algo-2, completed 10 % of epochs")
    told = json.loads(fifth.removeprefix("#metrics "))
    assert told["Dimensions"] == {"Algorithm": "Linear Learner", "Host": "algo-2", "Operation": "training", "epoch": 0}
    assert told["Metrics"] == {"loss": {"sum": 1.0, "count": 1, "min": 1.0, "max": 1.0}}


def check_responses(_):
    predictions = [{"score": np.float32(0.5), "predicted_label": 1}, {"score": 0.25, "predicted_label": 0}]
    assert respond(predictions, "") == (
        b'{"predictions": [{"score": 0.5, "predicted_label": 1}, {"score": 0.25, "predicted_label": 0}]}',
        "application/json",
    )
    lines, kind = respond(predictions, "application/jsonlines")
    assert kind == "application/jsonlines"
    assert lines.splitlines()[1] == b'{"score": 0.25, "predicted_label": 0}'
    assert respond(predictions, "text/csv")[0] == b"0.5,1\n0.25,0\n"
    first, _second = recordio.read(respond(predictions, "application/x-recordio-protobuf")[0])
    assert first.label["score"].values.tolist() == [0.5]
    assert first.label["predicted_label"].values.tolist() == [1]
    assert "not supported" in refused(respond, predictions, "image/png", error=RequestError)
    assert accepted("text/html, application/json; verbose=true", "application/json").is_set("verbose")


def check_quality(_):
    from sklearn import metrics

    truth, scores = GENERATOR.integers(0, 2, 500), GENERATOR.integers(0, 20, 500) / 20
    assert np.isclose(quality.roc_auc(truth, scores), metrics.roc_auc_score(truth, scores))
    assert np.isclose(quality.f_beta(truth, scores > 0.5, 2), metrics.fbeta_score(truth, scores > 0.5, beta=2))
    assert np.isclose(quality.precision(truth, scores > 0.5), metrics.precision_score(truth, scores > 0.5))
    assert np.isclose(quality.log_loss(truth, scores * 0.9 + 0.05), metrics.log_loss(truth, scores * 0.9 + 0.05))
    assert np.isclose(quality.r2(truth, scores), metrics.r2_score(truth, scores))
    assert np.isnan(quality.roc_auc([1, 1], [0.5, 0.6]))


# -- several hosts --------------------------------------------------------------------------------------------------------


def check_cluster(_):
    """Three hosts, as threads: names that resolve to this machine and sort by their numbers."""
    clusters = [Cluster(["localhost", "host-10", "host-2"], name, 29411) for name in ("localhost", "host-2", "host-10")]
    assert [one.rank for one in clusters] == [0, 1, 2]
    found: dict[int, object] = {}

    def work(one: Cluster) -> None:
        gathered = one.gather(one.rank)
        found[one.rank] = (gathered, one.broadcast("word" if one.is_leader else None), one.sum([np.ones(2) * one.rank, 1]))
        one.close()

    threads = [threading.Thread(target=work, args=(one,)) for one in clusters]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found[0][0] == [0, 1, 2]
    assert found[2][0] is None
    for gathered in found.values():
        assert gathered[1] == "word"
        assert gathered[2][0].tolist() == [3, 3]
        assert gathered[2][1] == 3
