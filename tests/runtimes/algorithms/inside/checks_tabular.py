"""The other tabular algorithms, beside what is planted or what the plain library says."""

import json
import os
import signal
import subprocess
import sys
import zipfile

import numpy as np
from job import Job, csv, halves, records, refused
from pilvi_algorithms.kit import recordio
from sklearn import datasets
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

GENERATOR = np.random.default_rng(0)
NO_LABEL = "text/csv;label_size=0"
RECORDIO = "application/x-recordio-protobuf"
CANCER = halves(datasets.load_breast_cancer())
DIGITS = halves(datasets.load_digits())


def both(data):
    """Train and test channels of labelled rows."""
    x, y, x_test, y_test = data
    return {"train": (csv(x, y), "text/csv"), "test": (csv(x_test, y_test), "text/csv")}


# -- linear learner -------------------------------------------------------------------------------------------------------


def check_linear_recovers_coefficients(root):
    x = GENERATOR.normal(size=(2000, 4)) * [1, 10, 0.1, 3] + [5, 0, 1, 2]
    y = x @ [2, -3, 4, 0.5] + 7
    for name, train in (
        ("csv", (csv(x, y), "text/csv")),
        ("recordio", (records(x, y), RECORDIO)),
        ("default", (records(x, y), "")),
    ):
        model = Job(root / name, "linear-learner", {"predictor_type": "regressor"}, {"train": train}).trained().model()
        assert np.allclose(model.weights.ravel(), [2, -3, 4, 0.5], atol=0.02)
        assert np.isclose(model.bias[0], 7, atol=0.05)


def check_linear_beside_scikit_learn(root):
    x, y, x_test, y_test = CANCER
    plain = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(x, y)
    job = Job(root / "binary", "linear-learner", {"predictor_type": "binary_classifier"}, both(CANCER)).trained()
    assert job.value("test binary_classification_accuracy <score>") > plain.score(x_test, y_test) - 0.02
    diabetes = halves(datasets.load_diabetes())
    plain_error = np.mean((LinearRegression().fit(diabetes[0], diabetes[1]).predict(diabetes[2]) - diabetes[3]) ** 2)
    job = Job(root / "regressor", "linear-learner", {"predictor_type": "regressor"}, both(diabetes)).trained()
    assert job.value("test mse <score>") < plain_error * 1.05
    iris = halves(datasets.load_iris())
    job = Job(
        root / "classes", "linear-learner", {"predictor_type": "multiclass_classifier", "num_classes": 3}, both(iris)
    ).trained()
    assert job.value("test multiclass_accuracy <score>") > 0.9


def check_linear_losses(root):
    x = GENERATOR.normal(size=(600, 3))
    y = x @ [1, 2, 3]
    for loss in ("absolute_loss", "eps_insensitive_squared_loss", "eps_insensitive_absolute_loss", "quantile_loss", "huber_loss"):
        job = Job(
            root / loss, "linear-learner", {"predictor_type": "regressor", "loss": loss}, {"train": (csv(x, y), "text/csv")}
        ).trained()
        assert np.allclose(job.model().weights.ravel(), [1, 2, 3], atol=0.15), loss
    hinge = Job(
        root / "hinge", "linear-learner", {"predictor_type": "binary_classifier", "loss": "hinge_loss"}, both(CANCER)
    ).trained()
    assert hinge.value("test binary_classification_accuracy <score>") > 0.93


def check_linear_optimizers_and_rates(root):
    x = GENERATOR.normal(size=(600, 3))
    for optimizer, rate in (("sgd", 0.01), ("adam", 0.1), ("rmsprop", 0.01)):
        given = {"predictor_type": "regressor", "optimizer": optimizer, "learning_rate": rate, "wd": 0, "l1": 0}
        job = Job(root / optimizer, "linear-learner", given, {"train": (csv(x, x @ [1, 2, 3]), "text/csv")}).trained()
        assert "Training 1 models in parallel" in job.log
        assert np.allclose(job.model().weights.ravel(), [1, 2, 3], atol=0.1), optimizer


def check_linear_criteria(root):
    given = {"predictor_type": "binary_classifier", "num_models": 4}
    for criteria, more, line, least in (
        ("f_beta", {"f_beta": 1}, "train binary_f_1.000 <score>", 0.95),
        ("precision_at_target_recall", {"target_recall": 0.99}, "train recall <score>", 0.98),
        ("recall_at_target_precision", {"target_precision": 0.99}, "train precision <score>", 0.98),
        ("loss_function", {}, "train binary_classification_accuracy <score>", 0.9),
    ):
        wanted = given | more | {"binary_classifier_model_selection_criteria": criteria}
        assert Job(root / criteria, "linear-learner", wanted, both(CANCER)).trained().value(line) >= least


def check_linear_stops_early(root):
    x = GENERATOR.normal(size=(300, 3))
    given = {"predictor_type": "regressor", "epochs": 200, "early_stopping_patience": 2}
    job = Job(root, "linear-learner", given, {"train": (csv(x, GENERATOR.normal(size=300)), "text/csv")}).trained()
    assert "the loss gets no better" in job.log
    assert job.log.count("#progress_metric") < 100


def check_linear_artefact(root):
    """As contracts of AWS's clients read it: a stored zip with parameters, symbol, threshold."""
    Job(root, "linear-learner", {"predictor_type": "binary_classifier"}, both(CANCER)).trained()
    with zipfile.ZipFile(root / "model/model_algo-1") as archive:
        assert sorted(archive.namelist()) == ["additional-params.json", "manifest.json", "mx-mod-0000.params", "mx-mod-symbol.json"]
        assert all(entry.compress_type == zipfile.ZIP_STORED for entry in archive.infolist())
        more = json.loads(archive.read("additional-params.json"))
        assert archive.read("mx-mod-0000.params")[:8] == (0x112).to_bytes(8, "little")
        assert json.loads(archive.read("mx-mod-symbol.json"))["nodes"][0]["name"] == "data"
    assert more["predictor_type"] == "binary_classifier"
    assert 0 < more["threshold"] < 1


def check_linear_answers(root):
    job = Job(root / "binary", "linear-learner", {"predictor_type": "binary_classifier"}, both(CANCER)).trained()
    (one, _) = job.predict(csv(CANCER[2][:2]))["predictions"]
    assert list(one) == ["score", "predicted_label"]
    assert one["predicted_label"] in (0, 1)
    request = json.dumps({"instances": [{"features": CANCER[2][0].tolist()}]}).encode()
    assert np.isclose(job.predict(request, "application/json")["predictions"][0]["score"], one["score"], atol=1e-4)
    (record,) = recordio.read(job.predict(records(CANCER[2][:1]), RECORDIO, RECORDIO))
    assert set(record.label) == {"score", "predicted_label"}
    job = Job(
        root / "classes", "linear-learner", {"predictor_type": "multiclass_classifier", "num_classes": 10}, both(DIGITS)
    ).trained()
    (one,) = job.predict(csv(DIGITS[2][:1]))["predictions"]
    assert np.isclose(sum(one["score"]), 1, atol=1e-4)
    assert one["predicted_label"] == int(np.argmax(one["score"]))
    assert refused(job, b"1,2\n").status == 400


def check_linear_refused(root):
    def failure(hyperparameters, labels=None):
        labels = CANCER[1] if labels is None else labels
        folder = root / str(len(list(root.iterdir())))
        return Job(folder, "linear-learner", hyperparameters, {"train": (csv(CANCER[0], labels), "text/csv")}).failure

    assert failure({}).startswith("ClientError: No value(s) were specified for 'predictor_type'")
    assert failure({"predictor_type": "multiclass_classifier"}).startswith(
        "ClientError: No value(s) were specified for 'num_classes'"
    )
    assert "for predictor_type regressor" in failure({"predictor_type": "regressor", "loss": "logistic"})
    assert "must be 0 or 1" in failure({"predictor_type": "binary_classifier"}, CANCER[1] + 1)
    assert "num_classes - 1 = 2" in failure({"predictor_type": "multiclass_classifier", "num_classes": 3}, CANCER[1] + 2)
    assert "does not match the 30 features" in failure({"predictor_type": "regressor", "feature_dim": 7})


# -- k-means, PCA, k-NN ---------------------------------------------------------------------------------------------------


def check_kmeans_finds_planted_centers(root):
    centers = np.array([[0, 0, 0], [10, 0, 0], [0, 10, 0], [0, 0, 10]])
    rows = centers[GENERATOR.integers(0, 4, 2000)] + GENERATOR.normal(size=(2000, 3)) * 0.3
    for name, more in (
        ("random", {}),
        ("plus", {"init_method": "kmeans++", "extra_center_factor": 3}),
        ("faded", {"half_life_time_size": 500}),
    ):
        given = {"k": 4, "feature_dim": 3, "mini_batch_size": 500, **more}
        model = Job(root / name, "kmeans", given, {"train": (records(rows), RECORDIO)}).trained().model()
        far = np.linalg.norm(model[:, None] - centers, axis=2)
        assert sorted(far.argmin(axis=1)) == [0, 1, 2, 3]
        assert far.min(axis=1).max() < 0.1, name


def check_kmeans_beside_scikit_learn(root):
    x, _, x_test, _ = DIGITS
    channels = {"train": (csv(x), NO_LABEL), "test": (csv(x_test), NO_LABEL)}
    job = Job(root, "kmeans", {"k": 10, "feature_dim": 64, "eval_metrics": '["msd", "ssd"]'}, channels).trained()
    plain = -KMeans(10, n_init=3, random_state=0).fit(x).score(x_test) / len(x_test)
    assert job.value("test msd <loss>") < plain * 1.05
    assert np.isclose(job.value("test ssd <loss>"), job.value("test msd <loss>") * len(x_test), rtol=1e-6)
    (one,) = job.predict(csv(x_test[:1]))["predictions"]
    far = np.linalg.norm(job.model() - x_test[0], axis=1)
    assert one["closest_cluster"] == float(far.argmin())
    assert np.isclose(one["distance_to_cluster"], far.min(), atol=1e-3)
    first = job.predict(csv(x_test[:1]), accept="text/csv").decode().strip().split(",")
    assert [float(part) for part in first] == [one["closest_cluster"], one["distance_to_cluster"]]


def check_kmeans_refused(root):
    rows = csv(DIGITS[0][:20])

    def failure(data=rows, **given):
        return Job(root / str(len(list(root.iterdir()))), "kmeans", given, {"train": (data, NO_LABEL)}).failure

    assert failure().startswith(
        "ClientError: No value(s) were specified for 'k', 'feature_dim' which are required hyperparameter(s)"
    )
    assert "does not match the 64 features" in failure(k=2, feature_dim=3)
    assert "fewer than k = 50" in failure(k=50, feature_dim=64)
    assert "must be valid json, but found eval_metrics: " in failure(k=2, feature_dim=64, eval_metrics="")
    assert "'abc' is not one of" in failure(k=2, feature_dim=64, eval_metrics='["abc"]')
    assert "missing or infinite" in failure(b"1,,3\n1,2,3\n", k=2, feature_dim=3)


def check_pca_spans_the_same_subspace(root):
    x, _, x_test, _ = DIGITS
    plain = PCA(6).fit(x)
    for mode in ("regular", "randomized"):
        given = {"num_components": 6, "feature_dim": 64, "mini_batch_size": 100, "algorithm_mode": mode}
        job = Job(root / mode, "pca", given, {"train": (csv(x), NO_LABEL)}).trained()
        shared = np.linalg.svd(job.model().components.T @ plain.components_.T)[1]
        assert shared.min() > 0.995, mode
        found = np.array([one["projection"] for one in job.predict(csv(x_test))["projections"]])
        if mode == "regular":
            assert np.allclose(np.abs(found), np.abs(plain.transform(x_test)), atol=0.01)
    raw = Job(root / "raw", "pca", given | {"subtract_mean": "false"}, {"train": (csv(x), NO_LABEL)}).trained()
    assert not raw.model().mean.any()


def check_pca_refused(root):
    given = {"num_components": 3, "feature_dim": 64}
    told = Job(root / "a", "pca", given, {"train": (csv(DIGITS[0]), NO_LABEL)}).failure
    assert told.startswith("ClientError: No value(s) were specified for 'mini_batch_size' which are required hyperparameter(s)")
    given = {"num_components": 65, "feature_dim": 64, "mini_batch_size": 10}
    assert "must not be greater than feature_dim" in Job(root / "b", "pca", given, {"train": (csv(DIGITS[0]), NO_LABEL)}).failure


def check_knn_labels_equal_brute_force(root):
    x, y, x_test, y_test = DIGITS
    given = {"k": 5, "feature_dim": 64, "predictor_type": "classifier", "sample_size": 10000}
    job = Job(root, "knn", given, both(DIGITS)).trained()
    far = ((x_test[:, None, :] - x[None]) ** 2).sum(axis=2)
    near = np.argsort(far, axis=1, kind="stable")[:, :5]
    found = job.predict(csv(x_test), accept="application/jsonlines; verbose=true").splitlines()
    told = [json.loads(line) for line in found]
    assert np.allclose([one["distances"] for one in told], np.sqrt(np.take_along_axis(far, near, axis=1)), atol=1e-2)
    labels = np.array([one["predicted_label"] for one in told])
    agreed = [len(set(np.unique(y[row], return_counts=True)[1])) == len(np.unique(y[row])) for row in near]
    votes = np.array([np.bincount(y[row]).argmax() for row in near])
    assert np.mean(labels[agreed] == votes[agreed]) > 0.995
    assert job.value("test accuracy <score>") >= KNeighborsClassifier(5).fit(x, y).score(x_test, y_test) - 0.005


def check_knn_kinds(root):
    for name, more, least in (
        ("sampled", {"sample_size": 300}, 0.9),
        ("cosine", {"index_metric": "COSINE"}, 0.97),
        ("sign", {"dimension_reduction_type": "sign", "dimension_reduction_target": 32}, 0.95),
        ("fjlt", {"dimension_reduction_type": "fjlt", "dimension_reduction_target": 32}, 0.95),
        ("lists", {"index_type": "faiss.IVFFlat", "faiss_index_ivf_nlists": 20}, 0.96),
    ):
        given = {"k": 3, "feature_dim": 64, "predictor_type": "classifier", "sample_size": 10000, **more}
        job = Job(root / name, "knn", given, both(DIGITS)).trained()
        assert job.value("test accuracy <score>") > least, name
    given = {"k": 3, "feature_dim": 10, "predictor_type": "regressor", "sample_size": 10000}
    job = Job(root / "regressor", "knn", given, both(halves(datasets.load_diabetes()))).trained()
    assert job.value("test mse <score>") < 4500
    given |= {"dimension_reduction_type": "sign", "dimension_reduction_target": 10}
    assert (
        "must be greater than 0 and less than feature_dim"
        in Job(root / "wrong", "knn", given, both(halves(datasets.load_diabetes()))).failure
    )


# -- random cut forest ----------------------------------------------------------------------------------------------------


def check_forest_scores_planted_outliers_highest(root):
    usual = GENERATOR.normal(size=(1500, 4))
    odd = GENERATOR.choice([-1, 1], (8, 4)) * 6 + GENERATOR.normal(size=(8, 4)) * 0.5
    rows, truth = np.concatenate([usual, odd]), np.arange(1508) >= 1500
    given = {"feature_dim": 4, "num_trees": 50, "num_samples_per_tree": 200}
    channels = {"train": (csv(rows), NO_LABEL), "test": (csv(rows, truth), "text/csv;label_size=1")}
    job = Job(root, "randomcutforest", given, channels).trained()
    scores = np.array([one["score"] for one in job.predict(csv(rows))["scores"]])
    assert scores[truth].min() > scores[~truth].max()
    assert 0.3 < scores[~truth].mean() < 1.5
    assert job.value("test f1 <score>") > 0.8
    assert len(job.predict(csv(rows[:3]), accept="text/csv").splitlines()) == 3


def check_forest_with_equal_rows_and_one_feature(root):
    rows = np.concatenate([np.full(300, 5.0), [50.0]])[:, None]
    given = {"feature_dim": 1, "num_trees": 50, "num_samples_per_tree": 64}
    job = Job(root, "randomcutforest", given, {"train": (csv(rows), NO_LABEL)}).trained()
    usual, odd = (one["score"] for one in job.predict(b"5\n50\n")["scores"])
    assert odd > usual * 2


# -- factorization machines -----------------------------------------------------------------------------------------------


def ratings(count, users=120, items=60):
    """(records, ratings, users, items) with planted tastes."""
    taste = np.random.default_rng(3)
    p, q = taste.normal(size=(users, 3)) * 0.7, taste.normal(size=(items, 3)) * 0.7
    who, what = GENERATOR.integers(0, users, count), GENERATOR.integers(0, items, count)
    stars = (3.5 + (p[who] * q[what]).sum(axis=1) + GENERATOR.normal(size=count) * 0.1).astype(np.float32)
    return who, what, stars


def rating_records(who, what, labels, width=180):
    return recordio.write(
        recordio.Record(
            {"values": recordio.Tensor(np.ones(2, np.float32), np.array([a, 120 + b]), (width,))}, {"values": np.float32([label])}
        )
        for a, b, label in zip(who, what, labels, strict=True)
    )


def check_machines_beat_the_mean(root):
    train, test = ratings(4000), ratings(800)
    given = {
        "feature_dim": 180,
        "num_factors": 6,
        "epochs": 40,
        "factors_lr": 0.01,
        "linear_lr": 0.01,
        "mini_batch_size": 200,
        "factors_init_sigma": 0.05,
    }
    channels = {"train": (rating_records(*train), ""), "test": (rating_records(*test), RECORDIO)}
    job = Job(root / "regressor", "factorization-machines", given | {"predictor_type": "regressor"}, channels).trained()
    assert job.value("test rmse <loss>") < 0.5 * test[2].std()
    assert np.isclose(job.predict(rating_records(*test), RECORDIO)["predictions"][0]["score"], test[2][0], atol=1.0)
    channels = {"train": (rating_records(*train[:2], train[2] > 3.5), ""), "test": (rating_records(*test[:2], test[2] > 3.5), "")}
    job = Job(root / "binary", "factorization-machines", given | {"predictor_type": "binary_classifier"}, channels).trained()
    assert job.value("test binary_classification_accuracy <score>") > 0.8
    assert list(job.predict(rating_records(*test), RECORDIO)["predictions"][0]) == ["score", "predicted_label"]


def check_machines_slope(_):
    """The analytic slopes against differences of the loss."""
    from pilvi_algorithms.factorization_machines import Learner, Model

    x, y = GENERATOR.normal(size=(6, 4)), GENERATOR.normal(size=6)
    model = Model("regressor", 0.1, GENERATOR.normal(size=4), GENERATOR.normal(size=(4, 2)))
    hp = {f"{part}_{what}": 0.0 for part in ("bias", "linear", "factors") for what in ("lr", "wd")}
    learner = Learner(model, hp | {"clip_gradient": None, "rescale_grad": None, "eps": None})
    slopes = []

    class Watching:
        def move(self, _values, _rows, slope) -> None:
            slopes.append(slope)

    learner._adams = [Watching()] * 3
    learner.step(x, y)
    step = 1e-6
    for at in ((0, 0), (2, 1)):
        kept = model.factors[at]
        model.factors[at] = kept + step
        more = np.mean((model.raw(x) - y) ** 2)
        model.factors[at] = kept - step
        less = np.mean((model.raw(x) - y) ** 2)
        model.factors[at] = kept
        assert np.isclose(slopes[2][at], (more - less) / (2 * step), rtol=1e-4)


# -- LDA, IP Insights -----------------------------------------------------------------------------------------------------


def check_lda_finds_planted_topics(root):
    topics = np.kron(np.eye(4), np.full(8, 1 / 8))
    words = np.array([GENERATOR.multinomial(50, GENERATOR.dirichlet([0.2] * 4) @ topics) for _ in range(250)])
    given = {"num_topics": 4, "feature_dim": 32, "mini_batch_size": 250, "max_restarts": 4}
    job = Job(root, "lda", given, {"train": (csv(words), NO_LABEL), "test": (records(words[:30]), RECORDIO)}).trained()
    shares = job.model().beta.reshape(4, 4, 8).sum(axis=2)
    assert sorted(shares.argmax(axis=1)) == [0, 1, 2, 3]
    assert shares.max(axis=1).min() > 0.95
    assert -3.5 < job.value("test pwll <score>") < -2
    mixtures = np.array([one["topic_mixture"] for one in job.predict(csv(words[:20]))["predictions"]])
    assert np.allclose(mixtures.sum(axis=1), 1)
    dominant = words[:20].reshape(20, 4, 8).sum(axis=2).argmax(axis=1)
    assert np.mean(shares.argmax(axis=1)[mixtures.argmax(axis=1)] == dominant) > 0.9
    assert "must hold word counts" in Job(root / "x", "lda", given, {"train": (csv(-words), NO_LABEL)}).failure


def check_ip_insights(root):
    homes = GENERATOR.integers(0, 2**16, 60)

    def lines(count):
        who = GENERATOR.integers(0, 60, count)
        return "".join(f"user_{one},{homes[one] >> 8}.{homes[one] & 255}.7.{GENERATOR.integers(256)}\n" for one in who).encode()

    given = {"num_entity_vectors": 500, "vector_dim": 16, "epochs": 8, "learning_rate": 0.01}
    job = Job(root, "ipinsights", given, {"train": (lines(4000), "text/csv"), "validation": (lines(400), "")}).trained()
    assert job.value("validation discriminator_auc <score>") > 0.9
    seen = [f"user_{one},{homes[one] >> 8}.{homes[one] & 255}.7.9" for one in range(60)]
    strange = [f"user_{one},{GENERATOR.integers(256)}.{GENERATOR.integers(256)}.1.1" for one in range(60)]
    products = [one["dot_product"] for one in job.predict("\n".join(seen + strange).encode())["predictions"]]
    assert roc_auc_score([1] * 60 + [0] * 60, products) > 0.9
    request = b'{"instances": [{"features": ["user_1", "1.2.3.4"]}]}'
    (one,) = job.predict(request, "application/json", "application/json; verbose=true")["predictions"]
    assert len(one["ip_embedding"]) == len(one["entity_embedding"]) == 16
    assert job.predict(b'{"features": ["user_1", "1.2.3.4"]}', "application/jsonlines") == job.predict(request, "application/json")
    assert "is not an IPv4 address" in Job(root / "x", "ipinsights", given, {"train": (b"a,1.2.3.400\n", "text/csv")}).failure


# -- several hosts, and stopping ------------------------------------------------------------------------------------------


def hosts_of(root, repository, hyperparameters, parts, port):
    """The jobs of two hosts with half of the data each, started as processes of their own; all must end well."""
    names, started = ["localhost", "localhost-2"], []
    for name, part in zip(names, parts, strict=True):
        job = Job(root / name, repository, hyperparameters, {"train": (part, NO_LABEL if hyperparameters.get("k") else "text/csv")})
        job.write("resourceconfig", {"current_host": name, "hosts": names})
        described = json.loads((root / name / "input/config/inputdataconfig.json").read_text())
        described["train"]["S3DistributionType"] = "ShardedByS3Key"
        job.write("inputdataconfig", described)
        with (root / f"{name}.log").open("w") as out:
            started.append((job, child(job, {"PILVI_CLUSTER_PORT": str(port)}, out)))
    for job, process in started:
        code = process.wait(100)
        assert code == 0, (root / f"{job.root.name}.log").read_text()
    return [job for job, _ in started]


def child(job, env=None, out=subprocess.PIPE):
    command = [sys.executable, "-m", "pilvi_algorithms.main", job.repository, "train"]
    env = {**os.environ, "SAGEMAKER_BASE_DIR": str(job.root), **(env or {})}
    return subprocess.Popen(command, env=env, stdout=out, stderr=subprocess.STDOUT, text=True)


def check_linear_on_two_hosts(root):
    x = GENERATOR.normal(size=(900, 3))
    y = x @ [1, 2, 3] + 4
    first, second = hosts_of(
        root, "linear-learner", {"predictor_type": "regressor"}, [csv(x[:600], y[:600]), csv(x[600:], y[600:])], 29421
    )
    assert np.allclose(first.model().weights.ravel(), [1, 2, 3], atol=0.02)
    assert not list((second.root / "model").iterdir())


def check_stopped_job_leaves_a_model(root):
    """SIGTERM: the loop ends, what has been learned becomes the model, exit code 0."""
    x = GENERATOR.normal(size=(3000, 5))
    given = {"predictor_type": "regressor", "epochs": 100000, "early_stopping_patience": 100000}
    job = Job(root, "linear-learner", given, {"train": (csv(x, x @ [1, 2, 3, 4, 5]), "text/csv")})
    process = child(job)
    for line in process.stdout:
        if "#progress_metric" in line:
            break
    process.send_signal(signal.SIGTERM)
    said = process.communicate(timeout=60)[0]
    assert process.returncode == 0, said
    assert "Received SIGTERM" in said
    assert job.model().weights.shape == (5, 1)
