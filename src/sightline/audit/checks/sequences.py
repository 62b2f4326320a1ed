"""Sequences: are identities kept from frame to frame, are all frames there, once, and at even times?"""

from typing import Any

import polars as pl

from sightline.audit.result import AuditOptions
from sightline.audit.scan.one_pass import Scan
from sightline.core.dataset import Dataset
from sightline.core.findings import Finding
from sightline.data import finding

__all__ = ["check_sequences"]

_JUMP_DIAGONALS, _JUMP_SPEEDS = 1.5, 4.0
_BACK_SHARE = 0.25  # of a leap by which, beside two usual steps, the box after it may be off from the one before it
_NUMBERED_SHARE = 0.9  # of the frames in which ids are 1, 2, 3, ... when they number boxes and not objects
_BROKEN_SHARE = 0.3  # of the steps at which boxes of one id do not touch when ids begin anew in every frame
_FEWEST_STEPS = 10
_UNEVEN = 0.05  # share of the median interval by which one may differ


def check_sequences(dataset: Dataset, scan: Scan, _options: AuditOptions) -> list[Finding]:
    """Everything that can be said of groups of numbered frames and of tracks; nothing for other data."""
    frames = dataset.images.drop_nulls("frame").with_columns(pl.col("group").fill_null("")).sort("group", "frame")
    if frames.is_empty():
        return []
    # Of labels without pictures all frames are absent, and nothing is said about single ones.
    present = frames.join(scan.images, on="image_id", how="semi", maintain_order="left")
    found = (
        _missing_frames(frames if present.is_empty() else present)
        + _repeated_frames(frames, scan)
        + _uneven_times(frames)
    )
    boxes = _tracked_boxes(dataset.usable_objects, frames)
    if boxes.is_empty():
        return found
    if not any(f.code == "track-duplicate-id" for f in dataset.findings):
        found += _shared_ids(boxes)
    steps = _steps(boxes.unique(("group", "frame", "track_id"), keep="first", maintain_order=True))
    anew = _ids_anew(_tracked_boxes(dataset.objects, frames), steps)
    steps = steps.filter(~pl.col("group").is_in([f.path for f in anew]))
    return found + anew + _gaps(steps) + _jumps(steps) + _hidden(dataset)


def _missing_frames(frames: pl.DataFrame) -> list[Finding]:
    """Holes in the frame numbers, or in the numbers at the end of the frames' names (counted in their usual step)."""
    named = pl.col("path").str.extract(r"(\d{1,15})\.[^./]*$").cast(pl.Int64, strict=False)
    by_name = pl.when(named.is_not_null().all().over("group")).then(named)
    found = []
    for numbers in (pl.col("frame"), by_name):
        steps = frames.with_columns(number=numbers).drop_nulls("number").sort("group", "number")
        steps = steps.with_columns(
            step=pl.col("number").diff().over("group"), before=pl.col("path").shift().over("group")
        ).filter(pl.col("step") > 0)
        usual = steps.group_by("group").agg(pl.col("step").mode().min().alias("usual"), rows=pl.len())
        holes = steps.join(usual, on="group").filter((pl.col("step") > pl.col("usual")) & (pl.col("rows") > 1))
        holes = holes.group_by("group", maintain_order=True).agg(
            lost=(pl.col("step") // pl.col("usual") - 1).sum(), before=pl.first("before"), path=pl.first("path")
        )
        for row in holes.filter(pl.col("lost") > 0).iter_rows(named=True):
            message = f"{row['lost']} frames are missing, the first between {row['before']} and {row['path']}"
            found.append(finding("sequence-frame-missing", message, path=row["group"], count=row["lost"]))
        if found:
            return found
    return found


def _repeated_frames(frames: pl.DataFrame, scan: Scan) -> list[Finding]:
    """Frames of exactly the bytes of the frame before them."""
    seen = frames.join(scan.images.select("image_id", "sha256"), on="image_id", how="left", maintain_order="left")
    seen = seen.with_columns(
        digest_before=pl.col("sha256").shift().over("group"), before=pl.col("path").shift().over("group")
    ).filter((pl.col("sha256") == pl.col("digest_before")) & (pl.col("path") != pl.col("before")))
    return [
        finding(
            "sequence-frame-duplicate",
            f"the same bytes as {before}, the frame before",
            path=path,
            image_id=key,
            other=before,
        )
        for path, before, key in seen.select("path", "before", "image_id").iter_rows()
    ]


def _uneven_times(frames: pl.DataFrame) -> list[Finding]:
    """Groups whose time per frame is not the same throughout."""
    steps = frames.drop_nulls("time_s").with_columns(
        interval=pl.col("time_s").diff().over("group") / pl.col("frame").diff().over("group"),
        before=pl.col("path").shift().over("group"),
    )
    steps = steps.drop_nulls("interval").with_columns(median=pl.col("interval").median().over("group"))
    uneven = steps.filter((pl.col("interval") - pl.col("median")).abs() > _UNEVEN * pl.col("median"))
    groups = uneven.group_by("group", maintain_order=True).agg(
        pl.len(), pl.first("path", "before", "interval", "median")
    )
    return [
        finding(
            "sequence-time-irregular",
            f"{row['len']} intervals differ by more than {_UNEVEN:.0%} from the usual {row['median'] * 1e3:.4g} ms, "
            f"the first between {row['before']} and {row['path']}: {row['interval'] * 1e3:.4g} ms",
            path=row["group"],
            count=row["len"],
        )
        for row in groups.iter_rows(named=True)
    ]


def _tracked_boxes(objects: pl.DataFrame, frames: pl.DataFrame) -> pl.DataFrame:
    """The boxes with a track id, with their group, frame and image."""
    places = frames.select("image_id", "group", "frame", "path")
    boxes = objects.drop_nulls("track_id").filter(pl.col("track_id") >= 0)
    return boxes.select("image_id", "track_id", "x1", "y1", "x2", "y2").join(places, on="image_id")


def _shared_ids(boxes: pl.DataFrame) -> list[Finding]:
    double = boxes.group_by("image_id", "path", "track_id").len().filter(pl.col("len") > 1).sort("path", "track_id")
    return [
        finding("track-duplicate-id", f"id {track} is on {count} boxes", path=path, image_id=key)
        for key, path, track, count in double.iter_rows()
    ]


def _steps(boxes: pl.DataFrame) -> pl.DataFrame:
    """Each box beside the one before it in its track (null for the first): frames between, distance, size, contact."""
    keys = ("group", "track_id")
    boxes = boxes.sort("group", "track_id", "frame").with_columns(
        cx=(pl.col("x1") + pl.col("x2")) / 2,
        cy=(pl.col("y1") + pl.col("y2")) / 2,
        diagonal=((pl.col("x2") - pl.col("x1")) ** 2 + (pl.col("y2") - pl.col("y1")) ** 2).sqrt(),
    )
    columns = ("frame", "path", "x1", "y1", "x2", "y2", "cx", "cy", "diagonal")
    boxes = boxes.with_columns(pl.col(c).shift().over(keys).alias(f"{c}_before") for c in columns)
    apart = (
        (pl.col("x1") >= pl.col("x2_before"))
        | (pl.col("x2") <= pl.col("x1_before"))
        | (pl.col("y1") >= pl.col("y2_before"))
        | (pl.col("y2") <= pl.col("y1_before"))
    )
    moved = ((pl.col("cx") - pl.col("cx_before")) ** 2 + (pl.col("cy") - pl.col("cy_before")) ** 2).sqrt()
    return boxes.with_columns(gap=pl.col("frame") - pl.col("frame_before"), moved=moved, apart=apart)


def _ids_anew(boxes: pl.DataFrame, steps: pl.DataFrame) -> list[Finding]:
    """Groups whose ids number the boxes of each frame, or are never used twice."""
    found = []
    ids = pl.col("track_id")
    by_frame = boxes.group_by("group", "frame").agg(
        pl.len(), numbered=(ids.n_unique() == pl.len()) & (ids.max() - ids.min() == pl.len() - 1), least=ids.min()
    )
    numbered = by_frame.group_by("group").agg(
        frames=pl.len(),
        several=(pl.col("len") > 1).sum(),
        share=(pl.col("numbered") & (pl.col("least") == pl.col("least").min())).mean(),
    )
    moved = steps.group_by("group").agg(
        steps=pl.col("gap").count(), broken=(pl.col("apart") & (pl.col("gap") == 1)).sum(), boxes=pl.len()
    )
    for row in numbered.join(moved, on="group").sort("group").iter_rows(named=True):
        if row["steps"] == 0 and row["frames"] > 1 and row["boxes"] >= _FEWEST_STEPS:
            message = f"none of the {row['boxes']} ids is used in two frames"
        elif (
            row["several"] > 1
            and row["share"] >= _NUMBERED_SHARE
            and row["steps"] >= _FEWEST_STEPS
            and row["broken"] >= _BROKEN_SHARE * row["steps"]
        ):
            message = (
                f"in {row['share']:.0%} of {row['frames']} frames the ids just number the boxes, and at "
                f"{row['broken']} of {row['steps']} steps the boxes of one id do not even touch"
            )
        else:
            continue
        found.append(finding("track-ids-reset", message, path=row["group"]))
    return found


def _gaps(steps: pl.DataFrame) -> list[Finding]:
    gaps = steps.filter(pl.col("gap") > 1).sort("gap", descending=True, maintain_order=True)
    groups = gaps.group_by("group", maintain_order=True).agg(
        pl.len(), tracks=pl.col("track_id").n_unique(), longest=pl.first("gap") - 1, track=pl.first("track_id")
    )
    return [
        finding(
            "track-gap",
            f"{row['tracks']} tracks are absent {row['len']} times between frames that show them, "
            f"track {row['track']} for {row['longest']} frames",
            path=row["group"],
            count=row["tracks"],
        )
        for row in groups.sort("group").iter_rows(named=True)
    ]


def _jumps(steps: pl.DataFrame) -> list[Finding]:
    """Steps to a box that does not touch the one before and is further off than size and the track's speed explain.

    A box that the track leaves again for where it was is a leap already where the speed does not explain it.
    """
    speed = (pl.col("moved") / pl.col("gap")).median().over("group", "track_id")
    size = (pl.col("diagonal") + pl.col("diagonal_before")) / 2
    steps = steps.with_columns(limit=_JUMP_DIAGONALS * size + _JUMP_SPEEDS * speed * pl.col("gap"))
    after = [pl.col(c).shift(-1).over("group", "track_id") for c in ("cx", "cy", "moved", "apart")]
    back = ((after[0] - pl.col("cx_before")) ** 2 + (after[1] - pl.col("cy_before")) ** 2).sqrt()
    # The way out and the way back are each several usual steps, and end near where they began.
    fast = (pl.col("moved") > _JUMP_SPEEDS * speed * pl.col("gap")) & (after[2] > _JUMP_SPEEDS * speed)
    returned = after[3] & fast & (back < 2 * speed + _BACK_SHARE * pl.min_horizontal(pl.col("moved"), after[2]))
    steps = steps.with_columns(returned=returned.fill_null(False))
    hit = pl.col("apart") & ((pl.col("moved") > pl.col("limit")) | pl.col("returned"))
    jumps = steps.filter(hit).sort("group", "frame", "track_id")
    return [_jump(row) for row in jumps.iter_rows(named=True)]


def _jump(row: dict[str, Any]) -> Finding:
    message = (
        f"track {row['track_id']} moves {row['moved']:.0f} pixels since {row['path_before']}, where its size and usual "
        f"speed explain {row['limit']:.0f}{'; the next frame has it back where it was' if row['returned'] else ''}"
    )
    place = {"path": row["path"], "image_id": row["image_id"], "other": row["path_before"]}
    return finding("track-jump", message, **place, box_xyxy=(row["x1"], row["y1"], row["x2"], row["y2"]))


def _hidden(dataset: Dataset) -> list[Finding]:
    hidden = dataset.objects.filter(pl.col("occlusion") > 0)["occlusion"]
    if hidden.is_empty():
        return []
    half = int((hidden >= 0.5).sum())
    message = f"{len(hidden)} of {dataset.objects.height} objects are hidden in part, {half} of them by half or more"
    return [finding("track-occluded", message, count=len(hidden))]
