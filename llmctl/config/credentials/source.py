"""Where the providers' credentials are read from, and how the configuration says so."""

from __future__ import annotations

from typing import NamedTuple

from llmctl.domain.errors import ConfigError

from ..presets import AUTHS, AWS_KEY_ENV, SIGV4, Preset
from ..secret import of_file, of_variable
from ..toml_table import Table, is_base_url
from .entra import AUTHORITY, SCOPE, Entra, is_name
from .oauth import Grant


class CredentialSource(NamedTuple):
    """Where a provider's credential is read from; never the credential itself."""

    env: str = ""  # a variable, or several with colons between them: so their values are joined too
    file: str = ""
    weight: int = 1
    entra: Entra | None = None  # what is read is a client's secret, with which tokens are asked for here
    service_account: bool = False  # what is read is the key file of one, with which tokens are asked for

    @property
    def is_exchanged(self) -> bool:
        """For tokens; else the credential itself is shown."""
        return self.service_account or self.entra is not None

    def check(self) -> None:
        """Raises ConfigError: it is not there, or cannot be used."""
        if self.grant() is None:
            self.read()

    def grant(self) -> Grant | None:
        """How a token is asked for, if one is. Raises ConfigError."""
        if self.service_account:
            from .service_account import read_account  # late: commands read this table, and start the sooner

            return read_account(self._text()[0], self.file).grant()
        return self.entra.grant(self.read()) if self.entra else None

    def read(self) -> str:
        """The credential. Raises ConfigError if it is not there or cannot be a header value."""
        value, place = self._text()
        if not value:
            raise ConfigError(f"no credential: {place} is empty or not set", hint="set it, then start again")
        if not value.isascii() or not value.isprintable():
            raise ConfigError(f"{place} does not hold a credential", hint="it must be printable ASCII on one line")
        return value

    def _text(self) -> tuple[str, str]:
        """What is there, and where that is."""
        if not self.env:
            return of_file(self.file), self.file
        value = ":".join(map(of_variable, self.env.split(":"))).rstrip(":")
        return value, f"the environment variable {self.env}"


class Shown(NamedTuple):
    """What a provider is shown, and how; "" = as the dialect's own clients show theirs."""

    auth: str
    sources: tuple[CredentialSource, ...]


def read_credentials(table: Table, preset: Preset | None, base_url: str) -> Shown:
    """Of one provider's table. Raises ConfigError."""
    if tokens := _entra(table) or _service_account(table):
        return Shown("bearer", tokens)
    default = preset.auth if preset else ""
    auth = table.choice("auth", default, AUTHS) if "auth" in table.names() else default
    return Shown(auth, _credentials(table) or _default_credentials(preset, base_url, auth))


def _credentials(table: Table) -> tuple[CredentialSource, ...]:
    env, file = table.env_name("credential_env"), table.file("credential_file", "")
    sources = [CredentialSource(env=env)] if env else []
    if file:
        sources.append(CredentialSource(file=file))
    for item in table.tables("credentials"):
        weight = item.integer("weight", 1, least=1, most=1000)
        env, file = item.env_name("env"), item.file("file", "")
        if bool(env) == bool(file):
            raise item.error("", "a credential needs env or file", '{ env = "OPENAI_API_KEY", weight = 1 }')
        sources.append(CredentialSource(env, file, weight))
        item.finish()
    return tuple(sources)


def _default_credentials(preset: Preset | None, base_url: str, auth: str) -> tuple[CredentialSource, ...]:
    """A preset's own variable, unless the address was changed: no provider's credential goes to another's server."""
    if preset is None or not preset.credential_env or preset.base_url not in ("", base_url):
        return ()
    return (CredentialSource(env=AWS_KEY_ENV if auth == SIGV4 else preset.credential_env),)


def _entra(table: Table) -> tuple[CredentialSource, ...]:
    """`entra = { tenant_id = ..., client_id = ..., secret_env = ... }`, instead of any other credential."""
    if "entra" not in table.names():
        return ()
    _refuse_others(table, "entra")
    inner = table.table("entra")
    tenant, client = (inner.string(name, "") for name in ("tenant_id", "client_id"))
    for name, value in (("tenant_id", tenant), ("client_id", client)):
        if not is_name(value):
            raise inner.error(name, "is not the name or id of one", f'{name} = "00000000-0000-0000-0000-000000000000"')
    authority = inner.string("authority", AUTHORITY).rstrip("/")
    if not is_base_url(authority):
        raise inner.error("authority", "is no URL", f'authority = "{AUTHORITY}"')
    env, file = inner.env_name("secret_env"), inner.file("secret_file", "")
    if bool(env) == bool(file):
        raise inner.error("", "needs secret_env or secret_file", 'secret_env = "AZURE_CLIENT_SECRET"')
    entra = Entra(authority, tenant, client, inner.string("scope", SCOPE))
    inner.finish()
    return (CredentialSource(env, file, entra=entra),)


def _service_account(table: Table) -> tuple[CredentialSource, ...]:
    """`service_account_file = "..."`, instead of any other credential."""
    if "service_account_file" not in table.names():
        return ()
    _refuse_others(table, "service_account_file")
    return (CredentialSource(file=table.file("service_account_file", ""), service_account=True),)


def _refuse_others(table: Table, name: str) -> None:
    for other in ("auth", "credential_env", "credential_file", "credentials", "entra", "service_account_file"):
        if other != name and other in table.names():
            raise table.error(other, f"does not go with {name}", f"leave out {other}, or {name}")
