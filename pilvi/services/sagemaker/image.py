"""Image URIs: which runtime answers for an image.

Accounts and Regions of AWS's own images differ from Region to Region, so repository and tag alone decide.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from pilvi.core.errors import Invalid

_URI = re.compile(r"(?:(?P<host>[^/]+)/)?(?P<repository>[^:@]+)(?::(?P<tag>[^@]+))?(?:@(?P<digest>.+))?")


@dataclass(frozen=True, slots=True)
class Runtime:
    """What an image stands for here."""

    environment: str
    """Name of the environment; '' for the bare interpreter."""
    command: tuple[str, ...] = ("train",)
    """What it runs when the request names no entry point."""
    training_module: str = ""
    """The framework's own module for the training toolkit."""


RUNTIMES = {
    "sagemaker-scikit-learn": Runtime("scikit-learn", training_module="pilvi_script_mode:main"),
    "sagemaker-base-python": Runtime(""),
}
"""By repository. Every tag runs on the one installed version of the framework."""


def runtime_for(uri: str) -> Runtime:
    """The runtime of an image; Invalid when there is none.

    Differs: the framework version in the tag is not chosen: one version of each framework is installed.
    """
    match = _URI.fullmatch(uri)
    repository = match["repository"] if match else ""
    if (runtime := RUNTIMES.get(repository)) is not None:
        return runtime
    raise Invalid(
        f"Cannot find repository: {repository} in registry ID: {uri.split('.', 1)[0]} Please check if your ECR repository exists. "
        f"This server has runtimes for: {', '.join(sorted(RUNTIMES))}."
    )
