"""Everything that takes time: specification, states, queue, runner, logs."""

from pilvi.jobs.runner import Jobs
from pilvi.jobs.spec import Input, JobSpec, Member, Output, Resources
from pilvi.jobs.states import LIVE, TERMINAL, Status

__all__ = ["LIVE", "TERMINAL", "Input", "JobSpec", "Jobs", "Member", "Output", "Resources", "Status"]
