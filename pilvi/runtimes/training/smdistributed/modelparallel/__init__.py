"""smdistributed.modelparallel: one model over several processes."""
