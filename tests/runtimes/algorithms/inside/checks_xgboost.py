"""XGBoost: the same model as the library's own, in every format; AWS's log lines, messages and answers."""

import io
import json
import os
import re

import numpy as np
import pyarrow as pa
import xgboost as xgb
from job import Job, csv, halves, records, refused
from pyarrow import parquet
from sklearn import datasets

X, Y, X_TEST, Y_TEST = halves(datasets.load_breast_cancer())
USUAL = {"objective": "binary:logistic", "max_depth": 5, "eta": 0.2, "num_round": 20}
CSV = (csv(X, Y), "text/csv")


def libsvm(features, labels) -> bytes:
    rows = (
        f"{label:g} " + " ".join(f"{at}:{value:.9g}" for at, value in enumerate(row))
        for label, row in zip(labels, features, strict=True)
    )
    return ("\n".join(rows) + "\n").encode()


def parquet_file(features, labels) -> bytes:
    table = np.column_stack([labels, features]).astype(np.float32)
    out = io.BytesIO()
    parquet.write_table(pa.table([pa.array(column) for column in table.T], names=[f"c{at}" for at in range(table.shape[1])]), out)
    return out.getvalue()


def direct(**more):
    """What the library itself says of the test rows."""
    matrix = xgb.DMatrix(X.astype(np.float32), label=Y)
    parameters = {"objective": "binary:logistic", "max_depth": 5, "eta": 0.2, **more}
    return xgb.train(parameters, matrix, num_boost_round=20).predict(xgb.DMatrix(X_TEST.astype(np.float32)))


def check_same_model_in_every_format(root):
    expected = direct()
    for number, channel in enumerate(
        [
            CSV,
            ([csv(X[:200], Y[:200]), csv(X[200:], Y[200:])], "csv"),
            (libsvm(X, Y), ""),
            (libsvm(X, Y), "text/x-libsvm"),
            (parquet_file(X, Y), "application/x-parquet"),
            (records(X, Y), "application/x-recordio-protobuf"),
        ]
    ):
        job = Job(root / str(number), "sagemaker-xgboost", USUAL, {"train": channel}).trained()
        scores = [float(line) for line in job.predict(csv(X_TEST), accept="text/csv").decode().splitlines()]
        assert np.allclose(scores, expected, atol=1e-5), channel[1]


def check_log_lines(root):
    job = Job(
        root, "xgboost", USUAL | {"eval_metric": "auc,logloss,f1"}, {"train": CSV, "validation": (csv(X_TEST, Y_TEST), "text/csv")}
    ).trained()
    lines = [line for line in job.log.splitlines() if line.startswith(("[0]", "[19]"))]
    assert len(lines) == 2
    form = r"\[19\]#011train-auc:\S+#011train-logloss:\S+#011train-f1:\S+#011validation-auc:\S+#011validation-logloss:\S+#011validation-f1:\S+"
    assert re.fullmatch(form, lines[1])


def check_metric_of_tuning(root):
    job = Job(root, "xgboost", USUAL | {"_tuning_objective_metric": "train:auc"}, {"train": CSV}).trained()
    assert "[19]#011train-auc:1.0" in job.log


def check_early_stopping(root):
    hyperparameters = USUAL | {"num_round": 500, "early_stopping_rounds": 3, "eval_metric": "auc"}
    job = Job(root, "xgboost", hyperparameters, {"train": CSV, "validation": (csv(X_TEST, Y_TEST), "text/csv")}).trained()
    rounds = job.log.count("#011train-auc")
    assert rounds < 100
    assert job.model()[0].num_boosted_rounds() == rounds - 3


def check_weights(root):
    weights = np.where(Y > 0, 5.0, 1.0)
    job = Job(root, "xgboost", USUAL | {"csv_weights": 1}, {"train": (csv(np.column_stack([weights, X]), Y), "text/csv")}).trained()
    matrix = xgb.DMatrix(X.astype(np.float32), label=Y, weight=weights)
    expected = xgb.train({"objective": "binary:logistic", "max_depth": 5, "eta": 0.2}, matrix, 20).predict(
        xgb.DMatrix(X_TEST.astype(np.float32))
    )
    scores = [float(line) for line in job.predict(csv(X_TEST), accept="text/csv").decode().splitlines()]
    assert np.allclose(scores, expected, atol=1e-5)


def check_aliases(root):
    given = {
        "objective": "binary:logistic",
        "num_round": 20,
        "max_depth": 5,
        "learning_rate": 0.2,
        "reg_lambda": 3,
        "min_split_loss": 1,
    }
    job = Job(root, "xgboost", given, {"train": CSV}).trained()
    scores = [float(line) for line in job.predict(csv(X_TEST), accept="text/csv").decode().splitlines()]
    assert np.allclose(scores, direct(reg_lambda=3, gamma=1), atol=1e-5)


def check_objectives(root):
    for number, (objective, labels, more) in enumerate(
        [
            ("reg:squarederror", Y, {}), ("reg:linear", Y, {}), ("reg:logistic", Y, {}), ("reg:pseudohubererror", Y, {}),
            ("reg:squaredlogerror", Y, {}), ("reg:gamma", Y + 1, {}), ("reg:tweedie", Y, {}), ("binary:logitraw", Y, {}),
            ("binary:hinge", Y, {}), ("count:poisson", Y, {}), ("multi:softmax", Y + 1, {"num_class": 3}), ("survival:cox", Y + 1, {}),
            ("rank:pairwise", Y, {}), ("rank:ndcg", Y, {}),
        ]
    ):  # fmt: skip
        job = Job(
            root / str(number), "xgboost", {"objective": objective, "num_round": 2, **more}, {"train": (csv(X, labels), "text/csv")}
        ).trained()
        assert len(job.predict(csv(X_TEST), accept="text/csv").splitlines()) == len(X_TEST)


def check_boosters(root):
    for booster in ("gblinear", "dart"):
        Job(root / booster, "xgboost", USUAL | {"booster": booster, "num_round": 3}, {"train": CSV}).trained()


def check_cross_validation(root):
    job = Job(root, "xgboost", USUAL | {"_kfold": 3, "_num_cv_round": 2, "num_round": 3}, {"train": CSV}).trained()
    assert sorted(path.name for path in (root / "model").iterdir()) == [f"xgboost-model-{number}" for number in range(6)]
    found = np.loadtxt(root / "output/data/predictions.csv", delimiter=",")
    assert found.shape == (len(X), 3)
    assert np.mean(found[:, 0] == found[:, 2]) > 0.9
    assert len(job.model()) == 6


def check_checkpoints(root):
    channels = {"train": CSV}
    job = Job(root, "xgboost", USUAL | {"num_round": 8}, channels)
    job.write("checkpointconfig", {"LocalPath": str(root / "checkpoints")})
    job.trained()
    assert sorted(path.name for path in (root / "checkpoints").iterdir()) == [
        f"xgboost-checkpoint.{number}" for number in range(3, 8)
    ]
    again = Job(root, "xgboost", USUAL | {"num_round": 20}, channels).trained()
    assert "Resuming from iteration 8" in again.log
    assert "[7]#011" not in again.log
    assert "[19]#011" in again.log
    assert again.model()[0].num_boosted_rounds() == 20


def check_refused(root):
    train = {"train": CSV}

    def failure(hyperparameters, channels=train):
        return Job(root / str(len(list(root.iterdir()))), "xgboost", hyperparameters, channels).failure

    assert failure({}) == "ClientError: Missing required hyperparameter: num_round"
    assert failure(USUAL | {"eta": 3}) == "ClientError: Hyperparameter eta: 3.0 is not in [0, 1]"
    assert failure(USUAL | {"foo": 3}) == "ClientError: Extraneous hyperparameter found: foo"
    assert (
        failure(USUAL | {"num_round": "x"}) == "ClientError: Hyperparameter num_round: could not parse value (caused by ValueError)"
    )
    assert (
        failure(USUAL | {"objective": "multi:softmax"})
        == "ClientError: Require input for parameter 'num_class' for multi-classification"
    )
    assert "Metric 'auc@0.5' is not supported" in failure(USUAL | {"eval_metric": "auc@0.5"})
    assert "not in range" in failure(USUAL | {"eval_metric": "nonsense"})
    assert failure(USUAL, {"validation": CSV}) == "ClientError: Missing required channel: train"
    told = failure(USUAL, {"train": (csv(X, Y), "")})
    assert told.startswith("ClientError: First line '")
    assert "is not 'LIBSVM' format" in told
    assert "set it to text/csv" in told
    assert "is not an accepted ContentType" in failure(USUAL, {"train": (csv(X, Y), "image/png")})
    assert "label_size must be equal to 1" in failure(USUAL, {"train": (csv(X, Y), "text/csv;label_size=0")})
    assert failure(USUAL, {"train": (csv(X, Y + 1), "text/csv")}) == "ClientError: label must be in [0,1] for logistic regression"
    assert "holds text" in failure(USUAL, {"train": (b"y,a\n1,2\n", "text/csv")})


def check_stopped_job_keeps_its_model(root):
    from pilvi_algorithms import xgboost as module

    job = Job(root, "xgboost", USUAL | {"num_round": 1000}, {"train": CSV})
    kept = module._watcher

    def stop_at_once(run, *more):
        run.is_stopping = True
        return kept(run, *more)

    module._watcher = stop_at_once
    try:
        job.trained()
    finally:
        module._watcher = kept
    assert job.model()[0].num_boosted_rounds() == 1


def check_answers(root):
    job = Job(root, "xgboost", USUAL, {"train": CSV}).trained()
    two = csv(X_TEST[:2])
    assert list(job.predict(two)) == ["predictions"]
    assert list(job.predict(two)["predictions"][0]) == ["score"]
    assert len(job.predict(two, accept="application/jsonlines").splitlines()) == 2
    assert job.predict(libsvm(X_TEST[:2], [0, 0]), "text/libsvm") == job.predict(two)
    assert job.predict(records(X_TEST[:2]), "application/x-recordio-protobuf") == job.predict(two)
    assert not job.predict(two, accept="text/csv").endswith(b"\n")
    os.environ["SAGEMAKER_BATCH"] = "true"
    try:
        assert job.predict(two, accept="text/csv").count(b"\n") == 2
    finally:
        del os.environ["SAGEMAKER_BATCH"]
    for body, kind, status in ((b"1,2\n", "text/csv", 400), (b"x", "image/png", 415), (b"a,b\n", "text/csv", 400)):
        assert refused(job, body, kind).status == status


def check_chosen_answers(root):
    labels = datasets.load_iris()
    given = {"objective": "multi:softprob", "num_class": 3, "num_round": 5}
    job = Job(root, "xgboost", given, {"train": (csv(labels.data, labels.target), "text/csv")}).trained()
    os.environ["SAGEMAKER_INFERENCE_OUTPUT"] = "predicted_label,probability,probabilities,labels"
    try:
        (found,) = job.predict(csv(labels.data[:1]))["predictions"]
        assert found["predicted_label"] == 0
        assert found["labels"] == [0, 1, 2]
        assert found["probability"] == max(found["probabilities"])
        assert len(job.predict(csv(labels.data[:1]), accept="text/csv").split(b",")) == 8
    finally:
        del os.environ["SAGEMAKER_INFERENCE_OUTPUT"]
    assert len(json.loads(job.predict(csv(labels.data[:1]), accept="text/csv"))) == 3
