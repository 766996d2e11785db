"""For scripts that import AWS's training toolkit: its `environment` module, and no more."""
