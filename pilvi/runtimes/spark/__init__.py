"""Programs of ours beside a Spark script. The folder is shown to the job as /opt/pilvi; see README.md."""
