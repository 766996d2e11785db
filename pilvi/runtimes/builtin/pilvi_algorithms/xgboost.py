"""XGBoost: gradient-boosted trees, on the xgboost library.

Several hosts train together over the library's own collective; hosts without data stand aside. Each host reads what its channels
give it, so sharded data make the work smaller and replicated data only repeat it, as on AWS.

Source of hyperparameters, content types and messages: SageMaker Developer Guide, "XGBoost hyperparameters"; the open container.
Differs: one version of the library, whatever the image's tag says; tree_method gpu_hist trains with hist; sketch_eps, dsplit,
predictor, lambda_bias and the removed updaters change nothing, as the library no longer has them.
A stopped job keeps the model so far unless save_model_on_termination is false.
"""

from __future__ import annotations

import importlib
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from pilvi_algorithms.kit import (
    CSV,
    JSON,
    JSONLINES,
    LIBSVM,
    PARQUET,
    RECORDIO,
    TOOLKIT,
    ChannelRule,
    ClientError,
    RequestError,
    Run,
    Table,
    choice,
    integer,
    quality,
    real,
    request_table,
    text,
)
from pilvi_algorithms.kit import serving as responses
from pilvi_algorithms.kit.content_type import accepted, parse

NAME = "XGBoost"
WORDS = TOOLKIT
OBJECTIVES = (
    "binary:logistic", "binary:logitraw", "binary:hinge", "count:poisson", "multi:softmax", "multi:softprob", "rank:pairwise",
    "rank:ndcg", "rank:map", "reg:linear", "reg:squarederror", "reg:logistic", "reg:gamma", "reg:pseudohubererror",
    "reg:squaredlogerror", "reg:absoluteerror", "reg:tweedie", "survival:aft", "survival:cox",
)  # fmt: skip
MAXIMIZED = (
    "accuracy", "auc", "aucpr", "balanced_accuracy", "f1", "f1_binary", "f1_macro", "map", "ndcg", "precision", "r2", "recall",
    "precision_macro", "precision_micro", "recall_macro", "recall_micro",
)  # fmt: skip
MINIMIZED = (
    "aft-nloglik", "cox-nloglik", "error", "gamma-deviance", "gamma-nloglik", "interval-regression-accuracy", "logloss", "mae", "mape",
    "merror", "mlogloss", "mphe", "mse", "poisson-nloglik", "rmse", "rmsle", "tweedie-nloglik",
)  # fmt: skip
METRICS = MAXIMIZED + MINIMIZED

HYPERPARAMETERS = (
    integer("num_round", 1, required=True),
    integer("csv_weights", 0, 1, default=0),
    integer("early_stopping_rounds", 1),
    choice("booster", "gbtree", "gblinear", "dart"),
    integer("verbosity", 0, 3),
    integer("nthread", 1),
    real("eta", 0, 1, aliases=("learning_rate",)),
    real("gamma", 0, aliases=("min_split_loss",)),
    integer("max_depth", 0),
    real("min_child_weight", 0),
    real("max_delta_step", 0),
    real("subsample", 0, 1, open_low=True),
    real("colsample_bytree", 0, 1, open_low=True),
    real("colsample_bylevel", 0, 1, open_low=True),
    real("colsample_bynode", 0, 1, open_low=True),
    real("lambda", 0, aliases=("reg_lambda",)),
    real("alpha", 0, aliases=("reg_alpha",)),
    choice("tree_method", "auto", "exact", "approx", "hist", "gpu_hist"),
    real("sketch_eps", 0, 1, open_low=True, open_high=True),
    real("scale_pos_weight", 0, open_low=True),
    text("updater"),
    choice("dsplit", "row", "col"),
    integer("refresh_leaf", 0, 1),
    choice("process_type", "default", "update"),
    choice("grow_policy", "depthwise", "lossguide"),
    integer("max_leaves", 0),
    integer("max_bin", 0),
    choice("predictor", "auto", "cpu_predictor", "gpu_predictor"),
    text("monotone_constraints"),
    text("interaction_constraints"),
    choice("sample_type", "uniform", "weighted"),
    choice("normalize_type", "tree", "forest"),
    real("rate_drop", 0, 1),
    integer("one_drop", 0, 1),
    real("skip_drop", 0, 1),
    real("lambda_bias", 0, 1),
    real("tweedie_variance_power", 1, 2, open_low=True, open_high=True),
    choice("objective", *OBJECTIVES, default="reg:squarederror"),
    integer("num_class", 2),
    real("base_score", 0),
    integer("_kfold", 2),
    integer("_num_cv_round", 1, default=1),
    text("_tuning_objective_metric"),
    text("eval_metric"),
    integer("seed", -(2**31), 2**31 - 1),
    integer("num_parallel_tree", 1),
    choice("save_model_on_termination", "true", "false"),
    choice("aft_loss_distribution", "normal", "logistic", "extreme"),
    real("aft_loss_distribution_scale", 0, open_low=True),
    real("huber_slope", 0, open_low=True),
    choice("deterministic_histogram", "true", "false"),
    choice("sampling_method", "uniform", "gradient_based"),
    integer("prob_buffer_row"),
    choice("single_precision_histogram", "true", "false"),
    choice("use_dask_gpu_training", "true", "false"),
)
_FORMATS = (LIBSVM, CSV, PARQUET, RECORDIO)
CHANNELS = (ChannelRule("train", True), ChannelRule("validation"), ChannelRule("code"))

MODEL = "xgboost-model"
_CHECKPOINT = re.compile(r"xgboost-checkpoint\.(\d+)")
_NOT_FOR_THE_LIBRARY = frozenset(
    [
        "num_round",
        "csv_weights",
        "early_stopping_rounds",
        "sketch_eps",
        "dsplit",
        "predictor",
        "lambda_bias",
        "updater",
        "_kfold",
        "_num_cv_round",
        "_tuning_objective_metric",
        "eval_metric",
        "save_model_on_termination",
        "prob_buffer_row",
        "single_precision_histogram",
        "deterministic_histogram",
        "use_dask_gpu_training",
    ]
)
_TREE_UPDATERS = ("grow_colmaker", "grow_histmaker", "grow_quantile_histmaker", "refresh", "prune", "sync")
_USER_ERRORS = (
    "label must be",
    "base_score must be",
    "feature_names mismatch",
    "Feature shape mismatch",
    "label size",
    "must be positive",
)


def library() -> Any:
    """xgboost without its scikit-learn and pandas faces, which nobody here looks at: they would cost every job a second."""
    unwanted = {"sklearn", "pandas"} - sys.modules.keys()
    sys.modules |= dict.fromkeys(unwanted)  # type: ignore[arg-type]  # None there means: not installed
    try:
        return importlib.import_module("xgboost")
    finally:
        for name in unwanted:
            del sys.modules[name]


# -- training -------------------------------------------------------------------------------------------------------------


def train(run: Run) -> None:
    check(run.hp)
    tables = {name: _table(run, name) for name in ("train", "validation")}
    own_width = max((table.width for table in tables.values() if table is not None), default=0)
    found = run.cluster.broadcast(run.cluster.gather((tables["train"] is not None, own_width)))
    has_data, width = [has for has, _ in found], max(width for _, width in found)
    if not any(has_data):
        raise ClientError(f"No data in training channel path {run.channels['train'].folder}")
    if not run.cluster.is_many:
        _say(run, "Single node training.")
        _train(run, tables, width, is_leader=True)
        return
    _say(run, f"Distributed node training with {run.cluster.size} hosts: {run.cluster.hosts}")
    _train_together(run, tables, width, [rank for rank, has in enumerate(has_data) if has])


def _train_together(run: Run, tables: Mapping[str, Table | None], width: int, ranks: list[int]) -> None:
    """The hosts that have data, over the library's collective. The first host keeps the tracker, with data or without."""
    import socket

    library()
    from xgboost import collective
    from xgboost.tracker import RabitTracker

    tracker, arguments = None, None
    if run.cluster.is_leader:
        tracker = RabitTracker(host_ip=socket.gethostbyname(run.cluster.leader), n_workers=len(ranks))
        tracker.start()
        arguments = tracker.worker_args()
    arguments = run.cluster.broadcast(arguments)
    if run.cluster.rank in ranks:
        with collective.CommunicatorContext(**arguments):
            _train(run, tables, width, is_leader=run.cluster.rank == ranks[0])
    else:
        _say(run, f"Host {run.cluster.hosts[run.cluster.rank]} does not have data and will not be used in distributed training.")
    run.cluster.gather(None)
    if tracker is not None:
        tracker.wait_for()
        tracker.free()


def check(hp: dict[str, Any]) -> None:
    """What depends on more than one hyperparameter. Raises ClientError."""
    objective = hp["objective"]
    if objective in ("multi:softmax", "multi:softprob") and hp["num_class"] is None:
        raise ClientError("Require input for parameter 'num_class' for multi-classification")
    for metric in _eval_metrics(hp):
        name, at, threshold = metric.partition("@")
        if at and name not in ("error", "ndcg", "map"):
            raise ClientError(
                f"Metric '{metric}' is not supported. Parameter 'eval_metric' with customized threshold should be one of these "
                "options: 'error', 'ndcg', 'map'."
            )
        if at and re.fullmatch(r"[0-9.]+-?", threshold) is None:
            raise ClientError(f"Threshold value 't' in '{name}@t' expects float input.")
        if name not in METRICS:
            raise ClientError(f"Hyperparameter eval_metric: value {_eval_metrics(hp)} not in range {list(METRICS)}")
    if (updater := hp["updater"]) is not None:
        known = ("shotgun", "coord_descent") if hp["booster"] == "gblinear" else _TREE_UPDATERS
        if wrong := [one for one in updater.split(",") if one not in known]:
            raise ClientError(f"Hyperparameter updater: value {wrong} not in range {list(known)}")


def _table(run: Run, name: str) -> Table | None:
    """A channel's rows: None where this host has no file of it."""
    if (channel := run.channel(name)) is None:
        return None
    given = channel.content_type
    kind = parse(given) if given else parse(LIBSVM)
    if kind.name not in _FORMATS:
        raise ClientError(
            f"{given} is not an accepted ContentType: csv, libsvm, parquet, recordio-protobuf, text/csv, text/libsvm, text/x-libsvm, "
            "application/x-parquet, application/x-recordio-protobuf."
        )
    if kind.name == CSV and kind.parameters.get("label_size", "1") != "1":
        raise ClientError(f"{given} is not an accepted csv ContentType. Optional parameter label_size must be equal to 1")
    if channel.mode == "Pipe":
        if kind.name == LIBSVM:
            raise ClientError("Pipe mode not supported for LibSVM.")
    else:
        if not channel.paths():
            if name == "validation" and not run.cluster.is_many:
                raise ClientError(f"No data in validation channel path {channel.folder}")
            return None
        if kind.name == LIBSVM:
            _check_libsvm(channel.paths(), is_default=not given)
    has_weights = kind.name == CSV and run.hp["csv_weights"] == 1 and name == "train"
    table = channel.table(kind, 1, has_weights=has_weights)
    if kind.name == RECORDIO and table.labels is None:
        raise ClientError(f"Records of channel '{name}' have no label.")
    return table


_LABEL = re.compile(rb"\s*[-+0-9.eE]+(:[-+0-9.eE]+)?(\s+[0-9]+:\S+)*\s*(#.*)?")


def _check_libsvm(paths: list[Path], *, is_default: bool) -> None:
    """AWS's most frequent mistake: CSV without a content type, which means libsvm."""
    for path in paths:
        with path.open("rb") as file:
            line = file.readline(1 << 20)
        if line.startswith(b"\x1f\x8b") or _LABEL.fullmatch(line):
            continue
        shown = line[:50].decode(errors="replace").rstrip()
        hint = " The channel has no ContentType, which means libsvm; for CSV data set it to text/csv." if is_default else ""
        raise ClientError(
            f"First line '{shown}...' of file '{path.name}' is not 'LIBSVM' format. Please ensure the file is in 'LIBSVM' format.{hint}"
        )


def _train(run: Run, tables: Mapping[str, Table | None], width: int, *, is_leader: bool) -> None:
    xgb = library()

    train_table, validation = tables["train"], tables["validation"]
    assert train_table is not None
    _check_labels(train_table.labels, run.hp["objective"])
    try:
        matrix = _matrix(train_table, width)
        held_out = None if validation is None else _matrix(validation, width)
        _say(run, f"Train matrix has {matrix.num_row()} rows and {matrix.num_col()} columns")
        if held_out is not None:
            _say(run, f"Validation matrix has {held_out.num_row()} rows")
        if run.hp["_kfold"] is not None:
            _cross_validate(run, matrix, held_out)
            return
        booster = _boost(run, matrix, held_out, run.checkpoint_dir)
    except xgb.core.XGBoostError as error:
        raise _told(error) from error
    if is_leader and (not run.is_stopping or run.hp["save_model_on_termination"] != "false"):
        _save(booster, run.model_dir / MODEL)


def _check_labels(labels: Any, objective: str) -> None:
    """What the library would tell as a trouble of its base score."""
    if objective in ("binary:logistic", "binary:logitraw", "reg:logistic") and not ((labels >= 0) & (labels <= 1)).all():
        raise ClientError("label must be in [0,1] for logistic regression")


def _told(error: Exception) -> Exception:
    """The library's complaint: the user's where it is about the data, else the algorithm's."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # The first line is the time, and then place and check: "[03:00:00] /src/objective/x.cu:69: label must be in [0,1] ..."
    told = next((line for line in lines if any(word in line for word in _USER_ERRORS)), "")
    if told:
        return ClientError(re.sub(r"^\[[0-9:]+\] \S+: (Check failed: \S+ ?(\([^)]*\) )?:? ?)?", "", told))
    return RuntimeError(f"XGB train call failed with exception:\n {lines[0] if lines else error}")


def _matrix(table: Table, width: int) -> Any:
    xgb = library()

    features = table.features
    if table.is_sparse and table.width < width:
        features.resize(len(table), width)
    elif table.width < width:
        raise ClientError(f"Training and validation data have different numbers of features: {width} and {table.width}.")
    return xgb.DMatrix(features, label=table.labels, weight=table.weights)


def _boost(run: Run, matrix: Any, held_out: Any, checkpoints: Path | None = None) -> Any:
    """One training: the library's own loop, its lines and its end watched."""
    xgb = library()

    hp = run.hp
    latest, done = _latest_checkpoint(checkpoints)
    if latest is not None:
        _say(run, f"Checkpoint loaded from {latest}")
        _say(run, f"Resuming from iteration {done}")
    watched = [(matrix, "train")] + ([(held_out, "validation")] if held_out is not None else [])
    metrics = _wanted_metrics(hp)
    own = [metric for metric in metrics if metric in OWN_METRICS]
    stopping = None
    if hp["early_stopping_rounds"] is not None:
        stopping = xgb.callback.EarlyStopping(
            rounds=hp["early_stopping_rounds"],
            metric_name=metrics[-1] if metrics else None,
            data_name=watched[-1][1],
            maximize=metrics[-1].partition("@")[0] in MAXIMIZED if metrics else None,
            save_best=True,
        )
    return xgb.train(
        library_parameters(hp),
        matrix,
        num_boost_round=max(hp["num_round"] - done, 0),
        evals=watched,
        custom_metric=_measured(own, hp) if own else None,
        callbacks=[_watcher(run, done, checkpoints, stopping)],
        xgb_model=None if latest is None else str(latest),
        verbose_eval=False,
    )


def library_parameters(hp: Mapping[str, Any]) -> dict[str, Any]:
    """What the job gave, in the library's words; what it did not give is the library's default."""
    found = {name: value for name, value in hp.items() if value is not None and name not in _NOT_FOR_THE_LIBRARY}
    if found["objective"] == "reg:linear":
        found["objective"] = "reg:squarederror"
    if found.get("tree_method") == "gpu_hist":
        found["tree_method"] = "hist"
    if hp["updater"] is not None and hp["process_type"] == "update":
        found["updater"] = hp["updater"]
    metrics = _wanted_metrics(hp)
    library = [metric for metric in metrics if metric not in OWN_METRICS]
    if library:
        found["eval_metric"] = library
    if metrics and not library:
        found["disable_default_eval_metric"] = True
    return found


def _eval_metrics(hp: Mapping[str, Any]) -> list[str]:
    given = (hp["eval_metric"] or "").strip("[] ")
    return [part.strip().strip("'\"") for part in given.split(",") if part.strip()]


def _wanted_metrics(hp: Mapping[str, Any]) -> list[str]:
    """Of eval_metric, and what tuning looks at."""
    found = list(dict.fromkeys(_eval_metrics(hp)))
    objective = (hp["_tuning_objective_metric"] or "").partition(":")[2]
    if objective in METRICS and objective not in found:
        found.insert(0, objective)
    return found


def _watcher(run: Run, first: int, checkpoints: Path | None, stopping: Any) -> Any:
    """Writes a line a round in AWS's form, keeps checkpoints, and ends when the job is to stop, or early stopping says so.

    One callback for all: the library calls several in no order, and none after the one that ends the training.
    """
    xgb = library()

    class Watcher(xgb.callback.TrainingCallback):  # type: ignore[name-defined, misc]
        def before_training(self, model: Any) -> Any:
            return model if stopping is None else stopping.before_training(model)

        def after_iteration(self, model: Any, epoch: int, evals_log: Mapping[str, Mapping[str, list[float]]]) -> bool:
            parts = [f"{data}-{name}:{values[-1]:.5f}" for data, found in evals_log.items() for name, values in found.items()]
            run.report.line("#011".join([f"[{epoch + first}]", *parts]))
            if checkpoints is not None and run.cluster.is_leader:
                _checkpoint(model, checkpoints, epoch + first)
            is_enough = stopping is not None and stopping.after_iteration(model, epoch, evals_log)
            return is_enough or run.is_stopping

        def after_training(self, model: Any) -> Any:
            return model if stopping is None else stopping.after_training(model)

    return Watcher()


def _checkpoint(model: Any, folder: Path, number: int) -> None:
    """Whole or not at all; the five latest stay, as AWS keeps them."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / ".unfinished"
    unfinished.write_bytes(bytes(model.save_raw("ubj")))
    unfinished.replace(folder / f"xgboost-checkpoint.{number}")
    for old in sorted(_checkpoints(folder).items())[:-5]:
        old[1].unlink(missing_ok=True)


def _checkpoints(folder: Path) -> dict[int, Path]:
    return {int(match[1]): path for path in folder.glob("xgboost-checkpoint.*") if (match := _CHECKPOINT.fullmatch(path.name))}


def _latest_checkpoint(folder: Path | None) -> tuple[Path | None, int]:
    """(the file, how many rounds are in it)"""
    found = _checkpoints(folder) if folder is not None and folder.is_dir() else {}
    return (found[max(found)], max(found) + 1) if found else (None, 0)


def _save(booster: Any, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(booster.save_raw("ubj")))


# -- cross validation -----------------------------------------------------------------------------------------------------


def _cross_validate(run: Run, matrix: Any, held_out: Any) -> None:
    """`_num_cv_round` times `_kfold` models, on train and validation data together; out-of-fold predictions in output/data."""
    hp, folds = run.hp, run.hp["_kfold"]
    data = matrix if held_out is None else _stacked(matrix, held_out)
    labels = data.get_label()
    is_class = hp["num_class"] is not None or hp["objective"].startswith("binary:")
    _say(run, f"Run {hp['_num_cv_round']}-round of {folds}-fold cross validation with {data.num_row()} rows")
    generator = np.random.default_rng(hp["seed"] or 0)
    predictions: list[list[Any]] = [[] for _ in range(data.num_row())]
    number = 0
    for _ in range(hp["_num_cv_round"]):
        for part in _folds(labels if is_class else None, data.num_row(), folds, generator):
            if run.is_stopping:
                return
            rest = np.setdiff1d(np.arange(data.num_row()), part)
            booster = _boost(run, data.slice(rest), data.slice(part))
            _save(booster, run.model_dir / f"{MODEL}-{number}")
            for row, predicted in zip(part, booster.predict(data.slice(part)), strict=True):
                predictions[row].append(predicted)
            number += 1
    _write_predictions(run.output_dir / "predictions.csv", labels, predictions, hp)


def _stacked(one: Any, other: Any) -> Any:
    xgb = library()
    from scipy import sparse

    weights = [matrix.get_weight() for matrix in (one, other)]
    return xgb.DMatrix(
        sparse.vstack([one.get_data(), other.get_data()], format="csr"),
        label=np.concatenate([one.get_label(), other.get_label()]),
        weight=np.concatenate([w if len(w) else np.ones(m.num_row()) for w, m in zip(weights, (one, other), strict=True)])
        if any(len(w) for w in weights)
        else None,
    )


def _folds(classes: Any, rows: int, folds: int, generator: Any) -> list[Any]:
    """Row numbers of each fold, shuffled; every class spread evenly where there are classes."""
    order = generator.permutation(rows)
    if classes is not None:
        order = order[np.argsort(classes[order], kind="stable")]
    return [np.sort(order[start::folds]) for start in range(folds)]


def _write_predictions(path: Path, labels: Any, predictions: list[list[Any]], hp: Mapping[str, Any]) -> None:
    """Truth, then what the folds' models say: mean for numbers; probability and label for classes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    mean = np.array([np.mean(row, axis=0) for row in predictions])
    if mean.ndim == 2:
        columns = [labels, mean.max(axis=1), mean.argmax(axis=1)]
    elif hp["objective"] == "binary:logistic":
        columns = [labels, mean, (mean > 0.5).astype(int)]
    else:
        columns = [labels, mean]
    np.savetxt(path, np.column_stack(columns), delimiter=",", fmt="%.8g")


# -- AWS's own metrics ----------------------------------------------------------------------------------------------------


def _classes(truth: Any, predicted: Any) -> Any:
    return np.unique(np.concatenate([truth, predicted]))


def _macro(measure: Callable[[Any, Any], float]) -> Callable[[Any, Any], float]:
    return lambda truth, predicted: float(np.mean([measure(truth == one, predicted == one) for one in _classes(truth, predicted)]))


OWN_METRICS: dict[str, Callable[[Any, Any], float]] = {
    "accuracy": quality.accuracy,
    "balanced_accuracy": lambda truth, predicted: float(
        np.mean([np.mean(predicted[truth == one] == one) for one in np.unique(truth)])
    ),
    "f1": _macro(quality.f_beta),
    "f1_macro": _macro(quality.f_beta),
    "f1_binary": lambda truth, predicted: quality.f_beta(truth == 1, predicted == 1),
    "precision": lambda truth, predicted: quality.precision(truth == 1, predicted == 1),
    "precision_macro": _macro(quality.precision),
    "precision_micro": quality.accuracy,
    "recall": lambda truth, predicted: quality.recall(truth == 1, predicted == 1),
    "recall_macro": _macro(quality.recall),
    "recall_micro": quality.accuracy,
    "mse": quality.mse,
    "r2": quality.r2,
}
"""What the library does not measure itself. All but mse and r2 compare classes."""


def _measured(names: list[str], hp: Mapping[str, Any]) -> Callable[[Any, Any], list[tuple[str, float]]]:
    """The library's hook for further metrics: predictions (after the objective's transformation) and the matrix."""

    def measure(predicted: Any, matrix: Any) -> list[tuple[str, float]]:
        truth = matrix.get_label()
        classes = predicted.argmax(axis=1) if predicted.ndim == 2 else predicted
        if hp["num_class"] is None:
            classes = (predicted > (0 if hp["objective"] == "binary:logitraw" else 0.5)).astype(int)
        elif any(name == "f1_binary" for name in names):
            raise ClientError("Target is multiclass but average='binary'. Please choose another average setting.")
        return [(name, OWN_METRICS[name](truth, predicted if name in ("mse", "r2") else classes)) for name in names]

    return measure


# -- inference ------------------------------------------------------------------------------------------------------------


def load(model_dir: Path) -> list[Any]:
    """The models of the folder: one, or those of a cross validation, whose answers are averaged."""
    xgb = library()

    paths = sorted(path for path in model_dir.iterdir() if path.is_file() and path.name.startswith((MODEL, "xgboost-checkpoint")))
    found = []
    for path in paths or sorted(path for path in model_dir.iterdir() if path.is_file()):
        booster = xgb.Booster()
        booster.load_model(bytearray(path.read_bytes()))
        found.append(booster)
    return found


def predict(model: list[Any], body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
    """Scores. text/csv unless asked otherwise; SAGEMAKER_INFERENCE_OUTPUT chooses what a classification tells."""
    xgb = library()

    width = model[0].num_features()
    table = request_table(body, content_type or CSV, (CSV, LIBSVM, RECORDIO))
    features = table.features
    if table.is_sparse:
        features = _fitted(features, width)
    if features.shape[1] != width:
        raise RequestError(
            f"Unable to evaluate payload provided: Feature size of {parse(content_type or CSV).name} inference data {features.shape[1]} "
            f"is not consistent with feature size of trained model {width}."
        )
    matrix = xgb.DMatrix(features)
    scores = np.mean([booster.predict(matrix, iteration_range=_best_rounds(booster)) for booster in model], axis=0)
    if keys := [key.strip().lower() for key in os.environ.get("SAGEMAKER_INFERENCE_OUTPUT", "").split(",") if key.strip()]:
        objective = json.loads(model[0].save_config())["learner"]["objective"]["name"]
        return responses.respond(_selected(scores, keys, objective), accept or CSV, (CSV, JSON, JSONLINES, RECORDIO))
    kind = accepted(accept or CSV, CSV, JSON, JSONLINES, RECORDIO)
    if kind.name == CSV:
        text_lines = "\n".join(str(score) for score in scores.tolist())
        return (text_lines + ("\n" if os.environ.get("SAGEMAKER_BATCH") else "")).encode(), CSV
    return responses.respond([{"score": score} for score in scores.tolist()], kind.name, (JSON, JSONLINES, RECORDIO))


def _fitted(features: Any, width: int) -> Any:
    """Sparse rows as wide as the model. libsvm rows may count from one where training data had no column 0."""
    if features.shape[1] < width:
        features.resize(features.shape[0], width)
    return features


def _best_rounds(booster: Any) -> tuple[int, int]:
    best = booster.attr("best_iteration")
    return (0, int(best) + 1) if best is not None else (0, 0)


def _selected(scores: Any, keys: list[str], objective: str) -> list[dict[str, Any]]:
    """The chosen parts of each prediction; what an objective cannot tell is NaN."""
    if wrong := [key for key in keys if key not in _SELECTABLE]:
        raise RequestError(f"Inference output {', '.join(wrong)} is not one of {', '.join(_SELECTABLE)}.")
    return [{key: _SELECTABLE[key](score, objective) for key in keys} for score in scores]


def _label_of(score: Any, objective: str) -> Any:
    if objective in ("binary:logistic", "binary:hinge"):
        return int(score > 0.5)
    if objective == "binary:logitraw":
        return int(score > 0)
    if objective == "multi:softprob":
        return int(np.argmax(score))
    return float(score) if objective == "multi:softmax" else float("nan")


def _probabilities_of(score: Any, objective: str) -> Any:
    if objective == "binary:logistic":
        return [1.0 - float(score), float(score)]
    return score.tolist() if objective == "multi:softprob" else float("nan")


def _probability_of(score: Any, objective: str) -> Any:
    if objective == "binary:logistic":
        return float(score)
    return float(np.max(score)) if objective == "multi:softprob" else float("nan")


def _raw_score_of(score: Any, objective: str) -> Any:
    return float(np.max(score)) if objective.startswith(("binary:", "multi:")) else float("nan")


def _raw_scores_of(score: Any, objective: str) -> Any:
    if objective.startswith("binary:"):
        return [1.0 - float(score), float(score)]
    return score.tolist() if objective == "multi:softprob" else float("nan")


def _labels_of(score: Any, objective: str) -> Any:
    if objective.startswith("binary:"):
        return [0, 1]
    return list(range(len(score))) if objective == "multi:softprob" else float("nan")


_SELECTABLE: dict[str, Callable[[Any, str], Any]] = {
    "predicted_label": _label_of,
    "labels": _labels_of,
    "probability": _probability_of,
    "probabilities": _probabilities_of,
    "raw_score": _raw_score_of,
    "raw_scores": _raw_scores_of,
    "predicted_score": lambda score, objective: float(score) if np.ndim(score) == 0 else float("nan"),  # noqa: ARG005
}


def _say(run: Run, line: str) -> None:
    import time

    run.report.line(f"[{time.strftime('%Y-%m-%d:%H:%M:%S')}:INFO] {line}")
