"""Who asks an object store: keys that were given, or those that botocore or gcsfs find."""

from __future__ import annotations

import datetime
from collections.abc import Callable, Mapping
from typing import Any

from hfzarr.store.objects.options import Keys, Login, ObjectPlace
from hfzarr.store.objects.trouble import Trouble

__all__ = ["signing"]

Provider = Callable[[], Any]

# botocore renews temporary keys ten minutes before their end at the latest.
_KEYS_LAST = datetime.timedelta(minutes=9)


def signing(place: ObjectPlace) -> dict[str, Any]:
    """Return what a store of obstore is to be told of who asks.

    Keys go by a function, so that none of the environment's is mixed with them. Where neither
    botocore nor gcsfs is installed, obstore looks for keys by its own rules.

    Raises
    ------
    Trouble
        Nobody is logged in.
    """
    login = place.login
    if login is None:
        return {}
    if isinstance(login, Keys):
        return {"credential_provider": _given(login)}
    try:
        found = _of_google(login.options) if place.kind == "gs" else _of_aws(login)
    except ImportError:
        return {}
    return {"skip_signature": True} if found is None else {"credential_provider": found}


def _given(keys: Keys) -> Provider:
    told = {
        "access_key_id": keys.key,
        "secret_access_key": keys.secret,
        "token": keys.token,
        "expires_at": None,
    }
    return lambda: told


def _of_aws(login: Login) -> Provider:
    """Return keys of the environment, of a profile, of an SSO session or of this machine."""
    import botocore.session

    session = botocore.session.Session(profile=login.options.get("profile"))
    try:
        found = session.get_credentials()
    except Exception as error:
        raise Trouble(f"no keys of AWS ({type(error).__name__})", denied=True) from None
    if found is None:
        raise Trouble("there are no keys of AWS on this machine", denied=True)

    def keys() -> Any:
        now = found.get_frozen_credentials()
        return {
            "access_key_id": now.access_key,
            "secret_access_key": now.secret_key,
            "token": now.token,
            "expires_at": datetime.datetime.now(datetime.UTC) + _KEYS_LAST,
        }

    return keys


def _of_google(options: Mapping[str, Any]) -> Provider | None:
    """Return tokens by gcsfs's own rules; None where it would ask as nobody."""
    from gcsfs.credentials import GoogleCredentials

    try:
        known = GoogleCredentials(
            options.get("project"), options.get("access", "full_control"), options.get("token")
        )
    except Exception as error:
        raise Trouble(f"no login of Google ({type(error).__name__})", denied=True) from None
    if known.credentials is None:
        return None

    def token() -> Any:
        known.maybe_refresh()
        expiry = known.credentials.expiry
        return {
            "token": known.credentials.token,
            "expires_at": None if expiry is None else expiry.replace(tzinfo=datetime.UTC),
        }

    return token
