"""`train` of script mode, by itself: arguments, variables, source, requirements, failures."""

from __future__ import annotations

import io
import json
import signal
import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.runtimes.training.conftest import Container

EVIDENCE = Path(__file__).parent / "evidence" / "two_hosts.json"
SHOW = """
import json, os, sys
print("SHOWN " + json.dumps({"argv": sys.argv[1:], "env": dict(os.environ), "cwd": os.getcwd()}))
"""


def shown(output: str) -> dict[str, Any]:
    line = next(line for line in output.splitlines() if line.startswith("SHOWN "))
    return dict(json.loads(line.removeprefix("SHOWN ")))


def test_arguments_and_variables_are_those_of_the_toolkit(container: Container) -> None:
    evidence = json.loads(EVIDENCE.read_text())
    # The recorded hosts have names; here both are this machine.
    text = json.dumps(evidence).replace("algo-1", "localhost").replace("algo-2", "127.0.0.2")
    evidence = json.loads(text)
    files = {name.removesuffix(".json"): evidence[name] for name in evidence if name.endswith(".json")}
    container.configure(files.pop("hyperparameters"), **files)
    container.code(show__py=SHOW)
    done = container.train()
    assert done.returncode == 0, done.stdout
    found = shown(done.stdout)
    assert found["argv"] == evidence["argv"]
    training = json.loads(found["env"]["SM_TRAINING_ENV"].replace(str(container.base), "/opt/ml"))
    training.pop("num_cpus")
    expected = evidence["env"]
    assert training == expected.pop("SM_TRAINING_ENV")
    for name, value in expected.items():
        assert found["env"][name].replace(str(container.base), "/opt/ml") == value, name


def test_a_script_gets_its_arguments_and_its_folder(container: Container) -> None:
    container.configure({"sagemaker_program": '"show.py"', "max-depth": "3", "words": '"a b"'})
    container.code(show__py=SHOW, sibling__py="")
    done = container.train()
    assert shown(done.stdout)["argv"] == ["--max-depth", "3", "--words", "a b"]
    assert shown(done.stdout)["cwd"] == str(container.base / "code")
    assert (container.base / "output" / "success").exists()
    assert "Reporting training SUCCESS" in done.stdout


def test_an_exception_is_told_in_the_toolkits_words(container: Container) -> None:
    container.configure({"sagemaker_program": "train.py", "epochs": "3"})
    container.code(train__py="import sys\nprint('noise', file=sys.stderr)\nraise KeyError('Survivde')\n")
    done = container.train()
    assert done.returncode == 1
    assert container.failure.startswith('ExecuteUserScriptError:\nExitCode 1\nErrorMessage "KeyError: \'Survivde\'"\nCommand "')
    assert container.failure.endswith('train.py --epochs 3"')
    assert "noise" in done.stderr


def test_a_killed_script_says_so(container: Container) -> None:
    container.configure({"sagemaker_program": "train.py"})
    container.code(train__py=f"import os\nos.kill(os.getpid(), {int(signal.SIGKILL)})\n")
    container.train()
    assert "ExitCode 137" in container.failure
    assert "OutOfMemory: Process killed by SIGKILL (signal 9)" in container.failure


def test_a_crashed_script_names_its_signal(container: Container) -> None:
    container.configure({"sagemaker_program": "train.py"})
    container.code(train__py="import os, signal\nos.kill(os.getpid(), signal.SIGSEGV)\n")
    assert container.train().returncode != 0
    assert 'ExitCode 139\nErrorMessage ""\nExtraInfo "Process killed by SIGSEGV (signal 11)"' in container.failure


def test_children_that_a_script_leaves_behind_do_not_keep_it(container: Container) -> None:
    container.configure({"sagemaker_program": "train.py"})
    # Its other outputs are the test's own pipes, which nobody but the sandbox closes.
    child = "import os, time\nnull = os.open(os.devnull, 2)\nos.dup2(null, 1)\n"
    container.code(train__py=f"{child}if os.fork() == 0:\n    time.sleep(20)\nos.write(2, b'all done\\n')\n")
    began = time.monotonic()
    done = container.train()
    assert (done.returncode, time.monotonic() - began < 15) == (0, True)
    assert "all done" in done.stderr


def test_a_failure_of_the_scripts_own_words_stays(container: Container) -> None:
    container.configure({"sagemaker_program": "train.py"})
    container.code(
        train__py="import os\nopen(os.environ['SM_OUTPUT_DIR'] + '/failure', 'w').write('my words')\nraise SystemExit(3)\n"
    )
    assert container.train().returncode == 1
    assert container.failure == "my words"


def test_a_shell_script_runs(container: Container) -> None:
    container.configure({"sagemaker_program": "train.sh", "depth": "2"})
    container.code(train__sh="#!/bin/sh\necho depth $2 in $SM_MODULE_NAME\n")
    done = container.train()
    assert done.returncode == 0, container.failure
    assert "depth 2 in train.sh" in done.stdout


def test_a_source_archive_is_unpacked_but_never_outside(container: Container, tmp_path: Path) -> None:
    archive = tmp_path / "sourcedir.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        for name, text in (
            ("train.py", "import helper.words\nprint(helper.words.WORD)"),
            ("helper/words.py", "WORD = 'found'"),
            ("../evil.py", ""),
        ):
            member = tarfile.TarInfo(name)
            member.size = len(text)
            tar.addfile(member, io.BytesIO(text.encode()))
    container.configure({"sagemaker_program": "train.py", "sagemaker_submit_directory": json.dumps(str(archive))})
    done = container.train()
    assert "found" in done.stdout.splitlines()
    assert "Left out of the source" in done.stdout
    assert not (container.base / "evil.py").exists()


@pytest.mark.parametrize(
    ("parameters", "words"),
    [
        ({}, "The training entry point name is empty"),
        ({"sagemaker_program": "../train.py"}, "cannot be used"),
        ({"sagemaker_program": "a b.py"}, "cannot be used"),
        ({"sagemaker_program": "missing.py"}, "is not in the source directory, which has: train.py"),
    ],
)
def test_a_wrong_entry_point_is_named(container: Container, parameters: dict[str, str], words: str) -> None:
    container.configure(parameters)
    container.code(train__py="")
    assert container.train().returncode == 1
    assert words in container.failure


def test_a_source_that_is_nowhere_fails_with_its_name(container: Container, tmp_path: Path) -> None:
    container.configure({"sagemaker_program": "train.py", "sagemaker_submit_directory": json.dumps(str(tmp_path / "nowhere"))})
    container.train()
    assert "There is no source at" in container.failure


def test_installed_requirements_need_no_pip(container: Container) -> None:
    container.configure({"sagemaker_program": "train.py"})
    container.code(train__py="print('here')", requirements__txt="# what the environment has\npytest>=7\npip\n")
    done = container.train()
    assert "here" in done.stdout.splitlines(), container.failure
    assert "Installing dependencies" not in done.stdout


def test_requirements_that_cannot_be_had_fail(container: Container) -> None:
    container.configure({"sagemaker_program": "train.py"})
    container.code(train__py="", requirements__txt="no-such-package-of-anybody==1.0\n")
    container.train()
    assert container.failure.startswith("InstallRequirementsError:\nExitCode 1")
    assert "no-such-package-of-anybody" in container.failure


def test_an_unknown_setting_is_told(container: Container) -> None:
    container.configure({"sagemaker_program": "train.py", "sagemaker_new_thing_enabled": "true"})
    container.code(train__py="")
    assert "The setting sagemaker_new_thing_enabled is not known here" in container.train().stdout


def test_parameter_servers_are_told_to_tensorflow(container: Container) -> None:
    container.configure({"sagemaker_program": "show.py", "sagemaker_parameter_server_enabled": "true"}, ("localhost", "127.0.0.2"))
    container.code(show__py=SHOW)
    config = json.loads(shown(container.train().stdout)["env"]["TF_CONFIG"])
    assert config["task"] == {"index": 0, "type": "master"}
    assert {kind: len(hosts) for kind, hosts in config["cluster"].items()} == {"master": 1, "ps": 2, "worker": 1}


def test_many_workers_are_told_to_tensorflow(container: Container) -> None:
    asked = {"sagemaker_program": "show.py", "sagemaker_multi_worker_mirrored_strategy_enabled": "true"}
    container.configure(asked, ("localhost", "127.0.0.2"))
    container.code(show__py=SHOW)
    config = json.loads(shown(container.train().stdout)["env"]["TF_CONFIG"])
    assert config["task"] == {"index": 0, "type": "worker"}
    assert len(config["cluster"]["worker"]) == 2


def test_torch_launchers_need_torch(container: Container) -> None:
    container.configure({"sagemaker_program": "train.py", "sagemaker_torch_distributed_enabled": "true"})
    container.code(train__py="")
    container.train()
    assert "this image has no PyTorch" in container.failure


def test_mpi_without_mpirun_tells_ranks_their_places(container: Container) -> None:
    asked = {"sagemaker_program": "show.py", "sagemaker_mpi_enabled": "true", "sagemaker_mpi_num_of_processes_per_host": "2"}
    container.configure(asked)
    container.code(
        show__py="import os\nname = 'OMPI_COMM_WORLD_'\nos.write(1, f\"RANK {os.environ[name + 'RANK']} {os.environ[name + 'SIZE']}\\n\".encode())\n"
    )
    done = container.train(PATH="/usr/bin:/bin")
    assert {"RANK 0 2", "RANK 1 2"} <= set(done.stdout.splitlines()), done.stdout
    assert "This environment has no mpirun" in done.stdout
