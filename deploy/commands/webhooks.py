"""`fusebox webhooks secret`: what webhooks are signed with."""

from __future__ import annotations

import click

from deploy.verb import Terminal, verb


@click.group("webhooks")
def webhooks() -> None:
    """Show or rotate the secret that webhooks are signed with."""


@verb("secret")
@click.option("--rotate", "is_rotated", is_flag=True, help="Make a new one first.")
def secret(terminal: Terminal, is_rotated: bool) -> None:
    """Print the secrets that are valid, the newest first."""
    with terminal.client() as client:
        record = client.admin.webhook_secrets(is_rotated)
    terminal.show(record, lambda: "\n".join(record["secrets"]))


webhooks.add_command(secret)
