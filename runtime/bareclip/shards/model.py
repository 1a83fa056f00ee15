"""The model of a run: written by the first to embed, and no other is let in."""

import json
from dataclasses import asdict

from ..clip import Clip
from ..encoders.fingerprint import Fingerprint
from ..errors import ShardError, StoreError
from .places import Place
from .plans import Plan


def read_model(plan: Plan) -> Fingerprint | None:
    """What the run's vectors are made with; None where nothing was embedded yet.

    Raises:
        ShardError: ``model.json`` is damaged.
    """
    place = _place(plan)
    if place.info() is None:
        return None
    try:
        return Fingerprint.parse(place.read())
    except ValueError as error:
        raise ShardError(f"{place.uri} is damaged: it has {error}") from error


def claim_model(plan: Plan, clip: Clip) -> Fingerprint:
    """Has a run be of a model, if it is of none yet.

    Raises:
        ShardError: It is of another.
    """
    given = Fingerprint.of(clip, plan.info.decoding)
    found = read_model(plan)
    if found is None:
        _place(plan).write((json.dumps(asdict(given), indent=2) + "\n").encode(), new=True)
        found = read_model(plan) or given  # another may have come first
    check_model(plan, found, given)
    return found


def check_model(plan: Plan, found: Fingerprint, given: Fingerprint, *, texts: bool = False) -> None:
    """Refuses another model than the run's.

    Args:
        plan: The run's.
        found: The run's model.
        given: What is to embed.
        texts: It is to embed texts alone, which it may at any precision.

    Raises:
        ShardError: They differ; names the first difference.
    """
    try:
        (found.check_texts if texts else found.check)(given, plan.out)
    except StoreError as error:
        said = str(error).replace("make a new index", "plan a new run")
        raise ShardError(
            said.replace("index the photos into a new file", "plan a new run")
        ) from error


def _place(plan: Plan) -> Place:
    return plan.place / "model.json"
