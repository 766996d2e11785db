"""`from sagemaker_training import environment`: the container's environment under the toolkit's names."""

from __future__ import annotations

from pilvi_environment import BASE, CODE, OUTPUT
from pilvi_environment import Environment as _Environment

base_dir = str(BASE)
code_dir = str(CODE)
model_dir = str(BASE / "model")
input_dir = str(BASE / "input")
input_config_dir = str(BASE / "input" / "config")
output_dir = str(OUTPUT)
output_data_dir = str(OUTPUT / "data")
output_intermediate_dir = str(OUTPUT / "intermediate")


class Environment(_Environment):
    def to_cmd_args(self) -> list[str]:
        return self.arguments()

    def to_env_vars(self) -> dict[str, str]:
        return self.variables()
