"""Where a Jupyter or another program runs and for whom: what notebook instances and Studio's apps tell alike about one run. Pure data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pilvi.services.sagemaker.notebook_git import Repository
from pilvi.services.sagemaker.notebook_program import JUPYTER, Program


@dataclass(frozen=True, slots=True)
class Seat:
    """One run's surroundings."""

    arn: str
    """The resource on whose behalf it runs."""
    name: str
    """For messages, and as the beginning of its log's name."""
    role_arn: str
    instance_type: str
    metadata: Mapping[str, Any]
    """What /opt/ml/metadata/resource-metadata.json says."""
    log_group: str
    log_stream: str
    script_stream: str
    """`{hook}` stands for which script."""
    script_trouble: str
    """What is said when a script ends badly; `{hook}` and `{trouble}` stand in it."""
    program: Program = JUPYTER
    user: str = "ec2-user"
    home: str = "/home/ec2-user"
    files: str = "/home/ec2-user/SageMaker"
    """The volume. Equal to `home` where all of the home is kept."""
    session: str = "SageMaker"
    """The role session's name."""
    repositories: tuple[Repository, ...] = ()
    """Cloned into the volume where they are not there yet; Jupyter opens in the first."""
    opens: str = ""
    """The folder below `files` that the program opens in."""
    is_shared: bool = False
    """Whether several people work in it at once, and see each other's edits."""
    variables: tuple[tuple[str, str], ...] = ()
