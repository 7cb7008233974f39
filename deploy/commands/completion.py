"""`fusebox completion`: scripts that complete verbs, options and names of functions."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from deploy.verb import Terminal, verb


@verb("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(terminal: Terminal, shell: str) -> None:
    """Print a shell's completion script.

    \b
    bash: eval "$(fusebox completion bash)"
    zsh:  eval "$(fusebox completion zsh)"
    fish: fusebox completion fish | source
    """
    from deploy.cli import main  # it imports this module

    kind = get_completion_class(shell)
    assert kind is not None, "click knows the three shells"
    script = kind(main, {}, "fusebox", "_FUSEBOX_COMPLETE").source()
    if terminal.is_json:
        terminal.line({"shell": shell, "script": script})
    else:
        click.echo(script)
