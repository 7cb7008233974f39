"""`fusebox`: every verb is a module that is imported when it is used."""

from __future__ import annotations

from importlib import import_module

import click

_VERBS = {
    "up": ("deploy.up:up_command", "Run the platform in the foreground until Ctrl-C."),
    "worker": ("deploy.commands.worker:worker", "Run workers for a platform on another machine."),
    "deploy": ("deploy.commands.deploy:deploy", "Package a model and deploy it."),
    "invoke": ("deploy.commands.invoke:invoke", "Call a function."),
    "ls": ("deploy.commands.functions:ls", "List the deployed functions."),
    "describe": ("deploy.commands.functions:describe", "Show one function."),
    "dag": ("deploy.commands.dag:dag", "Draw the fused DAG of functions."),
    "load": ("deploy.commands.loading:load", "Bring a function's weights in, and keep them."),
    "unload": ("deploy.commands.loading:unload", "Take a function's weights out of memory."),
    "logs": ("deploy.commands.functions:logs", "Show what a function printed and raised."),
    "rm": ("deploy.commands.functions:rm", "Take a function out of service."),
    "alias": ("deploy.commands.alias:alias", "Name versions, and move the names."),
    "rollback": ("deploy.commands.alias:rollback", "Move an alias back to what it was before."),
    "jobs": ("deploy.commands.jobs:jobs", "Show, await or cancel jobs."),
    "dlq": ("deploy.commands.dlq:dlq", "Show, run again or remove dead letters."),
    "webhooks": ("deploy.commands.webhooks:webhooks", "Show or rotate the webhooks' secret."),
    "triggers": (
        "deploy.commands.triggers:triggers",
        "Call functions at times, for files, entries and events.",
    ),
    "keys": ("deploy.commands.keys:keys", "Make, list and revoke API keys."),
    "top": ("deploy.commands.top:top", "Watch functions and workers live."),
    "completion": ("deploy.commands.completion:completion", "Print a shell's completion script."),
}


class LazyVerbs(click.Group):
    """A group that knows its verbs by name and summary, and imports the one that runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The verbs in the order in which they are met."""
        return list(_VERBS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one verb."""
        if cmd_name not in _VERBS:
            return None
        module, _, attribute = _VERBS[cmd_name][0].partition(":")
        command: click.Command = getattr(import_module(module), attribute)
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list of verbs, without importing them."""
        with formatter.section("Verbs"):
            formatter.write_dl([(name, summary) for name, (_, summary) in _VERBS.items()])


@click.command(cls=LazyVerbs, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="fusebox", message="%(version)s")
def main() -> None:
    """Functions as a service for PyTorch models.

    Exit codes: 0 done, 1 the function, the job or the packaging failed, 2 wrong usage or input,
    3 not found, 4 unreachable or too busy, 5 too late.
    """


if __name__ == "__main__":
    main()
