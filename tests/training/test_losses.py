from __future__ import annotations

import pytest

torch = pytest.importorskip("torch", reason="training needs torch, which is not installed")

from steadyocr.training.losses import LossWeights, Targets, balanced_bce, db_loss, dice_loss, hardest  # noqa: E402


def targets(text: bool, learnable: bool = True) -> Targets:
    shrink = torch.zeros(2, 16, 16)
    if text:
        shrink[:, 4:8, 4:12] = 1
    mask = torch.full((2, 16, 16), float(learnable))
    return Targets(shrink, mask, torch.full((2, 16, 16), 0.3), shrink.clone())


@pytest.mark.parametrize("text", [True, False])
@pytest.mark.parametrize("learnable", [True, False])
def test_loss_is_finite_with_and_without_text(text: bool, learnable: bool) -> None:
    logits = torch.randn(2, 1, 16, 16, requires_grad=True)
    borders = torch.randn(2, 1, 16, 16, requires_grad=True)
    terms = db_loss(logits, borders, targets(text, learnable), LossWeights())
    terms.total.backward()  # type: ignore[no-untyped-call]
    for value in (terms.total, terms.bce, terms.threshold_l1, terms.dice):
        assert torch.isfinite(value)
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()
    # Pictures without text teach that there is none; where nothing is learnable nothing is learned.
    assert bool((logits.grad != 0).any()) == learnable


def test_right_answer_costs_less_than_wrong_one() -> None:
    wanted = targets(text=True)
    right = (wanted.shrink_map[:, None] * 2 - 1) * 8
    border = torch.zeros(2, 1, 16, 16)
    good = db_loss(right, border, wanted, LossWeights()).total
    bad = db_loss(-right, border, wanted, LossWeights()).total
    assert float(good) < 0.3 * float(bad)


def test_hardest_keeps_the_highest_inside_the_mask() -> None:
    loss = torch.tensor([5.0, 4.0, 3.0, 2.0, 1.0])
    mask = torch.tensor([0.0, 1.0, 1.0, 1.0, 1.0])
    assert hardest(loss, mask, 2).tolist() == [0, 1, 1, 0, 0]
    assert hardest(loss, mask, 0).tolist() == [0, 0, 0, 0, 0]


def test_only_three_background_pixels_count_for_each_text_pixel() -> None:
    wanted = torch.zeros(1, 10, 10)
    wanted[0, 0, 0] = 1
    logits = torch.zeros(1, 10, 10)
    logits[0, 5, :5] = 4.0  # five hard background pixels, three of which count
    weights = LossWeights(min_negative_share=0.0)
    loss = balanced_bce(logits, wanted, torch.ones_like(wanted), weights)
    hard = float(torch.nn.functional.softplus(torch.tensor(4.0)))
    # Ties are all kept, so the five of equal loss come in together.
    assert float(loss) == pytest.approx((0.6931 + 5 * hard) / 6, rel=1e-3)


def test_dice_is_zero_without_text() -> None:
    empty = torch.zeros(1, 4, 4)
    assert float(dice_loss(torch.rand(1, 4, 4), empty, torch.ones(1, 4, 4))) == 0
    full = torch.ones(1, 4, 4)
    assert float(dice_loss(full, full, full)) == pytest.approx(0, abs=1e-5)
