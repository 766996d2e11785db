"""MPI launches over the hosts of a job: mpirun on the first one, and on the others a door for it instead of an SSH server.

    algo-1   pilvi_mpi master -- mpirun --host algo-1:2,algo-2:2 ... python -m mpi4py train.py
                 | PRRTE's remote agent: pilvi_mpi call algo-2 "prted ..."
    algo-2   pilvi_mpi serve: runs what somebody asks who knows the job's keys; ends when the master says so

Where an environment has no mpirun, every host starts its own ranks and tells them their places by Open MPI's variables: enough for
programs that take nothing but rank and size from MPI (torch.distributed, smdistributed).
"""

from __future__ import annotations

import argparse
import hmac
import importlib.util
import json
import os
import re
import secrets
import shlex
import shutil
import socket
import subprocess
import sys
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pilvi_environment import Environment, read_value
from pilvi_launch import interface_of, master_port, processes_per_host
from pilvi_program import last_words, run, tell_failure
from pilvi_source import ProgramError

_CONNECT_S = 900
_TAG = re.compile(r"^\[1,(?P<rank>\d+)\]<(?P<stream>stdout|stderr)>: ?")
_SELF = [sys.executable, "-m", "pilvi_mpi"]
AGENT = shlex.join([*_SELF, "call"])
"""What mpirun starts instead of ssh."""


def mpi_command(env: Environment, command: list[str], variables: dict[str, str]) -> list[str]:
    """This host's part of an MPI launch of `command`."""
    asked = env.additional_framework_parameters
    launch = Launch(
        env.distribution_hosts,
        env.current_host,
        processes_per_host(env),
        int(asked.get("sagemaker_mpi_num_processes") or 0),
        str(asked.get("sagemaker_mpi_custom_mpi_options") or ""),
    )
    variables["PRTE_MCA_plm_ssh_agent"] = AGENT
    return launch.command(command)


@dataclass(frozen=True, slots=True)
class Launch:
    """Which ranks, and where."""

    hosts: list[str]
    host: str
    each: int
    count: int
    """How many ranks; 0 is as many as there is room for."""
    options: str

    def command(self, program: list[str]) -> list[str]:
        if shutil.which("mpirun") is None:
            print(
                "This environment has no mpirun: every host starts its ranks, and OMPI_ variables tell them their places.",
                flush=True,
            )
            first, size = self.hosts.index(self.host) * self.each, self.each * len(self.hosts)
            return [sys.executable, "-m", "pilvi_ranks", "mpi", str(first), str(self.each), str(size), "--", *program]
        if self.host != self.hosts[0]:
            return [*_SELF, "serve"]
        if program[0] == sys.executable and importlib.util.find_spec("mpi4py") is not None:
            # One rank's exception shall end them all.
            program = [program[0], "-m", "mpi4py", *program[1:]]
        return [*_SELF, "master", *self.hosts, "--", *self.mpirun(), *program]

    def mpirun(self) -> list[str]:
        """Open MPI 5's own command line."""
        command = ["mpirun", "--host", ",".join(f"{host}:{self.each}" for host in self.hosts)]
        command += [
            "-np",
            str(self.count or self.each * len(self.hosts)),
            "--map-by",
            "slot",
            "--bind-to",
            "none",
            "--output",
            "tag",
        ]
        command += ["--allow-run-as-root", "--oversubscribe", "--prtemca", "plm_ssh_no_tree_spawn", "1"]
        if interface := interface_of(self.hosts[0]):
            command += ["--mca", "btl_tcp_if_include", interface]
        known, more = _options().parse_known_args(shlex.split(self.options))
        return [*command, "-x", f"NCCL_DEBUG={known.NCCL_DEBUG}", *more]


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    parser.add_argument("--NCCL_DEBUG", default="INFO")
    return parser


# -- the first host -------------------------------------------------------------------------------------------------------


def master(hosts: list[str], command: list[str]) -> int:
    """Run mpirun, its lines tagged as AWS tags them, then let the other hosts go."""
    each = int(next(word for word in command if word.startswith(f"{hosts[0]}:")).split(",")[0].split(":")[1])
    child = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    assert child.stdout is not None
    assert child.stderr is not None
    readers = [
        threading.Thread(target=_pass_on, args=(source, target, hosts, each))
        for source, target in ((child.stdout, sys.stdout), (child.stderr, sys.stderr))
    ]
    for reader in readers:
        reader.start()
    code = child.wait()
    for reader in readers:
        reader.join()
    for host in hosts[1:] if code == 0 else ():
        # After a failure the job ends them, and this host's words are the reason.
        call(host, {"end": code})
    return code if code >= 0 else 128 - code


def _pass_on(source: IO[bytes], target: IO[str], hosts: list[str], each: int) -> None:
    def tag(match: re.Match[str]) -> str:
        rank = int(match["rank"])
        return f"[1,mpirank:{rank},{hosts[min(rank // each, len(hosts) - 1)]}]<{match['stream']}>:"

    for line in source:
        target.write(_TAG.sub(tag, line.decode(errors="replace")))
        target.flush()


def call(host: str, wish: dict[str, object]) -> int:
    """Ask a host's door for something; what it said comes out here, its exit status is the answer."""
    until = time.monotonic() + _CONNECT_S
    while True:
        try:
            connection = socket.create_connection((host, master_port() + 1), timeout=10)
            break
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
    connection.settimeout(None)
    with connection, connection.makefile("rw", encoding="utf-8") as file:
        nonce, text = file.readline().strip(), json.dumps(wish)
        file.write(f"{_seal(nonce, text)} {text}\n")
        file.flush()
        answer = file.readline()
        return int(answer) if answer.strip() else 1


# -- the other hosts ------------------------------------------------------------------------------------------------------


def serve() -> int:
    """Do what the master asks until it says that this is the end."""
    host = os.environ.get("SM_CURRENT_HOST") or socket.gethostname()
    with socket.create_server((host, master_port() + 1)) as door:
        print(f"Waiting for the MPI launch of the first host at {host}.", flush=True)
        while True:
            connection, _ = door.accept()
            wish = _heard(connection)
            if wish is not None and "end" in wish:
                with connection:
                    connection.sendall(b"0\n")
                if wish["end"] != 0:
                    print(f"The MPI launch of the first host ended with status {wish['end']}.", file=sys.stderr, flush=True)
                return 0 if wish["end"] == 0 else 1
            if wish is not None:
                threading.Thread(target=_carry_out, args=(connection, str(wish["run"])), daemon=True).start()


def _heard(connection: socket.socket) -> dict[str, object] | None:
    """The wish, of somebody who knows the job's keys."""
    nonce = secrets.token_hex(16)
    try:
        connection.settimeout(10)
        connection.sendall(f"{nonce}\n".encode())
        seal, _, text = connection.makefile("r", encoding="utf-8").readline().rstrip("\n").partition(" ")
        connection.settimeout(None)
        if hmac.compare_digest(seal, _seal(nonce, text)):
            return dict(json.loads(text))
    except OSError:
        pass
    connection.close()
    return None


def _carry_out(connection: socket.socket, command: str) -> None:
    child = subprocess.Popen(["/bin/sh", "-c", command], stdin=subprocess.DEVNULL)
    with connection:
        connection.sendall(f"{child.wait()}\n".encode())


def _seal(nonce: str, text: str) -> str:
    """All hosts of a job have its role's keys, and no other job has."""
    key = os.environ.get("AWS_SECRET_ACCESS_KEY") or os.environ.get("TRAINING_JOB_ARN") or "-"
    return hmac.new(key.encode(), f"{nonce} {text}".encode(), "sha256").hexdigest()


# -- the SDK's own driver (v3) --------------------------------------------------------------------------------------------


def driver() -> int:
    """What sm_drivers/distributed_drivers/mpi_driver.py does: the launch that SM_DISTRIBUTED_CONFIG describes, here and now."""
    config, hosts = json.loads(os.environ["SM_DISTRIBUTED_CONFIG"]), json.loads(os.environ["SM_HOSTS"])
    each = int(config.get("process_count_per_node") or 0) or int(os.environ.get("SM_NUM_GPUS") or 0) or 1
    arguments = []
    for name, value in json.loads(os.environ["SM_HPS"]).items():
        value = read_value(value)
        arguments += [f"--{name}", value if isinstance(value, str) else json.dumps(value)]
    program = [sys.executable, os.environ["SM_ENTRY_SCRIPT"], *arguments]
    command = Launch(hosts, os.environ["SM_CURRENT_HOST"], each, 0, shlex.join(config.get("mpi_additional_options") or [])).command(
        program
    )
    port = {"MASTER_ADDR": hosts[0], "MASTER_PORT": str(master_port())}
    print(f"Executing command: {' '.join(command)}", flush=True)
    code, tail = run(command, {**os.environ, **port, "PRTE_MCA_plm_ssh_agent": AGENT}, Path.cwd())
    if code:
        tell_failure(str(ProgramError("ExecuteUserScriptError", code, last_words(tail), command)))
    return code


def main(words: list[str]) -> int:
    if words[0] == "driver":
        return driver()
    if words[0] == "serve":
        return serve()
    if words[0] == "call":
        # As ssh is called: the host, then the words of a command for its shell.
        return call(words[1], {"run": " ".join(words[2:])})
    cut = words.index("--")
    return master(words[1:cut], words[cut + 1 :])


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
