"""`HubStore`, judged by the tests that zarr-python has for stores."""

from __future__ import annotations

import asyncio
import functools
import inspect
import pickle
import uuid
from collections.abc import Callable
from typing import Any

import pytest

pytest.importorskip("huggingface_hub", minversion="1.0")
pytest.importorskip("datasets")
pytest.importorskip("aiohttp")
# Earlier ones bear marks that pytest does not know here.
pytest.importorskip("zarr", minversion="3.1.6")

from zarr.core.buffer import Buffer, cpu, default_buffer_prototype
from zarr.testing.store import StoreTests

from hfzarr.errors import TargetError
from hfzarr.store.hub.reader import HubReader
from hfzarr.store.hub.store import HubStore
from hub import Hub
from hubstores import hub as hub
from hubstores import servers as servers

_HUB: list[Hub] = []


class WrittenStore(HubStore):
    """A store whose writes are commits to its repo, which it reads from then on.

    zarr-python's tests write what they read. Here that is done behind the store's back.
    """

    supports_writes = False

    def commit(self, key: str, value: Buffer) -> None:
        place = self.place
        repo = _HUB[-1].repo(place.repo)
        _HUB[-1].add_commit(repo, {place.inner(key): value.to_bytes()}, uuid.uuid4().hex)
        login = self.reader._login
        self.reader = HubReader(
            type(place)(kind=place.kind, repo=place.repo, path=place.path), login
        )


def plain(test: Callable[..., Any]) -> Callable[..., Any]:
    """Return a test that pytest runs without a plugin for asyncio."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(test(*args, **kwargs))

    run.__signature__ = inspect.signature(test)  # type: ignore[attr-defined]
    del run.__wrapped__  # type: ignore[attr-defined]
    return run


def without_asyncio(cls: type) -> type:
    """Make every coroutine among the tests of a class a plain function."""
    for name in dir(cls):
        test = getattr(cls, name)
        if name.startswith("test_") and inspect.iscoroutinefunction(test):
            setattr(cls, name, plain(test))
    return cls


@without_asyncio
class TestHubStore(StoreTests[HubStore, cpu.Buffer]):
    """Tests that write through the store are those of a store that refuses it."""

    store_cls = WrittenStore
    buffer_cls = cpu.Buffer

    async def set(self, store: WrittenStore, key: str, value: Buffer) -> None:
        store.commit(key, value)

    async def get(self, store: WrittenStore, key: str) -> Buffer:
        return cpu.Buffer.from_bytes(_HUB[-1].files(store.place.repo)[store.place.inner(key)])

    @pytest.fixture
    def store_kwargs(self, hub: Hub) -> dict[str, Any]:
        hub.add_repo("ada/cells", {"other.zarr/zarr.json": "no", "a.zarrr/foo": "no"})
        _HUB[:] = [hub]
        return {"url": "hf://datasets/ada/cells/a.zarr"}

    @pytest.fixture
    def store(self, open_kwargs: dict[str, Any]) -> Any:
        return asyncio.run(self.store_cls.open(**open_kwargs))

    @pytest.fixture
    def store_not_open(self, store_kwargs: dict[str, Any]) -> Any:
        return self.store_cls(**store_kwargs)

    @pytest.fixture
    def writing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let `store.set` commit, for tests of reading that write by it."""

        async def write(store: WrittenStore, key: str, value: Buffer) -> None:
            store.commit(key, value)

        async def write_many(store: WrittenStore, values: Any) -> None:
            for key, value in values:
                store.commit(key, value)

        monkeypatch.setattr(WrittenStore, "set", write)
        monkeypatch.setattr(WrittenStore, "_set_many", write_many)

    def test_store_repr(self, store: HubStore) -> None:
        assert repr(store) == str(store) == "HubStore('hf://datasets/ada/cells/a.zarr')"

    def test_store_supports_writes(self, store: HubStore) -> None:
        assert not store.supports_writes
        assert not store.supports_deletes

    def test_store_supports_listing(self, store: HubStore) -> None:
        assert store.supports_listing

    def test_store_read_only(self, store: HubStore) -> None:
        assert store.read_only
        with pytest.raises(AttributeError):
            store.read_only = False  # type: ignore[misc]

    @pytest.mark.parametrize("read_only", [True, False])
    async def test_store_open_read_only(self, open_kwargs: dict[str, Any], read_only: bool) -> None:
        if read_only:
            assert (await self.store_cls.open(**open_kwargs, read_only=True)).read_only
            return
        with pytest.raises(TargetError, match="read-only"):
            await self.store_cls.open(**open_kwargs, read_only=False)

    async def test_serializable_store(self, store: WrittenStore) -> None:
        store.commit("foo", cpu.Buffer.from_bytes(b"\1\2\3\4"))
        assert await store.exists("foo")
        copy = pickle.loads(pickle.dumps(store))
        assert copy == store
        assert copy.read_only
        found = await copy.get("foo", prototype=default_buffer_prototype())
        assert found is not None
        assert found.to_bytes() == b"\1\2\3\4"

    @pytest.mark.usefixtures("writing")
    async def test_exists(self, store: HubStore) -> None:
        await StoreTests.test_exists(self, store)

    @pytest.mark.usefixtures("writing")
    async def test_list(self, store: HubStore) -> None:
        await StoreTests.test_list(self, store)

    @pytest.mark.usefixtures("writing")
    async def test_list_prefix(self, store: HubStore) -> None:
        await StoreTests.test_list_prefix(self, store)

    @pytest.mark.usefixtures("writing")
    async def test_list_empty_path(self, store: HubStore) -> None:
        await StoreTests.test_list_empty_path(self, store)

    @pytest.mark.usefixtures("writing")
    async def test_list_dir(self, store: HubStore) -> None:
        await StoreTests.test_list_dir(self, store)

    @pytest.mark.usefixtures("writing")
    async def test_getsize_prefix(self, store: HubStore) -> None:
        await StoreTests.test_getsize_prefix(self, store)

    @pytest.mark.parametrize("key", ["zarr.json", "c/0"])
    @pytest.mark.parametrize("data", [b"\1", b""])
    async def test_set(self, store: HubStore, key: str, data: bytes) -> None:
        with pytest.raises(ValueError, match="read-only"):
            await store.set(key, cpu.Buffer.from_bytes(data))

    async def test_set_not_open(self, store_not_open: HubStore) -> None:
        with pytest.raises(ValueError, match="read-only"):
            await store_not_open.set("c/0", cpu.Buffer.from_bytes(b"\1"))

    async def test_set_many(self, store: HubStore) -> None:
        with pytest.raises(ValueError, match="read-only"):
            await store._set_many([("c/0", cpu.Buffer.from_bytes(b"\1"))])

    async def test_set_if_not_exists(self, store: HubStore) -> None:
        with pytest.raises(ValueError, match="read-only"):
            await store.set_if_not_exists("c/0", cpu.Buffer.from_bytes(b"\1"))

    async def test_clear(self, store: HubStore) -> None:
        with pytest.raises(NotImplementedError):
            await store.clear()

    async def test_delete(self, store: HubStore) -> None:
        with pytest.raises(ValueError, match="read-only"):
            await store.delete("c/0")
