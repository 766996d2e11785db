"""Image URIs: what stands here for an image that a request names.

    811284229777.dkr.ecr.us-east-1.amazonaws.com/xgboost:latest
    -- account and Region --------------------- / repository : tag

AWS's own images lie under other accounts in other Regions: registries.txt knows them all (scripts/image_registries.py writes it). Below
one of these the repository tells which image is meant; the version in the tag is told to the job, which says in its log what really
runs. Everything in another account's registry is that account's own image, whatever its name: its repository policy decides.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files

from pilvi.core.errors import Invalid, PilviError
from pilvi.core.service import Context
from pilvi.jobs import image

_URI = re.compile(r"(?:(?P<host>[^/]+)/)?(?P<repository>[^:@]+)(?::(?P<tag>[^@]+))?(?:@(?P<digest>.+))?")
_ECR_HOST = re.compile(
    r"(?P<account>\d{12})\.dkr[.-]ecr(?:-fips)?\.(?P<region>[a-z0-9-]+)\.(?:amazonaws\.com(?:\.cn)?|on\.(?:aws|amazonwebservices\.com\.cn))"
)
# 0.23-1-cpu-py3 -> 0.23-1; 2.5.1-transformers4.49.0-gpu-py311 -> 2.5.1
_VERSION = re.compile(r"\d+(?:\.\d+)*(?:-\d+(?=-|$))?")

SCRIPT = ("python3", "-m", "pilvi_train")
"""Script mode: `pilvi/runtimes/training/pilvi_train.py`."""
SUPPORT = "pilvi.runtimes.training"
BUILTIN = "pilvi.runtimes.builtin"
SPARK = "pilvi.runtimes.spark"


@dataclass(frozen=True, slots=True)
class Runtime:
    """What an image stands for here."""

    environment: str
    """Name of the environment; '' for the bare interpreter."""
    command: tuple[str, ...] = SCRIPT
    """What it runs when the request names no entry point."""
    training_module: str = ""
    """The framework's own module of AWS's container, as SM_FRAMEWORK_MODULE tells it."""
    support: str = SUPPORT
    """The package of pilvi.runtimes that jobs see below /opt/pilvi."""
    framework: str = ""
    """Name of the package that makes the framework, as installed."""
    repository: str = ""
    tag: str = ""
    image: str = ""
    """The user's own image: its whole URI. Then nothing above counts."""

    @property
    def version(self) -> str:
        """The framework version that the tag asks for; '' where it names none."""
        match = _VERSION.match(self.tag)
        return match[0] if match and self.framework else ""

    @property
    def env(self) -> dict[str, str]:
        """What a job's environment says of its image."""
        env = {"PILVI_IMAGE": f"{self.repository}:{self.tag}" if self.tag else self.repository} if self.repository else {}
        if self.framework:
            env["PILVI_FRAMEWORK"] = self.framework
        if self.training_module:
            env["SAGEMAKER_TRAINING_MODULE"] = self.training_module
        return env


def _script(environment: str, framework: str, container: str) -> Runtime:
    return Runtime(environment, SCRIPT, f"sagemaker_{container}_container.training:main", framework=framework)


def _builtin(repository: str, environment: str = "algorithms") -> Runtime:
    return Runtime(environment, ("python3", "-m", "pilvi_algorithms.main", repository, "train"), support=BUILTIN)


_TABULAR = ("linear-learner", "kmeans", "knn", "pca", "randomcutforest", "factorization-machines", "ipinsights", "lda")
_DEEP = (
    "blazingtext", "forecasting-deepar", "image-classification", "ntm", "object-detection", "object2vec", "semantic-segmentation", "seq2seq",
)  # fmt: skip
XGBOOST = _builtin("xgboost")
XGBOOST_SCRIPT = _script("algorithms", "xgboost-cpu", "xgboost")
"""The algorithms' environment holds all that scripts find in AWS's container: one folder, one installation for both."""

RUNTIMES = {
    "sagemaker-scikit-learn": _script("scikit-learn", "scikit-learn", "sklearn"),
    "sagemaker-xgboost": XGBOOST_SCRIPT,
    "xgboost": XGBOOST,
    "pytorch-training": _script("pytorch", "torch", "pytorch"),
    "pytorch-training-graviton": _script("pytorch", "torch", "pytorch"),
    "sagemaker-pytorch": _script("pytorch", "torch", "pytorch"),
    "smdistributed-modelparallel": _script("pytorch", "torch", "pytorch"),
    "huggingface-pytorch-training": _script("pytorch", "torch", "huggingface_pytorch"),
    "tensorflow-training": _script("tensorflow", "tensorflow-cpu", "tensorflow"),
    "sagemaker-tensorflow-scriptmode": _script("tensorflow", "tensorflow-cpu", "tensorflow"),
    "huggingface-tensorflow-training": _script("tensorflow", "tensorflow-cpu", "tensorflow"),
    "mxnet-training": _script("mxnet", "mxnet", "mxnet"),
    "sagemaker-mxnet": _script("mxnet", "mxnet", "mxnet"),
    "sagemaker-base-python": Runtime(""),
    # What @remote functions run in: the SDK that unpacks them has to be there.
    **{f"sagemaker-base-python-{version}": Runtime("notebook") for version in ("38", "310", "311")},
    "sagemaker-spark-processing": Runtime("spark", ("smspark-submit",), support=SPARK, framework="pyspark"),
    **{name: _builtin(name) for name in _TABULAR},
    **{name: _builtin(name, "pytorch") for name in _DEEP},
}
"""By repository. Every tag runs on the one installed version of the framework."""

NOT_BUILT = {
    "sagemaker-clarify-processing": "SageMaker Clarify",
    "sagemaker-model-monitor-analyzer": "SageMaker Model Monitor",
    "sagemaker-debugger-rules": "SageMaker Debugger",
    "detailed-profiler-processing": "SageMaker Debugger's profiler",
    "sagemaker-data-wrangler-container": "SageMaker Data Wrangler",
    "sagemaker-sparkml-serving": "serving of Spark ML models",
    "sagemaker-tritonserver": "the Triton server",
    "sagemaker-chainer": "Chainer, which ended in 2019",
    "sagemaker-rl-mxnet": "reinforcement learning containers",
    "sagemaker-rl-tensorflow": "reinforcement learning containers",
    "sagemaker-rl-coach-container": "reinforcement learning containers",
    "sagemaker-rl-ray-container": "reinforcement learning containers",
    "sagemaker-rl-vw-container": "reinforcement learning containers",
    "sagemaker-tensorflow": "TensorFlow before script mode (1.10 and older)",
    "autogluon-training": "AutoGluon",
    "autogluon-inference": "AutoGluon",
    "djl-inference": "the Deep Java Library's server",
    "pytorch-training-neuron": "Neuron devices",
    "pytorch-training-neuronx": "Neuron devices",
    "huggingface-pytorch-training-neuronx": "Neuron devices",
    "pytorch-trcomp-training": "the Training Compiler",
    "huggingface-pytorch-trcomp-training": "the Training Compiler",
    "huggingface-tensorflow-trcomp-training": "the Training Compiler",
    "sagemaker-distribution-prod": "the SageMaker Distribution image",
    "sagemaker-geospatial-v1-0": "geospatial processing",
}
"""Images of AWS's that nothing stands for yet -> what they are."""


def runtime_for(uri: str, hyperparameters: Mapping[str, str] | None = None, *, account: str = "") -> Runtime:
    """The runtime of an image; Invalid when there is none.

    hyperparameters: the job's; with sagemaker_program the XGBoost image runs a script, else it is the built-in algorithm.
    account: whose request it is: a repository of theirs is theirs, even where their number is one of AWS's.
    Differs: the framework version in the tag is not chosen: one version of each framework is installed, and the job's log says which.
    """
    repository, tag, is_aws, is_own = parts_of(uri, account)
    if is_aws and (runtime := RUNTIMES.get(repository)) is not None:
        if runtime is XGBOOST_SCRIPT and "sagemaker_program" not in (hyperparameters or {}):
            runtime = XGBOOST
        return replace(runtime, repository=repository, tag=tag)
    if is_aws and repository in NOT_BUILT:
        raise Invalid(f"The image {repository} ({NOT_BUILT[repository]}) is not supported by this server yet.")
    if is_own:
        return Runtime("", ("train",), repository=repository, tag=tag, image=uri)
    raise unknown(uri, repository)


def parts_of(uri: str, account: str) -> tuple[str, str, bool, bool]:
    """Repository, tag, whether it may be an image of AWS's, whether it may be somebody's own. Invalid for what is no image."""
    match = _URI.fullmatch(uri)
    if match is None:
        raise unknown(uri, "")
    host = _ECR_HOST.fullmatch(match["host"] or "")
    is_aws = host is None or (host["account"] in registries() and host["account"] != account)
    return match["repository"], match["tag"] or "", is_aws, host is not None


@cache
def registries() -> frozenset[str]:
    """The accounts that AWS publishes SageMaker's images from."""
    lines = (files(__package__) / "registries.txt").read_text().splitlines()
    return frozenset(line for line in lines if not line.startswith("#"))


def check_image(ctx: Context, runtime: Runtime) -> None:
    """The user's own image is there, and the role that `ctx` acts under may pull it. Invalid otherwise, in AWS's words."""
    if not runtime.image:
        return
    try:
        image.check(ctx, runtime.image)
    except PilviError as error:
        code = getattr(error, "code", "")
        if code not in ("RepositoryNotFoundException", "AccessDeniedException"):
            raise Invalid(f"Requested image {runtime.image} not found.") from error
        role = f"{ctx.identity.principal.issuer_arn} " if ctx.identity is not None else ""
        raise Invalid(
            f"Cannot find repository: {runtime.repository} in registry ID: {runtime.image.split('.', 1)[0]} Please check if your ECR "
            f"repository exists and role {role}has proper pull permissions for SageMaker: ecr:BatchCheckLayerAvailability, "
            "ecr:BatchGetImage, ecr:GetDownloadUrlForLayer"
        ) from error


def unknown(uri: str, repository: str) -> Invalid:
    return Invalid(
        f"Cannot find repository: {repository}. The image {uri} is not one of Amazon ECR: an image of your own is named "
        "ACCOUNT.dkr.ecr.REGION.amazonaws.com/NAME:TAG, and comes there by a push or by 'pilvi images import'. "
        f"This server has runtimes for: {', '.join(sorted(RUNTIMES))}."
    )
