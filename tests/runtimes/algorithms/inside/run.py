"""Runs every check_... function of a file, each in a folder of its own; prints function -> '' or its traceback as JSON."""

import importlib.util
import inspect
import json
import os
import sys
import tempfile
import traceback
import warnings
from pathlib import Path


def main(path: str) -> None:
    warnings.simplefilter("error")
    sys.path.insert(0, str(Path(path).parent))
    spec = importlib.util.spec_from_file_location("checks", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    outcomes = {}
    for name, function in inspect.getmembers(module, inspect.isfunction):
        if name.startswith("check_"):
            with tempfile.TemporaryDirectory() as folder:
                try:
                    os.chdir(folder)
                    function(Path(folder))
                    outcomes[name] = ""
                except BaseException:  # noqa: BLE001 - it is told
                    outcomes[name] = traceback.format_exc()
                finally:
                    os.chdir("/")
    print()
    print(json.dumps(outcomes))


if __name__ == "__main__":
    main(sys.argv[1])
