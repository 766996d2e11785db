"""What a grant makes of a program."""

from __future__ import annotations

from pilvi.compute import ProcessSpec
from pilvi.jobs.limits import environment, limited
from pilvi.jobs.placement import Grant

SPEC = ProcessSpec(("true",), {"OMP_NUM_THREADS": "1"})


def test_program_is_within_its_grant() -> None:
    found = limited(SPEC, Grant("n1", 4, 2048, ("g0",), 0.25))
    assert (found.node, found.cpus, found.memory_mib, found.gpus) == ("n1", 4, 2048, ("g0",))
    assert limited(ProcessSpec(("true",), {}, memory_mib=512), Grant("", None, 2048)).memory_mib == 512
    assert limited(SPEC, Grant()).memory_mib is None


def test_own_variables_stay() -> None:
    found = limited(SPEC, Grant("", 4, 2048)).env
    assert (found["OMP_NUM_THREADS"], found["MKL_NUM_THREADS"], found["PILVI_MEMORY_MIB"]) == ("1", "4", "2048")


def test_waiting_threads_leave_the_cores_to_others() -> None:
    assert environment(Grant()) == {"OMP_WAIT_POLICY": "PASSIVE"}


def test_gpus_are_named_and_shared_politely() -> None:
    found = environment(Grant(gpus=("GPU-a", "GPU-b"), gpu_share=0.25))
    assert found["CUDA_VISIBLE_DEVICES"] == "GPU-a,GPU-b"
    assert (found["TF_FORCE_GPU_ALLOW_GROWTH"], found["XLA_PYTHON_CLIENT_MEM_FRACTION"]) == ("true", "0.25")
    assert "XLA_PYTHON_CLIENT_MEM_FRACTION" not in environment(Grant(gpus=("GPU-a",)))
    assert environment(Grant(gpus=()))["CUDA_VISIBLE_DEVICES"] == ""
