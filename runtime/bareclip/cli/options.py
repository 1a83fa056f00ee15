"""Options and arguments that several verbs share."""

import os
from collections.abc import Callable
from functools import partial, wraps
from pathlib import Path
from typing import Any

import click

from .. import BareclipError, Clip, DeviceError, Index, Reading, load
from ..bundle import TOWERS
from ..files import is_own, read_lines
from ..images.folders import EXCLUDED
from ..images.limits import MAX_PIXELS
from ..index.filters import FILTERS, Filter
from ..scoring.zero_shot import checked_templates
from .output import complain
from .standard_input import DASH, lines_of, typed

DEMO_NOTICE = (
    "this is the demo model, which knows drawn emoji and shapes and no photos; "
    "for a real one: bareclip export openai/clip-vit-base-patch32 -o clip-b32, "
    "then --bundle clip-b32"
)


class ModelOptions:
    """What ``with_model`` collected; loads the model when asked."""

    def __init__(
        self,
        bundle: str | None,
        precision: str,
        device: str,
        threads: int | None,
        read: str,
        max_pixels: int,
        cache: bool,
        language: str | None,
    ) -> None:
        self._bundle = bundle
        self._precision = _each_tower(precision)
        self._device, self._threads, self._cache = device, threads, cache
        self._max_pixels, self._language = max_pixels, language
        self._reading: Reading = "as_stored" if read == "as-stored" else "as_seen"

    def load(self, *towers: str) -> Clip:
        """The model; with towers named, those alone."""
        return self.loader(*towers)()

    def loader(self, *towers: str, threads: int | None = None) -> Callable[[], Clip]:
        """What loads the model, in this process or another; ``threads`` where none were given."""
        if self._bundle is None:
            complain(DEMO_NOTICE)
        return partial(
            load,
            self._bundle,
            towers=towers or TOWERS,
            precision=self._precision,
            device=self._device,
            threads=self._threads or threads,
            reading=self._reading,
            max_pixels=self._max_pixels,
            cache=self._cache,
            language=self._language,
        )


def _each_tower(precision: str) -> str | dict[str, str]:
    """``int8``, or ``vision=int8,text=fp32``."""
    if "=" not in precision:
        return precision
    return dict(part.strip().partition("=")[::2] for part in precision.split(","))


device_option = click.option(
    "--device",
    default="auto",
    show_default=True,
    help="auto, cpu, cuda, cuda:N, cuda:N,M or openvino.",
)
threads_option = click.option(
    "--threads", type=int, help="Default: as many as this process has cores, or its quota of them."
)


language_option = click.option(
    "--language",
    help="Of texts, such as kor_Hang, for models that want it named, as NLLB-CLIPs. Default: the "
    "model's own, as a rule eng_Latn.",
)
max_pixels_option = click.option(
    "--max-pixels",
    type=click.IntRange(min=1),
    default=MAX_PIXELS,
    show_default=True,
    help="Refuse pictures of which more would be decoded.",
)


def with_model(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a verb, which has a parameter ``bundle``, a loaded-on-demand ``model`` instead."""

    @click.option(
        "--precision",
        default="auto",
        show_default=True,
        help="One the bundle has, such as int8; or one per tower: vision=int8,text=fp32; "
        "or bf16, on openvino.",
    )
    @device_option
    @threads_option
    @click.option(
        "--read",
        type=click.Choice(["as-seen", "as-stored"]),
        default="as-seen",
        show_default=True,
        help="Pictures as a viewer shows them, turned upright and over white; or as the reference "
        "processors read them.",
    )
    @max_pixels_option
    @click.option(
        "--cache/--no-cache",
        default=True,
        help="Keep large towers, to start sooner: see bareclip cache.",
    )
    @language_option
    def wrapped(
        bundle: str | None,
        precision: str,
        device: str,
        threads: int | None,
        read: str,
        max_pixels: int,
        cache: bool,
        language: str | None,
        **rest: Any,
    ) -> Any:
        model = ModelOptions(bundle, precision, device, threads, read, max_pixels, cache, language)
        return verb(model=model, **rest)

    wrapped.__doc__ = verb.__doc__
    wrapped.__name__ = verb.__name__
    # Options that decorate the verb itself were attached to it.
    wrapped.__click_params__ = [  # type: ignore[attr-defined]
        *getattr(wrapped, "__click_params__", []),
        *getattr(verb, "__click_params__", []),
    ]
    return wrapped


def load_indexed(
    db: Path,
    bundle: str | None,
    precision: str | None,
    read: str | None,
    device: str,
    threads: int | None,
    max_pixels: int = MAX_PIXELS,
    language: str | None = None,
) -> Clip:
    """Loads the model that an index was made with; what is given goes before what it says.

    Raises:
        BareclipError: A new index, and no bundle given.
    """
    reading: Reading = "as_stored" if read == "as-stored" else "as_seen"
    chosen = _each_tower(precision or "auto")
    if db.exists():
        with Index.open(db) as index:
            made_by, remembered = index.made_by, index.bundle
        # Somebody else's index may name any bundle, whose graphs would be run.
        if bundle is None and remembered is not None and not is_own(db):
            raise BareclipError(
                f"{db} is not yours alone, and says it was made with {remembered}: if you trust "
                f"that, give --bundle {remembered}"
            )
        bundle = bundle or remembered
        reading = reading if read else made_by.reading
        chosen = chosen if precision else {"vision": made_by.precision}
    if bundle is None:
        raise BareclipError(
            "no --bundle given, and the demo model knows no photos: make a real one with "
            "bareclip export openai/clip-vit-base-patch32 -o clip-b32, then --bundle clip-b32"
        )
    found = partial(
        load,
        bundle,
        device=device,
        threads=threads,
        reading=reading,
        max_pixels=max_pixels,
        language=language,
    )
    try:
        return found(precision=chosen)
    except DeviceError:
        if precision or chosen == "auto":
            raise
        # An index of fp16, made on a GPU, can be asked by text anywhere.
        return found()


bundle_option = click.option(
    "--bundle", help="Folder that `bareclip export` made, or owner/name. Default: the demo model."
)
index_bundle_option = click.option(
    "--bundle",
    help="Folder that `bareclip export` made, or owner/name. "
    "Default: the one the index was made with.",
)
classifier_option = click.option(
    "--classifier",
    "saved",
    type=click.Path(path_type=Path),
    help="A file that `bareclip teach`, or Classifier.save, wrote, in place of --labels.",
)
db_argument = click.argument("db", type=click.Path(path_type=Path))
json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def filter_options(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a verb a parameter ``filters``: which items of an index count.

    A mistyped one is said before a model is loaded.
    """

    @wraps(verb)
    def wrapped(**given: Any) -> Any:
        filters: Any = {name: given.pop(name) for name in FILTERS}
        Filter.of(**filters)
        return verb(filters=filters, **given)

    found: Callable[..., Any] = wrapped
    for name, text in reversed(FILTERS.items()):
        metavar = "DATE" if name in ("after", "before") else None
        found = click.option(f"--{name}", metavar=metavar, help=text)(found)
    return found


def exclude_option(verb: Callable[..., Any]) -> Callable[..., Any]:
    """Gives a verb a parameter ``exclude``: patterns of what is left out of folders."""

    def remember(ctx: click.Context, _: click.Parameter, hidden: bool) -> None:
        ctx.meta["bareclip.hidden"] = hidden

    def complete(
        ctx: click.Context, _: click.Parameter, patterns: tuple[str, ...]
    ) -> tuple[str, ...]:
        return patterns if ctx.meta["bareclip.hidden"] else (*EXCLUDED, *patterns)

    exclude = click.option(
        "--exclude",
        multiple=True,
        metavar="PATTERN",
        callback=complete,
        help="Leave out of folders the files and folders of such names or paths, as *.png or "
        "2019/raw. May be given several times.",
    )
    hidden = click.option(
        "--hidden",
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=remember,
        help="Do not leave out @eaDir and names that begin with a dot.",
    )
    return exclude(hidden(verb))


def check_not_given(beside: str, *names: str) -> None:
    """Refuses options that another leaves no place for.

    Raises:
        UsageError: One was given.
    """
    ctx = click.get_current_context()
    for name in names:
        if ctx.get_parameter_source(name) not in (None, click.core.ParameterSource.DEFAULT):
            option = name.replace("_", "-")
            raise click.UsageError(f"{beside} leaves no place for --{option}.")


def check_output(path: Path | None, ending: str) -> None:
    """Refuses a file that cannot be written, before anything is asked.

    Raises:
        BareclipError: It has another ending, or there is no such folder.
    """
    if path is not None and (path.suffix != ending or not path.parent.is_dir()):
        raise BareclipError(f"cannot write {path}: give a {ending} file in a folder that exists")


def labels_of(value: str) -> list[str]:
    """Labels as ``--labels`` has them: the lines of a file, or what commas separate.

    Raises:
        BareclipError: It looks like a file, and there is none of that name.
    """
    # Not Path.is_file(), which raises where a list is too long to be a name.
    if value == DASH or os.path.isfile(value):  # noqa: PTH113
        return lines_of(value)
    items = [item.strip() for item in typed(value).split(",") if item.strip()]
    if len(items) == 1 and (items[0].lower().endswith(".txt") or os.sep in items[0]):
        raise BareclipError(
            f"there is no file {items[0][:60]!r}; --labels wants a file with one label per line, "
            "or labels with commas between them"
        )
    return items


def templates_argument(argument: str) -> tuple[Any, ...]:
    """Templates named on a command line: a set, one template, or a file of them.

    Raises:
        TextError: As for ``checked_templates``, or the file cannot be read.
    """
    # Not Path.is_file(), which raises where an argument is too long to be a name.
    if os.path.isfile(argument):  # noqa: PTH113
        return checked_templates(read_lines(Path(argument)))
    return checked_templates(argument)
