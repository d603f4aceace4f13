"""After its days and what tests made of them: nobody's address, token or name is in a log or in what Airflow keeps."""

from __future__ import annotations

from pathlib import Path

from support.running_demo import Demo
from support.whole_home import Contacts


def test_nobody_is_in_logs_or_xcom(demo: Demo, tmp_path: Path) -> None:
    contacts = Contacts(demo.settings)
    assert len(contacts.known) > 200 and len(contacts.names) > 200
    # Airflow's database (XCom, rendered fields, confs, audit log), all logs, and what Airflow and the servers wrote
    files = [file for folder in ("airflow", "logs") for file in (demo.home / folder).rglob("*") if file.is_file()]
    assert demo.home / "airflow" / "airflow.db" in files and sum(file.suffix == ".log" for file in files) > 20
    assert contacts.in_files(files) == set() and contacts.in_text(demo.said) == set()
    planted = [min(one for one in contacts.known if c in one) for c in ("@", "+82")]
    planted += [min(name for name in contacts.names if name.isascii() == ascii) for ascii in (True, False)]
    for n, one in enumerate([*planted, max(contacts.known, key=len)]):  # the last is a push token
        file = tmp_path / f"{n}.log"
        file.write_text(f'{{"event": "sent to {one}, once", "level": "info"}}', encoding="utf-8")
        assert contacts.in_files([file]) == {str(file)}
