"""The option by which commands agree on how they tell what they found."""

import click

from sidelong.help import option

__all__ = ["OUTPUT"]

OUTPUT = option(
    "--output",
    heading="Output",
    type=click.Choice(("table", "json")),
    help="For a person, or a JSON object a line for a program.  "
    "[default: table on a terminal, json in a pipe]",
)
