"""`cgk-tasks tenants quarantined`: the tenants on their error budget."""

from __future__ import annotations

import dataclasses

from cgk_tasks.cli.output import AsJson, examples, print_json, print_table, say

EXAMPLES = examples(
    "cgk-tasks tenants quarantined", "cgk-tasks resume --tenant acme --reason 'their key is valid again'"
)
_COLUMNS = ("tenant_id", "state", "began_at", "until", "runs", "failed")


def quarantined(as_json: AsJson = False) -> None:
    """List the tenants in quarantine, and those that come back from it at a tenth of their weight.

    To end one: cgk-tasks resume --tenant ID.
    """
    from cgk_tasks.config import get_settings
    from cgk_tasks.flow.quarantine import list_quarantines

    found = list_quarantines()
    if as_json:
        print_json(found)
    elif found:
        print_table([dataclasses.asdict(one) for one in found], _COLUMNS)
    else:
        say("No tenant is." if get_settings().quarantine else "No tenant is. To switch it on: CGK_QUARANTINE=true")
