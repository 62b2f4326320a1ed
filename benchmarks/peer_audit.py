"""One peer's pass over a folder of images, run by the peers' own interpreter; prints seconds and versions as JSON.

Imports are not timed. Run: .venv-peers/bin/python benchmarks/peer_audit.py PEER FOLDER WORKERS
"""

import contextlib
import io
import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path


def cleanvision(folder: Path, workers: int) -> Callable[[], object]:
    from cleanvision import Imagelab

    def work() -> object:
        lab = Imagelab(data_path=str(folder / "images"))
        lab.find_issues(n_jobs=workers, verbose=False)
        return len(lab.issues)

    return work


def libreyolo(folder: Path, workers: int) -> Callable[[], object]:
    from libreyolo.doctor import diagnose
    from libreyolo.doctor.config import DoctorConfig

    return lambda: diagnose(str(folder / "data.yaml"), config=DoctorConfig(workers=workers), progress=False)


def imagededup(folder: Path, workers: int) -> Callable[[], object]:
    from imagededup.methods import PHash

    return lambda: PHash(verbose=False).encode_images(str(folder / "images" / "train"), num_enc_workers=workers)


def imagehash(folder: Path, _workers: int) -> Callable[[], object]:
    import imagehash as library
    from PIL import Image

    def work() -> object:
        hashes = []
        for file in sorted((folder / "images").rglob("*.jpg")):
            with Image.open(file) as image:
                hashes.append(library.phash(image))
        return len(hashes)

    return work


PEERS = {"cleanvision": cleanvision, "libreyolo": libreyolo, "imagededup": imagededup, "imagehash": imagehash}


def main() -> None:
    name, folder, workers = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3])
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        work = PEERS[name](folder, workers)
        start = time.perf_counter()
        work()
        seconds = time.perf_counter() - start
    package = "ImageHash" if name == "imagehash" else name
    print(json.dumps({"seconds": seconds, "version": version(package)}))


if __name__ == "__main__":
    main()
