"""Options and arguments that several verbs share."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

from ..clip import Clip, load
from ..preprocess import Reading

Function = TypeVar("Function", bound=Callable[..., Any])


class ModelOptions:
    """What ``with_model`` collected; loads the model when asked."""

    def __init__(
        self, bundle: str, precision: str, device: str, threads: int | None, read: str
    ) -> None:
        self._arguments = (bundle, precision, device, threads)
        self._reading: Reading = "as_stored" if read == "as-stored" else "as_seen"

    def load(self) -> Clip:
        return load(*self._arguments, reading=self._reading)


def with_model(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a verb the options of a model, as one argument ``model``."""

    @click.option("--bundle", required=True, help="Folder that `bareclip export` made.")
    @click.option("--precision", default="auto", show_default=True, help="Such as fp32.")
    @click.option("--device", default="auto", show_default=True, help="auto, cpu, cuda or cuda:N.")
    @click.option("--threads", type=int, help="Default: the cores and quota this process has.")
    @click.option(
        "--read",
        type=click.Choice(["as-seen", "as-stored"]),
        default="as-seen",
        show_default=True,
        help="Apply orientation and transparency as a viewer does, or as the reference does not.",
    )
    def wrapped(
        bundle: str, precision: str, device: str, threads: int | None, read: str, **rest: Any
    ) -> Any:
        return verb(model=ModelOptions(bundle, precision, device, threads, read), **rest)

    wrapped.__doc__ = verb.__doc__
    wrapped.__name__ = verb.__name__
    # Options that decorate the verb itself were attached to it.
    wrapped.__click_params__ = [  # type: ignore[attr-defined]
        *getattr(wrapped, "__click_params__", []),
        *getattr(verb, "__click_params__", []),
    ]
    return wrapped


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def lines_or_list(value: str) -> list[str]:
    """Items of ``--labels``: the lines of a file, or what commas separate."""
    text = Path(value)
    if text.is_file():
        items = text.read_text(encoding="utf-8-sig").splitlines()
    else:
        items = value.split(",")
    return [item.strip() for item in items if item.strip()]
