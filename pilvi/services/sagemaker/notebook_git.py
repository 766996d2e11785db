"""Git repositories that come into a notebook's volume: found by name or address, cloned by a shell script inside the run.

Source: developer guide, "Git repositories with SageMaker AI Notebook Instances".
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urlsplit, urlunsplit

from pilvi.core.errors import Invalid, PilviError, Unavailable
from pilvi.core.service import Context

NOUN = "CodeRepository"
CLONE_S = 300.0
"""How long cloning may take."""


@dataclass(frozen=True, slots=True)
class Repository:
    """One to clone."""

    url: str
    branch: str = ""
    secret_arn: str = ""
    """The secret that holds its user name and password."""

    @property
    def folder(self) -> str:
        """As git names it: the address's last part, without .git."""
        last = urlsplit(self.url).path.rstrip("/").rpartition("/")[2].removesuffix(".git")
        return re.sub(r"[^\w.-]", "-", last).lstrip(".-") or "repository"


def repositories_of(ctx: Context, record: Mapping[str, Any]) -> tuple[Repository, ...]:
    """What a record names, the default one first. Unavailable when a name has gone."""
    names = [record.get("DefaultCodeRepository"), *(record.get("AdditionalCodeRepositories") or ())]
    try:
        return tuple(find_repository(ctx, name) for name in names if name)
    except Invalid as error:
        raise Unavailable(str(error)) from error


def find_repository(ctx: Context, name: str) -> Repository:
    """The repository of a name of this account, or of an address. Invalid when there is none of the name."""
    if name.startswith("https://"):
        return Repository(name)
    record = ctx.records(NOUN).find(name.lower())
    if record is None:
        raise Invalid(f"Cannot find CodeRepository {ctx.arn(f'code-repository/{name.lower()}')}.")
    config = record["GitConfig"]
    return Repository(config["RepositoryUrl"], config.get("Branch") or "", config.get("SecretArn") or "")


def clone_script(ctx: Context, repositories: tuple[Repository, ...], files: str) -> str:
    """A script that clones what is not there yet. ctx: the notebook's role, which reads the secrets.

    A password is in git's configuration of that one command only; it does not stay on the volume.
    """
    lines = ["set -e", "export GIT_TERMINAL_PROMPT=0"]
    for repository in repositories:
        target = shlex.quote(f"{files}/{repository.folder}")
        branch = f"--branch {shlex.quote(repository.branch)} " if repository.branch else ""
        url = shlex.quote(repository.url)
        helper = ""
        if repository.secret_arn:
            where = shlex.quote(f"url.{_with_secret(ctx, repository)}.insteadOf={repository.url}")
            helper = f"-c {where} "
        lines.append(f"[ -e {target} ] || git {helper}clone {branch}-- {url} {target}")
    return "\n".join(lines) + "\n"


def _with_secret(ctx: Context, repository: Repository) -> str:
    """The address with the secret's user name and password in it."""
    try:
        text = ctx.call("secretsmanager", "GetSecretValue", SecretId=repository.secret_arn)["SecretString"]
        secret = json.loads(text)
        who = f"{quote(secret['username'], safe='')}:{quote(secret['password'], safe='')}"
    except PilviError as error:
        raise Unavailable(f"The secret {repository.secret_arn} of {repository.url} cannot be read: {error}") from error
    except (ValueError, TypeError, KeyError) as error:
        raise Unavailable(f"The secret {repository.secret_arn} must be JSON with username and password.") from error
    parts = urlsplit(repository.url)
    return urlunsplit(parts._replace(netloc=f"{who}@{parts.netloc}"))
