"""What the framework container's own module does: run the customer's script and keep its last words for the failure reason.

The toolkit finds it by SAGEMAKER_TRAINING_MODULE=pilvi_script_mode:main.
"""

from __future__ import annotations

import logging

from sagemaker_training import entry_point, environment, runner

logger = logging.getLogger(__name__)


def main() -> None:
    """Run the script as hyperparameters and channels say."""
    env = environment.Environment()
    logger.info("Invoking user training script.")
    entry_point.run(
        uri=env.module_dir,
        user_entry_point=env.user_entry_point,
        args=env.to_cmd_args(),
        env_vars=env.to_env_vars(),
        runner_type=runner.ProcessRunnerType,
        capture_error=True,
    )
