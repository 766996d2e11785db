"""Every interpreter of a job starts here. One kind is led elsewhere: the SDK's MPI driver (v3), which would talk to SSH servers.

python .../distributed_drivers/mpi_driver.py  -->  python -m pilvi_mpi driver
"""

import os
import sys

if "SM_DISTRIBUTED_CONFIG" in os.environ and sys.orig_argv[-1].endswith("distributed_drivers/mpi_driver.py"):
    print("The hosts' MPI launch needs no SSH here: pilvi_mpi carries it out.", flush=True)
    os.execv(sys.executable, [sys.executable, "-m", "pilvi_mpi", "driver"])
