"""What a training container tells a script: hyperparameters, hosts, channels and folders, as arguments and as SM_ variables.

The same names and values as AWS's training toolkit gives.
Source: https://github.com/aws/sagemaker-training-toolkit/blob/master/ENVIRONMENT_VARIABLES.md, and its answers as recorded in
tests/runtimes/training/evidence/.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

BASE = Path(os.environ.get("SAGEMAKER_BASE_DIR", "/opt/ml"))
CODE = BASE / "code"
OUTPUT = BASE / "output"

_KNOWN = {
    "sagemaker_program", "sagemaker_submit_directory", "sagemaker_enable_cloudwatch_metrics", "sagemaker_region",
    "sagemaker_container_log_level", "sagemaker_job_name", "default_user_module_name", "_tuning_objective_metric", "sagemaker_s3_output",
}  # fmt: skip
"""Parameters that speak to the container, and are not the framework's either."""
_DISTRIBUTIONS = (
    "sagemaker_mpi_enabled", "sagemaker_parameter_server_enabled", "sagemaker_distributed_dataparallel_enabled",
    "sagemaker_pytorch_ddp_enabled", "sagemaker_pytorch_xla_multi_worker_enabled", "sagemaker_multi_worker_mirrored_strategy_enabled",
    "sagemaker_torch_distributed_enabled",
)  # fmt: skip


class Environment:
    """A snapshot of what the container was given."""

    def __init__(self) -> None:
        config = BASE / "input" / "config"
        given = {name: read_value(text) for name, text in _read(config / "hyperparameters.json").items()}
        self.resource_config: dict[str, Any] = _read(config / "resourceconfig.json")
        self.input_data_config: dict[str, Any] = _read(config / "inputdataconfig.json")
        speaks_to_container = {name for name in given if name in _KNOWN or name.startswith("sagemaker_")}
        self.hyperparameters = {name: value for name, value in given.items() if name not in speaks_to_container}
        self.additional_framework_parameters = {name: given[name] for name in sorted(speaks_to_container - _KNOWN)}
        self.user_entry_point: str | None = os.environ.get("SAGEMAKER_PROGRAM") or given.get("sagemaker_program")
        self.module_name = str(self.user_entry_point).removesuffix(".py")
        self.module_dir = str(given.get("sagemaker_submit_directory", os.environ.get("SAGEMAKER_SUBMIT_DIRECTORY", CODE)))
        self.log_level = int(given.get("sagemaker_container_log_level", 20))
        self.region = str(given.get("sagemaker_region") or os.environ.get("AWS_REGION", ""))
        self.job_name = os.environ.get("TRAINING_JOB_NAME")
        self.job_name_parameter = str(given.get("sagemaker_job_name", ""))
        self.framework_module = os.environ.get("SAGEMAKER_TRAINING_MODULE")
        self.model_dir, self.input_dir, self.output_dir = str(BASE / "model"), str(BASE / "input"), str(OUTPUT)
        self.input_config_dir = str(config)
        self.output_data_dir, self.output_intermediate_dir = str(OUTPUT / "data"), str(OUTPUT / "intermediate")
        self.channel_input_dirs = {name: str(BASE / "input" / "data" / name) for name in self.input_data_config}
        self.num_cpus, self.num_gpus, self.num_neurons = len(os.sched_getaffinity(0)), _count_gpus(), 0
        self._find_hosts()

    def _find_hosts(self) -> None:
        config = self.resource_config
        self.hosts: list[str] = config["hosts"]
        self.current_host: str = config["current_host"]
        self.current_instance_type = config.get("current_instance_type", "local")
        self.current_instance_group = config.get("current_group_name", "homogeneousCluster")
        self.network_interface_name = config.get("network_interface_name", "eth0")
        self.topology: list[Any] = config.get("topology", [])
        groups = config.get("instance_groups", [])
        self.instance_groups = [group["instance_group_name"] for group in groups]
        self.instance_groups_dict = {group["instance_group_name"]: group for group in groups}
        self.is_hetero = len(groups) > 1
        own = self.instance_groups_dict.get(self.current_instance_group)
        self.current_instance_group_hosts: list[str] = own["hosts"] if own else []
        is_distributed = any(self.additional_framework_parameters.get(name) for name in _DISTRIBUTIONS)
        self.distribution_instance_groups: list[str] = self.additional_framework_parameters.get(
            "sagemaker_distribution_instance_groups", [self.current_instance_group] if is_distributed else []
        )
        spread = [
            host for group in groups if group["instance_group_name"] in self.distribution_instance_groups for host in group["hosts"]
        ]
        self.distribution_hosts = spread if groups else list(self.hosts)
        self.master_hostname = (self.distribution_hosts or self.hosts)[0]

    @property
    def is_master(self) -> bool:
        return self.current_host == self.master_hostname

    @property
    def is_modelparallel_enabled(self) -> Any:
        given = os.environ.get("SM_HP_MP_PARAMETERS")
        return given and given != "{}"

    def properties(self) -> dict[str, Any]:
        """All of it by name: SM_TRAINING_ENV."""
        names = (
            "additional_framework_parameters", "channel_input_dirs", "current_host", "current_instance_group",
            "current_instance_group_hosts", "current_instance_type", "distribution_hosts", "distribution_instance_groups",
            "framework_module", "hosts", "hyperparameters", "input_config_dir", "input_data_config", "input_dir", "instance_groups",
            "instance_groups_dict", "is_hetero", "is_master", "is_modelparallel_enabled", "job_name", "log_level", "master_hostname",
            "model_dir", "module_dir", "module_name", "network_interface_name", "num_cpus", "num_gpus", "num_neurons", "output_data_dir",
            "output_dir", "output_intermediate_dir", "resource_config", "topology", "user_entry_point",
        )  # fmt: skip
        return {name: getattr(self, name) for name in names} | {"is_smddprun_installed": False, "is_smddpmprun_installed": False}

    def arguments(self) -> list[str]:
        """The hyperparameters as a script gets them: --name value, in the order of their names."""
        found: list[str] = []
        for name, value in sorted(self.hyperparameters.items()):
            found += [f"--{name}" if len(name) > 1 else f"-{name}", _argument(value)]
        return found

    def variables(self) -> dict[str, str]:
        """SM_ variables."""
        found: dict[str, Any] = {
            "hosts": self.hosts,
            "network_interface_name": self.network_interface_name,
            "hps": self.hyperparameters,
            "user_entry_point": self.user_entry_point,
            "framework_params": self.additional_framework_parameters,
            "resource_config": self.resource_config,
            "input_data_config": self.input_data_config,
            "output_data_dir": self.output_data_dir,
            "channels": sorted(self.channel_input_dirs),
            "current_host": self.current_host,
            "current_instance_type": self.current_instance_type,
            "current_instance_group": self.current_instance_group,
            "current_instance_group_hosts": self.current_instance_group_hosts,
            "instance_groups": self.instance_groups,
            "instance_groups_dict": self.instance_groups_dict,
            "distribution_instance_groups": self.distribution_instance_groups,
            "is_hetero": self.is_hetero,
            "module_name": self.module_name,
            "log_level": self.log_level,
            "framework_module": self.framework_module,
            "input_dir": self.input_dir,
            "input_config_dir": self.input_config_dir,
            "output_dir": self.output_dir,
            "num_cpus": self.num_cpus,
            "num_gpus": self.num_gpus,
            "num_neurons": self.num_neurons,
            "model_dir": self.model_dir,
            "module_dir": self.module_dir,
            "training_env": self.properties(),
            "user_args": self.arguments(),
            "output_intermediate_dir": self.output_intermediate_dir,
            **({"topology": self.topology} if self.topology else {}),
            **{f"channel_{name}": path for name, path in self.channel_input_dirs.items()},
            **{f"hp_{name}": value for name, value in self.hyperparameters.items()},
        }
        return {f"SM_{name.upper()}": _variable(value) for name, value in found.items()}


def _read(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text())) if path.exists() else {}


def read_value(text: Any) -> Any:
    """A hyperparameter is JSON; what is not JSON is the text itself."""
    try:
        return json.loads(text)
    except (ValueError, TypeError):
        return text


def _argument(value: Any) -> str:
    if value is None:
        return ""
    if isinstance(value, Mapping):
        return ",".join(f"{name}={item}" for name, item in sorted(value.items()))
    return str(value)


def _variable(value: Any) -> str:
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value, sort_keys=True, separators=(",", ":"))


def _count_gpus() -> int:
    """The GPUs that this host may use."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None and not visible.strip("-1 "):
        return 0
    if (tool := shutil.which("nvidia-smi")) is None:
        return 0
    try:
        listed = subprocess.run([tool, "--list-gpus"], capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return 0
    found = sum(line.startswith("GPU ") for line in listed.stdout.splitlines())
    return min(found, len(visible.split(","))) if visible else found
