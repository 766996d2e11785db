"""smdistributed.dataparallel: gradients averaged over all ranks, by PyTorch's own backends (gloo, or nccl on GPUs)."""
