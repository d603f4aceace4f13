"""Finding, downloading and reading the Online Retail file.

The archive's checksum can't be pinned across re-packings, so the content's is: `DIGEST` is over the parsed rows.
"""

from __future__ import annotations

import hashlib
import io
import uuid
import zipfile
from pathlib import Path

import httpx
import openpyxl
import pandas as pd
import pyarrow as pa

from controltower.errors import BadSource
from controltower.settings import INCLUDE, Settings

URL = "https://archive.ics.uci.edu/static/public/352/online+retail.zip"
DIGEST = "dbcdb0100208091408f0e1784e58360753516248c165655139c95aa437c696b2"
COLUMNS = ("InvoiceNo", "StockCode", "Description", "Quantity", "InvoiceDate", "UnitPrice", "CustomerID", "Country")

_NAME = "online_retail.parquet"
_BY_HAND = "Download it from https://archive.ics.uci.edu/dataset/352 and name the .xlsx in CONTROLTOWER_ONLINE_RETAIL."


def locate(settings: Settings) -> Path:
    """The file: the one named in the settings, else the home's, else the one beside the checkout, else downloaded."""
    if settings.online_retail:
        if not settings.online_retail.is_file():
            raise BadSource(f"There is no file {settings.online_retail}.", "Correct CONTROLTOWER_ONLINE_RETAIL.")
        return settings.online_retail
    downloaded = settings.home / "downloads" / _NAME
    beside = INCLUDE.parents[1] / "shared" / "data" / _NAME
    for file in (downloaded, beside):
        if file.is_file():
            return file
    download(downloaded)
    return downloaded


def read_lines(file: Path) -> pd.DataFrame:
    """The file's rows: InvoiceNo, StockCode, Description, Country as text, Quantity, UnitPrice, CustomerID (null where
    there is none), InvoiceDate (naive, UK time). From .parquet or .xlsx.
    """
    try:
        rows = _from_xlsx(file.read_bytes()) if file.suffix == ".xlsx" else pd.read_parquet(file)
    except (OSError, ValueError, pa.ArrowException, zipfile.BadZipFile, KeyError):
        raise BadSource(f"{file} can't be read as Online Retail.", _BY_HAND) from None
    missing = [name for name in COLUMNS if name not in rows.columns]
    if missing or rows.empty:
        raise BadSource(f"{file} is not Online Retail: {', '.join(missing) or 'all rows'} missing.", _BY_HAND)
    return _typed(rows[list(COLUMNS)])


def download(to: Path, url: str = URL, digest: str = DIGEST) -> None:
    """Fetch the archive, check its content and keep it as Parquet. Raises BadSource when offline or not as expected."""
    try:
        answer = httpx.get(url, follow_redirects=True, timeout=httpx.Timeout(30, read=120))
        answer.raise_for_status()
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            (sheet,) = (name for name in archive.namelist() if name.endswith(".xlsx"))
            rows = _typed(_from_xlsx(archive.read(sheet)))
    except httpx.HTTPError as e:
        raise BadSource(f"Online Retail can't be downloaded from {url}: {type(e).__name__}.", _BY_HAND) from None
    except (zipfile.BadZipFile, ValueError, KeyError):
        raise BadSource(f"What {url} answers is not the Online Retail archive.", _BY_HAND) from None
    if content_digest(rows) != digest:
        raise BadSource(f"The content of {url} is not the Online Retail we know (its checksum differs).", _BY_HAND)
    to.parent.mkdir(parents=True, exist_ok=True)
    fresh = to.with_name(f".{to.name}-{uuid.uuid4().hex}")
    rows.to_parquet(fresh, index=False)
    fresh.replace(to)


def content_digest(rows: pd.DataFrame) -> str:
    """SHA-256 over the rows in a form that doesn't depend on the container: trimmed text, prices to four places."""
    text = [rows[c].fillna("").str.strip() for c in ("InvoiceNo", "StockCode", "Description", "Country")]
    customers = rows["CustomerID"].astype("Int64").astype("string").fillna("")
    moments = rows["InvoiceDate"].dt.strftime("%Y-%m-%dT%H:%M")
    prices = rows["UnitPrice"].map("{:.4f}".format)
    columns = (*text, rows["Quantity"].astype("int64").astype("string"), moments, prices, customers)
    sha = hashlib.sha256()
    for row in sorted("\x1f".join(values) for values in zip(*columns, strict=True)):
        sha.update(row.encode())
        sha.update(b"\n")
    return sha.hexdigest()


def _from_xlsx(content: bytes) -> pd.DataFrame:
    book = openpyxl.load_workbook(io.BytesIO(content), read_only=True, data_only=True)
    rows = book.worksheets[0].iter_rows(values_only=True)
    header = [str(name) for name in next(rows)]
    return pd.DataFrame(rows, columns=header)


def _typed(rows: pd.DataFrame) -> pd.DataFrame:
    """Spreadsheets hold codes and even titles as numbers; here all have one type."""
    rows = rows[list(COLUMNS)].copy()
    for name in ("InvoiceNo", "StockCode", "Description", "Country"):
        rows[name] = rows[name].map(str, na_action="ignore").astype("string")
    rows["Quantity"] = rows["Quantity"].astype("int64")
    rows["UnitPrice"] = rows["UnitPrice"].astype("float64")
    rows["CustomerID"] = rows["CustomerID"].astype("float64")
    rows["InvoiceDate"] = pd.to_datetime(rows["InvoiceDate"]).astype("datetime64[us]")
    return rows
