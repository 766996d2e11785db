"""Rows of the environment `algorithms`: the tabular algorithms."""

from __future__ import annotations

import io
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from algorithm_rows.jobs import Trained, cpu_seconds, main, needs_data, row
from pilvi_algorithms.kit import recordio
from scipy import sparse
from sklearn import cluster, datasets, decomposition, ensemble, linear_model, metrics, neighbors
from sklearn.feature_extraction.text import CountVectorizer
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

GENERATOR = np.random.default_rng(0)
RECORDIO = "application/x-recordio-protobuf"
NO_LABEL = "text/csv;label_size=0"

PLAIN_XGBOOST = """
import sys
import pandas as pd, xgboost
train, test = (pd.read_csv(path, header=None) for path in sys.argv[1:3])
matrices = [xgboost.DMatrix(table.iloc[:, 1:], label=table.iloc[:, 0]) for table in (train, test)]
parameters = {"objective": "binary:logistic", "max_depth": 5, "eta": 0.2, "eval_metric": "auc"}
booster = xgboost.train(parameters, matrices[0], 100, evals=[(matrices[0], "train"), (matrices[1], "validation")])
booster.save_model(sys.argv[3])
"""


def csv(features: Any, labels: Any = None) -> bytes:
    out = io.StringIO()
    np.savetxt(out, features if labels is None else np.column_stack([labels, features]), delimiter=",", fmt="%.9g")
    return out.getvalue().encode()


def halves(x: Any, y: Any) -> tuple[Any, Any, Any, Any]:
    """Three quarters to train, one to test."""
    order = np.random.default_rng(0).permutation(x.shape[0])
    cut = len(order) * 3 // 4
    return x[order[:cut]], y[order[:cut]], x[order[cut:]], y[order[cut:]]


def labelled(x: Any, y: Any, x_test: Any, y_test: Any) -> dict[str, tuple[bytes, str]]:
    return {"train": (csv(x, y), "text/csv"), "test": (csv(x_test, y_test), "text/csv")}


def told(
    algorithm: str, data: str, measure: str, ours: float, plain: float, library: str, job: Trained, **more: Any
) -> dict[str, Any]:
    return {
        "algorithm": algorithm,
        "data": data,
        "measure": measure,
        "ours": float(ours),
        "plain": float(plain),
        "library": library,
        "seconds": job.seconds,
        **more,
    }


def adult(folder: Path) -> tuple[Any, Any, Any, Any]:
    """Census income, one column a category, sparse."""
    tables = [pd.read_csv(folder / "adult" / f"adult_{part}.csv", skipinitialspace=True) for part in ("train", "test")]
    whole = pd.concat(tables)
    truth = whole.pop("income").str.contains(">50K").to_numpy(np.float32)
    numbers = whole.select_dtypes("number")
    encoded = pd.concat([(numbers - numbers.mean()) / numbers.std(), pd.get_dummies(whole.select_dtypes(exclude="number"))], axis=1)
    matrix, cut = encoded.to_numpy(np.float32), len(tables[0])
    return matrix[:cut], truth[:cut], matrix[cut:], truth[cut:]


def _beside_xgboost(name: str, x: Any, y: Any, x_test: Any, y_test: Any) -> dict[str, Any]:
    """The same AUC, and the time of both as whole processes, the better of two turns each."""
    channels = {"train": (csv(x, y), "text/csv"), "validation": (csv(x_test, y_test), "text/csv")}
    given = {"objective": "binary:logistic", "max_depth": 5, "eta": 0.2, "num_round": 100, "eval_metric": "auc"}
    job = Trained("xgboost", given, channels)
    with tempfile.TemporaryDirectory() as folder:
        paths = [str(job.folder / "input/data" / part / "part-0") for part in ("train", "validation")]
        command = [sys.executable, "-c", PLAIN_XGBOOST, *paths, f"{folder}/model.ubj"]
        seconds = []
        for _ in range(2):
            began = cpu_seconds()
            done = subprocess.run(command, capture_output=True, text=True, check=True)
            seconds.append(cpu_seconds() - began)
            job.seconds = min(job.seconds, job.run())
    plain = float(re.findall(r"validation-auc:(\S+)", done.stdout)[-1])
    ours = float(re.findall(r"validation-auc:(\S+)", job.log)[-1])
    return told("XGBoost", name, "AUC, 100 rounds", ours, plain, "xgboost", job, plain_seconds=min(seconds))


@row
def xgboost() -> dict[str, Any]:
    found = datasets.load_breast_cancer()
    return _beside_xgboost("breast cancer", *halves(found.data, found.target))


@needs_data
def xgboost_adult(folder: Path) -> dict[str, Any]:
    return _beside_xgboost("adult", *adult(folder))


@row
def linear_binary() -> dict[str, Any]:
    x, y, x_test, y_test = halves(*datasets.load_breast_cancer(return_X_y=True))
    job = Trained("linear-learner", {"predictor_type": "binary_classifier"}, labelled(x, y, x_test, y_test))
    plain = make_pipeline(StandardScaler(), linear_model.LogisticRegression(max_iter=1000)).fit(x, y)
    auc = metrics.roc_auc_score(y_test, plain.predict_proba(x_test)[:, 1])
    return told(
        "Linear Learner", "breast cancer", "AUC", job.told("test roc_auc_score"), auc, "scikit-learn LogisticRegression", job
    )


@row
def linear_classes() -> dict[str, Any]:
    x, y, x_test, y_test = halves(*datasets.load_digits(return_X_y=True))
    job = Trained("linear-learner", {"predictor_type": "multiclass_classifier", "num_classes": 10}, labelled(x, y, x_test, y_test))
    plain = make_pipeline(StandardScaler(), linear_model.LogisticRegression(max_iter=1000)).fit(x, y).score(x_test, y_test)
    return told(
        "Linear Learner", "digits", "accuracy", job.told("test multiclass_accuracy"), plain, "scikit-learn LogisticRegression", job
    )


@row
def linear_regression() -> dict[str, Any]:
    x, y, x_test, y_test = halves(*datasets.load_diabetes(return_X_y=True))
    job = Trained("linear-learner", {"predictor_type": "regressor"}, labelled(x, y, x_test, y_test))
    plain = metrics.mean_squared_error(y_test, linear_model.LinearRegression().fit(x, y).predict(x_test)) ** 0.5
    return told("Linear Learner", "diabetes", "RMSE", job.told("test rmse"), plain, "scikit-learn LinearRegression", job)


@needs_data
def linear_abalone(folder: Path) -> dict[str, Any]:
    table = pd.get_dummies(pd.read_csv(folder / "abalone/abalone.csv", header=None), columns=[0]).astype(float)
    x, y, x_test, y_test = halves(table.drop(columns=8).to_numpy(), table[8].to_numpy())
    job = Trained("linear-learner", {"predictor_type": "regressor"}, labelled(x, y, x_test, y_test))
    plain = metrics.mean_squared_error(y_test, linear_model.LinearRegression().fit(x, y).predict(x_test)) ** 0.5
    return told("Linear Learner", "abalone", "RMSE", job.told("test rmse"), plain, "scikit-learn LinearRegression", job)


@row
def knn() -> dict[str, Any]:
    x, y, x_test, y_test = halves(*datasets.load_digits(return_X_y=True))
    given = {"k": 5, "feature_dim": 64, "predictor_type": "classifier", "sample_size": 10000}
    job = Trained("knn", given, labelled(x, y, x_test, y_test))
    plain = neighbors.KNeighborsClassifier(5).fit(x, y).score(x_test, y_test)
    return told("k-NN", "digits", "accuracy", job.told("test accuracy"), plain, "scikit-learn KNeighborsClassifier", job)


@row
def kmeans() -> dict[str, Any]:
    x, _, x_test, _ = halves(*datasets.load_digits(return_X_y=True))
    job = Trained("kmeans", {"k": 10, "feature_dim": 64}, {"train": (csv(x), NO_LABEL), "test": (csv(x_test), NO_LABEL)})
    plain = -cluster.KMeans(10, n_init=10, random_state=0).fit(x).score(x_test) / len(x_test)
    return told("K-Means", "digits, k = 10", "mean squared distance", job.told("test msd"), plain, "scikit-learn KMeans", job)


def _kept(components: Any, rows: Any) -> float:
    """The share of variance within a subspace."""
    centered = rows - rows.mean(axis=0)
    return float(((centered @ components) ** 2).sum() / (centered**2).sum())


@row
def pca() -> dict[str, Any]:
    x, _, x_test, _ = halves(*datasets.load_digits(return_X_y=True))
    job = Trained("pca", {"num_components": 10, "feature_dim": 64, "mini_batch_size": 500}, {"train": (csv(x), NO_LABEL)})
    plain = _kept(decomposition.PCA(10).fit(x).components_.T, x_test)
    return told(
        "PCA", "digits, 10 components", "variance kept", _kept(job.model().components, x_test), plain, "scikit-learn PCA", job
    )


@row
def pca_randomized() -> dict[str, Any]:
    x, _, x_test, _ = halves(*datasets.load_digits(return_X_y=True))
    given = {"num_components": 10, "feature_dim": 64, "mini_batch_size": 500, "algorithm_mode": "randomized"}
    job = Trained("pca", given, {"train": (csv(x), NO_LABEL)})
    plain = _kept(decomposition.PCA(10, svd_solver="randomized", random_state=0).fit(x).components_.T, x_test)
    ours = _kept(job.model().components, x_test)
    return told("PCA, randomized", "digits, 10 components", "variance kept", ours, plain, "scikit-learn PCA randomized", job)


@row
def random_cut_forest() -> dict[str, Any]:
    x, y = datasets.load_breast_cancer(return_X_y=True)
    rows = np.concatenate([x[y == 1], x[y == 0][:20]])
    rows = (rows - rows.mean(axis=0)) / rows.std(axis=0)
    truth = np.arange(len(rows)) >= len(rows) - 20
    job = Trained("randomcutforest", {"feature_dim": 30, "num_trees": 100}, {"train": (csv(rows), NO_LABEL)})
    scores = [one["score"] for one in job.predictions(csv(rows))]
    plain = [
        metrics.roc_auc_score(truth, -ensemble.IsolationForest(random_state=seed).fit(rows).score_samples(rows))
        for seed in range(3)
    ]
    return told(
        "Random Cut Forest",
        "breast cancer: 357 benign, 20 malignant",
        "AUC of scores",
        metrics.roc_auc_score(truth, scores),
        np.mean(plain),
        "scikit-learn IsolationForest",
        job,
    )


@needs_data
def factorization_machines(folder: Path) -> dict[str, Any]:
    x, y, x_test, y_test = (sparse.csr_matrix(part) if part.ndim == 2 else part for part in adult(folder))

    def records(features: Any, labels: Any) -> bytes:
        return recordio.write(
            recordio.Record(
                {"values": recordio.Tensor(one.data.astype(np.float32), one.indices.astype(np.int64), (features.shape[1],))},
                {"values": np.float32([label])},
            )
            for one, label in zip(features, labels, strict=True)
        )

    given = {"feature_dim": x.shape[1], "num_factors": 8, "predictor_type": "binary_classifier", "epochs": 10}
    given |= {"linear_lr": 0.005, "factors_lr": 0.005, "mini_batch_size": 500, "factors_init_sigma": 0.01}
    job = Trained(
        "factorization-machines", given, {"train": (records(x, y), RECORDIO), "test": (records(x_test, y_test), RECORDIO)}
    )
    plain = linear_model.LogisticRegression(max_iter=1000).fit(x, y).score(x_test, y_test)
    ours = job.told("test binary_classification_accuracy")
    return told(
        "Factorization Machines", "adult, one column a category", "accuracy", ours, plain, "scikit-learn LogisticRegression", job
    )


@needs_data
def lda(folder: Path) -> dict[str, Any]:
    texts = pd.read_csv(folder / "reviews/womens_clothing_reviews_balanced.csv")["review_body"].astype(str)
    counts = CountVectorizer(max_features=500, stop_words="english", min_df=5).fit_transform(texts)
    counts = counts[np.asarray(counts.sum(axis=1)).ravel() > 5][:3000].toarray()
    train, test = counts[:2500], counts[2500:]
    given = {"num_topics": 8, "feature_dim": 500, "mini_batch_size": 2500, "max_restarts": 2}
    job = Trained("lda", given, {"train": (csv(train), NO_LABEL), "test": (csv(test), NO_LABEL)})
    plain = decomposition.LatentDirichletAllocation(8, max_iter=50, random_state=0, n_jobs=1).fit(train)
    beta = plain.components_ / plain.components_.sum(axis=1, keepdims=True)
    chance = np.log(np.maximum(plain.transform(test) @ beta, 1e-100))
    return told(
        "LDA",
        "clothing reviews, 8 topics",
        "log likelihood per word",
        job.told("test pwll"),
        (test * chance).sum() / test.sum(),
        "scikit-learn LatentDirichletAllocation",
        job,
    )


@row
def ip_insights() -> dict[str, Any]:
    """No public log of logins comes along: 200 users with two home networks each. Plain: has the user been seen in this /16?"""
    homes = GENERATOR.integers(0, 2**16, (200, 2))

    def logins(count: int) -> list[tuple[int, int]]:
        who = GENERATOR.integers(0, 200, count)
        return [(int(one), int(homes[one, GENERATOR.integers(2)]) << 16 | int(GENERATOR.integers(2**16))) for one in who]

    def lines(pairs: list[tuple[int, int]]) -> bytes:
        return "".join(
            f"user_{who},{'.'.join(str(number >> shift & 255) for shift in (24, 16, 8, 0))}\n" for who, number in pairs
        ).encode()

    train, usual = logins(20000), logins(1000)
    strange = [(who, other) for (who, _), (_, other) in zip(usual, logins(1000), strict=True)]
    given = {"num_entity_vectors": 2000, "vector_dim": 64, "epochs": 10, "learning_rate": 0.01}
    job = Trained("ipinsights", given, {"train": (lines(train), "text/csv")})
    truth = np.repeat([1, 0], 1000)
    ours = metrics.roc_auc_score(truth, [one["dot_product"] for one in job.predictions(lines(usual + strange))])
    seen = {(who, number >> 16) for who, number in train}
    plain = metrics.roc_auc_score(truth, [(who, number >> 16) in seen for who, number in usual + strange])
    return told(
        "IP Insights", "made: 200 users, two networks each", "AUC, own or another's address", ours, plain, "a set of networks", job
    )


if __name__ == "__main__":
    main()
