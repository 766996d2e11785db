"""A program with what its placement granted: memory, cores and GPUs, and the environment that tells libraries of them."""

from __future__ import annotations

from dataclasses import replace

from pilvi.compute import ProcessSpec
from pilvi.jobs.placement import Grant

_THREADS = (
    "OMP_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "MKL_NUM_THREADS",
    "NUMEXPR_MAX_THREADS",
    "POLARS_MAX_THREADS",
    "RAYON_NUM_THREADS",
)
"""What numeric libraries read before they ask the machine."""


def limited(spec: ProcessSpec, grant: Grant) -> ProcessSpec:
    """The same program within its grant. What its own environment says of threads and GPUs stays."""
    memory = [mib for mib in (spec.memory_mib, grant.memory_mib) if mib is not None]
    return replace(
        spec,
        node=grant.node,
        cpus=grant.cpus,
        gpus=grant.gpus,
        memory_mib=min(memory, default=None),
        env={**environment(grant), **spec.env},
    )


def environment(grant: Grant) -> dict[str, str]:
    """Variables that tell libraries what is theirs."""
    found = dict.fromkeys(_THREADS, str(grant.cpus)) if grant.cpus is not None else {}
    # Jobs share cores. Threads that wait by turning in place (OpenMP's default) take them from those that work: two XGBoost jobs of
    # two threads each on two cores took 35 s instead of 0.5 s.
    found["OMP_WAIT_POLICY"] = "PASSIVE"
    if grant.memory_mib is not None:
        found["PILVI_MEMORY_MIB"] = str(grant.memory_mib)
    if grant.gpus:
        # By id, not by number: a program that sees some of the machine's GPUs numbers them afresh.
        found["CUDA_VISIBLE_DEVICES"] = ",".join(grant.gpus)
        if grant.gpu_share < 1:
            # Frameworks that would take all of a GPU's memory at once leave the others theirs.
            found["TF_FORCE_GPU_ALLOW_GROWTH"] = "true"
            found["XLA_PYTHON_CLIENT_MEM_FRACTION"] = f"{grant.gpu_share:.2f}"
    elif grant.gpus == ():
        found["CUDA_VISIBLE_DEVICES"] = ""
    return found
