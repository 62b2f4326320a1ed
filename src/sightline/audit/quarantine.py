"""A description beside the data that leaves out the images an audit found fault with."""

import json
from collections import defaultdict
from pathlib import Path, PurePosixPath

from sightline.audit.result import AuditResult
from sightline.audit.scan.one_pass import OF_THE_CAMERA
from sightline.core.dataset import Dataset
from sightline.core.errors import ConfigError, unknown_name
from sightline.core.files import write_text_atomic
from sightline.core.findings import SEVERITIES, Finding, Severity
from sightline.data import absolute, images_of_findings, path_from
from sightline.media import IMAGE_SUFFIXES

__all__ = ["quarantined_images", "write_quarantine"]

_HEAD = """# Images with findings of severity {severity} or above, each with their codes: readers leave them out.
# Give this file wherever a data set is wanted; take a line out to let an image back in.
"""


def write_quarantine(
    dataset: Dataset,
    result: AuditResult,
    file: str | Path,
    severity: Severity = "error",
    *,
    data: str | Path | None = None,
) -> int:
    """Write a description that leaves out every image concerned by a finding of `severity` or above.

    Returns how many images that are. What concerns no single image cannot be left out so; the file lists it in its
    head, and `quarantined_images` gives it. `data` is what the description builds on: the path the data set was read
    from (give it for one that is itself described), by default its root. `exclude` is empty where there is nothing to
    leave out. ConfigError for another severity, or a file that would replace `data`.
    """
    if severity not in SEVERITIES:
        raise ConfigError(unknown_name("severity", severity, SEVERITIES))
    target = absolute(Path(file))
    if data is not None and absolute(Path(data)) == target:
        raise ConfigError("the quarantine must not replace the description it builds on", where=str(file))
    out, general = quarantined_images(dataset, result.at_least(severity))
    base = absolute(Path(data)) if data is not None else absolute(dataset.root)
    lines = [_HEAD.format(severity=severity)]
    lines += [f"# not about one image, and still there: {_one_line(f.code, f.message, f.count)}\n" for f in general]
    lines.append(f"path: {json.dumps(path_from(target, base))}\n")
    if data is None:
        lines.append(f"format: {dataset.format}\n")
    lines.append("exclude:\n" if out else "exclude: []\n")
    # JSON strings are YAML: nothing in a name can end the line or begin a comment.
    lines += [f"- {json.dumps(path, ensure_ascii=True)}  # {', '.join(codes)}\n" for path, codes in out.items()]
    write_text_atomic(target, "".join(lines))
    return len(out)


def quarantined_images(
    dataset: Dataset, findings: tuple[Finding, ...]
) -> tuple[dict[str, list[str]], tuple[Finding, ...]]:
    """Path → codes of each image the findings are about, by path; and the findings that are about no single image.

    An image or mask the reader could not take in is in no table; it is named by its own path.
    """
    path_of = dict(dataset.images.select("image_id", "path").iter_rows())
    codes: dict[str, set[str]] = defaultdict(set)
    general = []
    for f, image_id in zip(findings, images_of_findings(findings, dataset.images), strict=True):
        left_out = f.path is not None and f.count == 1 and PurePosixPath(f.path).suffix.lower() in IMAGE_SUFFIXES
        if f.code in OF_THE_CAMERA and f.count > 1:  # said once of the images it names
            for path in f.facts["images"]:
                codes[path].add(f.code)
        elif image_id is not None:
            codes[path_of[image_id]].add(f.code)
        elif left_out and f.path is not None:
            codes[f.path].add(f.code)
        else:
            general.append(f)
    return {path: sorted(codes[path]) for path in sorted(codes)}, tuple(general)


def _one_line(code: str, message: str, count: int) -> str:
    return " ".join(f"{code} ({count}): {message}".split())
