"""smspark-submit by itself: its options, its settings, and that the jar is made of the sources beside it."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import pilvi.runtimes.spark
from pilvi.runtimes.spark import build_jar

FOLDER = Path(pilvi.runtimes.spark.__file__).parent


@pytest.fixture(autouse=True)
def as_in_a_job(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The package is imported as programs in a job do, from /opt/pilvi."""
    monkeypatch.syspath_prepend(str(FOLDER))
    yield
    for name in [name for name in sys.modules if name.startswith("pilvi_spark")]:
        del sys.modules[name]


def submit() -> ModuleType:
    return importlib.import_module("pilvi_spark.submit")


def settings(configuration: Any, hosts: int = 1) -> Any:
    return importlib.import_module("pilvi_spark.settings").settings(configuration, hosts, 10000, 2)


def test_the_jar_is_made_of_these_sources() -> None:
    assert build_jar.digest_in(build_jar.JAR) == build_jar.sources_digest(), "run pilvi/runtimes/spark/build_jar.py"


def test_programs_can_be_executed() -> None:
    assert all((FOLDER / name).stat().st_mode & 0o111 for name in ("bin/smspark-submit", "home/bin/java"))


def test_settings_use_what_the_host_may_use() -> None:
    assert settings(None).spark == {"spark.master": "local[2]", "spark.driver.memory": "6000m"}
    several = settings(None, hosts=2).spark
    assert (several["spark.driver.memory"], several["spark.executor.memory"], several["spark.executor.cores"]) == (
        "3000m",
        "3000m",
        "2",
    )


def test_settings_take_the_classifications_of_configuration_json() -> None:
    configuration = [
        {"Classification": "spark-defaults", "Properties": {"spark.driver.memory": "1g", "spark.x": 3}},
        {"Classification": "core-site", "Properties": {"fs.s3a.endpoint.region": "eu-west-1"}},
        {"Classification": "spark-env", "Configurations": [{"Classification": "export", "Properties": {"A": "b"}}]},
        {"Classification": "yarn-site", "Properties": {"yarn.x": "1"}},
    ]
    found = settings(configuration)
    assert found.spark["spark.driver.memory"] == "1g"
    assert found.spark["spark.x"] == "3"
    assert found.spark["spark.hadoop.fs.s3a.endpoint.region"] == "eu-west-1"
    assert found.environment == {"A": "b"}
    assert [note.split()[2] for note in found.notes] == ["yarn-site"]
    assert settings(configuration[0]).spark["spark.x"] == "3", "one classification need not stand in a list"


def test_command_replaces_folders_by_their_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = submit()
    monkeypatch.setattr(module, "submit_program", lambda: "spark-submit")
    for name in ("b.py", "a.zip", "note.txt"):
        (tmp_path / name).touch()
    line = [
        "--py-files",
        f"{tmp_path},s3://b/c.py",
        "--local-spark-event-logs-dir",
        str(tmp_path / "events"),
        "app.py",
        "--jars",
        "x",
    ]
    options, found = module.parser().parse_args(line), settings(None)
    module.prepare(options, found)
    made = module.command(options, found)
    assert made[made.index("--py-files") + 1] == f"{tmp_path}/a.zip,{tmp_path}/b.py,s3://b/c.py"
    assert made[-3:] == ["app.py", "--jars", "x"], "what follows the application is its own"
    assert f"spark.eventLog.dir=file://{tmp_path}/events" in made
    assert (tmp_path / "events").is_dir()


def test_packages_are_refused() -> None:
    module = submit()
    with pytest.raises(SystemExit, match="would download"):
        module.prepare(module.parser().parse_args(["--packages", "a:b:1", "app.py"]), settings(None))


def test_hosts_stand_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    path = tmp_path / "resourceconfig.json"
    path.write_text(json.dumps({"current_host": "algo-2", "hosts": ["algo-10", "algo-2", "algo-1"]}))
    assert submit().hosts_in(path) == ("algo-2", ["algo-1", "algo-2", "algo-10"])
    assert submit().hosts_in(tmp_path / "none") == ("algo-1", ["algo-1"])


def test_a_cluster_of_several_hosts_wants_the_jobs_secret(monkeypatch: pytest.MonkeyPatch) -> None:
    cluster = importlib.import_module("pilvi_spark.cluster")
    monkeypatch.setattr(cluster, "PRESENCE_PORT", 0)
    keys = {"AWS_SECRET_ACCESS_KEY": "of-this-job"}
    head = cluster.Head("localhost", ["localhost", "other"], 1024, keys)
    head.__exit__(None, None, None)
    assert head.settings["spark.authenticate"] == "true"
    assert head.settings["spark.authenticate.secret"] == cluster.secret(keys)
    assert cluster.secret(keys) != cluster.secret({"AWS_SECRET_ACCESS_KEY": "of-another"})
    daemon = cluster._daemon(keys)
    assert daemon["_SPARK_AUTH_SECRET"] == cluster.secret(keys)
    assert all("-Dspark.authenticate=true" in daemon[f"SPARK_{who}_OPTS"] for who in ("MASTER", "WORKER"))
