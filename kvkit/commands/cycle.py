from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from kvkit.commands.parameters import Flag
from kvkit.ending import Ending, refuse


def cycle(
    *,
    inventory: Annotated[list[str] | None, Parameter(name=["--inventory", "-i"], negative=())] = None,
    extra_vars: Annotated[list[str] | None, Parameter(name=["--extra-vars", "-e"], negative=())] = None,
    json: Annotated[bool, Flag] = False,
) -> Ending:
    """Run the whole cycle on the hosts of an inventory, and show how it goes: stages, hosts, the measurement.

    It runs playbooks/site.yml of a clone of kvkit. Ctrl-C lets the playbook put the service back.

    Exit codes: 0 done and valid, 1 wrong input, 2 done but INVALID, 3 could not finish.

    Parameters
    ----------
    inventory
        As for ansible-playbook; may be given more than once. Without it: the emulated engine on this machine.
    extra_vars
        As for ansible-playbook: KEY=VALUE, YAML, JSON or @FILE; may be given more than once.
    json
        One JSON object a line, for programs.
    """
    try:
        from kvkit import cycle as cycling
    except ImportError as error:
        return refuse(f"kvkit cycle needs Ansible: pip install 'kvkit[ansible]' ({error})")
    from kvkit.report.cycle import cycle_reporter

    try:
        with cycle_reporter(json=json) as reporter:
            return cycling.run(cycling.Asked(inventory or (), extra_vars or ()), reporter)
    except cycling.CycleError as error:
        return refuse(str(error))
