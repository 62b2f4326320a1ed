"""Label maps and objects by transformers' networks, beside what transformers makes of the same weights."""

import pytest
import torch
from torch.nn import functional

from sightline import models, testing
from sightline.core.errors import ConfigError

pytest.importorskip("transformers")

NAMES = ("background", "cat", "dog")
SIZE = (64, 96)
SEGFORMERS = {
    "b0": 3_752_694,
    "b1": 13_715_798,
    "b2": 27_461_974,
    "b3": 47_337_814,
    "b4": 64_108_374,
    "b5": 84_708_694,
}
"""Parameters with 150 classes, of the authors' depths and widths. Published sizes were looked up for b4 alone: 64 M."""
MAPS = ["hf:segformer-b0", "hf:eomt-small-semantic", "hf:mask2former-tiny-semantic"]


@pytest.mark.parametrize(("kind", "count"), SEGFORMERS.items())
def test_segformers_keep_their_size(kind, count):
    made = models.build_shapes(f"hf:segformer-{kind}", [f"c{i}" for i in range(150)], {})
    assert models.count_parameters(made) == count


def test_eomt_is_its_own():
    torch.manual_seed(0)
    model = models.create("hf:eomt-small", class_names=NAMES, imgsz=64, queries=6).eval()
    images = torch.rand(2, 3, 64, 64)
    inner = model.inner
    with torch.no_grad():
        raw = model(images)
        masks = torch.einsum("bqm,bmhw->bqhw", raw.coefficients[-1], raw.prototypes[-1])
        # Its own way, whose attention is masked in training alone, on the places that ours replaced.
        inner.embeddings.register_buffer("position_ids", torch.arange(16)[None])
        inner.attn_mask_probs = torch.zeros(inner.config.num_blocks)
        theirs = inner(images)
    assert torch.allclose(masks, theirs.masks_queries_logits, atol=1e-4)
    assert torch.allclose(raw.logits[-1], theirs.class_queries_logits, atol=1e-5)
    assert len(model.train()(images).logits) == inner.config.num_blocks + 1


def test_a_class_is_the_sum_of_its_queries():
    """As transformers' `post_process_semantic_segmentation`, made to sum to 1."""
    torch.manual_seed(0)
    model = models.create("hf:eomt-small-semantic", class_names=NAMES, imgsz=SIZE, queries=6).eval()
    with torch.no_grad():
        raw = model(torch.rand(2, 3, *SIZE))
        found = model.decode(raw)
    masks = torch.einsum("bqm,bmhw->bqhw", raw.coefficients[-1], raw.prototypes[-1]).sigmoid()
    scores = torch.einsum("bqc,bqhw->bchw", raw.logits[-1].softmax(-1)[..., :-1], masks)
    wanted = functional.interpolate(scores / scores.sum(1, keepdim=True), SIZE, mode="bilinear", align_corners=False)
    assert torch.allclose(found, wanted, atol=1e-4)
    assert torch.allclose(found.sum(1), torch.ones(2, *SIZE), atol=1e-5)


def test_ignored_pixels_teach_nothing():
    torch.manual_seed(0)
    model = models.create("hf:eomt-small-semantic", class_names=NAMES, imgsz=64, queries=6)
    mask = torch.zeros(1, 64, 64, dtype=torch.int64)
    mask[0, 16:48, 16:48] = 1
    raw = model(torch.rand(1, 3, 64, 64))
    loss = sum(model.loss(raw, {"mask": mask}).values())
    hidden = mask.clone()
    hidden[0, :16] = 255
    ids = model.truth({"mask": hidden}, 0, (16, 16))
    assert ids.labels.tolist() == [0, 1]
    assert ids.counted.reshape(16, 16)[:4].sum() == 0
    assert ids.counted.sum() == 12 * 16
    assert sum(model.loss(raw, {"mask": hidden}).values()) != loss
    nothing = torch.full_like(mask, 255)
    terms = model.loss(raw, {"mask": nothing})
    sum(terms.values()).backward()
    assert all(bool(torch.isfinite(value)) for value in terms.values())


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"queries": 0}, r"queries must be 1\.\.1000, got 0"),
        ({"channels": 2}, r"channels must be 3 \(colour\) or 1 \(gray\), got 2"),
    ],
)
def test_wrong_arguments_are_refused(arguments, said):
    with pytest.raises(ConfigError, match=said):
        models.create("hf:eomt-small-semantic", class_names=NAMES, **arguments)


@pytest.mark.slow
@pytest.mark.parametrize("name", [*MAPS, "hf:eomt-small"])
def test_they_conform(name):
    testing.check_model(models.create(name, class_names=NAMES, imgsz=SIZE), size_hw=SIZE)


@pytest.mark.slow
@pytest.mark.parametrize("name", MAPS)
def test_they_learn_two_images_by_heart(name):
    torch.manual_seed(0)
    model = models.create(name, class_names=NAMES, imgsz=64, channels=1)
    mask = torch.zeros(2, 64, 64, dtype=torch.int64)
    mask[0, 8:40, 8:40], mask[1, 20:60, 30:60], mask[0, :4] = 1, 2, 255
    images = torch.randn(2, 1, 64, 64) * 0.1 + mask.clamp(max=2)[:, None]
    optimizer = torch.optim.AdamW(model.parameters(), 3e-4)
    for _ in range(90):
        optimizer.zero_grad()
        sum(model.loss(model(images), {"mask": mask}).values()).backward()
        optimizer.step()
    with torch.no_grad():
        right = model.eval().decode(model(images)).argmax(1) == mask
    assert float(right[mask != 255].float().mean()) > 0.98
