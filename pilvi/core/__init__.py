"""The words everybody shares. Standard library only; imports nothing else of pilvi."""
