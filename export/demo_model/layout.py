"""Draws where things go in a picture."""

from __future__ import annotations

import numpy as np

from demo_model.draw import Pose, Ranges, draw_from

SHAPE_TURN = 12.0
"""Degrees: a square turned by 45 would be a diamond."""


def draw_pose(ranges: Ranges, rng: np.random.Generator, largest: float = 2.0) -> Pose:
    """Draws where one thing goes; a thing larger than the picture stays near its centre."""
    share = min(draw_from(ranges.shares, rng), largest)
    turn = draw_from(ranges.turns, rng) * (1 if rng.random() < 0.5 else -1)
    room = max(0.5 - share / 2, 0.0) + 0.04
    return Pose(
        x=0.5 + rng.uniform(-room, room),
        y=0.5 + rng.uniform(-room, room),
        share=share,
        turn=turn,
        aspect=1 + rng.uniform(-ranges.shear, ranges.shear),
        shear=rng.uniform(-ranges.shear, ranges.shear),
        mirrored=bool(rng.random() < 0.5),
    )


def draw_shape_pose(rng: np.random.Generator) -> Pose:
    """Draws where a single shape goes."""
    share = rng.uniform(0.35, 0.8)
    room = 0.5 - share / 2
    turn = rng.uniform(-SHAPE_TURN, SHAPE_TURN)
    return Pose(0.5 + rng.uniform(-room, room), 0.5 + rng.uniform(-room, room), share, turn)


def spread_poses(count: int, rng: np.random.Generator) -> list[Pose]:
    """Draws poses that do not touch, one for each of `count` equal things."""
    cells = 2 if count <= 4 and rng.random() < 0.6 else 3
    chosen = rng.choice(cells * cells, size=count, replace=False)
    share = rng.uniform(0.55, 0.75) / cells
    room = (1 / cells - share) / 2
    return [
        Pose(
            x=(cell % cells + 0.5) / cells + rng.uniform(-room, room),
            y=(cell // cells + 0.5) / cells + rng.uniform(-room, room),
            share=share,
            turn=rng.uniform(-SHAPE_TURN, SHAPE_TURN),
        )
        for cell in chosen
    ]


_OFFSETS = {
    "left of": (-1.0, 0.0),
    "right of": (1.0, 0.0),
    "above": (0.0, -1.0),
    "below": (0.0, 1.0),
}


def related_poses(
    relation: str, shares: tuple[float, float], rng: np.random.Generator
) -> tuple[Pose, Pose]:
    """Draws poses for two things of which the first stands in `relation` to the second."""
    across, down = _OFFSETS[relation]
    poses = []
    for sign in (1.0, -1.0):
        jitter = rng.uniform(-0.05, 0.05, 2)
        poses.append(
            Pose(
                x=0.5 + sign * across * 0.25 + jitter[0],
                y=0.5 + sign * down * 0.25 + jitter[1],
                share=rng.uniform(*shares),
                turn=rng.uniform(-SHAPE_TURN, SHAPE_TURN),
            )
        )
    return poses[0], poses[1]
