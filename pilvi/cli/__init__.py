"""Starts the server; every other command is a client of it."""
