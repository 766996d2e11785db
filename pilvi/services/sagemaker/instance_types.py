"""Instance types as facts: what each has, and what it means for a job on this machine.

Most types follow from their name: the size gives the cores, the family the memory for each; the exceptions stand in `_OWN`.
Source: Amazon EC2's instance type pages ("Amazon EC2 Instance types": general purpose, compute, memory, storage optimized,
accelerated computing), whose types SageMaker's are, with ml. before the name.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache

from pilvi.jobs.spec import Resources

_NAME = re.compile(r"(?:ml\.)?(?P<family>[a-z0-9-]+)\.(?:(?P<times>\d+)xlarge|(?P<size>[a-z]+))")
_VCPUS = {"nano": 2, "micro": 2, "small": 2, "medium": 2, "large": 2, "xlarge": 4}
_MEDIUM_ARM = re.compile(r"[cmr]\d+g[a-z]*")
"""Families whose medium size has a single core."""

_GIB_PER_VCPU = {
    "c4": 1.875, "c5": 2, "c5d": 2, "c5n": 2.625, "c6a": 2, "c6g": 2, "c6gd": 2, "c6gn": 2, "c6i": 2, "c6id": 2, "c6in": 2, "c7g": 2,
    "c7i": 2, "c7i-flex": 2, "c8a": 2, "c8g": 2, "c8i": 2, "c8i-flex": 2, "dl1": 8, "g4dn": 4, "g5": 4, "g6": 4, "g6e": 8, "g7": 4,
    "g7e": 8, "gr6": 8, "i3en": 8, "inf1": 2, "inf2": 4, "m4": 4, "m5": 4, "m5d": 4, "m6a": 4, "m6g": 4, "m6gd": 4, "m6i": 4, "m6id": 4,
    "m7g": 4, "m7i": 4, "m7i-flex": 4, "m8a": 4, "m8g": 4, "m8i": 4, "m8i-flex": 4, "p2": 15.25, "p3": 7.625, "p3dn": 8, "p4d": 12,
    "p4de": 12, "p5": 16, "p6e-gb200": 20 / 3, "r5": 8, "r5d": 8, "r6g": 8, "r6gd": 8, "r6i": 8, "r6id": 8, "r7gd": 8, "r7i": 8,
    "r8g": 8, "r8i": 8, "r8i-flex": 8, "t2": 4, "t3": 4, "trn1": 4, "trn1n": 4,
}  # fmt: skip
_OTHERS_GIB_PER_VCPU = 4
"""A family that AWS made after this table."""

_OWN: dict[str, tuple[int, float]] = {
    "c4.8xlarge": (36, 60), "c5n.9xlarge": (36, 96), "c5n.18xlarge": (72, 192), "g7e.12xlarge": (48, 512),
    "g7e.24xlarge": (96, 1024), "g7e.48xlarge": (192, 2048), "p2.16xlarge": (64, 732), "p2.8xlarge": (32, 488),
    "p5.48xlarge": (192, 2048), "p5e.48xlarge": (192, 2048), "p5en.48xlarge": (192, 2048), "p6-b200.48xlarge": (192, 2048),
    "p6-b300.48xlarge": (192, 4096), "p6e-gb200.36xlarge": (144, 960), "t2.medium": (2, 4), "t3.medium": (2, 4), "t3.micro": (2, 1),
    "t3.small": (2, 2), "trn2.3xlarge": (12, 128), "trn2.48xlarge": (192, 2048),
}  # fmt: skip
"""vCPUs and GiB of those that follow no rule."""

_ONE = {"": 1}
_G = {"": 1, "12xlarge": 4, "24xlarge": 4, "48xlarge": 8}
_G7 = {"": 1, "12xlarge": 2, "24xlarge": 4, "48xlarge": 8}
_GPUS: dict[str, tuple[str, float, dict[str, int]]] = {
    "g4dn": ("NVIDIA T4", 16, {"": 1, "12xlarge": 4}),
    "g5": ("NVIDIA A10G", 24, _G),
    "g6": ("NVIDIA L4", 24, _G),
    "g6e": ("NVIDIA L40S", 48, _G),
    "g7": ("NVIDIA RTX PRO 4500", 32, _G7),
    "g7e": ("NVIDIA RTX PRO 6000", 96, _G7),
    "gr6": ("NVIDIA L4", 24, _ONE),
    "p2": ("NVIDIA K80", 12, {"": 1, "8xlarge": 8, "16xlarge": 16}),
    "p3": ("NVIDIA V100", 16, {"": 1, "8xlarge": 4, "16xlarge": 8}),
    "p3dn": ("NVIDIA V100", 32, {"": 8}),
    "p4d": ("NVIDIA A100", 40, {"": 8}),
    "p4de": ("NVIDIA A100", 80, {"": 8}),
    "p5": ("NVIDIA H100", 80, {"": 1, "48xlarge": 8}),
    "p5e": ("NVIDIA H200", 141, {"": 8}),
    "p5en": ("NVIDIA H200", 141, {"": 8}),
    "p6-b200": ("NVIDIA B200", 179, {"": 8}),
    "p6-b300": ("NVIDIA B300", 268, {"": 8}),
    "p6e-gb200": ("NVIDIA GB200", 185, {"": 4}),
}
"""Kind, GiB of each, and how many by size ("" is every other size)."""

_CHIPS: dict[str, tuple[str, dict[str, int]]] = {
    "trn1": ("AWS Trainium", {"": 1, "32xlarge": 16}),
    "trn1n": ("AWS Trainium", {"": 16}),
    "trn2": ("AWS Trainium2", {"": 1, "48xlarge": 16}),
    "inf1": ("AWS Inferentia", {"": 1, "6xlarge": 4, "24xlarge": 16}),
    "inf2": ("AWS Inferentia2", {"": 1, "24xlarge": 6, "48xlarge": 12}),
    "dl1": ("Intel Gaudi", {"": 8}),
}
"""Accelerators that are not GPUs, of which no machine of ours has one."""


@dataclass(frozen=True, slots=True)
class InstanceType:
    """What AWS gives for the name."""

    name: str
    vcpus: int
    memory_gib: float
    gpus: int = 0
    gpu: str = ""
    """Kind of its GPUs."""
    gpu_memory_gib: float = 0
    """Of each."""
    chips: str = ""
    """Accelerators that are not GPUs, in words."""


@cache
def instance_type(name: str) -> InstanceType:
    """The facts of `ml.m5.xlarge`. A family that is not in the table counts as general purpose."""
    short = name.removeprefix("ml.")
    match = _NAME.fullmatch(name)
    if match is None:
        return InstanceType(name, 2, 8)
    family, size = match["family"], short.partition(".")[2]
    vcpus, memory = _OWN.get(short) or _by_rule(family, size, match["times"])
    kind, gpu_memory, counts = _GPUS.get(family, ("", 0, {}))
    chip, chip_counts = _CHIPS.get(family, ("", {}))
    return InstanceType(
        name,
        vcpus,
        memory,
        _of_size(counts, size),
        kind,
        gpu_memory,
        f"{_of_size(chip_counts, size)} {chip}" if chip else "",
    )


def resources_for(name: str) -> Resources:
    """What a job on such an instance asks of the machine; placement gives it as much of that as there is."""
    found = instance_type(name)
    return Resources(
        cpus=found.vcpus,
        memory_mib=int(found.memory_gib * 1024),
        gpus=found.gpus,
        gpu_memory_mib=int(found.gpu_memory_gib * 1024),
        label=name,
        extra=found.chips,
    )


def _by_rule(family: str, size: str, times: str | None) -> tuple[int, float]:
    if times is not None:
        vcpus = 4 * int(times)
    elif size == "medium" and _MEDIUM_ARM.fullmatch(family):
        vcpus = 1
    else:
        vcpus = _VCPUS.get(size, 2)
    return vcpus, vcpus * _GIB_PER_VCPU.get(family, _OTHERS_GIB_PER_VCPU)


def _of_size(counts: dict[str, int], size: str) -> int:
    return counts.get(size, counts.get("", 0))
