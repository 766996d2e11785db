"""The hosts of a training job: algo-1 to algo-n, in one group of equal instances or in several of different ones."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pilvi.jobs import Member
from pilvi.services.sagemaker.instance_types import resources_for

HOMOGENEOUS = "homogeneousCluster"
"""Name of the one group of a job whose instances are all alike."""
INTERFACE = "lo"
"""Every host has a loopback address of its own, so that is the interface on which they reach each other."""


@dataclass(frozen=True, slots=True)
class Group:
    name: str
    instance_type: str
    hosts: tuple[str, ...]


def groups_of(req: Mapping[str, Any]) -> list[Group]:
    """The instance groups with their hosts, numbered through."""
    resources = req["ResourceConfig"]
    wanted = [
        (group["InstanceGroupName"], group["InstanceType"], group["InstanceCount"])
        for group in resources.get("InstanceGroups") or ()
    ] or [(HOMOGENEOUS, resources["InstanceType"], resources["InstanceCount"])]
    found, number = [], 1
    for name, instance_type, count in wanted:
        found.append(Group(name, instance_type, tuple(f"algo-{n}" for n in range(number, number + count))))
        number += count
    return found


def hosts_of(req: Mapping[str, Any]) -> list[str]:
    return [host for group in groups_of(req) for host in group.hosts]


def hosts_in(req: Mapping[str, Any], names: list[str] | None) -> tuple[str, ...]:
    """The hosts of some groups; () stands for all."""
    if not names:
        return ()
    return tuple(host for group in groups_of(req) if group.name in names for host in group.hosts)


def members_of(req: Mapping[str, Any], log_stream: str) -> tuple[Member, ...]:
    """log_stream: with {host} and {started} in it."""
    groups = groups_of(req)
    return tuple(
        Member(
            hostname=host,
            env={"CURRENT_HOST": host},
            files={"input/config/resourceconfig.json": json.dumps(_resource_config(groups, group, host))},
            log_stream=log_stream.replace("{host}", host),
            resources=resources_for(group.instance_type),
        )
        for group in groups
        for host in group.hosts
    )


def _resource_config(groups: list[Group], group: Group, host: str) -> dict[str, Any]:
    return {
        "current_host": host,
        "current_instance_type": group.instance_type,
        "current_group_name": group.name,
        "hosts": sorted(host for group in groups for host in group.hosts),
        "instance_groups": [
            {"instance_group_name": group.name, "instance_type": group.instance_type, "hosts": list(group.hosts)}
            for group in groups
        ],
        "network_interface_name": INTERFACE,
    }
