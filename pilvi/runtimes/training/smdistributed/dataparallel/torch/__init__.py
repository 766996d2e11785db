"""Both generations: `torch_smddp` (a backend for torch.distributed) and `distributed` with `parallel.distributed` (their own names)."""
