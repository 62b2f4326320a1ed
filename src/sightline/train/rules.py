"""Rules that watch a run, and what they look at: gradients, outputs, losses and metrics of the epochs."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional

from sightline.core.findings import Severity

__all__ = ["RULES", "GradientMeter", "OutputMeter", "RunFacts", "WatchFinding", "has_passed", "watch"]

_CELLS = 16  # outputs of segmentation are compared between images on a grid of this many cells a side
_COMPARED_IMAGES = 64
CONFIDENT = 0.25


class GradientMeter:
    """Norms of the gradients of each step, and which weights have had none; `clip` also scales them down."""

    def __init__(self) -> None:
        self._totals: list[float] = []
        self._largest: Tensor | None = None

    def clip(self, model: nn.Module, limit: float) -> list[str]:
        """Take note of the gradients, scale them down to the norm `limit`; gives the weights whose are not finite."""
        named = [(name, p) for name, p in model.named_parameters() if p.grad is not None]
        moved = [p for _, p in named]
        norms = torch.stack(torch._foreach_norm([p.grad for p in moved if p.grad is not None]))
        total = torch.linalg.vector_norm(norms)
        torch.nn.utils.clip_grads_with_norm_(moved, limit, total)
        self._totals.append(float(total))
        trained = [p for p in model.parameters() if p.requires_grad]
        seen = norms.new_zeros(len(trained))  # what is cut off from the loss has no gradient at all: it counts as 0
        seen[[i for i, p in enumerate(trained) if p.grad is not None]] = norms
        self._largest = seen if self._largest is None else torch.maximum(self._largest.to(seen.device), seen)
        if math.isfinite(self._totals[-1]):
            return []
        return [name for (name, _), norm in zip(named, norms.tolist(), strict=True) if not math.isfinite(norm)]

    def state_dict(self) -> dict[str, Any]:
        """What has been noted since the last `take`."""
        return {"totals": list(self._totals), "largest": self._largest}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from what `state_dict` gave."""
        self._totals, self._largest = list(state["totals"]), state["largest"]

    def take(self) -> dict[str, float]:
        """Median and maximum of the norms since the last call, and the share of weight tensors that never had any."""
        totals = torch.tensor(self._totals or [0.0], dtype=torch.float64)
        dead = 0.0 if self._largest is None else float((self._largest == 0).double().mean())
        self._totals, self._largest = [], None
        return {
            "gradient_median": float(totals.median()),
            "gradient_max": float(totals.max()),
            "gradient_dead": dead,
        }


class OutputMeter:
    """Range of the decoded probabilities, how far they differ between images, and how much is found at all."""

    def __init__(self, task: str) -> None:
        self.task = task
        self._low, self._high = float("inf"), float("-inf")
        self._found = 0.0
        self._images = 0
        self._summaries: list[Tensor] = []

    def update(self, decoded: Any) -> None:
        """Take in the decoded outputs of one batch."""
        scores = decoded if self.task == "semantic" else decoded[1]
        if self.task == "semantic":
            judged = scores[:, 1:] if scores.shape[1] == 2 else scores
            self._found += float((scores.argmax(1) != 0).double().mean(dim=(1, 2)).sum())
            summary = functional.adaptive_avg_pool2d(judged.float(), _CELLS).flatten(1)
        else:
            judged = scores
            best = scores.amax(-1)
            self._found += float((best > CONFIDENT).sum())
            summary = best.float()
        if len(judged):
            low, high = torch.aminmax(judged)
            self._low, self._high = min(self._low, float(low)), max(self._high, float(high))
        self._images += scores.shape[0]
        if sum(len(s) for s in self._summaries) < _COMPARED_IMAGES:
            self._summaries.append(summary.cpu())

    def add(self, other: "OutputMeter") -> None:
        """Take in what another one has seen, of other images."""
        self._low, self._high = min(self._low, other._low), max(self._high, other._high)
        self._found, self._images = self._found + other._found, self._images + other._images
        self._summaries += other._summaries

    def take(self) -> dict[str, float]:
        """`output_min`, `output_max`; `output_spread`: mean standard deviation between images; `found`: mean share of
        foreground pixels (semantic) or cells above a score of 0.25 (detection) per image.
        """
        compared = torch.cat(self._summaries) if self._summaries else torch.zeros(0, 1)
        spread = float(compared.std(dim=0).mean()) if len(compared) > 1 else float("nan")
        return {
            "output_min": self._low,
            "output_max": self._high,
            "output_spread": spread,
            "found": self._found / max(1, self._images),
        }


Row = Mapping[str, float]
COLLAPSE_IOU, COLLAPSE_ACCURACY = 0.10, 0.88
PATIENT_EPOCHS = 5  # no verdict on learning before this many, or before 15 % of the run
PATIENT_SHARE = 0.15
STREAK = 3  # epochs in a row a symptom must show
PLATEAU_CHANGE, PLATEAU_LEVEL, PLATEAU_LR = 0.01, 0.5, 0.1
DIVERGENCE_RISE, DIVERGENCE_FALL, DIVERGENCE_EPOCHS = 1.10, 0.95, 5
EXPLOSION_FACTOR = 20.0  # medians of an epoch's gradients differ by less than 10 in healthy runs
# Over the training loss of the first epoch, which a run that explodes from its first steps has not seen rise yet.
# Overfitting multiplies the validation loss by ten or so, never by this.
EXPLOSION_LOSS = 100.0
DEAD_SHARE, DEAD_NORM = 0.25, 1e-7
SAME_OUTPUT = 1e-4
# A young detector's scores are small and so are their differences: what is small beside the scores themselves counts.
# The outputs of networks that are cut off from their input differ by rounding, 1e-6 of the score.
SAME_SHARE = 1e-3
# Of objects that are too small, augmented away or of a rare shape a few are always learnt by nothing.
LEAST_LEARNT = 0.5
LEAST_AP = 0.01  # with more, what scores below 0.25 is found all the same
GROWTH = 2.0  # what grows by this in as many epochs as a symptom must show is on its way out of it
SLACK = 1e-3


@dataclass(frozen=True, slots=True)
class RunFacts:
    """What the rules must know about the run besides its epochs."""

    task: str
    epochs: int
    class_count: int
    class_term: str  # the loss term of classification: cls, ce or bce
    loss_terms: tuple[str, ...]
    clip_norm: float
    peak_lr: float
    anchor_ratio: float | None = None  # of a network with anchors: how much an object may differ from one


@dataclass(frozen=True, slots=True)
class WatchFinding:
    """One rule's verdict: when, on which numbers, and what to do."""

    code: str
    severity: Severity
    message: str
    do: str
    epoch: int
    evidence: dict[str, float]
    resolved_epoch: int | None = None

    def to_dict(self) -> dict[str, Any]:
        """The fields as plain values."""
        return asdict(self)


class Rule(NamedTuple):
    """A rule's severity, what it found in the rows (a sentence and its numbers, or None), and what this run can do."""

    severity: Severity
    judge: Callable[[Sequence[Row], RunFacts], tuple[str, dict[str, float]] | None]
    do: Callable[[RunFacts], str]
    falls_silent: bool = False  # for other reasons than that all is well


def watch(rows: Sequence[Row], facts: RunFacts, reported: set[str]) -> list[WatchFinding]:
    """The findings of the rules that have not spoken yet (`reported`) after the last of `rows`."""
    found = []
    for code, rule in RULES.items():
        verdict = None if code in reported else rule.judge(rows, facts)
        if verdict is not None:
            message, evidence = verdict
            do, epoch = rule.do(facts), int(rows[-1]["epoch"])
            found.append(WatchFinding(code, rule.severity, message, do, epoch, evidence))
    return found


def has_passed(code: str, rows: Sequence[Row], facts: RunFacts) -> bool:
    """Whether what a rule once found has not been there for `STREAK` epochs: it was a phase, not a fault."""
    recent = [rows[: len(rows) - back] for back in range(STREAK)]
    if RULES[code].falls_silent or len(rows) <= STREAK:
        return False
    return all(RULES[code].judge(part, facts) is None for part in recent)


def _is_early(rows: Sequence[Row], facts: RunFacts, least: int = PATIENT_EPOCHS) -> bool:
    return len(rows) < max(least, math.ceil(PATIENT_SHARE * facts.epochs))


def _foreground_collapse(rows: Sequence[Row], facts: RunFacts) -> tuple[str, dict[str, float]] | None:
    last = rows[-STREAK:]
    if facts.task != "semantic" or _is_early(rows, facts) or len(last) < STREAK:
        return None
    if any(r["watch/foreground_iou"] >= COLLAPSE_IOU or r["watch/accuracy"] <= COLLAPSE_ACCURACY for r in last):
        return None
    iou, accuracy = last[-1]["watch/foreground_iou"], last[-1]["watch/accuracy"]
    message = (
        f"the foreground has collapsed: accuracy {accuracy:.3f} looks good, foreground IoU is {iou:.3f} "
        f"in {STREAK} epochs in a row"
    )
    return message, {"foreground_iou": iou, "accuracy": accuracy}


def _class_plateau(rows: Sequence[Row], facts: RunFacts) -> tuple[str, dict[str, float]] | None:
    window = max(PATIENT_EPOCHS, facts.epochs // 10)
    if len(rows) < 2 * window or rows[-1]["lr"] < PLATEAU_LR * facts.peak_lr:
        return None
    values = [r[f"train/{facts.class_term}"] for r in rows]
    before, now = (sum(part) / window for part in (values[-2 * window : -window], values[-window:]))
    if values[0] <= 0 or now < PLATEAU_LEVEL * values[0] or abs(now - before) > PLATEAU_CHANGE * before:
        return None
    message = (
        f"the class loss stands still: '{facts.class_term}' is {now:.4f} after {before:.4f} {window} epochs ago, "
        f"{now / values[0]:.0%} of where it began, while the learning rate is still high"
    )
    return message, {"now": now, "before": before, "first": values[0]}


def _divergence(rows: Sequence[Row], _: RunFacts) -> tuple[str, dict[str, float]] | None:
    if len(rows) < 2 * DIVERGENCE_EPOCHS:
        return None
    held, learnt = [_total(r, "valloss/") for r in rows], [_total(r, "train/") for r in rows]
    best = min(range(len(held)), key=held.__getitem__)
    metric = [r["watch/metric"] for r in rows]
    best_metric = max(range(len(metric)), key=metric.__getitem__)
    since = len(rows) - 1 - DIVERGENCE_EPOCHS
    # Shares of the size, as a loss may be below zero.
    rise, fall = (DIVERGENCE_RISE - 1) * abs(held[best]), (1 - DIVERGENCE_FALL) * abs(learnt[best])
    if best > since or best_metric > since or min(held[since + 1 :]) < held[best] + rise:
        return None
    if learnt[-1] > learnt[best] - fall:
        return None
    message = (
        f"training and validation part: since epoch {best + 1} the validation loss rose from {held[best]:.3f} to "
        f"{held[-1]:.3f} while the training loss fell from {learnt[best]:.3f} to {learnt[-1]:.3f}, "
        f"and the metric has not improved since epoch {best_metric + 1}"
    )
    return message, {"best_epoch": best + 1, "validation_loss": held[-1], "validation_loss_best": held[best]}


def _exploding(rows: Sequence[Row], facts: RunFacts) -> tuple[str, dict[str, float]] | None:
    medians = [r["watch/gradient_median"] for r in rows]
    if not math.isfinite(medians[-1]):
        return "the gradients are no longer numbers", {"gradient_median": medians[-1]}
    first = _total(rows[0], "train/")
    # A loss that is not a number is not within the limit either.
    limit = EXPLOSION_LOSS * max(abs(first), SLACK)
    beyond = [t for p in ("train/", "valloss/") if not (t := _total(rows[-1], p)) <= limit]
    if beyond:
        loss = beyond[0]
        message = f"the weights explode: the loss is {loss:.3g}, in training it was {first:.3g} in the first epoch"
        return message, {"loss": loss, "first": first}
    usual = sorted(medians[:-1])[(len(medians) - 1) // 2] if len(medians) > STREAK else math.inf
    if medians[-1] <= EXPLOSION_FACTOR * usual or medians[-1] <= facts.clip_norm:
        return None
    message = f"the gradients explode: their median norm is {medians[-1]:.3g} after {usual:.3g} in the epochs before"
    return message, {"gradient_median": medians[-1], "usual": usual}


def _dead(rows: Sequence[Row], _: RunFacts) -> tuple[str, dict[str, float]] | None:
    share, norm = rows[-1]["watch/gradient_dead"], rows[-1]["watch/gradient_median"]
    if share <= DEAD_SHARE and norm >= DEAD_NORM:
        return None
    message = f"{share:.0%} of the weight tensors had no gradient in the whole epoch (median norm {norm:.3g})"
    return message, {"share": share, "gradient_median": norm}


def _double_activation(rows: Sequence[Row], facts: RunFacts) -> tuple[str, dict[str, float]] | None:
    """A sigmoid of values in 0..1 lies in 0.5..0.731, a softmax of them in 1/(e + C - 1)..e/(e + C - 1)."""
    others = facts.class_count - 1
    softmax = facts.task == "semantic" and facts.class_count > 2
    lowest = 1 / (math.e + others) if softmax else 0.5
    highest = math.e / (math.e + others) if softmax else 1 / (1 + math.exp(-1))
    last = rows[-2:]
    if len(last) < 2:
        return None
    # Outputs that are not numbers leave the range empty, as it began: inf..-inf.
    if not all(lowest - SLACK <= r["watch/output_min"] <= r["watch/output_max"] <= highest + SLACK for r in last):
        return None
    low, high = last[-1]["watch/output_min"], last[-1]["watch/output_max"]
    message = (
        f"an activation is applied twice: every probability lies in {low:.3f}..{high:.3f}, "
        f"as when values that already are probabilities are taken for logits"
    )
    return message, {"output_min": low, "output_max": high}


def _is_unsettled(rows: Sequence[Row], facts: RunFacts) -> bool:
    """Detectors begin by finding nothing anywhere, and their averaged statistics take longer to follow."""
    return _is_early(rows, facts, PATIENT_EPOCHS if facts.task == "semantic" else 2 * PATIENT_EPOCHS)


def _grows(rows: Sequence[Row], key: str) -> bool:
    """Averaged weights and statistics lag: while a network learns, what they let through grows from epoch to epoch."""
    return len(rows) > STREAK and rows[-1][key] > GROWTH * rows[-1 - STREAK][key]


def _nothing_found(rows: Sequence[Row], facts: RunFacts) -> tuple[str, dict[str, float]] | None:
    last = rows[-STREAK:]
    if _is_unsettled(rows, facts) or _grows(rows, "watch/output_max"):
        return None
    if any(r["watch/found"] > 0 or (facts.task != "semantic" and r["watch/metric"] > LEAST_AP) for r in last):
        return None
    what = "pixel is predicted to be foreground" if facts.task == "semantic" else "score above 0.25 is predicted"
    message = f"everything is background: no {what} in any validation image, {STREAK} epochs in a row"
    return message, {"found": 0.0, "output_max": last[-1]["watch/output_max"]}


def _constant_output(rows: Sequence[Row], facts: RunFacts) -> tuple[str, dict[str, float]] | None:
    last = rows[-STREAK:]
    if _is_unsettled(rows, facts) or _grows(rows, "watch/output_spread"):
        return None
    limits = [min(SAME_OUTPUT, SAME_SHARE * r["watch/output_max"]) for r in last]
    spreads = [r["watch/output_spread"] for r in last]
    if not all(spread <= limit for spread, limit in zip(spreads, limits, strict=True)):  # a NaN is within no limit
        return None
    message = f"the prediction does not depend on the image: it varies by {spreads[-1]:.2g} between validation images"
    return message, {"output_spread": spreads[-1], "output_max": last[-1]["watch/output_max"]}


def _few_learnt(rows: Sequence[Row], _: RunFacts) -> tuple[str, dict[str, float]] | None:
    share = rows[-1].get("watch/learnt_share", math.nan)
    if not share < LEAST_LEARNT:  # a NaN: no objects, or a network that does not count
        return None
    positive = rows[-1]["watch/positive_share"]
    message = f"{1 - share:.0%} of the objects are learnt by nothing: {positive:.2g} of all anchors stand for an object"
    return message, {"learnt_share": share, "positive_share": positive}


def _total(row: Row, prefix: str) -> float:
    return sum(value for key, value in row.items() if key.startswith(prefix))


def _against_collapse(facts: RunFacts) -> str:
    if {"dice", "dice_image", "tversky", "lovasz"} & set(facts.loss_terms):
        return "Weight the foreground, crop around it, or check that masks and images belong together"
    return "Train with a Dice term, or weight the foreground; judge by foreground IoU"


def _against_plateau(facts: RunFacts) -> str:
    if facts.class_count == 1:
        return "Check that the labels belong to the images and lie on the objects; raise the weight of the class term"
    return "Check class names and labels for mix-ups; raise the weight of the class term"


def _against_few_learnt(facts: RunFacts) -> str:
    if facts.anchor_ratio is None:
        return "Train at a larger imgsz: what is smaller than a cell is learnt by its nearest one alone"
    return (
        "Propose anchors for these objects with 'sightline anchors DATA' and give them as arguments.anchors, train at "
        f"another imgsz, or let an anchor learn more shapes: arguments.anchor_ratio above {facts.anchor_ratio:g}"
    )


def _always(sentence: str) -> Callable[[RunFacts], str]:
    return lambda _: sentence


RULES: dict[str, Rule] = {
    "foreground-collapse": Rule("error", _foreground_collapse, _against_collapse),
    # It says nothing more once the learning rate is low.
    "class-loss-plateau": Rule("warning", _class_plateau, _against_plateau, falls_silent=True),
    "train-val-divergence": Rule(
        "warning", _divergence, _always("Stop here, augment more, or check that the splits come from one source")
    ),
    "gradient-exploding": Rule(
        "warning", _exploding, _always("Lower the learning rate or --clip-norm, or warm up longer")
    ),
    "gradient-dead": Rule(
        "error", _dead, _always("Check for detached or unused parts, saturated activations and frozen layers")
    ),
    "activation-twice": Rule(
        "error", _double_activation, _always("Let the network end in logits: its loss and decode activate")
    ),
    "prediction-empty": Rule(
        "error",
        _nothing_found,
        _always("Check labels and class ids; raise the learning rate or the foreground's weight"),
    ),
    "few-learnt": Rule("warning", _few_learnt, _against_few_learnt),
    "prediction-constant": Rule(
        "error", _constant_output, _always("Check preprocessing, the learning rate and dead layers")
    ),
}
