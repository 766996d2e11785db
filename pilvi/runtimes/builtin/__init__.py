"""What built-in algorithm jobs see at /opt/pilvi: the package `pilvi_algorithms`."""
