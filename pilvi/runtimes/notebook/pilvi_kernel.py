"""A kernel of an environment that has no Jupyter: its packages come first, Jupyter's stand behind them (sitecustomize.py)."""

from __future__ import annotations

from ipykernel.kernelapp import launch_new_instance

if __name__ == "__main__":
    launch_new_instance()
