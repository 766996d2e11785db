"""Compiles modules of unpacked packages beside their source, so that the next worker that imports them starts faster.

    precompile.py LISTING          (one path a line; runs apart, before anybody's code has touched the files, and runs none of it)

Imports nothing of pilvi.
"""

import os
import py_compile
import sys


def main(listing):
    os.nice(10)
    with open(listing, encoding="utf-8", errors="surrogateescape") as lines:
        for line in lines:
            try:
                py_compile.compile(line.rstrip("\n"), doraise=True, invalidation_mode=py_compile.PycInvalidationMode.TIMESTAMP)
            except (OSError, ValueError, SyntaxError, py_compile.PyCompileError):
                continue  # what does not compile is imported, or fails, as ever


if __name__ == "__main__":
    main(sys.argv[1])
