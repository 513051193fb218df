"""The organisation as a file: export, a plan, apply."""

from __future__ import annotations

import itertools
import sqlite3
import tempfile
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llmctl.cli import organisation_file
from llmctl.cli.app import run
from llmctl.domain.limit import MEASURES
from llmctl.domain.organisation import Member, Organisation, plan
from llmctl.domain.window import WINDOWS
from llmctl.store import organisation
from llmctl.store.audit import Author
from llmctl.store.database import Store, create

from .conftest import Cli
from .shop import NOW_S

FILE = """\
[organisation]
deny = ["*-preview"]
limits = [{ cost = "200", per = "month" }]

[groups.company]
timezone = "Europe/Berlin"

[groups.sales]
parent = "company"
allow = ["gpt-5*", "claude-*"]
limits = [
    { cost = "20.50", per = "day", each = "user", models = "gpt-5*", soft = true },
    { concurrency = 4 },
]

[users."a.b"]
group = "sales"
email = "a@example.org"

[users.bob]
disabled = true
"""


@pytest.fixture
def file(empty: Path) -> Path:
    path = empty / "org.toml"
    path.write_text(FILE)
    return path


def test_a_file_makes_an_organisation_and_says_so_before(cli: Cli, file: Path) -> None:
    done = cli("apply", "org.toml")
    assert "+  group  sales         parent company\n" in done.out
    assert "+  limit  sales         $20.50/day on gpt-5*, soft for each user\n" in done.out
    assert "Plan: 10 to add, 0 to change, 0 to remove.\nApplied 10 changes.\n" in done.out
    assert "2 new users without a key" in done.err
    sales = cli.json("group", "show", "sales")
    assert (sales["parent"], sales["effective_timezone"], sales["members"]) == ("company", "Europe/Berlin", ["a.b"])
    assert [user["disabled"] for user in cli.json("user", "list")] == [False, True]
    assert len(cli.json("audit")) == 11  # disabling is a change of its own


def test_again_nothing_changes(cli: Cli, file: Path) -> None:
    cli("apply", "org.toml")
    changes = len(cli.json("audit"))
    assert cli("apply", "org.toml", "--prune").out == "Nothing to change.\n"
    cli("apply", "org.toml", "--dry-run", "--exit-code", code=0)
    assert len(cli.json("audit")) == changes


def test_a_dry_run_shows_the_plan_and_changes_nothing(cli: Cli, file: Path) -> None:
    cli("apply", "org.toml")
    file.write_text(FILE.replace('cost = "200"', 'cost = "300"').replace('"Europe/Berlin"', '"Europe/Paris"'))
    dry = cli("apply", "org.toml", "--dry-run", "--exit-code", code=3)
    assert dry.out == (
        "~  group  company       timezone Europe/Berlin -> Europe/Paris\n"
        "~  limit  organisation  $200.00/month -> $300.00/month\n\n"
        "Plan: 0 to add, 2 to change, 0 to remove.\n"
    )
    assert cli.json("limit", "show", "l1")["amount"] == "200.000000000"
    colored = cli("apply", "org.toml", "--dry-run", "--color", "always").out
    assert "\x1b[33m~  group  company" in colored


def test_pruning_a_group_that_the_file_has_members_for_names_them(cli: Cli, file: Path) -> None:
    cli("apply", "org.toml")
    cli("group", "add", "Old")
    file.write_text(FILE + 'group = "old"\n[groups.older]\nparent = "OLD"\n')
    for more in (["--dry-run"], ["--yes"]):
        told = cli("apply", "org.toml", "--prune", *more, code=1).err
        assert told == (
            "error: org.toml: group Old is not named, but older, bob shall be in it; "
            'add [groups."Old"], or another group there, or leave out --prune\n'
        )
    cli("apply", "org.toml")
    assert cli.json("user", "show", "bob")["group"] == "Old"


def test_an_exit_code_for_what_is_pending_is_of_a_dry_run_alone(cli: Cli, file: Path) -> None:
    told = cli("apply", "org.toml", "--exit-code", "--yes", code=2).err
    assert told == "error: --exit-code goes with --dry-run; add it, or leave --exit-code out\n"
    assert cli.json("group", "list") == []


def test_what_the_file_does_not_name_stays_without_prune(cli: Cli, file: Path) -> None:
    cli("apply", "org.toml")
    cli("user", "add", "carol")
    cli("limit", "set", "--group", "sales", "--cost", "1", "--per", "hour")
    cli("user", "set", "bob", "--email", "bob@example.org")
    kept = cli("apply", "org.toml")
    assert kept.out == "Nothing to change.\n"
    assert kept.err == "! not in the file, stays without --prune: limit of group sales, user carol\n"
    assert cli.json("user", "show", "bob")["email"] == "bob@example.org"


def test_prune_removes_it_after_a_yes_and_revokes_the_keys(cli: Cli, file: Path) -> None:
    cli("apply", "org.toml")
    cli("group", "add", "old")
    cli("group", "add", "older", "--parent", "old")
    cli("user", "add", "carol", "--group", "older")
    cli("user", "set", "bob", "--email", "bob@example.org")
    cli("model", "allow", "x", "--group", "old")
    assert "nobody is there to answer: Apply 4 changes (3 removals)?" in cli("apply", "org.toml", "--prune", code=1).err
    cli("apply", "org.toml", "--prune", "--yes")
    assert [group["name"] for group in cli.json("group", "list")] == ["company", "sales"]
    assert [key["state"] for key in cli.json("key", "list", "--all")] == ["revoked"]
    assert cli.json("user", "show", "bob")["email"] is None
    assert cli("apply", "org.toml", "--prune").out == "Nothing to change.\n"


def test_networks_of_a_group_go_into_the_file_and_back(cli: Cli, empty: Path) -> None:
    path = empty / "org.toml"
    cli("group", "add", "office", "--allow-from", "10.0.0.0/8", "--allow-from", "192.0.2.7")
    written = cli("export").out
    assert 'allow_from = "10.0.0.0/8, 192.0.2.7/32"' in written
    path.write_text(written.replace("10.0.0.0/8, 192.0.2.7/32", "10.0.0.0/8 192.0.2.7"))
    assert cli("apply", "org.toml").out == "Nothing to change.\n"
    path.write_text(written.replace("10.0.0.0/8", "10.0.0.1/8"))
    failed = cli("apply", "org.toml", code=1)
    assert "org.toml:" in failed.err and "did you mean 10.0.0.0/8?" in failed.err
    path.write_text(written.replace("10.0.0.0/8", "10.0.0.0/9"))
    assert "allow_from" in cli("apply", "org.toml").out
    assert cli.json("group", "list")[0]["allow_from"] == "10.0.0.0/9, 192.0.2.7/32"


def test_groups_change_places_in_one_step(cli: Cli, file: Path) -> None:
    cli("apply", "org.toml")
    file.write_text('[groups.company]\nparent = "sales"\n[groups.sales]\nparent = ""\n')
    cli("apply", "org.toml")
    assert {group["name"]: group["parent"] for group in cli.json("group", "list")} == {
        "company": "sales",
        "sales": None,
    }


def test_a_mistake_anywhere_leaves_everything_as_it_was(cli: Cli, file: Path) -> None:
    file.write_text(f'{FILE}\n[users.carol]\ngroup = "slaes"\n')
    assert 'no group "slaes"; did you mean "sales"?' in cli("apply", "org.toml", code=1).err
    assert (cli.json("group", "list"), cli.json("audit")) == ([], [])


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[groups.a\n", "org.toml: not valid TOML: "),
        pytest.param("a = " + "[" * 10_000, "org.toml: not valid TOML: ", id="nested"),
        pytest.param("a = " + "1" * 5_000, "org.toml: not valid TOML: ", id="long"),
        ("\n[group.a]\n", 'org.toml:2: unknown key "group"; write "groups"'),
        ("\n[rules]\n", 'org.toml:2: unknown key "rules"; known here: groups, keys, organisation, users'),
        ('[groups.a]\nparrent = "b"\n', 'org.toml:2: unknown key "parrent"; write "parent"'),
        ("[users.a]\ndisabled = 1\n", "org.toml:2: users.a.disabled: must be true or false"),
        (
            "[users.a]\nlimits = [{ cost = 2.5, per = 'day' }]\n",
            "org.toml:2: users.a.limits.cost: must be text in quotes",
        ),
        ("[users.a]\nlimits = [{ per = 'day' }]\n", "a limit has one of cost, tokens, requests, concurrency"),
        ("[users.a]\nlimits = [{ tokens = 5 }]\n", "its window is missing"),
        (
            "[users.a]\nlimits = [{ concurrency = 5, per = 'day' }]\n",
            "org.toml:2: users.a.limits.per: calls at once have no window; leave per out",
        ),
        ("[users.a]\nlimits = [{ tokens = 5, per = 'fortnight' }]\n", "'fortnight' is not possible"),
        ("[users.a]\nlimits = [{ tokens = 5, per = 'day', each = 'user' }]\n", "a user has no users"),
        ("[users.a]\nlimits = [{ tokens = 5, per = 'day', models = '' }]\n", "users.a.limits.models: is empty; name a"),
        ("[users.a]\nallow = ['x']\ndeny = ['x']\n", "'x' is both allowed and denied"),
        ("[users.a]\n[users.A]\n", 'user "A" stands there twice'),
        ("[groups.a]\nparent = 'b'\n[groups.b]\nparent = 'a'\n", "groups lie below each other: a, b"),
        ("[users.'a b']\n", "org.toml: 'a b' is not a user name"),
        ("[users.a]\nemail = 'nowhere'\n", "org.toml: 'nowhere' is not an e-mail address"),
        (
            "[organisation]\nallow = ['fast']\ndeny = ['openai/gpt-5']\n",
            "openai/gpt-5, which has an alias here, is both",
        ),
        (
            "[groups.a]\nlimits = [{ tokens = 5, per = 'day', models = 'fast' },"
            " { tokens = 6, per = 'day', models = 'openai/gpt-5' }]\n",
            "two limits of group a on openai/gpt-5, which has an alias here, differ in their amount only",
        ),
        ('[users."\\u001b[31m"]\n', r"'\x1b[31m' is not a user name"),
    ],
)
def test_what_is_wrong_in_a_file_is_named(cli: Cli, file: Path, text: str, says: str) -> None:
    file.write_text(text)
    failed = cli("apply", "org.toml", code=1)
    assert says in failed.err
    assert failed.err.count("\n") == 1
    assert "\x1b" not in failed.err


def test_what_is_set_on_keys_that_are_not_there_is_left_out_and_says_so(cli: Cli, file: Path) -> None:
    cli("user", "add", "alice")
    cli("limit", "set", "--key", "alice", "--concurrency", "3")
    exported = cli("export").out
    assert '[keys."alice/default"]\nlimits = [\n    { concurrency = 3 },\n]' in exported
    cli("limit", "remove", "l1", "--yes")
    cli("key", "revoke", "alice")
    file.write_text(exported)
    said = cli("apply", "org.toml").err
    assert "! no key alice/default, left out; llmctl key create alice --name default, then apply this again" in said
    cli("key", "create", "alice")
    cli("apply", "org.toml")
    assert cli.json("limit", "list")[0]["name"] == "alice/default"


def test_an_export_holds_no_secret_and_is_json_too(cli: Cli, file: Path) -> None:
    cli("apply", "org.toml")
    secret = cli.secret("key", "create", "bob")
    assert secret[:16] not in cli("export").out
    assert cli.json("export")["users"]["a.b"] == {"group": "sales", "email": "a@example.org"}
    assert "does not fit into CSV" in cli("export", "-o", "csv", code=2).err


NAMES = st.from_regex(r"[a-z0-9][a-z0-9._@+-]{0,7}", fullmatch=True)
LIMITS = st.dictionaries(
    st.tuples(st.sampled_from(MEASURES[:3]), st.sampled_from(WINDOWS), st.sampled_from(["", "m*"]), st.booleans()),
    st.tuples(st.integers(0, 10**15), st.booleans()),
    max_size=3,
)


@st.composite
def organisations(draw: st.DrawFn) -> Organisation:
    """Groups in trees, users in them, rules and limits on all, as the file reader makes them."""

    def access(each: bool) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for pattern in draw(st.sets(st.sampled_from(["gpt-*", "openai/*", "x?"]), max_size=2)):
            found.setdefault(draw(st.sampled_from(["allow", "deny"])), []).append(pattern)
        found["limits"] = [
            ({measure: amount} if measure != "cost" else {"cost": f"{amount // 10**9}.{amount % 10**9:09d}"})
            | {"per": window, "soft": soft}
            | ({"models": models} if models else {})
            | ({"each": "user"} if member and each else {})
            for (measure, window, models, member), (amount, soft) in draw(LIMITS).items()
            if each or not member
        ]
        return found

    groups: dict[str, Any] = {}
    for name in draw(st.lists(NAMES, unique=True, max_size=5)):
        groups[name] = access(True) | {"disabled": draw(st.booleans())}
        if draw(st.booleans()):
            groups[name]["timezone"] = draw(st.sampled_from(["Europe/Berlin", "Asia/Kolkata"]))
        if above := draw(st.sampled_from(["", *[one for one in groups if one != name]])):
            groups[name]["parent"] = above
    users: dict[str, Any] = {}
    for name in draw(st.lists(NAMES, unique=True, max_size=5)):
        users[name] = access(False) | {"disabled": draw(st.booleans())}
        if group := draw(st.sampled_from(["", *groups])):
            users[name]["group"] = group
    import tomli_w

    text = tomli_w.dumps({"organisation": access(True), "groups": groups, "users": users})
    return organisation_file.read(Path("org.toml"), text, now_s=NOW_S)


def become(store: Store, wanted: Organisation) -> str:
    """What the database exports after it was brought to this."""
    with store.write() as tx:
        steps = plan(organisation.read(tx, default_zone="UTC", now_s=NOW_S), wanted, prune=True)
        organisation.perform(tx, Author("tester", NOW_S), steps.changes, default_zone="UTC")
        found = organisation.read(tx, default_zone="UTC", now_s=NOW_S)
        assert plan(found, wanted, prune=True).changes == ()
    return organisation_file.written(found, head="")


@settings(deadline=None, max_examples=40)
@given(first=organisations(), second=organisations())
def test_any_organisation_survives_export_and_apply_and_becomes_any_other(
    first: Organisation, second: Organisation
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        stores = []
        for name in ("a.db", "b.db"):
            create(Path(folder, name))
            stores.append(Store(Path(folder, name), synchronous="NORMAL"))
        exported = become(stores[0], first)
        assert become(stores[1], organisation_file.read(Path("org.toml"), exported, now_s=NOW_S)) == exported
        assert become(stores[1], second) == become(stores[0], second)
        for store in stores:
            store.close()


def test_grants_in_force_go_with_their_limit_and_end_by_themselves(cli: Cli, file: Path, empty: Path) -> None:
    cli("apply", "org.toml")
    limits = {limit["name"] or "org": limit["id"] for limit in cli.json("limit", "list") if limit["measure"] == "cost"}
    cli("limit", "grant", limits["sales"], "--user", "a.b", "--cost", "5.50", "--for", "7d", "--reason", "launch week")
    cli("limit", "grant", limits["org"], "--cost", "50", "--until", "2026-11-26", "--reason", "audit")
    exported = cli("export").out
    assert '{ member = "a.b", amount = "5.50", until = "2026-11-30T14:00:00Z", reason = "launch week" }' in exported
    (empty / "copy.toml").write_text(exported)
    assert cli("apply", "copy.toml").out == "Nothing to change.\n"
    assert cli("apply", "org.toml").out == "Nothing to change.\n"  # what is granted stays, the file is older

    (empty / "llmctl.db").unlink()
    create(empty / "llmctl.db")
    assert "$200.00/month; $50.00 more for all until 2026-11-26T00:00:00Z" in cli("apply", "copy.toml").out
    assert cli("export").out == exported
    cli.now_s += 5 * 86_400
    assert cli("apply", "copy.toml").out == "Nothing to change.\n"
    assert "audit" not in cli("export").out

    (empty / "bad.toml").write_text(
        '[organisation]\nlimits = [{ cost = "1", per = "day", grants = [{ until = "x" }] }]'
    )
    assert 'until = "2026-12-01T00:00:00Z"' in cli("apply", "bad.toml", code=1).err


def test_names_count_without_regard_to_case() -> None:
    now = {("group", "sales"): Member("group", "Sales"), ("user", "bob"): Member("user", "Bob", {"group": "Sales"})}
    wanted = {("group", "sales"): Member("group", "SALES"), ("user", "bob"): Member("user", "bob", {"group": "sales"})}
    assert plan(now, wanted, prune=True).changes == ()


def test_an_alias_in_a_file_is_the_model_behind_it_and_stays_so(cli: Cli, file: Path) -> None:
    file.write_text("""
        [organisation]
        deny = ["fast", "openai/gpt-5", "o4"]
        limits = [{ cost = "5", per = "day", models = "fast" }]
    """)
    done = cli("apply", "org.toml")
    assert "+  model  organisation  deny openai/gpt-5\n" in done.out
    assert "+  limit  organisation  $5.00/day on openai/gpt-5\n" in done.out
    assert done.err == "fast is openai/gpt-5\n"
    assert cli("apply", "org.toml", "--prune").out == "Nothing to change.\n"
    assert cli.json("apply", "org.toml")["aliases"] == {"fast": "openai/gpt-5"}
    exported = cli("export").out
    assert "fast" not in exported
    file.write_text(exported)
    again = cli("apply", "org.toml", "--prune")
    assert (again.out, again.err) == ("Nothing to change.\n", "")


@pytest.mark.usefixtures("cli")
def test_what_is_applied_counts_from_when_it_is_there_and_not_from_when_it_was_asked(
    file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file.write_text('[organisation]\nlimits = [{ requests = 5, per = "minute" }]\n')
    later = itertools.count(NOW_S, 70)  # somebody reads the plan for a while
    assert run(["apply", "org.toml"], clock_s=lambda: next(later)) == 0
    capsys.readouterr()
    with closing(sqlite3.connect("llmctl.db")) as connection:
        (created_s,) = connection.execute("SELECT created_at FROM limits").fetchone()
    assert created_s > NOW_S + 70
