"""What a framework container's own module does: run the customer's script and keep its last words for the failure reason.

The toolkit finds it by SAGEMAKER_TRAINING_MODULE=pilvi_script_mode:main. The toolkit prepares code, arguments and environment;
only the capturing is ours, because the toolkit's own breaks lines wherever a read happens to end.
"""

from __future__ import annotations

import logging
import os
import subprocess

from sagemaker_training import entry_point, environment, errors, logging_config, process

logger = logging.getLogger(__name__)

TAIL_BYTES = 64 << 10
OTHER_LINES = 3


def main() -> None:
    """Run the script as hyperparameters and channels say."""
    env = environment.Environment()
    logger.info("Invoking user training script.")
    arguments, variables = env.to_cmd_args(), env.to_env_vars()
    script = Script(env.user_entry_point, arguments, variables, 1)
    entry_point.run(
        uri=env.module_dir, user_entry_point=env.user_entry_point, args=arguments, env_vars=variables, runner_type=script
    )


class Script(process.ProcessRunner):  # type: ignore[misc]
    """The script as a child process, its stderr passed on byte by byte and its end remembered."""

    def run(self, wait: bool = True, capture_error: bool = False) -> None:  # noqa: ARG002 - the toolkit's signature
        command = self._create_command()
        logging_config.log_script_invocation(command, self._env_vars)
        child = subprocess.Popen(command, env=os.environ, cwd=environment.code_dir, stderr=subprocess.PIPE)
        tail = b""
        assert child.stderr is not None
        while piece := os.read(child.stderr.fileno(), 65536):
            os.write(2, piece)
            tail = (tail + piece)[-TAIL_BYTES:]
        code = child.wait()
        if code:
            # A signal is told as shells tell it, and as AWS does: 137 for SIGKILL.
            code = code if code > 0 else 128 - code
            raise errors.ExecuteUserScriptError(cmd=" ".join(command), return_code=code, output=last_words(tail))


def last_words(tail: bytes) -> str:
    """The exception at the end of a traceback, or the last lines where there is no traceback."""
    lines = tail.decode(errors="replace").rstrip().splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith("Traceback (most recent call last)")]
    if not starts:
        return "\n".join(lines[-OTHER_LINES:])
    after = lines[starts[-1] + 1 :]
    first = next((number for number, line in enumerate(after) if line and not line[0].isspace()), 0)
    return "\n".join(after[first:])
