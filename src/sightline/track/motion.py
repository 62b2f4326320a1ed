"""Constant-velocity Kalman filter for many boxes at once.

A box is measured as `cxcywh` (centre x, centre y, width, height; pixels) and each of the four components moves with its
own velocity (pixels per second). With diagonal measurement noise and no coupling between components, the usual 8-state
filter splits exactly into four 2-state filters, so the state of N boxes is five (N, 4) arrays and one frame costs a few
array operations whatever N is.

Process noise is the exact discretisation of white-noise acceleration (Bar-Shalom, Li, Kirubarajan 2001, section 6.2.2):
predicting by a then by b equals predicting by a + b, so skipped frames and variable frame rates need no special case.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from pydantic import Field

from sightline.core.config import Config

FloatArray = npt.NDArray[np.float64]

MIN_BOX_SIDE_PX = 1.0  # keeps extrapolated boxes and their noise positive


class MotionConfig(Config):
    """Noise of the motion model, relative to the box: "size" is sqrt(width * height) of the box in pixels.

    Relative noise makes one setting serve far and near objects and every resolution. The defaults were chosen on
    PETS09-S2L1, TUD-Campus and TUD-Stadtmitte with the public MOT15 detections.
    """

    measurement_std: float = Field(default=0.1, gt=0, description="detector noise, sizes")
    velocity_noise: float = Field(default=0.3, ge=0, description="white-noise acceleration, sizes per second^1.5")
    initial_velocity_std: float = Field(default=2.0, gt=0, description="velocity of a new object, sizes per second")


@dataclass(slots=True)
class MotionStates:
    """State of N boxes, each component an independent 2-state (position, velocity) filter.

    position, velocity: (N, 4), cxcywh in pixels and pixels per second.
    var_position, covariance, var_velocity: (N, 4), the three distinct entries of each 2x2 covariance.
    size: (N,) pixels, the noise scale, refreshed by measurements only so that prediction stays additive in time.
    """

    position: FloatArray
    velocity: FloatArray
    var_position: FloatArray
    covariance: FloatArray
    var_velocity: FloatArray
    size: FloatArray

    def __len__(self) -> int:
        return len(self.position)

    def boxes_xyxy(self) -> FloatArray:
        """(N, 4) current boxes; sides are at least one pixel."""
        centre = self.position[:, :2]
        half = np.maximum(self.position[:, 2:], MIN_BOX_SIDE_PX) * 0.5
        return np.concatenate((centre - half, centre + half), axis=1)

    def select(self, rows: npt.NDArray[Any]) -> "MotionStates":
        """The states at `rows` (indices or a boolean mask), copied."""
        return MotionStates(
            self.position[rows],
            self.velocity[rows],
            self.var_position[rows],
            self.covariance[rows],
            self.var_velocity[rows],
            self.size[rows],
        )

    def append(self, other: "MotionStates") -> "MotionStates":
        """These states followed by the other ones."""
        return MotionStates(
            np.concatenate((self.position, other.position)),
            np.concatenate((self.velocity, other.velocity)),
            np.concatenate((self.var_position, other.var_position)),
            np.concatenate((self.covariance, other.covariance)),
            np.concatenate((self.var_velocity, other.var_velocity)),
            np.concatenate((self.size, other.size)),
        )


def measure(boxes_xyxy: FloatArray) -> FloatArray:
    """(N, 4) measurements `cxcywh` of boxes `xyxy`; sides are at least one pixel."""
    top_left, bottom_right = boxes_xyxy[:, :2], boxes_xyxy[:, 2:]
    sides = np.maximum(bottom_right - top_left, MIN_BOX_SIDE_PX)
    return np.concatenate(((top_left + bottom_right) * 0.5, sides), axis=1)


def initiate(boxes_xyxy: FloatArray, config: MotionConfig) -> MotionStates:
    """States of boxes seen for the first time: at rest, with the initial velocity uncertainty."""
    position = measure(boxes_xyxy)
    size = _size(position)
    zeros = np.zeros_like(position)
    return MotionStates(
        position=position,
        velocity=zeros,
        var_position=zeros + np.square(config.measurement_std * size)[:, None],
        covariance=zeros.copy(),
        var_velocity=zeros + np.square(config.initial_velocity_std * size)[:, None],
        size=size,
    )


def predict(states: MotionStates, dt_s: float, config: MotionConfig) -> None:
    """Move every state `dt_s` seconds ahead, in place."""
    variance_scale = np.square(states.size)[:, None]
    velocity_rate = config.velocity_noise**2
    states.position += dt_s * states.velocity
    states.var_position += dt_s * (2.0 * states.covariance + dt_s * states.var_velocity)
    states.var_position += variance_scale * (velocity_rate * dt_s**3 / 3.0)
    states.covariance += dt_s * states.var_velocity + variance_scale * (velocity_rate * dt_s**2 / 2.0)
    states.var_velocity += variance_scale * (velocity_rate * dt_s)


def correct(states: MotionStates, rows: npt.NDArray[np.int64], boxes_xyxy: FloatArray, config: MotionConfig) -> None:
    """Update the states at `rows` (unique indices) with the boxes measured for them, in place."""
    if len(rows) == 0:
        return
    measured = measure(boxes_xyxy)
    noise = np.square(config.measurement_std * _size(measured))[:, None]
    var_position, covariance = states.var_position[rows], states.covariance[rows]
    innovation = measured - states.position[rows]
    innovation_var = var_position + noise
    gain_position = var_position / innovation_var
    gain_velocity = covariance / innovation_var
    states.position[rows] += gain_position * innovation
    states.velocity[rows] += gain_velocity * innovation
    states.var_velocity[rows] -= gain_velocity * covariance
    states.var_position[rows] = gain_position * noise
    states.covariance[rows] = gain_velocity * noise
    states.size[rows] = _size(states.position[rows])


def stop_resizing(states: MotionStates, rows: npt.NDArray[np.int64]) -> None:
    """Zero the velocity of width and height at `rows`: an object out of sight is taken to keep its size.

    Extrapolating a size through an occlusion shrinks or inflates the box until nothing can match it again.
    """
    states.velocity[rows, 2:] = 0.0


def _size(position_cxcywh: FloatArray) -> FloatArray:
    sides = np.maximum(position_cxcywh[:, 2:], MIN_BOX_SIDE_PX)
    return np.asarray(np.sqrt(sides[:, 0] * sides[:, 1]))
