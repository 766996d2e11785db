"""Image URIs of models: which program answers for an image, and in which environment.

The repository tells: an inference image of a framework runs the customer's script, the image of a built-in algorithm its module, and an
image in an account's own registry is that account's own program. Every tag runs on the one installed version of its framework.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from pilvi.core.errors import Invalid
from pilvi.services.sagemaker.image import NOT_BUILT, RUNTIMES, parts_of, unknown

_SERVING = ("pilvi.runtimes.serving", "serving")
_TRAINING = ("pilvi.runtimes.training", "training")
"""For what scripts of both kinds need: packages of a requirements.txt."""
_BUILTIN = ("pilvi.runtimes.builtin", "builtin")


@dataclass(frozen=True, slots=True)
class Serving:
    """What answers for an image."""

    environment: str
    command: tuple[str, ...]
    support: tuple[tuple[str, str], ...] = ()
    framework: str = ""
    """Whose defaults stand where a script has no function of its own."""
    image: str = ""
    """The user's own image: its whole URI. Then nothing above but the command counts."""

    @property
    def is_script(self) -> bool:
        return self.command[-1] == "script"


def _script(environment: str, framework: str) -> Serving:
    command = ("python3", "-m", "pilvi_serve", "script")
    return Serving(environment, command, (_SERVING, _TRAINING, _BUILTIN), framework)


def _builtin(repository: str, environment: str) -> Serving:
    return Serving(environment, ("python3", "-m", "pilvi_serve", "builtin", repository), (_SERVING, _BUILTIN))


_XGBOOST = _script("algorithms", "xgboost")
_FRAMEWORKS = {
    "sagemaker-scikit-learn": _script("scikit-learn", "sklearn"),
    "sagemaker-xgboost": _XGBOOST,
    "pytorch-inference": _script("pytorch", "pytorch"),
    "pytorch-inference-graviton": _script("pytorch", "pytorch"),
    "pytorch-training": _script("pytorch", "pytorch"),
    "sagemaker-pytorch": _script("pytorch", "pytorch"),
    "huggingface-pytorch-inference": _script("pytorch", "pytorch"),
    "sagemaker-base-python": _script("", "plain"),
}
_BUILTINS = {
    name: _builtin(name, runtime.environment) for name, runtime in RUNTIMES.items() if "pilvi_algorithms.main" in runtime.command
}
_NOT_SERVED = {
    **NOT_BUILT,
    "tensorflow-inference": "TensorFlow Serving",
    "huggingface-tensorflow-inference": "Hugging Face on TensorFlow",
    "mxnet-inference": "MXNet's model server",
    "huggingface-pytorch-tgi-inference": "Text Generation Inference",
    "tei": "Text Embeddings Inference",
    "tei-cpu": "Text Embeddings Inference",
    "pytorch-inference-neuron": "Neuron devices",
    "pytorch-inference-neuronx": "Neuron devices",
}


def serving_for(uri: str, environment: Mapping[str, str], *, account: str) -> Serving:
    """What answers for an image; Invalid when nothing does.

    environment: the container's; the XGBoost image runs a script where SAGEMAKER_PROGRAM names one, else it is the built-in algorithm.
    """
    repository, _, is_aws, is_own = parts_of(uri, account)
    if is_aws:
        found = _FRAMEWORKS.get(repository) or _BUILTINS.get(repository)
        if found is _XGBOOST and not environment.get("SAGEMAKER_PROGRAM"):
            return _BUILTINS["xgboost"]
        if found is not None:
            return found
        if repository in _NOT_SERVED:
            raise Invalid(f"The image {repository} ({_NOT_SERVED[repository]}) is not supported by this server yet.")
    if is_own:
        return Serving("", ("serve",), image=uri)
    raise unknown(uri, repository)
