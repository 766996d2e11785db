"""Everything that takes time: specification, states, queue, runner, logs."""
