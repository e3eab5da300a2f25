"""The settings of cgk_tasks, by concern; read once from the environment, `.env`, `.env.local` and running private
servers.
"""

from cgk_tasks.config.kinds import HOSTED_PROVIDERS, MAX_PAYLOAD_BYTES, AlertChannel, AlertKind, Isolation, ProviderName
from cgk_tasks.config.reading import SETTINGS, get_settings, misspelt_in_files, use_settings
from cgk_tasks.config.settings import CONCERNS, Settings

__all__ = [
    "CONCERNS",
    "HOSTED_PROVIDERS",
    "MAX_PAYLOAD_BYTES",
    "SETTINGS",
    "AlertChannel",
    "AlertKind",
    "Isolation",
    "ProviderName",
    "Settings",
    "get_settings",
    "misspelt_in_files",
    "use_settings",
]
