"""`bollard simulate NAME …`: start a simulator in the foreground; its own options follow."""

from __future__ import annotations

import importlib

import typer
from rich.markup import escape

from .output import err

_SIMULATORS = {
    "array": "an all-flash array: REST over HTTPS, NBD exports, snapshots, defects",
    "swift": "OpenStack Swift: tempauth, ranges, SLO, defects",
    "s3": "S3 (moto), objects in memory",
    "bmc": "a BMC: IPMI 2.0 over LAN, with a hook that switches the host, and defects",
    "management": "a management server, for `bollard agent`: TLS, frames, commands from files, defects",
    "hypervisor": "hosts of KVM, VMware, XenServer or Hyper-V with VMs that write real blocks",
}

app = typer.Typer(
    help="Start a simulator in the foreground; `bollard simulate NAME --help` shows its options.",
    no_args_is_help=True,
)


def _add(name: str, what: str) -> None:
    # Only the simulator knows its options: they are passed on untouched, --help included.
    passing_on = {"allow_extra_args": True, "ignore_unknown_options": True, "help_option_names": []}

    @app.command(name, help=f"Simulate {what}.", context_settings=passing_on)
    def run(ctx: typer.Context) -> None:
        module = "" if name == "s3" else ".__main__"
        main = importlib.import_module(f"..simulators.{name}{module}", __package__).main
        try:
            code = main(ctx.args)
        except RuntimeError as error:  # another one serves this directory already
            err.print(f"[red]error[/red]: {escape(str(error))}", soft_wrap=True)
            code = 1
        raise typer.Exit(code or 0)


for _name, _what in _SIMULATORS.items():
    _add(_name, _what)
