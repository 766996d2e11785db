"""Make jars/pilvi-s3.jar from java/: `python build_jar.py PYSPARK_JARS_FOLDER`. Needs javac 17 or newer.

The same sources and the same compiler make the same bytes: no dates, no debug information, entries in order. The jar carries the
digest of its sources, so that a test can tell when it must be made again.
"""

from __future__ import annotations

import hashlib
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

HERE = Path(__file__).parent
JAR = HERE / "jars" / "pilvi-s3.jar"
DIGEST = "META-INF/sources.sha256"
_DATE = (1980, 1, 1, 0, 0, 0)


def sources() -> list[Path]:
    return sorted((HERE / "java").rglob("*.java"))


def sources_digest() -> str:
    """One number for all sources, by name and content."""
    total = hashlib.sha256()
    for path in sources():
        total.update(f"{path.relative_to(HERE).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}\n".encode())
    return total.hexdigest()


def digest_in(jar: Path) -> str:
    """The digest of the sources that a jar was made from."""
    with zipfile.ZipFile(jar) as archive:
        return archive.read(DIGEST).decode().strip()


def build(jars: Path, target: Path = JAR) -> None:
    """Compile against Spark's own Hadoop client and pack."""
    hadoop = next(jars.glob("hadoop-client-api-*.jar"))
    with tempfile.TemporaryDirectory() as folder:
        command = ["javac", "--release", "17", "-g:none", "-Xlint:all", "-Werror", "-cp", str(hadoop), "-d", folder]
        subprocess.run([*command, *map(str, sources())], check=True)
        classes = {path.relative_to(folder).as_posix(): path.read_bytes() for path in Path(folder).rglob("*.class")}
    entries = {
        "META-INF/MANIFEST.MF": b"Manifest-Version: 1.0\r\n\r\n",
        DIGEST: f"{sources_digest()}\n".encode(),
        **dict(sorted(classes.items())),
    }
    target.parent.mkdir(exist_ok=True)
    with zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in entries.items():
            info = zipfile.ZipInfo(name, _DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.external_attr = 0o644 << 16
            archive.writestr(info, data)


if __name__ == "__main__":
    build(Path(sys.argv[1]))
