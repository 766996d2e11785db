"""AWS's built-in algorithms as jobs see them from outside: metrics with the regular expressions that find them in the log, and what
tuning may change. Pure data; what they do, and which channels and hosts they take, is `pilvi/runtimes/builtin`.

Source: SageMaker Developer Guide, the pages "... hyperparameters" and "Tune a ... model" of each algorithm, and "Common information about
built-in algorithms"; regular expressions as DescribeTrainingJob shows them for jobs of these images.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from pilvi.core.errors import Invalid
from pilvi.services.sagemaker.image import BUILTIN, runtime_for

Goal = Literal["Maximize", "Minimize", ""]


@dataclass(frozen=True, slots=True)
class Metric:
    name: str
    regex: str
    goal: Goal = ""
    """'' where tuning may not use it as its objective."""

    @property
    def definition(self) -> dict[str, str]:
        return {"Name": self.name, "Regex": self.regex}


@dataclass(frozen=True, slots=True)
class Builtin:
    """One algorithm."""

    title: str
    metrics: tuple[Metric, ...] = ()
    tunable: frozenset[str] = field(default_factory=frozenset)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


# -- metrics --------------------------------------------------------------------------------------------------------------

_HOST = r"#quality_metric: host=\S+, "
_PROGRESS = (
    Metric("train:progress", r"#progress_metric: host=\S+, completed (\S+) %"),
    Metric("train:throughput", r"#throughput_metric: host=\S+, train throughput=(\S+) records/second"),
)


def _at_end(name: str, goal: Goal, kind: str = "score", said: str = "") -> Metric:
    """A figure that is told once: `test:msd` is `#quality_metric: host=algo-1, test msd <loss>=1.5`."""
    part, _, measure = name.partition(":")
    return Metric(name, rf"{_HOST}{part} {said or measure} <{kind}>=(\S+)", goal)


def _each_epoch(name: str, goal: Goal = "", kind: str = "loss", said: str = "") -> Metric:
    part, _, measure = name.partition(":")
    return Metric(name, rf"{_HOST}epoch=\S+, {part} {said or measure} <{kind}>=(\S+)", goal)


def _xgboost(*goals: tuple[Goal, str]) -> tuple[Metric, ...]:
    return tuple(
        Metric(f"{part}:{name}", rf".*\[[0-9]+\].*#011{part}-{name}:([-+0-9.eE]+)", goal if part == "validation" else "")
        for goal, names in goals
        for name in names.split()
        for part in ("train", "validation")
    )


_XGBOOST = Builtin(
    "XGBoost",
    _xgboost(
        ("Maximize", "accuracy auc aucpr balanced_accuracy f1 f1_binary f1_macro map ndcg precision r2 recall precision_macro"),
        ("Maximize", "precision_micro recall_macro recall_micro"),
        (
            "Minimize",
            "aft-nloglik cox-nloglik error gamma-deviance gamma-nloglik interval-regression-accuracy logloss mae mape merror",
        ),
        ("Minimize", "mlogloss mphe mse poisson-nloglik rmse rmsle tweedie-nloglik"),
    ),
    tunable=_names(
        "alpha base_score colsample_bylevel colsample_bynode colsample_bytree eta gamma lambda lambda_bias learning_rate max_bin "
        "max_delta_step max_depth max_leaves min_child_weight num_round num_parallel_tree rate_drop scale_pos_weight skip_drop "
        "subsample tweedie_variance_power csv_weights early_stopping_rounds eval_metric objective booster tree_method grow_policy "
        "sample_type normalize_type updater reg_alpha reg_lambda min_split_loss"
    ),
)

_LINEAR_SCORES = (
    "binary_classification_accuracy", "precision", "recall", "roc_auc_score", "multiclass_accuracy", "macro_precision", "macro_recall", "r2",
)  # fmt: skip
_LINEAR_LOSSES = ("mse", "rmse", "absolute_loss")


def _linear_part(part: str) -> tuple[Metric, ...]:
    return (
        Metric(f"{part}:objective_loss", rf"{_HOST}{part} \S+_objective <loss>=(\S+)", "Minimize"),
        *(_at_end(f"{part}:{name}", "Maximize") for name in _LINEAR_SCORES),
        *(_at_end(f"{part}:{name}", "Minimize") for name in _LINEAR_LOSSES),
        _at_end(f"{part}:binary_f_beta", "Maximize", said=r"binary_f_\S+"),
        _at_end(f"{part}:macro_f_beta", "Maximize", said=r"macro_f_\S+"),
        _at_end(f"{part}:multiclass_top_k_accuracy", "Maximize", said=r"multiclass_top_k_accuracy_\S+"),
    )


_LINEAR = Builtin(
    "Linear Learner",
    (
        Metric("train:objective_loss", rf"{_HOST}epoch=\S+, train \S+_objective <loss>=(\S+)"),
        *_linear_part("validation"),
        *_linear_part("test"),
        *_PROGRESS,
    ),
    tunable=_names(
        "wd l1 learning_rate mini_batch_size use_bias positive_example_weight_mult epochs num_models optimizer loss huber_delta "
        "quantile target_recall target_precision beta_1 beta_2 momentum"
    ),
)

_MACHINES = Builtin(
    "Factorization Machines",
    (
        *(_each_epoch(f"train:{name}") for name in ("rmse", "mse", "absolute_loss")),
        _at_end("test:rmse", "Minimize", "loss"),
        _at_end("test:mse", "Minimize", "loss"),
        _at_end("test:absolute_loss", "Minimize", "loss"),
        _at_end("test:binary_classification_accuracy", "Maximize"),
        _at_end("test:binary_classification_cross_entropy", "Minimize", "loss"),
        _at_end("test:binary_f_beta", "Maximize", said=r"binary_f_\S+"),
        *_PROGRESS,
    ),
    tunable=_names(
        "bias_init_scale bias_init_sigma bias_init_value bias_lr bias_wd epochs factors_init_scale factors_init_sigma "
        "factors_init_value factors_lr factors_wd linear_init_scale linear_init_sigma linear_init_value linear_lr linear_wd "
        "mini_batch_size bias_init_method factors_init_method linear_init_method num_factors"
    ),
)

_OBJECT2VEC: tuple[tuple[str, Goal, str], ...] = (
    ("accuracy", "Maximize", "score"),
    ("cross_entropy", "Minimize", "loss"),
    ("mean_squared_error", "Minimize", "loss"),
)
BUILTINS: Mapping[str, Builtin] = {
    "xgboost": _XGBOOST,
    "sagemaker-xgboost": _XGBOOST,
    "linear-learner": _LINEAR,
    "kmeans": Builtin(
        "K-Means",
        (
            _each_epoch("train:msd"),
            _at_end("test:msd", "Minimize", "loss"),
            _at_end("test:ssd", "Minimize", "loss"),
            *_PROGRESS,
        ),
        tunable=_names("epochs extra_center_factor init_method mini_batch_size k half_life_time_size"),
    ),
    "knn": Builtin(
        "K-Nearest Neighbors",
        (_at_end("test:accuracy", "Maximize"), _at_end("test:mse", "Minimize"), *_PROGRESS),
        tunable=_names("k sample_size"),
    ),
    "pca": Builtin("PCA", _PROGRESS),
    "randomcutforest": Builtin(
        "Random Cut Forest",
        (
            _at_end("test:f1", "Maximize"),
            _at_end("test:precision", ""),
            _at_end("test:recall", ""),
            _at_end("test:accuracy", ""),
            *_PROGRESS,
        ),
        tunable=_names("num_samples_per_tree num_trees"),
    ),
    "factorization-machines": _MACHINES,
    "lda": Builtin(
        "LDA",
        (_at_end("test:pwll", "Maximize"), *_PROGRESS),
        tunable=_names("alpha0 num_topics"),
    ),
    "ipinsights": Builtin(
        "IP Insights",
        (
            _each_epoch("validation:discriminator_auc", "Maximize", "score"),
            _each_epoch("train:xentropy"),
            *_PROGRESS,
        ),
        tunable=_names(
            "epochs learning_rate mini_batch_size num_entity_vectors num_ip_encoder_layers random_negative_sampling_rate "
            "shuffled_negative_sampling_rate vector_dim weight_decay"
        ),
    ),
    # -- deep learning ----------------------------------------------------------------------------------------------------
    "blazingtext": Builtin(
        "BlazingText",
        (
            Metric("train:mean_rho", r"#mean_rho: (\S+)", "Maximize"),
            Metric("train:accuracy", r"#train_accuracy: (\S+)"),
            Metric("validation:accuracy", r"#validation_accuracy: (\S+)", "Maximize"),
        ),
        tunable=_names(
            "batch_size epochs learning_rate min_count mode negative_samples sampling_threshold vector_dim window_size buckets "
            "word_ngrams max_char min_char subwords"
        ),
    ),
    "forecasting-deepar": Builtin(
        "DeepAR",
        (
            Metric("test:RMSE", r"#test_score \(\S+, RMSE\): (\S+)", "Minimize"),
            Metric("test:mean_wQuantileLoss", r"#test_score \(\S+, mean_wQuantileLoss\): (\S+)", "Minimize"),
            Metric("train:final_loss", rf"{_HOST}train final_loss <loss>=(\S+)", "Minimize"),
            *_PROGRESS,
        ),
        tunable=_names(
            "epochs context_length mini_batch_size learning_rate num_cells num_layers num_eval_samples dropout_rate "
            "embedding_dimension likelihood prediction_length"
        ),
    ),
    "ntm": Builtin(
        "Neural Topic Model",
        (
            _each_epoch("validation:total_loss", "Minimize"),
            _each_epoch("train:total_loss"),
            *_PROGRESS,
        ),
        tunable=_names(
            "encoder_layers_activation learning_rate mini_batch_size optimizer rescale_gradient weight_decay epochs num_topics "
            "batch_norm clip_gradient sub_sample tolerance num_patience_epochs"
        ),
    ),
    "object2vec": Builtin(
        "Object2Vec",
        tuple(_each_epoch(f"{part}:{name}", goal, kind) for part in ("validation", "test") for name, goal, kind in _OBJECT2VEC),
        tunable=_names(
            "dropout early_stopping_patience early_stopping_tolerance enc_dim enc0_cnn_filter_width enc0_layers enc1_cnn_filter_width "
            "enc1_layers epochs learning_rate mini_batch_size mlp_activation mlp_dim mlp_layers optimizer weight_decay "
            "enc0_token_embedding_dim enc1_token_embedding_dim"
        ),
    ),
    "seq2seq": Builtin(
        "Sequence to Sequence",
        (
            Metric("validation:accuracy", r"Validation-accuracy=(\S+)", "Maximize"),
            Metric("validation:bleu", r"Validation-bleu=(\S+)", "Maximize"),
            Metric("validation:perplexity", r"Validation-perplexity=(\S+)", "Minimize"),
        ),
        tunable=_names(
            "num_layers_encoder num_layers_decoder batch_size optimizer_type weight_init_type weight_init_scale learning_rate weight_decay "
            "momentum clip_gradient rnn_num_hidden rnn_attention_type num_embed_source num_embed_target embed_dropout_source "
            "embed_dropout_target rnn_decoder_hidden_dropout lr_scheduler_type learning_rate_half_life plateau_reduce_lr_factor "
            "plateau_reduce_lr_threshold fixed_rate_lr_half_life beam_size max_num_batches"
        ),
    ),
    "image-classification": Builtin(
        "Image Classification",
        (
            Metric("train:accuracy", r"Epoch\[\d+\] Train-accuracy=(\S+)"),
            Metric("validation:accuracy", r"Epoch\[\d+\] Validation-accuracy=(\S+)", "Maximize"),
        ),
        tunable=_names("beta_1 beta_2 eps gamma learning_rate mini_batch_size momentum optimizer weight_decay"),
    ),
    "object-detection": Builtin(
        "Object Detection",
        (
            Metric("validation:mAP", rf"{_HOST}epoch=\S+, validation mAP <score>=\((\S+)\)", "Maximize"),
            Metric("train:cross_entropy", rf"{_HOST}epoch=\S+, batch=\S+ train cross_entropy <loss>=(\S+)"),
            Metric("train:smooth_l1", rf"{_HOST}epoch=\S+, batch=\S+ train smooth_l1 <loss>=(\S+)"),
            *_PROGRESS,
        ),
        tunable=_names("learning_rate mini_batch_size momentum optimizer weight_decay"),
    ),
    "semantic-segmentation": Builtin(
        "Semantic Segmentation",
        (
            _each_epoch("validation:mIOU", "Maximize", "score"),
            _each_epoch("validation:pixel_accuracy", "Maximize", "score"),
            _each_epoch("train:loss"),
        ),
        tunable=_names("learning_rate mini_batch_size momentum optimizer weight_decay"),
    ),
}
"""By image repository."""


# -- what requests are held to --------------------------------------------------------------------------------------------


def builtin_for(image: str, hyperparameters: Mapping[str, str] | None, *, account: str) -> str:
    """The repository of the built-in algorithm that an image stands for; '' for every other image."""
    runtime = runtime_for(image, hyperparameters, account=account)
    return runtime.repository if runtime.support == BUILTIN and not runtime.image else ""


def with_metrics(req: Mapping[str, Any], *, account: str) -> Mapping[str, Any]:
    """A CreateTrainingJob request with the metric definitions of its built-in algorithm. Invalid where it brings its own.

    The XGBoost framework's image may bring some: they come beside.
    """
    asked = req["AlgorithmSpecification"]
    repository = builtin_for(asked["TrainingImage"], req.get("HyperParameters"), account=account)
    if (algorithm := BUILTINS.get(repository)) is None:
        return req
    own = asked.get("MetricDefinitions") or []
    if own and repository != "sagemaker-xgboost":
        raise Invalid(
            "You can't override the metric definitions for Amazon SageMaker algorithms. "
            "Please retry your request without specifying metric definitions."
        )
    names = {metric["Name"] for metric in own}
    definitions = [*own, *(metric.definition for metric in algorithm.metrics if metric.name not in names)]
    return {**req, "AlgorithmSpecification": {**asked, "MetricDefinitions": definitions}}


def check_tuning(repository: str, objective: str, goal: str, tuned: set[str]) -> None:
    """Whether tuning may follow this metric in this direction, and change these hyperparameters. Raises Invalid."""
    algorithm = BUILTINS.get(repository)
    if algorithm is None:
        return
    goals = {metric.name: metric.goal for metric in algorithm.metrics if metric.goal}
    if objective not in goals:
        raise Invalid(
            f"The objective metric for the hyperparameter tuning job, [{objective}], isn\u2019t valid for the [{repository}] algorithm. "
            "Choose a valid objective metric."
        )
    if goals[objective] != goal:
        raise Invalid(
            f"The objective metric type, [{goal}], that you specified for objective metric, [{objective}], isn\u2019t valid for the "
            f"[{repository}] algorithm. Choose a valid objective metric type."
        )
    if wrong := sorted(tuned - algorithm.tunable):
        raise Invalid(
            f"The hyperparameter tuning job that you requested contains the following untunable hyperparameters: [{', '.join(wrong)}]. "
            f"For the algorithm, {repository}, you can tune only [{', '.join(sorted(algorithm.tunable))}]. "
            "Delete untunable hyperparameters."
        )
