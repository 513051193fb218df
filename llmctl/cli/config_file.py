"""The configuration that `init` writes."""

from __future__ import annotations

from collections.abc import Mapping

import tomli_w

from llmctl.config.presets import PRESETS, REGION, REGION_ENV, SANDBOX

HEAD = """\
# llmctl. What may stand here: config.example.toml, and `llmctl config check` after a change.
# Users, keys, limits and prices are not here: they are in the database, and commands change them.
"""
PROVIDERS = """
# Providers. A well-known name brings address, dialect and prices. Credentials stay where they are: here is only
# the name of the variable (credential_env) or of the file (credential_file) that holds one.
"""
NO_PROVIDER = """
# No provider's credential was in the environment. The sandbox answers without one, offline, at play prices.
# A real provider: set OPENAI_API_KEY (or another), then add its table:
#   [providers.openai]
#   credential_env = "OPENAI_API_KEY"
"""


def config_text(environ: Mapping[str, str], database: str) -> str:
    """TOML with every well-known provider whose credential and address are known here; without any, the sandbox."""
    region = next(filter(None, map(environ.get, REGION_ENV)), "")
    found = {
        name: {"credential_env": preset.credential_env, **({"region": region} if REGION in preset.base_url else {})}
        for name, preset in PRESETS.items()
        if preset.credential_env
        and preset.base_url  # else it is everybody's own, and unknown
        and environ.get(preset.credential_env, "").strip()
        and (region or REGION not in preset.base_url)
    }
    places = {"database": database, "timezone": "UTC"}
    server = {"server": {"listen": "127.0.0.1:4000", "admin_listen": "127.0.0.1:4001"}}
    parts = [HEAD, tomli_w.dumps(places), "\n", tomli_w.dumps(server)]
    if found:
        parts += [PROVIDERS, tomli_w.dumps({"providers": found})]
    else:
        parts += [NO_PROVIDER, f"[providers.{SANDBOX}]\n"]
    return "".join(parts)
