"""config.toml: what it may say, and that every mistake in it is told with its line, its key and what to write."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from llmctl import config
from llmctl.config import Config
from llmctl.config.credentials.source import CredentialSource
from llmctl.config.presets import PRESETS
from llmctl.config.server import Address, parse_address
from llmctl.domain.bounds import Bounds
from llmctl.domain.errors import BadInput, ConfigError

SECRET = "sk-proj-4mTq8ZbV0sKd2RfXh6YpLw9c"

Load = Callable[[str], Config]


@pytest.fixture
def load(tmp_path: Path) -> Load:
    """Loads a configuration from text."""

    def loaded(text: str) -> Config:
        path = tmp_path / "config.toml"
        path.write_text(text, encoding="utf-8")
        return config.load(path)

    return loaded


@pytest.fixture
def mistake(load: Load) -> Callable[[str], str]:
    """Loads a configuration that must fail, and returns what the admin is told."""

    def told(text: str) -> str:
        with pytest.raises(ConfigError) as caught:
            load(text)
        assert caught.value.hint, "every error says what to write"
        return str(caught.value)

    return told


# ---- what may stand in it ----


def test_an_empty_file_is_a_configuration(load: Load, tmp_path: Path) -> None:
    loaded = load("")
    assert loaded == Config(path=tmp_path / "config.toml", database=tmp_path / "llmctl.db")
    assert str(loaded.server.listen) == "127.0.0.1:4000", "nobody else's machine is served unasked"
    assert loaded.server.synchronous == "FULL"


def test_every_entry_is_read(load: Load, tmp_path: Path) -> None:
    loaded = load("""
        database = "data/books.db"
        timezone = "Asia/Kathmandu"
        [server]
        listen = "0.0.0.0:80"
        admin_listen = "[::1]:4001"
        workers = 4
        body_bytes_max = 1_048_576
        body_bytes_inflight_max = 10_485_760
        on_disconnect = "cancel"
        synchronous = "NORMAL"
        timeouts = { connect_s = 1, read_s = 2.5, drain_s_max = 3, shutdown_s = 4 }
        [demand]
        output_tokens_default = 1
        output_tokens_min = 2
        context_tokens_default = 3
        server_tool_turns_max = 4
        cap_share_percent = 5
        unbounded = "refuse"
        [aliases]
        fast = "openai/gpt-5-mini"
        "gpt-4.1" = "gpt-5"
        [providers.local]
        dialect = ["openai", "anthropic"]
        base_url = "http://127.0.0.1:18080/v1/"
        models = ["tiny-*", "x"]
        catalogue = "openai"
        prompt_overhead_tokens = 0
        output_fields = { "chat.completions" = "max_completion_tokens" }
    """)
    assert loaded.database == tmp_path / "data/books.db"
    assert loaded.timezone == "Asia/Kathmandu"
    server, timeouts = loaded.server, loaded.server.timeouts
    assert (str(server.listen), str(server.admin_listen), server.workers) == ("0.0.0.0:80", "[::1]:4001", 4)
    assert (server.body_bytes_max, server.body_bytes_inflight_max) == (1 << 20, 10 << 20)
    assert (server.on_disconnect, server.synchronous) == ("cancel", "NORMAL")
    assert (timeouts.connect_s, timeouts.read_s, timeouts.drain_s_max, timeouts.shutdown_s) == (1, 2.5, 3, 4)
    assert loaded.bounds == Bounds(1, 2, 3, 4, 5, "refuse")
    assert loaded.aliases == {"fast": "openai/gpt-5-mini", "gpt-4.1": "gpt-5"}
    local = loaded.providers["local"]
    assert local.base_urls == dict.fromkeys(("openai", "anthropic"), "http://127.0.0.1:18080/v1")
    assert (local.models, local.catalogue, local.prompt_overhead_tokens) == (("tiny-*", "x"), "openai", 0)
    assert local.output_field("chat.completions") == "max_completion_tokens"
    assert local.output_field("responses") == "max_output_tokens"
    assert not local.credentials and not local.is_sandbox


@pytest.mark.parametrize("name", sorted(PRESETS))
def test_a_well_known_provider_needs_no_more_than_its_name(
    load: Load, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    own = "" if PRESETS[name].base_url or name == "sandbox" else 'base_url = "https://mine.example/api"'
    provider, preset = load(f"[providers.{name}]\n{own}").providers[name], PRESETS[name]
    assert (provider.dialects, provider.catalogue) == (frozenset(preset.dialects), preset.catalogue)
    assert all(url.startswith(preset.base_url[:12]) for url in provider.base_urls.values())
    assert provider.credentials == ((CredentialSource(env=preset.credential_env),) if preset.credential_env else ())


def test_bedrock_has_an_address_for_each_region(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_REGION", "eu-west-1")
    provider = load('[providers.bedrock]\nregion = "us-gov-west-1"').providers["bedrock"]
    assert provider.base_urls == {
        "bedrock": "https://bedrock-runtime.us-gov-west-1.amazonaws.com",
        "openai": "https://bedrock-runtime.us-gov-west-1.amazonaws.com/openai/v1",
    }
    assert provider.credentials == (CredentialSource(env="AWS_BEARER_TOKEN_BEDROCK"),)
    assert load("[providers.bedrock]").providers["bedrock"].region == "eu-west-1"
    elsewhere = load('[providers.bedrock]\nbase_url = "https://mine.example"').providers["bedrock"]
    assert (elsewhere.region, elsewhere.credentials) == ("", ())


def test_an_arn_is_priced_as_the_model_that_it_names(load: Load) -> None:
    own = "arn:aws:bedrock:us-east-1:1:application-inference-profile/x1"
    text = (
        f'[providers.bedrock]\nregion = "us-east-1"\n[providers.bedrock.deployments]\n"{own}" = "us.anthropic.claude-b"'
    )
    provider = load(text).providers["bedrock"]
    assert provider.sold_as(own) == "us.anthropic.claude-b"
    assert provider.sold_as("arn:aws:bedrock:us-east-1::foundation-model/meta.llama3-v1:0") == "meta.llama3-v1:0"
    assert provider.sold_as("arn:aws:bedrock:eu-west-1:1:inference-profile/eu.amazon.nova-x") == "eu.amazon.nova-x"
    assert provider.sold_as("global.amazon.nova-x") == "global.amazon.nova-x"


def test_an_aws_key_is_read_from_the_variables_of_its_own_sdk(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    provider = load('[providers.bedrock]\nregion = "us-east-1"\nauth = "sigv4"').providers["bedrock"]
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIA")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.delenv("AWS_SESSION_TOKEN", raising=False)
    assert provider.credentials[0].read() == "AKIA:secret"
    monkeypatch.setenv("AWS_SESSION_TOKEN", "token=")
    assert provider.credentials[0].read() == "AKIA:secret:token="
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN"):
        monkeypatch.delenv(name)
    with pytest.raises(ConfigError, match="empty or not set"):
        provider.credentials[0].read()


def test_a_second_account_of_a_well_known_provider_has_a_name_of_its_own(load: Load) -> None:
    provider = load('[providers.mistral-eu]\npreset = "mistral"\ncredential_env = "OTHER"').providers["mistral-eu"]
    assert (provider.base_urls, provider.catalogue) == ({"openai": "https://api.mistral.ai/v1"}, "mistral")
    assert provider.credentials == (CredentialSource(env="OTHER"),)


def test_the_sandbox_that_serve_adds_is_the_one_of_the_file(load: Load) -> None:
    assert load("[providers.sandbox]").providers["sandbox"] == config.sandbox_provider()
    assert config.sandbox_provider().is_sandbox


def test_the_order_of_providers_is_that_of_the_file(load: Load) -> None:
    assert list(load("[providers.openrouter]\n[providers.anthropic]\n[providers.openai]").providers) == [
        "openrouter", "anthropic", "openai",
    ]  # fmt: skip


@pytest.mark.parametrize("database", ["books.db", "./books.db", "../here/books.db"])
def test_the_database_lies_beside_the_configuration_wherever_one_stands(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    (tmp_path / "here").mkdir()
    (tmp_path / "here/config.toml").write_text(f'database = "{database}"')
    monkeypatch.chdir(tmp_path)
    assert config.load(Path("here/config.toml")).database.resolve() == tmp_path / "here/books.db"


def test_the_database_may_be_absolute_or_at_home_or_named_by_the_caller(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    assert load('database = "/var/lib/llmctl/llmctl.db"').database == Path("/var/lib/llmctl/llmctl.db")
    assert load('database = "~/llmctl.db"').database == Path("/home/alice/llmctl.db")
    assert config.load(tmp_path / "config.toml", database=Path("other.db")).database == Path("other.db")


# ---- mistakes ----

LOCAL = '[providers.local]\ndialect = "openai"\nbase_url = "http://127.0.0.1/v1"\n'


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        # unknown keys, on every level
        ("timezon = 'UTC'", 1, 'unknown key "timezon"; write "timezone"'),
        ("\n[sever]\nlisten = ':80'", 2, 'unknown key "sever"; write "server"'),
        ('[providers.openai]\n# my key\ncredental_env = "X"', 3, 'unknown key "credental_env"; write "credential_env"'),
        ("[server]\nworkers = 1\n[server.timeouts]\nconect_s = 1", 4, 'unknown key "conect_s"; write "connect_s"'),
        ("[demand]\nzzz = 1", 2, 'unknown key "zzz"; known here: cap_share_percent, context_tokens_default, '),
        ("[providers.openai]\noutput_fields.chat = 'x'", 2, 'unknown key "chat"; known here: chat.completions, '),
        ("[providers.openai]\noutput_fields.response = 'x'", 2, 'unknown key "response"; write "responses"'),
        ("[[providers.openai.credentials]]\nenv = 'A'\nwight = 2", 3, 'unknown key "wight"; write "weight"'),
        # wrong types
        ("database = 1", 1, 'database: must be text in quotes; database = "llmctl.db"'),
        ("timezone = ['UTC']", 1, "timezone: must be text in quotes"),
        ("server = 4000", 1, "server: must be a table; [server]"),
        ("providers = ['openai']", 1, "providers: must be a table; [providers]"),
        ("[providers]\nopenai = true", 2, "providers.openai: must be a table; [providers.openai]"),
        ("[server]\nworkers = '2'", 2, "server.workers: must be a whole number from 1 to 64; workers = 1"),
        ("[server]\nworkers = true", 2, "server.workers: must be a whole number"),
        ("[server]\nworkers = 2.0", 2, "server.workers: must be a whole number"),
        ("[server.timeouts]\nread_s = '30'", 2, "server.timeouts.read_s: must be seconds, from more than 0 to 86400"),
        ("[providers.openai]\nmodels = 1", 2, "providers.openai.models: must be text or a list of texts"),
        ("[providers.openai]\nmodels = ['a', 1]", 2, "providers.openai.models: must be text or a list of texts"),
        ("[providers.openai]\ncredentials = { env = 'A' }", 2, "providers.openai.credentials: must be a list of"),
        ("[providers.openai]\ncredentials = ['A']", 2, "providers.openai.credentials: must be a list of tables"),
        ("[aliases]\nfast = 1", 2, "aliases.fast: must be text in quotes"),
        ("[aliases]\ngpt-4.1 = 'x'", 2, 'aliases.gpt-4: a name with a dot in it needs quotes; "gpt-4.1" = "..."'),
        # values out of range
        ("timezone = 'Berlin'", 1, "timezone: unknown time zone 'Berlin'; write an IANA name such as Europe/Berlin"),
        ("[server]\nworkers = 0", 2, "server.workers: must be a whole number from 1 to 64"),
        ("[server]\nworkers = 65", 2, "server.workers: must be a whole number from 1 to 64"),
        ("[server]\nbody_bytes_max = 0", 2, "server.body_bytes_max: must be a whole number from 1024"),
        ("[server]\non_disconnect = 'Drain'", 2, "server.on_disconnect: 'Drain' is not possible; write one of drain, "),
        ("[server]\nsynchronous = 'OFF'", 2, "server.synchronous: 'OFF' is not possible; write one of FULL, "),
        ("[server]\nlisten = '4000'", 2, "server.listen: '4000' is not an address; write it as 127.0.0.1:4000"),
        ("[server.timeouts]\nread_s = 0", 2, "server.timeouts.read_s: must be seconds"),
        ("[server.timeouts]\nread_s = nan", 2, "server.timeouts.read_s: must be seconds"),
        ("[server.timeouts]\nread_s = inf", 2, "server.timeouts.read_s: must be seconds"),
        ("[demand]\ncap_share_percent = 101", 2, "demand.cap_share_percent: must be a whole number from 1 to 100"),
        ("[demand]\noutput_tokens_min = -1", 2, "demand.output_tokens_min: must be a whole number from 1"),
        ("[demand]\noutput_tokens_default = 9_999_999_999_999", 2, "demand.output_tokens_default: must be a whole"),
        ("[demand]\nunbounded = 'allow'", 2, "demand.unbounded: 'allow' is not possible; write one of hold, refuse"),
        # providers
        ("[providers.OpenAI]", 1, "providers.OpenAI: 'OpenAI' is not a provider name; use lower-case letters,"),
        ('[providers."a/b"]', 1, "providers.a/b: 'a/b' is not a provider name"),
        ("[providers.x]\nbase_url = 'http://h'", 1, "providers.x.dialect: a provider that is not well-known needs"),
        ("[providers.x]\ndialect = 'oai'", 2, "providers.x.dialect: unknown dialect 'oai'; write one of openai, "),
        ("[providers.acme]\ndialect = 'openai'", 1, "providers.acme.base_url: is no base URL"),
        (f"{LOCAL}models = ['a b']", 4, "providers.local.models: 'a b' is not a model pattern; write a name or"),
        (f"{LOCAL}models = ''", 4, "providers.local.models: '' is not a model pattern"),
        (f"{LOCAL}credentials = [\n  {{ weight = 2 }},\n]", 4, "providers.local.credentials: a credential needs"),
        (f"{LOCAL}credentials = [{{ env = 'A', file = 'b' }}]", 4, "providers.local.credentials: a credential needs"),
        (f"{LOCAL}credentials = [{{ weight = 0 }}]", 4, "providers.local.credentials.weight: must be a whole number"),
        ("[providers.bedrock]\nregion = 'Ohio'", 2, "providers.bedrock.region: AWS has an address for each region;"),
        (f"{LOCAL}auth = 'sigv4'", 1, "providers.local.region: AWS has an address for each region; region = "),
        # aliases
        ("[aliases]\nfast = ''", 2, 'aliases.fast: an alias needs a model; fast = "openai/gpt-5-mini"'),
        ("[aliases]\na = 'b'\nb = 'gpt-5'", 2, "aliases.a: 'b' is itself an alias; name the model itself"),
        ("[aliases]\na = 'a'", 2, "aliases.a: 'a' is itself an alias"),
        ("[aliases]\n'a b' = 'c'", 2, "aliases.a b: no call can name it; write a name without blanks"),
        ("[aliases]\n'' = 'c'", 1, "aliases: no call can name it"),
        (
            "[server]\nlisten = ':4000'\nadmin_listen = '127.0.0.1:4000'",
            3,
            "server.admin_listen: is 127.0.0.1:4000, as listen is; write another port",
        ),
        ("[server]\nlisten = '127.0.0.1:4001'", 1, "server.admin_listen: is 127.0.0.1:4001, as listen is"),
        # wherever TOML allows a key to stand
        ("server.workers = 0", 1, "server.workers: must be"),
        ("timezone = 'UTC'\nserver . 'workers' = 0", 2, "server.workers: must be"),
        ("\n\nserver = { listen = ':80', workers = 0 }", 3, "server.workers: must be"),
        ("[providers]\nlocal = { dialect = 'no' }", 2, "providers.local.dialect: unknown dialect"),
        ("[ providers . 'local' ]  # here\n  dialect='no'", 2, "providers.local.dialect: unknown dialect"),
        ("[aliases]\nworkers = 'x'\n[server]\nlisten = ':1'\nworkers = 0", 5, "server.workers: must be"),
        ("[server]\n# workers = 1\nworkers = 0", 3, "server.workers: must be"),
        ("[providers.ollama]\n[providers.ollama2]\ndialect = 'no'", 3, "providers.ollama2.dialect: unknown dialect"),
    ],
)
def test_a_mistake_is_told_with_file_line_key_and_what_to_write(
    mistake: Callable[[str], str], text: str, line: int, told: str
) -> None:
    assert mistake(text).startswith(f"config.toml:{line}: {told}")


@pytest.mark.parametrize(
    "text", ["=", "a = ", "[server", "a = 1\na = 2", "a = 99-99-99", "\x00", "a = '\x1b'", 'a = "\\ud800"']
)
def test_what_is_not_toml_is_told_with_its_line(mistake: Callable[[str], str], text: str) -> None:
    told = mistake(text)
    assert "config.toml: not valid TOML: " in told and "(at " in told


@pytest.mark.parametrize("text", ["a = " + "[" * 10_000, "a = " + "1" * 10_000], ids=["nested", "long"])
def test_toml_that_breaks_the_parser_is_a_mistake_like_any_other(mistake: Callable[[str], str], text: str) -> None:
    assert "config.toml: not valid TOML: " in mistake(text)


def test_what_is_not_text_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match=r"config\.toml is not UTF-8, at byte 0; save it as UTF-8"):
        config.load(path)
    with pytest.raises(ConfigError, match="Is a directory"):
        config.load(tmp_path)
    with pytest.raises(ConfigError, match="No such file"):
        config.load(tmp_path / "nothing")


@pytest.mark.parametrize(
    "zone", ["", "../../etc/passwd", "/etc/localtime", "America", "UTC\x00", "zone" * 99, "Europe/Berlin ", "Ü"]
)
def test_only_names_of_time_zones_are_time_zones(mistake: Callable[[str], str], zone: str) -> None:
    quoted = zone.replace("\x00", "\\u0000")
    assert mistake(f'timezone = "{quoted}"').startswith("config.toml:1: timezone: unknown time zone")


@pytest.mark.parametrize("name", ["", "~nobody-of-this-name/llmctl.db", "a\\u0000b"])
def test_a_path_that_cannot_be_is_a_mistake(mistake: Callable[[str], str], name: str) -> None:
    assert "config.toml:1: database: " in mistake(f'database = "{name}"')


junk = st.recursive(
    st.booleans() | st.integers(-(10**20), 10**20) | st.floats() | st.sampled_from(["", "openai", ":80", "~x/y", "\0"]),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["env", "file", "x"]), inner, max_size=2)
    ),
    max_leaves=4,
)


@given(
    st.dictionaries(
        st.sampled_from(["database", "timezone", "server", "providers", "aliases", "demand", "x"]),
        junk
        | st.dictionaries(
            st.sampled_from(["openai", "local", "listen", "workers", "timeouts", "unbounded", "fast", "a b"]),
            junk | st.dictionaries(st.sampled_from(["dialect", "base_url", "credential_file", "credentials"]), junk),
        ),
        max_size=3,
    )
)
def test_any_toml_is_a_configuration_or_a_mistake_and_never_a_crash(
    tmp_path_factory: pytest.TempPathFactory, document: dict[str, object]
) -> None:
    path = tmp_path_factory.getbasetemp() / "config.toml"
    path.write_text(tomli_w.dumps(document), encoding="utf-8")
    try:
        config.load(path)
    except ConfigError as error:
        assert error.message.startswith("config.toml:") and error.hint


# ---- addresses ----


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:4000", "127.0.0.1", 4000),
        (":4000", "127.0.0.1", 4000),
        ("0.0.0.0:80", "0.0.0.0", 80),
        ("[::1]:4000", "::1", 4000),
        ("gateway.internal:0", "gateway.internal", 0),
        ("[fe80::1%eth0]:65535", "fe80::1%eth0", 65535),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str, port: int) -> None:
    address = parse_address(text)
    assert address == Address(host, port)
    assert parse_address(str(address)) == address


@pytest.mark.parametrize(
    "text",
    ["", ":", "4000", "localhost", "localhost:", "localhost:http", "localhost:65536", "localhost:-1", "localhost:+1",
     "localhost: 1", "localhost:٣", "http://127.0.0.1:4000", "127.0.0.1:4000/", "local host:1", "a\nb:1", "u@h:1"],
)  # fmt: skip
def test_anything_else_is_no_address(text: str) -> None:
    with pytest.raises(BadInput, match=r"write it as 127\.0\.0\.1:4000"):
        parse_address(text)
    with pytest.raises(BadInput):
        parse_address(f"localhost:{'9' * 5_000}")


# ---- where the credentials go ----


def test_the_variable_of_a_well_known_provider_is_never_sent_to_another_address(load: Load) -> None:
    assert load('[providers.openai]\nbase_url = "https://api.openai.com/v1/"').providers["openai"].credentials
    for elsewhere in ("http://api.openai.com/v1", "https://api.openai.com.evil.example/v1", "https://api.openai.com"):
        assert not load(f'[providers.openai]\nbase_url = "{elsewhere}"').providers["openai"].credentials
    named = load('[providers.openai]\nbase_url = "https://mine.example/v1"\ncredential_env = "MINE"').providers[
        "openai"
    ]
    assert named.credentials == (CredentialSource(env="MINE"),)


def test_a_provider_without_a_well_known_name_gets_no_credential_by_its_address(load: Load) -> None:
    text = '[providers.mine]\ndialect = "openai"\nbase_url = "https://api.openai.com/v1"'
    assert not load(text).providers["mine"].credentials


def test_several_credentials_share_the_calls_by_weight(load: Load, tmp_path: Path) -> None:
    loaded = load("""
        [providers.openai]
        credentials = [{ env = "OPENAI_A", weight = 3 }, { file = "keys/b" }, { file = "/run/keys/c", weight = 1000 }]
    """)
    assert loaded.providers["openai"].credentials == (
        CredentialSource(env="OPENAI_A", weight=3),
        CredentialSource(file=str(tmp_path / "keys/b")),
        CredentialSource(file="/run/keys/c", weight=1000),
    )


def test_a_credential_file_lies_beside_the_configuration_or_at_home(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", "/home/alice")
    for name, path in (("x.key", f"{tmp_path}/x.key"), ("~/x.key", "/home/alice/x.key"), ("/run/x.key", "/run/x.key")):
        (source,) = load(f'[providers.openai]\ncredential_file = "{name}"').providers["openai"].credentials
        assert source == CredentialSource(file=path)


def test_a_credential_is_read_when_it_is_needed_and_kept_nowhere(
    load: Load, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", f" {SECRET}\n")
    (tmp_path / "key").write_text(f"{SECRET}\n")
    loaded = load('[providers.openai]\n[providers.mistral]\ncredential_file = "key"')
    for provider in loaded.providers.values():
        assert [source.read() for source in provider.credentials] == [SECRET]
    assert SECRET not in repr(loaded) and SECRET not in str(loaded)
    monkeypatch.setenv("OPENAI_API_KEY", "rotated")
    assert loaded.providers["openai"].credentials[0].read() == "rotated"


@pytest.mark.parametrize("after", ["\r\nx-evil: 1", "\x00", "\x7f", "é", f"\n{SECRET}"])
def test_what_cannot_be_a_header_is_no_credential_and_is_not_repeated(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, after: str
) -> None:
    value = SECRET + after
    (tmp_path / "key").write_bytes(value.encode())
    sources = [CredentialSource(file=str(tmp_path / "key"))]
    if "\x00" not in value:  # which no variable can hold
        monkeypatch.setenv("OPENAI_API_KEY", value)
        sources.append(CredentialSource(env="OPENAI_API_KEY"))
    for source in sources:
        with pytest.raises(ConfigError) as caught:
            source.read()
        assert SECRET not in str(caught.value) and (source.env or source.file) in caught.value.message


def test_a_credential_that_is_not_there_is_told_with_its_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    for _ in range(2):
        with pytest.raises(
            ConfigError, match="no credential: the environment variable OPENAI_API_KEY is empty or not set"
        ):
            CredentialSource(env="OPENAI_API_KEY").read()
        monkeypatch.setenv("OPENAI_API_KEY", " \n")
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for name in ("nothing", "binary", "."):
        with pytest.raises(ConfigError, match="cannot read the secret file") as caught:
            CredentialSource(file=str(tmp_path / name)).read()
        assert caught.value.__cause__ is None and caught.value.__suppress_context__


@pytest.mark.parametrize(
    "entry",
    [
        f'credential_env = "{SECRET}"',
        'credential_env = "gsk_4mTq8ZbV0sKd2RfXh6YpLw9c"',
        f'credentials = [{{ env = "{SECRET}" }}]',
        f'credential = "{SECRET}"',
        f'api_key = "{SECRET}"',
        f'base_url = "https://user:{SECRET}@api.openai.com/v1"',
        f'base_url = "https://{SECRET}@api.openai.com/v1"',
        f'base_url = "https://api.openai.com/v1?key={SECRET}"',
        f'base_url = "https://api.openai.com/v1#{SECRET}"',
        f"prompt_overhead_tokens = '{SECRET}'",
    ],
)
def test_a_credential_that_was_pasted_into_the_file_is_refused_and_not_repeated(
    mistake: Callable[[str], str], entry: str
) -> None:
    told = mistake(f"[providers.openai]\n{entry}")
    assert told.startswith("config.toml:2: ")
    assert "4mTq8ZbV0sKd2RfXh6YpLw9c" not in told


@pytest.mark.parametrize(
    "url",
    ["", "api.openai.com", "ftp://h/v1", "file:///etc/passwd", "https://", "https:///v1", "https://:443/v1", "//h/v1",
     "http://[::1/v1", "http://h:99999/v1", "http://h:x/v1", "http://h/v1?", "http://h/v1#", "http://a b/v1", "http://h/\\tv1",
     "http://h\\n.evil/v1", "http://h\\\\@evil/v1", "http://\\u2100.example/v1", "http://хост/v1", "unix:/x"],
)  # fmt: skip
def test_only_plain_web_addresses_are_base_urls(mistake: Callable[[str], str], url: str) -> None:
    told = mistake(f'[providers.local]\ndialect = "openai"\nbase_url = "{url}"')
    assert told.startswith("config.toml:3: providers.local.base_url: is no base URL")


# ---- which file counts ----


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    """A machine with configurations everywhere; `find` sees this environment alone."""
    for place in ("here", "home/.config/llmctl", "xdg/llmctl", "etc"):
        (tmp_path / place).mkdir(parents=True)
    monkeypatch.setattr(config, "SYSTEM_CONFIG", tmp_path / "etc/config.toml")
    monkeypatch.chdir(tmp_path / "here")

    def find(explicit: str = "", **environ: str) -> Path:
        found = config.find(Path(explicit) if explicit else None, {"HOME": str(tmp_path / "home"), **environ})
        return found.absolute().relative_to(tmp_path)

    return find


def put(*places: str) -> None:
    for place in places:
        path = Path("..", place)
        path.write_text("")
        path.chmod(0o644)


def test_the_nearest_configuration_counts(machine: Callable[..., Path], tmp_path: Path) -> None:
    xdg = {"XDG_CONFIG_HOME": str(tmp_path / "xdg")}
    put("etc/config.toml")
    assert machine(**xdg) == Path("etc/config.toml")
    put("home/.config/llmctl/config.toml")
    assert machine(**xdg) == Path("etc/config.toml")
    assert machine() == Path("home/.config/llmctl/config.toml")
    put("xdg/llmctl/config.toml")
    assert machine(**xdg) == Path("xdg/llmctl/config.toml")
    put("here/config.toml")
    assert machine(**xdg) == Path("here/config.toml")
    put("named.toml", "flag.toml")
    named = {"LLMCTL_CONFIG": str(tmp_path / "named.toml"), **xdg}
    assert machine(**named) == Path("named.toml")
    assert machine(str(tmp_path / "flag.toml"), **named) == Path("flag.toml")
    assert machine(**{**named, "LLMCTL_CONFIG": ""}) == Path("here/config.toml")


def test_a_named_configuration_that_is_not_there_is_not_replaced_by_another(machine: Callable[..., Path]) -> None:
    put("here/config.toml")
    for named in ({"explicit": "typo.toml"}, {"LLMCTL_CONFIG": "typo.toml"}, {"explicit": "."}):
        with pytest.raises(ConfigError, match=r"no configuration (.*); llmctl --config \1 init makes one") as caught:
            machine(**named)
        assert caught.value.code == "no_config"


def test_without_any_configuration_the_way_to_one_is_told(machine: Callable[..., Path]) -> None:
    with pytest.raises(ConfigError, match=r"no config\.toml here; name one with --config, or: llmctl init") as caught:
        machine()
    assert caught.value.code == "no_config"


def give_away(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes the path (not what it points to) somebody else's."""
    if os.getuid() == 0:
        os.chown(path, 12_345, -1, follow_symlinks=False)
    else:
        monkeypatch.setattr(os, "getuid", lambda: 12_345)


@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666])
def test_a_configuration_here_that_others_may_write_is_not_trusted(machine: Callable[..., Path], mode: int) -> None:
    put("here/config.toml")
    Path("config.toml").chmod(mode)
    with pytest.raises(
        ConfigError, match=r"can be written by others; chmod go-w config\.toml, or name it with --config"
    ):
        machine()
    assert machine("config.toml") == machine(LLMCTL_CONFIG="config.toml") == Path("here/config.toml")


def test_a_configuration_here_that_belongs_to_somebody_else_is_not_trusted(
    machine: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("here/config.toml", "etc/config.toml")
    give_away(Path("config.toml"), monkeypatch)
    with pytest.raises(ConfigError, match="belongs to somebody else; name it with --config if you trust it"):
        machine()
    assert machine("config.toml") == Path("here/config.toml")


def test_a_link_here_that_somebody_else_made_is_not_trusted(
    machine: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    put("etc/config.toml")
    Path("config.toml").symlink_to("../etc/config.toml")
    assert machine() == Path("here/config.toml")
    give_away(Path("config.toml"), monkeypatch)
    with pytest.raises(ConfigError, match="belongs to somebody else"):
        machine()
