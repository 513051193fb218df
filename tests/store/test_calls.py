from __future__ import annotations

from pathlib import Path

from llmctl.domain.usage import NO_USAGE, Usage
from llmctl.store import calls
from llmctl.store.calls import CallFilters
from llmctl.store.database import Store, migrate_file
from llmctl.store.filters import Filters
from tests.cli.shop import DAY_S, NOW_S, Shop
from tests.support.older import copy_as, schema_before

RAW = '{"prompt_tokens":1000,"completion_tokens":200}'
USED = Usage(input_tokens=1_000, cache_read_tokens=400, output_tokens=200)


async def booked(path: Path) -> list[int]:
    async with Shop(path) as shop:
        shop.group("sales")
        shop.user("alice", "sales")
        ids = [await shop.call("alice", at_s=NOW_S - days * DAY_S) for days in (3, 2, 1)]
        ids.append(await shop.call("alice", at_s=NOW_S, settle=False))
        return ids


async def test_calls_are_listed_by_time_and_by_id(tmp_path: Path) -> None:
    path = tmp_path / "llmctl.db"
    ids = await booked(path)
    store = Store(path, readonly=True)
    tx = store.connection
    everything = CallFilters()
    assert [call.call_id for call in calls.newest(tx, everything, calls_max=2)] == ids[:1:-1]
    recent = CallFilters(Filters(since_s=NOW_S - 2 * DAY_S, until_s=NOW_S))
    assert [call.call_id for call in calls.newest(tx, recent, calls_max=9)] == ids[2:0:-1]
    assert [call.call_id for call in calls.after(tx, everything, call_id=ids[1], calls_max=9)] == ids[2:]
    assert [call.call_id for call in calls.by_ids(tx, calls.CallFilters(), [ids[3], ids[0], 5])] == [ids[0], ids[3]]
    assert calls.newest_id_before(NOW_S) < ids[3]
    assert calls.newest_id_before(NOW_S) > ids[2]
    store.close()


async def test_calls_of_an_older_schema_have_nothing_of_the_classes_that_came_since(tmp_path: Path) -> None:
    path, older = tmp_path / "llmctl.db", tmp_path / "older.db"
    ids = await booked(path)
    copy_as(schema_before("web_search_preview_calls"), path, older)
    migrate_file(older)
    for file in (path, older):
        store = Store(file, readonly=True)
        found = calls.by_ids(store.connection, CallFilters(), ids)
        assert [call.usage for call in found] == [USED] * 3 + [NO_USAGE]
        store.close()


async def test_the_providers_own_usage_comes_back_byte_for_byte(tmp_path: Path) -> None:
    path = tmp_path / "llmctl.db"
    ids = await booked(path)
    store = Store(path, readonly=True)
    assert calls.raw_usage_of(store.connection, ids[0]) == RAW
    assert calls.raw_usage_of(store.connection, ids[3]) == ""
    assert calls.raw_usage_of(store.connection, 5) == ""
    store.close()


async def test_time_is_found_by_the_primary_key_without_an_index_on_it(tmp_path: Path) -> None:
    path = tmp_path / "llmctl.db"
    await booked(path)
    store = Store(path, readonly=True)
    where, parameters = calls._conditions(store.connection, CallFilters(Filters(since_s=NOW_S)))
    plan = store.connection.execute(f"EXPLAIN QUERY PLAN {calls._SELECT} WHERE {where}", parameters).fetchall()
    assert "SEARCH r USING INTEGER PRIMARY KEY (rowid>?)" in plan[0][3]
    store.close()
