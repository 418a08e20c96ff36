"""The node's key-value store: `datastore`, `listdatastore`, `deldatastore`."""

from __future__ import annotations

import contextlib
import json
from typing import Any

from contrib.sandbox.errors import (
    DATASTORE_DEL_DOES_NOT_EXIST,
    DATASTORE_DEL_WRONG_GENERATION,
    DATASTORE_UPDATE_ALREADY_EXISTS,
    DATASTORE_UPDATE_DOES_NOT_EXIST,
    DATASTORE_UPDATE_HAS_CHILDREN,
    DATASTORE_UPDATE_NO_CHILDREN,
    DATASTORE_UPDATE_WRONG_GENERATION,
    INVALID_PARAMS,
    RpcError,
    invalid_token,
)
from contrib.sandbox.store import Store

MODES = ("must-create", "must-replace", "create-or-replace", "must-append", "create-or-append")

Key = tuple[str, ...]
_KIND = "datastore"


def read_key(name: str, value: Any) -> Key:
    """A key is a list of strings; one string is a list of one."""
    parts = value if isinstance(value, list) else [value]
    if not parts:
        raise invalid_token(name, value, "should not be empty")
    for part in parts:
        if isinstance(part, dict | list) or part is None:
            raise invalid_token(
                name, part, "should be string" if isinstance(value, list) else "should be string or array"
            )
    return tuple(part if isinstance(part, str) else json.dumps(part) for part in parts)


class Datastore:
    """Keys with their data and generation."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._entries: dict[Key, tuple[bytes, int]] = {}

    def load(self) -> None:
        """Take over the entries of an earlier run."""
        for key, (data, generation) in self._store.all(_KIND):
            self._entries[tuple(json.loads(key))] = (bytes.fromhex(data), generation)

    def write(self, key: Key, data: bytes, mode: str, generation: int | None) -> dict[str, Any]:
        """The `datastore` command."""
        if generation is not None and mode not in ("must-replace", "must-append"):
            raise RpcError(INVALID_PARAMS, "generation only valid with must-replace or must-append")
        previous = self._entries.get(key)
        if previous is None:
            self._check_family(key)
        if mode == "must-create" and previous is not None:
            raise RpcError(DATASTORE_UPDATE_ALREADY_EXISTS, "Key already exists")
        if mode in ("must-replace", "must-append") and previous is None:
            raise RpcError(DATASTORE_UPDATE_DOES_NOT_EXIST, "Key does not exist")
        if generation is not None and previous is not None and previous[1] != generation:
            raise RpcError(DATASTORE_UPDATE_WRONG_GENERATION, "generation is different")
        if previous is None:
            entry = (data, 0)
        else:
            entry = (previous[0] + data if mode.endswith("append") else data, previous[1] + 1)
        self._entries[key] = entry
        self._store.put(_KIND, json.dumps(key), [entry[0].hex(), entry[1]])
        return _show(key, entry)

    def read(self, key: Key) -> list[dict[str, Any]]:
        """The `listdatastore` command: the entry itself and its children; of grandchildren only the first part."""
        depth = len(key)
        shown: list[dict[str, Any]] = []
        for found in sorted(found for found in self._entries if found[:depth] == key):
            if len(found) <= depth + 1:
                shown.append(_show(found, self._entries[found]))
            elif not shown or shown[-1]["key"] != list(found[: depth + 1]):
                shown.append({"key": list(found[: depth + 1])})
        return shown

    def delete(self, key: Key, generation: int | None) -> dict[str, Any]:
        """The `deldatastore` command."""
        entry = self._entries.get(key)
        if entry is None:
            raise RpcError(DATASTORE_DEL_DOES_NOT_EXIST, "Key does not exist")
        if generation is not None and entry[1] != generation:
            raise RpcError(DATASTORE_DEL_WRONG_GENERATION, "generation is different")
        del self._entries[key]
        self._store.delete(_KIND, json.dumps(key))
        return _show(key, entry)

    def _check_family(self, key: Key) -> None:
        """A key with data has neither ancestors nor descendants with data."""
        if any(found[: len(key)] == key for found in self._entries):
            raise RpcError(DATASTORE_UPDATE_HAS_CHILDREN, "Key has children already")
        for depth in range(1, len(key)):
            if key[:depth] in self._entries:
                raise RpcError(DATASTORE_UPDATE_NO_CHILDREN, f"Parent key [{','.join(key[:depth])}] exists")


def _show(key: Key, entry: tuple[bytes, int]) -> dict[str, Any]:
    data, generation = entry
    shown: dict[str, Any] = {"key": list(key), "generation": generation, "hex": data.hex()}
    with contextlib.suppress(UnicodeDecodeError):
        shown["string"] = data.decode()
    return shown
