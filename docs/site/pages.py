"""What MkDocs is told about the pages: where links lead, and what the command says of itself."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from bareclip.cli.main import commands

README = '--8<-- "README.md"'
COMMANDS = "<!-- commands -->"


def on_page_markdown(markdown: str, page: Any, config: Any, **_: Any) -> str:
    """Called by MkDocs for each page."""
    repository = f"{config['repo_url']}/blob/main/"
    if README in markdown:
        # The start page is the README; what that names in docs/ lies beside it here.
        text = Path("README.md").read_text(encoding="utf-8")
        text = re.sub(r"\]\((?!https?://|#|docs/)([^)]+)\)", rf"]({repository}\1)", text)
        markdown = markdown.replace(README, text.replace("](docs/", "]("))
    if COMMANDS in markdown:
        parts = help_of(commands, click.Context(commands, info_name="bareclip"))
        markdown = markdown.replace(COMMANDS, "\n".join(parts))
    # Pages are read in the repository too, where links lead out of docs/.
    return re.sub(r"\]\(\.\./([^)]+)\)", rf"]({repository}\1)", markdown)


def help_of(command: click.Command, context: click.Context) -> Iterator[str]:
    """A section per verb, with what ``--help`` prints."""
    yield f"## {context.command_path}\n\n```text\n{command.get_help(context)}\n```\n"
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            verb = command.get_command(context, name)
            if verb is not None:
                yield from help_of(verb, click.Context(verb, parent=context, info_name=name))
