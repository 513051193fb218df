from __future__ import annotations

import pytest

from llmctl.domain.access import denial
from llmctl.domain.errors import BadInput
from llmctl.domain.scope import ORGANISATION
from llmctl.store import groups, keys, model_rules, scopes, users
from llmctl.store.audit import Author
from llmctl.store.database import Store


def test_a_rule_is_put_once_and_the_other_effect_replaces_it(store: Store, author: Author) -> None:
    with store.write() as tx:
        assert model_rules.put(tx, author, ORGANISATION, "allow", "gpt-5*")
        assert not model_rules.put(tx, author, ORGANISATION, "allow", "gpt-5*")
        assert model_rules.put(tx, author, ORGANISATION, "deny", "gpt-5*")
        assert [(rule.effect, rule.pattern) for rule in model_rules.listing(tx)] == [("deny", "gpt-5*")]
        assert model_rules.reset(tx, author, ORGANISATION, "gpt-5*")
        assert not model_rules.reset(tx, author, ORGANISATION, "gpt-5*")
        assert model_rules.listing(tx) == []


@pytest.mark.parametrize("pattern", ["", "a b", "x" * 201, "a\n"])
def test_what_is_no_pattern_is_refused(store: Store, author: Author, pattern: str) -> None:
    with pytest.raises(BadInput), store.write() as tx:
        model_rules.put(tx, author, ORGANISATION, "allow", pattern)


def test_every_level_has_to_agree_and_says_which_did_not(store: Store, author: Author) -> None:
    with store.write() as tx:
        groups.add(tx, author, "sales", parent=None, timezone=None)
        users.add(tx, author, "alice", group="sales", email=None)
        key = keys.create(tx, author, "alice").key
        model_rules.put(tx, author, ORGANISATION, "deny", "openai/gpt-5-pro")
        model_rules.put(tx, author, scopes.of_group(tx, "sales"), "allow", "gpt-5*")
        model_rules.put(tx, author, scopes.of_key(tx, key.id), "deny", "gpt-5-mini")
        alice, sales = users.get(tx, "alice"), groups.get(tx, "sales")
        levels = model_rules.applying(tx, lineage=groups.lineage(tx, sales.id), user_id=alice.id, key_id=key.row_id)
    assert denial(levels, "openai", "gpt-5") is None
    assert denial(levels, "openai", "gpt-5-pro") == "denied for organisation by the rule openai/gpt-5-pro"
    assert denial(levels, "openai", "gpt-5-mini") == "denied for key alice/default by the rule gpt-5-mini"
    assert denial(levels, "openai", "o3") == "not among the models allowed for group sales: gpt-5*"


def test_rules_of_revoked_keys_are_not_listed(store: Store, author: Author) -> None:
    with store.write() as tx:
        users.add(tx, author, "alice", group=None, email=None)
        keys.create(tx, author, "alice")
        model_rules.put(tx, author, scopes.of_key(tx, "alice"), "deny", "gpt-5")
        keys.revoke(tx, author, "alice")
        assert model_rules.listing(tx) == []
