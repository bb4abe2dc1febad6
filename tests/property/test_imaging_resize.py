from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from steadyocr.imaging.resize import apply, plan_resize, to_source

SIDES = st.integers(1, 20_000)
CAPS = st.integers(1, 4096)
BUCKETS = st.sampled_from([None, 32, 64, 96, 160])


@settings(max_examples=300, deadline=None)
@given(width=SIDES, height=SIDES, max_side=CAPS, bucket=BUCKETS)
def test_plan(width: int, height: int, max_side: int, bucket: int | None) -> None:
    plan = plan_resize(width, height, max_side, stride=32, bucket=bucket)
    step = bucket or 32

    assert plan.padded_width % step == 0 == plan.padded_height % step
    assert max(plan.padded_width, plan.padded_height) <= -(-max_side // step) * step
    assert max(plan.content_width, plan.content_height) <= max_side
    assert 0 <= plan.padded_width - plan.content_width < step
    assert 0 <= plan.padded_height - plan.content_height < step
    assert 0 < plan.effective_scale <= 1
    # The ratio is kept: each side is within a pixel of the picture's times one common scale.
    scale = min(1.0, max_side / max(width, height))
    assert abs(plan.content_width - width * scale) < 1
    assert abs(plan.content_height - height * scale) < 1
    if max(width, height) <= max_side:
        assert (plan.content_width, plan.content_height) == (width, height)


@settings(max_examples=200, deadline=None)
@given(
    width=SIDES,
    height=SIDES,
    max_side=CAPS,
    points=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=4, max_size=4),
)
def test_round_trip_within_a_pixel(width: int, height: int, max_side: int, points: list[tuple[float, float]]) -> None:
    plan = plan_resize(width, height, max_side)
    source = (np.array([points]) * [width, height]).astype(np.float32)
    network = (source * [plan.scale_x, plan.scale_y]).astype(np.float32)

    back = to_source(network, plan)

    assert back.dtype == np.float32
    assert np.abs(back - source).max() < 1.0
    # The far corner of the content is the far corner of the picture.
    corner = np.full((1, 4, 2), [plan.content_width, plan.content_height], np.float32)
    np.testing.assert_allclose(to_source(corner, plan)[0, 0], [width, height], rtol=1e-6)


@settings(max_examples=60, deadline=None)
@given(width=st.integers(1, 300), height=st.integers(1, 300), max_side=st.integers(1, 400), bucket=BUCKETS)
def test_padding_keeps_plain_paper_plain(width: int, height: int, max_side: int, bucket: int | None) -> None:
    plan = plan_resize(width, height, max_side, bucket=bucket)
    resized = apply(np.full((height, width, 3), (250, 240, 200), np.uint8), plan)
    assert resized.shape == (plan.padded_height, plan.padded_width, 3)
    assert resized.dtype == np.uint8
    assert (resized == (250, 240, 200)).all()
