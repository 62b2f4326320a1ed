"""`sightline doctor`."""

import importlib
import os
import platform
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import av
import numba

import sightline
import sightline.audit
import sightline.data
import sightline.synth.faults
from sightline.cli.console import JsonFlag, emit_json, note, show_table
from sightline.core.errors import ConfigError
from sightline.core.kernels import cache_folder
from sightline.core.plugins import find_installed, list_plugins, load_installed
from sightline.core.runs import hardware, package_versions

__all__ = ["doctor"]

_REGISTRIES = [
    ("sightline.data", "FORMATS"),
    ("sightline.track", "TRACKERS"),
    ("sightline.evaluate", "METRICS"),
    ("sightline.infer", "SINKS"),
]
_CODECS = {"h264": "libx264", "av1": "libsvtav1", "vp9": "libvpx-vp9", "mpeg4": "mpeg4"}
_FAULTS_TO_FIND = ("label-unknown-image", "image-near-duplicate", "mask-empty")
"""Faults of COCO, YOLO and masks that between them call every kernel of a usual audit."""
_PACKAGES = ("numpy", "polars", "numba", "opencv-python-headless", "av", "hotcoco", "onnxruntime", "supervision")


@dataclass(frozen=True)
class Check:
    """One thing looked at: what was found, whether it is well, and what to do if not."""

    name: str
    found: str
    ok: bool
    do: str = ""


def doctor(*, compile: bool = False, json: JsonFlag = False) -> int:  # noqa: A002 - the word on the command line
    """Check the environment; exit code 1 when something needed is broken.

    Parameters
    ----------
    compile
        First compile what an audit needs, half a minute's work that otherwise the first audit does.
    """
    if compile:
        _compile()
    checks = [_python(), *_packages(), _opencv_builds(), _torch(), _processor(), _threads(), _codecs(), _kernel_cache()]
    checks += _plugins()
    well = all(check.ok for check in checks)
    if json:
        emit_json({"ok": well, "checks": checks, "hardware": hardware()})
    else:
        rows = [(c.name, c.found, "ok" if c.ok else "broken", c.do) for c in checks]
        show_table("", ("check", "found", "state", "what to do"), rows)
    return 0 if well else 1


def _compile() -> None:
    """Audit small generated sets with a fault in them, which leaves the kernels where they are found again."""
    for code in _FAULTS_TO_FIND:
        with tempfile.TemporaryDirectory() as folder:
            data = Path(folder) / "data"
            sightline.synth.faults.plant_faults(code, data)
            sightline.audit.audit_dataset(sightline.data.read_dataset(data), workers=1)
        note(f"kernels compiled with {code}")


def _python() -> Check:
    return Check(
        "python",
        f"{platform.python_version()} on {platform.system()} {platform.machine()}",
        sys.version_info >= (3, 11),
    )


def _packages() -> list[Check]:
    versions = package_versions(_PACKAGES)
    return [
        Check(name, version or "not installed", version is not None, "" if version else f"pip install {name}")
        for name, version in versions.items()
    ]


def _opencv_builds() -> Check:
    versions = package_versions(("opencv-python", "opencv-python-headless", "opencv-contrib-python"))
    builds = [name for name, version in versions.items() if version is not None]
    try:
        importlib.import_module("cv2")
    except ImportError as error:
        return Check(
            "cv2", f"does not load ({error})", False, "pip install --force-reinstall --no-deps opencv-python-headless"
        )
    note = (
        "several builds share one folder; if cv2 misbehaves keep only opencv-python-headless" if len(builds) > 1 else ""
    )
    return Check("cv2", ", ".join(builds), True, note)


def _torch() -> Check:
    version = package_versions(("torch",))["torch"]
    if version is None:
        return Check("torch", "not installed", True, "only needed to train and export: pip install 'sightline[train]'")
    try:
        torch = importlib.import_module("torch")
        torch.zeros(1) + 1
    except (ImportError, OSError, RuntimeError) as error:  # an OSError where a library it is built against is missing
        lines = str(error).splitlines() or [type(error).__name__]
        return Check("torch", f"torch {version}: {lines[0]}", False, f"pip install --force-reinstall torch=={version}")
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no CUDA device"
    return Check("torch", f"torch {version}, {device}", True)


def _processor() -> Check:
    info = Path("/proc/cpuinfo")
    flags = set(info.read_text().split()) if info.exists() else set()
    wanted = ("avx2", "avx512f", "avx512_bf16", "amx_bf16", "amx_int8")
    there = [flag for flag in wanted if flag in flags]
    facts = hardware()
    return Check(
        "processor", f"{facts['cpu']}, {facts['memory_gib']} GiB; {', '.join(there) or 'no known vector flags'}", True
    )


def _threads() -> Check:
    cores = hardware()["cores"] or 1
    asked = os.environ.get("OMP_NUM_THREADS")
    more = asked is not None and asked.isdigit() and int(asked) > cores
    found = f"{cores} cores usable, OMP_NUM_THREADS={asked or 'unset'}, numba {numba.get_num_threads()}"
    return Check("threads", found, True, f"OMP_NUM_THREADS above {cores} slows everything down" if more else "")


def _codecs() -> Check:
    there = [name for name, codec in _CODECS.items() if codec in av.codecs_available]
    missing = sorted(set(_CODECS) - set(there))
    return Check(
        "video codecs",
        f"PyAV {av.__version__}: {', '.join(there)}",
        "h264" in there,
        f"not in this build: {', '.join(missing)}" if missing else "",
    )


def _kernel_cache() -> Check:
    folder = cache_folder()
    if folder is None:
        do = "set NUMBA_CACHE_DIR to a folder that can be written"
        return Check("kernel cache", "nowhere: kernels are compiled anew in each run", True, do)
    beside = Path(folder).is_relative_to(Path(sightline.__file__).parent)
    return Check("kernel cache", "beside the package" if beside else folder, True)


def _plugins() -> list[Check]:
    """A row for each plug-in, broken ones too; all of ours are loaded first, so that a name taken twice shows."""
    for package, registry in _REGISTRIES:
        getattr(importlib.import_module(package), registry)
    broken = []
    for entry in find_installed():
        try:
            load_installed(entry)
        except ConfigError as error:
            broken.append(Check(f"plug-in {entry.name}", error.sentence(), False, "mend or uninstall it"))
    sound = [
        Check(f"plug-in {p.name}", f"{p.origin}: {', '.join(' '.join(entry) for entry in p.adds)}", True)
        for p in list_plugins()
    ]
    return [*sound, *broken] or [Check("plug-ins", "none", True)]
