"""A training job in a folder, run in this process, and small data."""

import contextlib
import importlib
import io
import json
from pathlib import Path

import numpy as np
from pilvi_algorithms import main
from pilvi_algorithms.kit import RequestError, recordio

HP = dict[str, object]


class Job:
    def __init__(
        self, root: Path, repository: str, hyperparameters: HP, channels: dict[str, tuple[object, str]], **config: object
    ) -> None:
        """channels: name -> (bytes or list of bytes, content type)."""
        self.root, self.repository = root, repository
        self.write("hyperparameters", {name: str(value) for name, value in hyperparameters.items()})
        self.write("resourceconfig", {"current_host": "algo-1", "hosts": ["algo-1"], **config.pop("resource", {})})
        described = {}
        for name, (data, content_type) in channels.items():
            folder = root / "input/data" / name
            folder.mkdir(parents=True, exist_ok=True)
            for number, part in enumerate(data if isinstance(data, list) else [data]):
                (folder / f"part-{number}").write_bytes(part)
            described[name] = {"TrainingInputMode": "File", "S3DistributionType": "FullyReplicated", "RecordWrapperType": "None"}
            described[name] |= {"ContentType": content_type} if content_type else {}
            described[name] |= config.get(name, {})
        self.write("inputdataconfig", described)

    def write(self, name: str, content: object) -> None:
        path = self.root / "input/config" / f"{name}.json"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))

    def run(self) -> "Job":
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            self.code = main.train(self.repository, self.root)
        self.log = out.getvalue()
        return self

    def trained(self) -> "Job":
        self.run()
        assert self.code == 0, self.log
        return self

    @property
    def failure(self) -> str:
        """Of a job that must fail on what the user can mend."""
        assert self.run().code == 2, self.log
        return (self.root / "output/failure").read_text()

    @property
    def module(self):
        return importlib.import_module(f"pilvi_algorithms.{self.repository.removeprefix('sagemaker-').replace('-', '_')}")

    def model(self):
        return self.module.load(self.root / "model")

    def predict(self, body: bytes, content_type: str = "text/csv", accept: str = "application/json"):
        answer, kind = self.module.predict(self.model(), body, content_type, accept)
        return json.loads(answer) if kind == "application/json" else answer

    def value(self, line: str) -> float:
        """The last number told after these words."""
        return float(next(one for one in reversed(self.log.splitlines()) if line in one).rpartition("=")[2])


def refused(job: Job, body: bytes, content_type: str = "text/csv") -> RequestError:
    """Why a request is not answered."""
    try:
        job.predict(body, content_type)
    except RequestError as error:
        return error
    raise AssertionError("it was answered")


def csv(features, labels=None) -> bytes:
    table = np.asarray(features, float) if labels is None else np.column_stack([labels, features])
    out = io.StringIO()
    np.savetxt(out, table, delimiter=",", fmt="%.9g")
    return out.getvalue().encode()


def records(features, labels=None) -> bytes:
    rows = np.asarray(features, np.float32)
    return recordio.write(
        recordio.Record({"values": recordio.Tensor(row)}, {} if labels is None else {"values": np.float32([labels[number]])})
        for number, row in enumerate(rows)
    )


def halves(bunch):
    """(train features, train labels, test features, test labels) of one of scikit-learn's data sets."""
    order = np.random.default_rng(0).permutation(len(bunch.target))
    train, test = order[: len(order) * 3 // 4], order[len(order) * 3 // 4 :]
    return bunch.data[train], bunch.target[train], bunch.data[test], bunch.target[test]
