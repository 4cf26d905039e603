"""GrabCut, step by step."""

from __future__ import annotations

import threading

import cv2
import numpy as np
import pytest

from services.segmentation.backends.grabcut.cut import run_grabcut
from services.segmentation.masks import iou
from shared.errors import JobCancelled
from tests.unit.services.segmentation.photos import ball, never_cancel


def rough_labels(truth: np.ndarray) -> np.ndarray:
    """Label all pixels as probable, except for a frame around the image."""
    labels = np.full(truth.shape, cv2.GC_PR_FGD, np.uint8)
    labels[:15], labels[-15:], labels[:, :15], labels[:, -15:] = (cv2.GC_BGD,) * 4
    return labels


def test_the_object_is_cut_out() -> None:
    """A red ball on a grey-green ground, from a box round it."""
    picture, truth = ball()

    assert iou(run_grabcut(picture, rough_labels(truth), never_cancel), truth) > 0.98


def cut_on_all_pixels(picture: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Return the object after three plain iterations of OpenCV."""
    cut, models = labels.copy(), (np.zeros((1, 65)), np.zeros((1, 65)))
    cv2.setRNGSeed(1)
    cv2.grabCut(picture, cut, (0, 0, 0, 0), *models, 3, cv2.GC_INIT_WITH_MASK)
    return np.where(np.isin(cut, (cv2.GC_FGD, cv2.GC_PR_FGD)), np.uint8(255), np.uint8(0))


@pytest.mark.parametrize(("width", "height"), [(512, 384), (511, 383), (130, 512)])
def test_iterations_on_fewer_pixels_give_the_same_mask(width: int, height: int) -> None:
    """Only the last iteration looks at all pixels, also where the sides are odd."""
    picture, truth = ball(width, height)

    mask = run_grabcut(picture, rough_labels(truth), never_cancel)

    assert iou(mask, cut_on_all_pixels(picture, rough_labels(truth))) > 0.995


def test_an_object_between_the_pixels_that_are_looked_at_is_found() -> None:
    """A line in a column that is skipped leaves nothing to learn from, so all iterations look at all pixels."""
    picture, truth = ball(512, 384)
    labels = np.where(truth > 0, np.uint8(cv2.GC_PR_BGD), np.uint8(cv2.GC_BGD))
    labels[150:240, 257] = cv2.GC_FGD

    assert iou(run_grabcut(picture, labels, never_cancel), truth) > 0.98


def test_the_labels_are_left_alone() -> None:
    """GrabCut writes into its labels; the caller's stay."""
    picture, truth = ball()
    labels = rough_labels(truth)

    run_grabcut(picture, labels, never_cancel)

    assert np.array_equal(labels, rough_labels(truth))


def test_labels_of_one_kind_are_the_answer() -> None:
    """There is nothing to learn from."""
    picture, truth = ball()

    assert run_grabcut(picture, np.full(truth.shape, cv2.GC_FGD, np.uint8), never_cancel).all()
    assert not run_grabcut(picture, np.full(truth.shape, cv2.GC_BGD, np.uint8), never_cancel).any()


def test_every_step_can_be_the_last() -> None:
    """The checkpoint is asked before each of the three iterations."""
    picture, truth = ball()
    asked: list[None] = []

    def cancel_at_the_third() -> None:
        asked.append(None)
        if len(asked) == 3:
            raise JobCancelled

    with pytest.raises(JobCancelled):
        run_grabcut(picture, rough_labels(truth), cancel_at_the_third)


def test_threads_do_not_disturb_one_another() -> None:
    """The random numbers inside belong to the thread."""
    picture, truth = ball()
    expected = run_grabcut(picture, rough_labels(truth), never_cancel)
    masks: list[np.ndarray] = []
    threads = [
        threading.Thread(target=lambda: masks.append(run_grabcut(picture, rough_labels(truth), never_cancel)))
        for _ in range(4)
    ]

    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(masks) == 4
    assert all(np.array_equal(mask, expected) for mask in masks)


@pytest.mark.timeout(20)
def test_a_chessboard_takes_no_minutes() -> None:
    """Without grain its equal squares kept GrabCut busy for 210 s."""
    rows, columns = np.mgrid[:512, :512]
    board = np.repeat((((rows // 32 + columns // 32) % 2) * 255).astype(np.uint8)[..., np.newaxis], 3, axis=2)
    labels = np.zeros((512, 512), np.uint8)
    labels[60:450, 60:450] = cv2.GC_PR_FGD

    assert run_grabcut(board, labels, never_cancel).shape == (512, 512)
