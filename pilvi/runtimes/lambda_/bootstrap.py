"""The program of a Lambda worker: AWS's own runtime interface client, told where this server answers.

    bootstrap.py HANDLER          (in the lambda-python environment, with AWS_LAMBDA_RUNTIME_API set)

What it adds to awslambdaric: the import path of /var/task and /opt; a runtime API that lies below a path; marks in the output
where an invocation starts and ends, so that the server can tell whose lines are whose; and messages of several lines kept as one.
Imports nothing of pilvi.
"""

import os
import sys

MARK = b"\x04"
FRAME = "\x1e"


def import_path(task_root, opt, versions, is_dir=os.path.isdir):
    """Where a handler's imports are looked for first: its own code, then what the layers brought.

    versions: the interpreter's, and the one the function was made for: layers carry folders named after it.
    Source: Lambda developer guide, "Working with layers for Python".
    """
    layers = [f"{opt}/python/lib/python{version}/site-packages" for version in dict.fromkeys(versions)] + [f"{opt}/python"]
    return [task_root, *(path for path in layers if opt and is_dir(path))]


def uncompiled(roots, limit=3000):
    """Source files below the roots that were imported without a compiled form beside them."""
    found = []
    for module in list(sys.modules.values()):
        path, cached = getattr(module, "__file__", None), getattr(module, "__cached__", None)
        is_ours = isinstance(path, str) and isinstance(cached, str) and path.endswith(".py") and path.startswith(roots)
        if is_ours and not os.path.exists(str(cached)):
            found.append(path)
    return found[:limit]


def main(handler):
    from awslambdaric import bootstrap
    from awslambdaric.lambda_runtime_client import LambdaRuntimeClient

    stdout = sys.stdout
    wants_modules = os.environ.pop("PILVI_LAMBDA_MODULES", "") == "1"

    class Client(LambdaRuntimeClient):
        def call_rapid(self, http_method, endpoint, expected_http_code, payload=None, headers=None):
            import http.client

            from awslambdaric.lambda_runtime_marshaller import to_json

            host, _, prefix = self.lambda_runtime_address.partition("/")
            connection = http.client.HTTPConnection(host)
            body = None if http_method == "GET" else to_json(payload)
            connection.request(http_method, f"/{prefix}{endpoint}", body, headers or {})
            response = connection.getresponse()
            response.read()
            if response.status != expected_http_code:
                raise RuntimeError(f"the runtime API answered {response.status} to {endpoint}")

        def wait_next_invocation(self):
            nonlocal wants_modules
            if wants_modules:
                wants_modules = False
                tell_modules()
            request = super().wait_next_invocation()
            mark("S", request.invoke_id)
            return request

        def post_invocation_result(self, invoke_id, *args, **kwargs):
            mark("E", invoke_id)
            super().post_invocation_result(invoke_id, *args, **kwargs)

        def post_invocation_error(self, invoke_id, *args, **kwargs):
            mark("E", invoke_id)
            super().post_invocation_error(invoke_id, *args, **kwargs)

    class Sink(bootstrap.StandardLogSink):
        def log(self, msg, frame_type=None):  # noqa: ARG002 - awslambdaric names it
            self.log_error(msg.rstrip("\n").split("\n"))

        def log_error(self, message_lines):
            lines = [line for text in message_lines for line in text.split("\n")]
            sys.stdout.write(FRAME + "\r".join(lines) + "\n" if len(lines) > 1 else lines[0] + "\n")

    def mark(kind, invoke_id):
        try:
            stdout.flush()
            os.write(1, MARK + f"{kind} {invoke_id}\n".encode())
        except (OSError, ValueError):
            pass  # the handler closed its output: its own loss

    def tell_modules():
        names = "\x1f".join(uncompiled(tuple(f"{path}/" for path in (task_root, opt) if path)))
        if names and len(names) < 200_000:
            os.write(1, MARK + f"M {names}\n".encode(errors="surrogateescape"))

    bootstrap.create_log_sink = Sink
    versions = [f"{sys.version_info.major}.{sys.version_info.minor}"]
    versions.append(os.environ.get("AWS_EXECUTION_ENV", "").removeprefix("AWS_Lambda_python") or versions[0])
    task_root, opt = os.environ["LAMBDA_TASK_ROOT"], os.environ.pop("PILVI_LAMBDA_OPT", "")
    sys.path[:0] = import_path(task_root, opt, versions)
    bootstrap.run(handler, Client(os.environ["AWS_LAMBDA_RUNTIME_API"], False))


if __name__ == "__main__":
    main(sys.argv[1])
