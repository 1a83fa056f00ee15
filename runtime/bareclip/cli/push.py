"""bareclip push: a bundle into a repository on the Hub."""

import click

from .. import BareclipError, Bundle, BundleError
from ..bundle.hub import is_name
from ..bundle.locate import find_bundle
from ..bundle.model_card import model_card
from ..bundle.upload import upload
from .output import say


@click.command()
@click.argument("bundle")
@click.argument("repository")
@click.option("--private", is_flag=True, help="Make a private repository.")
@click.option("--overwrite-card", is_flag=True, help="Replace the README.md that is there.")
def push(bundle: str, repository: str, private: bool, overwrite_card: bool) -> None:
    """Puts BUNDLE into REPOSITORY on the Hub, with a model card; makes the repository.

    Wants a token that may write: HF_TOKEN, or log in with: hf auth login.

    \b
    bareclip push clip-b32 someone/clip-b32
    bareclip classify cat.jpg --labels "cat,dog" --bundle someone/clip-b32
    """
    if not is_name(repository) or "@" in repository:
        raise BareclipError(f"{repository!r} is no name on the Hub; it is like someone/clip-b32")
    checked = Bundle.read(find_bundle(bundle))
    damaged = checked.damage()
    if damaged:
        raise BundleError(
            f"{bundle} is damaged, its checksums differ: {', '.join(damaged)}; nothing was "
            "pushed: copy or export it again"
        )
    names = list(checked.files())
    address = upload(
        checked.folder,
        names,
        repository,
        model_card(checked, repository),
        private=private,
        overwrite_card=overwrite_card,
    )
    size = sum(record.size for record in checked.files().values())
    say(f"{len(names) + 1} files, {size / 1e6:.1f} MB: {address}")
