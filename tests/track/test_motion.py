"""The batched filter against a plain 8-state Kalman filter written with matrices."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sightline.track import motion
from sightline.track.motion import MotionConfig


class MatrixFilter:
    """Textbook Kalman filter (Kalman 1960) of one box: state (cx, cy, w, h, and their velocities), full matrices."""

    def __init__(self, box_xyxy: np.ndarray, config: MotionConfig) -> None:
        self.config = config
        self.h = np.hstack([np.eye(4), np.zeros((4, 4))])
        self.x = np.concatenate([self.measured(box_xyxy), np.zeros(4)])
        self.scale = np.sqrt(self.x[2] * self.x[3])
        self.p = np.diag(
            [(config.measurement_std * self.scale) ** 2] * 4 + [(config.initial_velocity_std * self.scale) ** 2] * 4
        )

    @staticmethod
    def measured(box: np.ndarray) -> np.ndarray:
        return np.array([(box[0] + box[2]) / 2, (box[1] + box[3]) / 2, box[2] - box[0], box[3] - box[1]])

    def predict(self, dt: float) -> None:
        eye = np.eye(4)
        f = np.block([[eye, dt * eye], [np.zeros((4, 4)), eye]])
        qv = (self.config.velocity_noise * self.scale) ** 2
        q = np.block([[qv * dt**3 / 3 * eye, qv * dt**2 / 2 * eye], [qv * dt**2 / 2 * eye, qv * dt * eye]])
        self.x, self.p = f @ self.x, f @ self.p @ f.T + q

    def correct(self, box: np.ndarray) -> None:
        z = self.measured(box)
        r = np.eye(4) * self.config.measurement_std**2 * z[2] * z[3]
        s = self.h @ self.p @ self.h.T + r
        k = self.p @ self.h.T @ np.linalg.inv(s)
        self.x = self.x + k @ (z - self.h @ self.x)
        self.p = (np.eye(8) - k @ self.h) @ self.p
        self.scale = np.sqrt(self.x[2] * self.x[3])


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    corner = rng.uniform(0, 800, (count, 2))
    return np.concatenate([corner, corner + rng.uniform(20, 200, (count, 2))], axis=1)


def test_equals_the_8_state_filter() -> None:
    rng = np.random.default_rng(0)
    config = MotionConfig()
    boxes = random_boxes(rng, 7)
    states = motion.initiate(boxes, config)
    references = [MatrixFilter(b, config) for b in boxes]
    for _ in range(60):
        dt = float(rng.uniform(0.01, 0.2))
        motion.predict(states, dt, config)
        boxes = boxes + rng.normal(0, 2, (7, 2)).repeat(2, axis=0).reshape(7, 4)[:, [0, 1, 0, 1]]
        rows = np.flatnonzero(rng.random(7) < 0.7)
        motion.correct(states, rows, boxes[rows], config)
        for row, reference in enumerate(references):
            reference.predict(dt)
            if row in rows:
                reference.correct(boxes[row])
    for row, reference in enumerate(references):
        np.testing.assert_allclose(states.position[row], reference.x[:4], rtol=0, atol=1e-9)
        np.testing.assert_allclose(states.velocity[row], reference.x[4:], rtol=0, atol=1e-9)
        np.testing.assert_allclose(states.var_position[row], np.diag(reference.p)[:4], rtol=1e-9)
        np.testing.assert_allclose(states.covariance[row], np.diag(reference.p, 4), rtol=1e-9)
        np.testing.assert_allclose(states.var_velocity[row], np.diag(reference.p)[4:], rtol=1e-9)


@given(
    first=st.floats(0, 3),
    second=st.floats(0, 3),
    velocity=st.floats(-500, 500),
    seed=st.integers(0, 2**16),
)
def test_two_short_steps_equal_one_long_step(first: float, second: float, velocity: float, seed: int) -> None:
    config = MotionConfig()
    boxes = random_boxes(np.random.default_rng(seed), 3)
    once, twice = motion.initiate(boxes, config), motion.initiate(boxes, config)
    for states in (once, twice):
        states.velocity += velocity
    motion.predict(once, first + second, config)
    motion.predict(twice, first, config)
    motion.predict(twice, second, config)
    for name in ("position", "velocity", "var_position", "covariance", "var_velocity"):
        np.testing.assert_allclose(getattr(twice, name), getattr(once, name), rtol=1e-9, atol=1e-9, err_msg=name)


@given(seed=st.integers(0, 2**16))
def test_boxes_return_from_the_state_as_measured(seed: int) -> None:
    boxes = random_boxes(np.random.default_rng(seed), 4)
    np.testing.assert_allclose(motion.initiate(boxes, MotionConfig()).boxes_xyxy(), boxes, rtol=0, atol=1e-9)


def test_a_constant_velocity_is_learnt() -> None:
    config = MotionConfig()
    box = np.array([[100.0, 100.0, 140.0, 180.0]])
    states = motion.initiate(box, config)
    for _ in range(50):
        box = box + np.array([3.0, -1.0, 3.0, -1.0])
        motion.predict(states, 0.1, config)
        motion.correct(states, np.array([0]), box, config)
    assert states.velocity[0] == pytest.approx([30.0, -10.0, 0.0, 0.0], abs=0.5)
