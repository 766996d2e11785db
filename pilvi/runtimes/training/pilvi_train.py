"""`train` of the framework images: prepare the customer's source, run it, tell how it ended.

    configuration --> source --> requirements --> command --> the script, its stderr passed on and its end remembered
    pilvi_environment  pilvi_source  pilvi_requirements  pilvi_launch

Keeps to the contract of AWS's training toolkit (arguments, SM_ variables, failure texts) with the standard library alone: what it
imports is the time before a script's first line.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time

import pilvi_launch
import pilvi_source
from pilvi_environment import BASE, CODE, OUTPUT, Environment
from pilvi_program import last_words, run, tell_failure
from pilvi_source import ClientError, ProgramError

_INFO = 20
_RESOLVE_S = 60


def main() -> int:
    """The exit status; the failure file has the words."""
    try:
        env = Environment()
        tell_versions()
        train(env)
    except ClientError as error:
        return _failed(str(error))
    except Exception as error:  # noqa: BLE001 - the job must end with a reason
        import traceback

        return _failed(f"Framework Error: \n{traceback.format_exc()}\n{error}")
    _tell("Reporting training SUCCESS")
    (OUTPUT / "success").touch()
    return 0


def train(env: Environment) -> None:
    """Run the script as hyperparameters and channels say."""
    for folder in (OUTPUT / "data", OUTPUT / "intermediate", BASE / "model"):
        folder.mkdir(parents=True, exist_ok=True)
    program = pilvi_source.prepare(env.module_dir, env.user_entry_point, CODE)
    if _has_requirements():
        import pilvi_requirements

        pilvi_requirements.install(program, CODE)
    variables = env.variables() | {
        "SAGEMAKER_JOB_NAME": env.job_name_parameter,
        "SAGEMAKER_REGION": env.region,
        "CURRENT_HOST": env.current_host,
        "PYTHONPATH": os.pathsep.join([str(CODE), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]).rstrip(os.pathsep),
    }
    if not program.endswith(".py"):
        path = CODE / program
        path.chmod(0o777) if path.exists() else None
    if len(env.hosts) > 1:
        _wait_for_names(env.hosts)
    command = pilvi_launch.launch_command(env, program, CODE, variables)
    if env.log_level <= _INFO:
        _tell_invocation(env, command, variables)
    code, tail = run(command, {**os.environ, **variables}, CODE)
    if code:
        raise ProgramError("ExecuteUserScriptError", code, last_words(tail), command)


def tell_versions() -> None:
    """Which framework version really runs, beside the one that the image's tag asks for."""
    package, image = os.environ.get("PILVI_FRAMEWORK"), os.environ.get("PILVI_IMAGE")
    if not (package and image):
        return
    if version := _installed(package):
        print(f"Image {image}: this job runs {package} {version} on Python {sys.version.split()[0]}.", flush=True)
    else:
        print(f"Image {image}: {package} is not in this environment.", flush=True)


def _installed(package: str) -> str:
    """The version of an installed distribution, '' without; importlib.metadata would take half of this program's start to tell it."""
    wanted = package.replace("-", "_").lower()
    for folder in filter(os.path.isdir, sys.path):
        for name in os.listdir(folder):
            if name.endswith(".dist-info") and name.partition("-")[0].lower() == wanted:
                return name.removesuffix(".dist-info").partition("-")[2]
    return ""


def _has_requirements() -> bool:
    return (CODE / "requirements.txt").exists() or (CODE / "setup.py").exists()


def _wait_for_names(hosts: list[str]) -> None:
    """The other hosts' names lead somewhere."""
    until = time.monotonic() + _RESOLVE_S
    for host in hosts:
        while True:
            try:
                socket.gethostbyname(host)
                break
            except OSError as error:
                if time.monotonic() > until:
                    raise ClientError(f"The host {host} of this job cannot be found: {error}") from error
                time.sleep(0.2)


def _tell_invocation(env: Environment, command: list[str], variables: dict[str, str]) -> None:
    training = json.dumps(env.properties(), indent=4)
    lines = "\n".join(f"{name}={value}" for name, value in variables.items())
    _tell(
        f"Invoking user script\n\nTraining Env:\n\n{training}\n\nEnvironment variables:\n\n{lines}\n\n"
        f"Invoking script with the following command:\n\n{' '.join(command)}\n\n"
    )


def _failed(text: str) -> int:
    _tell("Reporting training FAILURE", "ERROR")
    _tell(text, "ERROR")
    tell_failure(text)
    return 1


def _tell(text: str, level: str = "INFO") -> None:
    moment = time.time()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(moment))
    print(f"{stamp},{int(moment % 1 * 1000):03d} sagemaker-training-toolkit {level:<8} {text}", flush=True)


if __name__ == "__main__":
    sys.exit(main())
