"""Options for fsspec, by reference where they are secret: what travels holds no token."""

from __future__ import annotations

import hashlib
import json
import os
import re
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from hfzarr.errors import TargetError

__all__ = ["StorageOptions", "hidden"]

_FROM_ENVIRONMENT = "env:"
# Options whose text tells nothing that others must not know. The text of any other is a secret.
_TOLD = frozenset(
    [
        "account_name", "addressing_style", "anon", "block_size", "cache_type", "consistency",
        "default_block_size", "endpoint", "endpoint_url", "expand", "profile", "project",
        "project_id", "protocol", "region", "region_name", "repo_type", "requester_pays",
        "revision", "signature_version", "skip_instance_cache", "target_protocol", "use_ssl",
        "verify", "version_aware",
    ]
)  # fmt: skip
# Options that are ours: where chunks are kept on this machine.
_OURS = frozenset(["cache", "cache_size"])
# Options that hold options.
_NESTING = frozenset(
    ["client_kwargs", "config_kwargs", "fs_args", "remote_options", "target_options", "fo_options"]
)
_SECRET = re.compile(r"key|secret|token|pass|pin|pwd|cred|auth|sig|cookie|session", re.IGNORECASE)
_kept: dict[str, dict[str, Any]] = {}
_lock = threading.Lock()


@dataclass(frozen=True, slots=True)
class StorageOptions:
    """What fsspec is told, without the secrets in it.

    A token, a key or a session stays in a register of this process (and of those forked from it)
    under a name that says nothing. In another process it is left out, and the store is opened
    with what is configured there: environment variables, a saved login. An option may also name
    a variable: ``{"token": "env:LAB_TOKEN"}`` is looked up where the store is opened.

    Attributes
    ----------
    plain
        JSON of what may be seen.
    kept
        Under which name this process keeps the rest; empty where there is none.

    Examples
    --------
    >>> options = StorageOptions.of({"anon": False, "secret": "wrpx"})
    >>> options.resolve()
    {'anon': False, 'secret': 'wrpx'}
    >>> "wrpx" in repr(options)
    False
    """

    plain: str = "{}"
    kept: str = ""

    @classmethod
    def of(cls, options: Mapping[str, Any] | StorageOptions | None) -> StorageOptions:
        """Return options by reference.

        Raises
        ------
        TargetError
            They are no mapping of names.
        """
        if isinstance(options, StorageOptions):
            return options
        if options is None:
            return cls()
        if not isinstance(options, Mapping) or not all(isinstance(key, str) for key in options):
            raise TargetError(
                "storage_options is a mapping of names to values for fsspec, such as "
                f"{{'anon': True}}, not a {type(options).__name__}"
            )
        plain, secret = _split(options)
        return cls(plain=json.dumps(plain, sort_keys=True), kept=_keep(secret) if secret else "")

    def __bool__(self) -> bool:
        return self.plain != "{}" or bool(self.kept)

    @property
    def lost(self) -> bool:
        """Whether there were secrets, and this process does not have them."""
        return bool(self.kept) and self.kept not in _kept

    def resolve(self) -> dict[str, Any]:
        """Return the options for fsspec, with the secrets that this process has.

        Raises
        ------
        TargetError
            A variable of the environment that an option names is not set.
        """
        return _looked_up(_merged(json.loads(self.plain), _kept.get(self.kept, {})))


def _split(options: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return what may be seen and what not."""
    plain: dict[str, Any] = {}
    secret: dict[str, Any] = {}
    for name, value in options.items():
        if name in _OURS and isinstance(value, os.PathLike):
            value = os.fspath(value)
        if name in _OURS and isinstance(value, (str, int, float, type(None))):
            plain[name] = value
        elif name in _NESTING and isinstance(value, Mapping) and _named(value):
            told, hidden = _split(value)
            if told or not hidden:
                plain[name] = told
            if hidden:
                secret[name] = hidden
        elif _may_be_seen(name, value):
            plain[name] = value
        else:
            secret[name] = value
    return plain, secret


def _may_be_seen(name: str, value: Any) -> bool:
    if value is None or isinstance(value, bool):
        return True
    if isinstance(value, (int, float)):
        return _SECRET.search(name) is None
    if not isinstance(value, str):
        return False
    # A URL may have a password before its "@", a signature behind its "?".
    told = name in _TOLD and not {"@", "?", "#"} & set(value)
    return told or value.startswith(_FROM_ENVIRONMENT)


def _named(mapping: Mapping[Any, Any]) -> bool:
    return all(isinstance(key, str) for key in mapping)


def _keep(secret: dict[str, Any]) -> str:
    """Put secrets into the register and return their name, the same for the same secrets."""
    # The copy is what is known by itself, as it is what stays.
    secret = _copied(secret)
    content = _spelled(secret).encode()
    # Salted, so that a short password cannot be guessed from the name.
    name = hashlib.blake2b(content, key=_salt, digest_size=8).hexdigest()
    with _lock:
        _kept.setdefault(name, secret)
    return name


def _spelled(value: Any) -> str:
    """Return text that is the same for equal values; a session or a client is known by itself."""
    if isinstance(value, Mapping):
        items = sorted((_spelled(key), _spelled(one)) for key, one in value.items())
        return f"{{{items}}}"
    if isinstance(value, (list, tuple)):
        return f"{type(value).__name__}{[_spelled(one) for one in value]}"
    if value is None or type(value) in (str, bytes, bool, int, float):
        return f"{type(value).__name__}:{value!r}"
    return f"<{id(value)}>"


def _copied(value: Any) -> Any:
    """Return the lists and mappings of a value anew, so that nobody else can change them."""
    if isinstance(value, Mapping):
        return {name: _copied(one) for name, one in value.items()}
    return [_copied(one) for one in value] if isinstance(value, list) else value


_salt = os.urandom(16)


def _merged(plain: dict[str, Any], secret: Mapping[str, Any]) -> dict[str, Any]:
    out = dict(plain)
    for name, value in _copied(secret).items():
        below = out.get(name)
        out[name] = _merged(below, value) if isinstance(below, dict) else value
    return out


def _looked_up(options: dict[str, Any]) -> dict[str, Any]:
    """Return options with the values of the variables that they name."""
    out: dict[str, Any] = {}
    for name, value in options.items():
        if isinstance(value, dict):
            out[name] = _looked_up(value)
        elif isinstance(value, str) and value.startswith(_FROM_ENVIRONMENT):
            variable = value.removeprefix(_FROM_ENVIRONMENT)
            if variable not in os.environ:
                raise TargetError(
                    f"the storage option {name!r} is to be read from the environment variable "
                    f"{variable!r}, which is not set here. Set it in this process too."
                )
            out[name] = os.environ[variable]
        else:
            out[name] = value
    return out


def hidden(secret: str | None) -> Callable[[], str | None]:
    """Return a secret as a function, so that no repr and no traceback of what holds it shows it.

    Examples
    --------
    >>> token = hidden("hf_abc")
    >>> "abc" in repr(token), token()
    (False, 'hf_abc')
    """
    return lambda: secret
