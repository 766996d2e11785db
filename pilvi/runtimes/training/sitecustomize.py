"""Every interpreter of a job starts here. Some are helped: ranks that end without leaving their group, and the launchers of the
SDK's third major, which take a machine for themselves.

.../distributed_drivers/mpi_driver.py       talks to SSH servers    -->  python -m pilvi_mpi driver
.../distributed_drivers/torchrun_driver.py  takes the port 7777     -->  a port of the job's own
"""

import os
import sys

if "SM_DISTRIBUTED_CONFIG" in os.environ:
    if sys.orig_argv[-1].endswith("distributed_drivers/mpi_driver.py"):
        print("The hosts' MPI launch needs no SSH here: pilvi_mpi carries it out.", flush=True)
        os.execv(sys.executable, [sys.executable, "-m", "pilvi_mpi", "driver"])
    if sys.orig_argv[-1].endswith("distributed_drivers/torchrun_driver.py"):
        from pilvi_launch import master_port

        os.environ["SM_MASTER_PORT"] = str(master_port())

if "RANK" in os.environ and "WORLD_SIZE" in os.environ:
    import atexit

    def leave() -> None:
        """Destroy the process group that a script left open: PyTorch's threads would now and then abort the interpreter's end."""
        dist = sys.modules.get("torch.distributed")
        if dist is not None and dist.is_available() and dist.is_initialized() and not hasattr(sys, "last_value"):
            dist.destroy_process_group()

    atexit.register(leave)
