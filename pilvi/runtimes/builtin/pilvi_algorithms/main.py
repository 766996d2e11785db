"""The entry point of every built-in algorithm's image: `python3 -m pilvi_algorithms.main <repository> train`.

The folder is the registry: an image repository's module is its name with `_` for `-` (sagemaker-xgboost is xgboost). A module has

    NAME             what its log calls it: "Linear Learner"
    HYPERPARAMETERS  declarations (kit.hyperparameter)
    CHANNELS         rules (kit.run.ChannelRule)
    train(run)       learn, and leave the model in run.model_dir
    load(model_dir)  the model again
    predict(model, body, content_type, accept) -> (body, content type)
    WORDS            optional: the family of its error messages (TOOLKIT for XGBoost)

Exit codes, as AWS's algorithms have them: 0; 2 when the user can mend it (`ClientError: ...`); 1 for everything else.
"""

from __future__ import annotations

import importlib
import importlib.util
import os
import sys
import traceback
from pathlib import Path
from types import ModuleType

from pilvi_algorithms.kit.errors import ClientError
from pilvi_algorithms.kit.report import Report
from pilvi_algorithms.kit.run import ROOT, started

CLIENT_ERROR = 2
ALGORITHM_ERROR = 1


def module_for(repository: str) -> ModuleType:
    """The algorithm of an image repository."""
    name = f"pilvi_algorithms.{repository.removeprefix('sagemaker-').replace('-', '_')}"
    if importlib.util.find_spec(name) is None:
        raise ClientError(f"The algorithm of image {repository} is not available.")
    if importlib.util.find_spec("torch") is not None:
        # Read when torch is imported: threads that spin while they wait take the time of the other jobs' threads.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    return importlib.import_module(name)


def train(repository: str, root: Path = ROOT) -> int:
    """Run one training job; the exit code."""
    report = Report(repository, os.environ.get("CURRENT_HOST", "algo-1"))
    try:
        algorithm = module_for(repository)
        run = started(root, algorithm.HYPERPARAMETERS, algorithm.CHANNELS, algorithm.NAME, getattr(algorithm, "WORDS", None))
        report = run.report
        run.listen()
        run.model_dir.mkdir(parents=True, exist_ok=True)
        algorithm.train(run)
        run.cluster.close()
    except ClientError as error:
        report.say(f"Customer Error: {error}", "ERROR")
        leave_failure(root, f"ClientError: {error}")
        return CLIENT_ERROR
    except Exception as error:  # noqa: BLE001 - the last words of the job, whatever went wrong
        report.say("Algorithm Error: " + traceback.format_exc(), "ERROR")
        leave_failure(root, f"{type(error).__name__}: {error}")
        return ALGORITHM_ERROR
    return 0


def leave_failure(root: Path, text: str) -> None:
    (root / "output").mkdir(parents=True, exist_ok=True)
    (root / "output" / "failure").write_text(text)


def main(argv: list[str]) -> int:
    repository, *arguments = argv
    if arguments[:1] == ["train"]:
        return train(repository, Path(os.environ.get("SAGEMAKER_BASE_DIR") or ROOT))
    sys.stderr.write(f"{repository}: unknown argument {' '.join(arguments) or '(none)'}; use train.\n")
    return ALGORITHM_ERROR


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
