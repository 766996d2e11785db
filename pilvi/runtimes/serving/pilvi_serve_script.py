"""A customer's inference script, as the framework containers call it.

    model_fn(model_dir)                      the model
    input_fn(body, content_type)             what predict_fn gets
    predict_fn(data, model)                  a prediction
    output_fn(prediction, accept)            the body, or (body, content type)
    transform_fn(model, body, content_type, accept)      instead of the last three

Each may take one more argument, the context. What a script leaves out, its framework's default does. An output that is an iterator goes out
piece by piece.

Source: SageMaker Python SDK, "Deploy a Scikit-learn Model", "Deploy PyTorch Models", "Deploy Open Source XGBoost Models".
"""

from __future__ import annotations

import importlib.util
import inspect
import json
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

from pilvi_serve_worker import Refused, Reply

MODEL = Path(os.environ.get("PILVI_MODEL_DIR") or "/opt/ml/model")
CODE = Path(os.environ.get("PILVI_CODE_DIR") or "/opt/ml/code")
_FUNCTIONS = ("model_fn", "input_fn", "predict_fn", "output_fn", "transform_fn")


def load(_arguments: list[str]) -> Script:
    return script_for(MODEL)


def script_for(model: Path) -> Script:
    """The script of a model's folder, or of the container, with its model loaded."""
    folder, name = find_program(CODE, model)
    framework = _framework()
    module: Any = SimpleNamespace()
    if name:
        _install(folder, name)
        sys.path.insert(0, str(folder))
        module = _imported(folder / name)
    given = {name: getattr(module, name) for name in _FUNCTIONS if callable(getattr(module, name, None))}
    if "transform_fn" in given and len(given.keys() & {"input_fn", "predict_fn", "output_fn"}):
        raise ValueError(
            "Cannot use transform_fn implementation in conjunction with input_fn, predict_fn, and/or output_fn implementation"
        )
    return Script(given, framework, model)


class Script:
    def __init__(self, given: dict[str, Callable[..., Any]], framework: ModuleType, model: Path) -> None:
        self._context = SimpleNamespace(
            system_properties={"model_dir": str(model)}, manifest={}, request_processor=None, get_request_header=lambda *_: None
        )
        self._given = given
        self._framework = framework
        self._accept = str(
            os.environ.get("SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT") or getattr(framework, "ACCEPT", "application/json")
        )
        self._more = {name: _takes(function, _NUMBERS[name]) for name, function in given.items()}
        self._model = self._called("model_fn", str(model))

    def answer(self, path: str, headers: dict[str, str], body: bytes) -> Reply:
        if path != "POST /invocations":
            raise Refused(404, f"There is nothing at {path.partition(' ')[2]}.")
        content_type = headers.get("content-type") or "application/json"
        accept = headers.get("accept") or self._accept
        if "*/*" in accept:
            accept = self._accept
        self._context.headers = headers
        read: Any = body.decode() if self._is_text(content_type) else body
        if "transform_fn" in self._given:
            out = self._called("transform_fn", self._model, read, content_type, accept)
        else:
            data = self._called("input_fn", read, content_type)
            out = self._called("output_fn", self._called("predict_fn", data, self._model), accept)
        return _reply(out, accept)

    def _called(self, name: str, *arguments: Any) -> Any:
        function = self._given.get(name)
        if function is None:
            return getattr(self._framework, name)(*arguments)
        return function(*arguments, self._context) if self._more[name] else function(*arguments)

    @staticmethod
    def _is_text(content_type: str) -> bool:
        kind = content_type.partition(";")[0].strip().lower()
        return kind.startswith("text/") or kind in ("application/json", "application/jsonlines", "application/xml")


_NUMBERS = {"model_fn": 1, "input_fn": 2, "predict_fn": 2, "output_fn": 2, "transform_fn": 4}


def _takes(function: Callable[..., Any], number: int) -> bool:
    """Whether a function takes the context, too."""
    try:
        parameters = list(inspect.signature(function).parameters.values())
    except (TypeError, ValueError):
        return False
    places = [one for one in parameters if one.kind in (one.POSITIONAL_ONLY, one.POSITIONAL_OR_KEYWORD)]
    return len(places) > number and (places[number].default is inspect.Parameter.empty or places[number].name == "context")


def _reply(out: Any, accept: str) -> Reply:
    content_type = accept.partition(",")[0].strip()
    if isinstance(out, tuple) and len(out) == 2 and isinstance(out[1], str):
        out, content_type = out
    if hasattr(out, "get_data") and hasattr(out, "mimetype"):  # a response of Flask's or Werkzeug's
        return Reply(out.get_data(), out.mimetype, out.status_code)
    if hasattr(out, "response") and hasattr(out, "mimetype"):  # sagemaker_containers.worker.Response
        out, content_type = out.response, out.mimetype
    if isinstance(out, Iterator):
        return Reply((_bytes(piece) for piece in out), content_type)
    return Reply(_bytes(out), content_type)


def _bytes(value: Any) -> bytes:
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    if isinstance(value, str):
        return value.encode()
    if hasattr(value, "getvalue"):
        return _bytes(value.getvalue())
    if isinstance(value, (dict, list, int, float, bool)) or value is None:
        return json.dumps(value).encode()
    raise TypeError(f"output_fn gave a {type(value).__name__}: a response is bytes or a text.")


# -- the program ----------------------------------------------------------------------------------------------------------


def find_program(code: Path, model: Path) -> tuple[Path, str]:
    """The folder and the name of the script: what SAGEMAKER_PROGRAM names, else inference.py in the model's code; '' for none."""
    named = os.environ.get("SAGEMAKER_PROGRAM", "").strip('"')
    folders = [folder for folder in (code, model / "code", model) if folder.is_dir() and any(folder.iterdir())]
    for name in [named] if named else ["inference.py"]:
        for folder in folders:
            if (folder / name).is_file():
                return folder, name
            if (folder / f"{name}.py").is_file():
                return folder, f"{name}.py"
    if named:
        found = ", ".join(sorted({entry.name for folder in folders for entry in folder.iterdir()})[:20])
        raise FileNotFoundError(
            f"The script {named} (SAGEMAKER_PROGRAM) is not in the model's code, which has: {found or 'nothing'}."
        )
    return model, ""


def _install(folder: Path, program: str) -> None:
    """Packages of the code's own lib folder, and what its requirements.txt asks for."""
    if (folder / "lib").is_dir():
        sys.path.insert(0, str(folder / "lib"))
    if not (folder / "requirements.txt").is_file():
        return
    import fcntl

    import pilvi_requirements

    with open("/tmp/packages/.lock" if os.path.isdir("/tmp/packages") else os.devnull, "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        here = os.getcwd()
        os.chdir(folder)
        pilvi_requirements.install(program, folder)
        os.chdir(here)
    importlib.invalidate_caches()


def _imported(path: Path) -> ModuleType:
    """The script as a module of its own name, so that what it pickled is found again."""
    name = path.stem
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module
    spec.loader.exec_module(module)
    return module


def _framework() -> ModuleType:
    """The defaults of the image's framework."""
    return importlib.import_module(f"pilvi_serve_{os.environ.get('PILVI_SERVING_FRAMEWORK') or 'plain'}")
