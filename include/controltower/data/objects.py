"""Object stores, through fsspec: how one is opened, and what it tells of an object."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

from controltower.errors import BadSource, TryAgain
from controltower.settings import airflow_connection

_EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gs", "gcs": "gs"}
_UNITS = {"K": 1, "M": 2, "G": 3, "T": 4}


def opened(url: str, connection: str | None) -> tuple[Any, str]:
    """fsspec's file system of a URL, and the path in it. `connection`: Airflow's, that has the credentials."""
    import fsspec

    scheme = url.split("://", 1)[0]
    given = airflow_connection(connection) if connection else None
    try:
        store, root = fsspec.core.url_to_fs(url, **(options(scheme, given) if given else {}))
    except ImportError:
        extra = _EXTRAS.get(scheme, "")
        raise BadSource(
            f"{scheme}:// needs a package that isn't there.", f"pip install 'controltower[{extra}]'."
        ) from None
    except ValueError as e:
        raise BadSource(
            f"{url} can't be read: {e}.", "Write s3://bucket/prefix, gs://bucket/prefix or file:///x."
        ) from None
    return store, str(root).rstrip("/")


def options(scheme: str, given: dict[str, Any]) -> dict[str, Any]:
    """Airflow's connection of an object store in fsspec's words."""
    extra = given["extra"]
    if _EXTRAS.get(scheme) == "s3":
        client = {name: extra[name] for name in ("endpoint_url", "region_name") if extra.get(name)}
        return {"key": given["login"] or None, "secret": given["password"] or None, "client_kwargs": client}
    if _EXTRAS.get(scheme) == "gs":
        return {"token": extra.get("keyfile_dict") or extra.get("key_path")}
    return {}


def changed(about: dict[str, Any]) -> datetime:
    """When an object was written last, as the stores name it."""
    value = next(
        (about[n] for n in ("LastModified", "last_modified", "updated", "mtime", "created") if about.get(n)), 0
    )
    if isinstance(value, int | float):
        return datetime.fromtimestamp(value, UTC)
    at = datetime.fromisoformat(value) if isinstance(value, str) else value
    return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


def is_taken(error: Exception) -> bool:
    """Whether a conditional write failed because somebody else has the name, or is just writing it.

    gcsfs has its own exception; s3fs hands on botocore's, with the code of the answer (412 and 409).
    https://docs.aws.amazon.com/AmazonS3/latest/userguide/conditional-writes.html
    """
    answer = getattr(error.__cause__, "response", None) or {}
    codes = ("PreconditionFailed", "ConditionalRequestConflict", "412", "409")
    return isinstance(error, FileExistsError) or answer.get("Error", {}).get("Code") in codes


def unreachable(url: str, error: Exception) -> TryAgain:
    """The type of error only: its text may hold a signed address."""
    return TryAgain(
        f"{url} can't be read: {type(error).__name__}.",
        "Check the prefix, and the credentials of its connection or of the environment.",
    )


def in_bytes(size: str) -> int:
    """A setting such as 20GB or 1.5 GiB."""
    number, unit, binary = re.fullmatch(r"([\d.]+)\s*([KMGT]?)(i?)B", size, re.IGNORECASE).groups()  # type: ignore[union-attr]
    return int(float(number) * (1024 if binary else 1000) ** _UNITS.get(unit.upper(), 0))
