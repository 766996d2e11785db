"""Programs of ours beside a customer's training script. The folder is shown to the job as /opt/pilvi."""
