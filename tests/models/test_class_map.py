"""Class maps from logits: the shortcut gives what upsampling everything gives."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from scanner.models.class_map import BLOCKS, class_map, upsample


def plain(logits: NDArray[np.float32], height: int, width: int) -> NDArray[np.float32]:
    """Upsampled by torch."""
    whole = torch.from_numpy(logits)[None]
    return torch.nn.functional.interpolate(whole, (height, width), mode="bilinear")[0].numpy()


@pytest.mark.parametrize("smooth", [0.4, 3.0, 20.0])
@pytest.mark.parametrize("size", [(96, 64), (100, 60), (90, 63), (48, 48), (4, 4)])
def test_it_is_the_largest_of_what_is_upsampled(smooth: float, size: tuple[int, int]) -> None:
    """From noise, where every block is mixed, to two or three areas."""
    rng = np.random.default_rng(0)
    shape = tuple(-(-side // 4) for side in size)
    logits = np.stack(
        [cv2.GaussianBlur(rng.normal(size=shape), (0, 0), smooth) for _ in range(7)]
    ).astype(np.float32)
    found, whole = class_map(logits, *size), plain(logits, *size)
    assert found.shape == size
    assert found.dtype == np.uint8
    differ = found != whole.argmax(0)
    first, second = np.sort(whole, axis=0)[[-1, -2]]
    assert not (differ & (first - second > 1e-5)).any()  # a tie may go either way
    assert differ.mean() < 1e-3


def test_more_mixed_blocks_than_are_computed_at_a_time() -> None:
    logits = np.random.default_rng(1).normal(size=(3, 80, 70)).astype(np.float32)
    assert 2 * BLOCKS < 80 * 70
    found = class_map(logits, 320, 280)
    assert (found == plain(logits, 320, 280).argmax(0)).mean() > 0.9999


def test_of_equal_classes_the_first_wins() -> None:
    logits = np.zeros((3, 8, 8), np.float32)
    assert not class_map(logits, 32, 32).any()
    logits[1:, 2:5, 2:5] = 1
    assert set(np.unique(class_map(logits, 32, 32))) == {0, 1}


def test_upsampling_is_torchs() -> None:
    logits = np.random.default_rng(2).normal(size=(2, 9, 5)).astype(np.float32)
    np.testing.assert_allclose(upsample(logits, 36, 20), plain(logits, 36, 20), atol=1e-5)
