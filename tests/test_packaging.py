"""What can be checked of the image and of CI without a Docker engine."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import tomllib
from pathlib import Path

import controltower
import pytest
from controltower.models.registry import code_version

ROOT = Path(__file__).resolve().parents[1]
WITHOUT_A_PACKAGE = """
from importlib.metadata import PackageNotFoundError, version
try:
    raise SystemExit("installed: " + version("controltower"))
except PackageNotFoundError:
    pass
from controltower.models.registry import code_version
print(code_version())
"""


def test_the_image_has_the_locks_airflow_and_this_python() -> None:
    dockerfile = (ROOT / "Dockerfile").read_text()
    base = re.search(r"^FROM apache/airflow:(\S+)-python(\S+)$", dockerfile, re.MULTILINE)
    locked = re.search(r"^apache-airflow==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert base and locked
    assert base[1] == locked[1]
    assert base[2] == "3.11"


def test_the_image_copies_what_exists_and_is_not_ignored() -> None:
    copied = re.findall(r"^COPY (?:--\S+ )?(\S+) ", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    ignored = (ROOT / ".dockerignore").read_text().split()
    assert {"requirements.txt", "include", "dags", "plugins", "deploy"} == set(copied)
    assert all((ROOT / name).exists() and name not in ignored for name in copied)


def test_secrets_and_data_stay_out_of_the_image_and_of_git() -> None:
    for file in (".dockerignore", ".gitignore"):
        ignored = {line.strip("/") for line in (ROOT / file).read_text().split()}
        assert {".env", "source", ".demo"} <= ignored, file


def test_make_env_writes_a_private_file_once(tmp_path: Path) -> None:
    for name in ("Makefile", ".env.example"):
        (tmp_path / name).write_text((ROOT / name).read_text())
    (tmp_path / "deploy").mkdir()
    (tmp_path / "deploy" / "new_env.py").write_text((ROOT / "deploy" / "new_env.py").read_text())
    command = ["make", "-s", f"PYTHON={sys.executable}", "env"]
    first, again = (
        subprocess.run(command, cwd=tmp_path, check=True) and (tmp_path / ".env").read_text() for _ in range(2)
    )
    assert first == again
    assert "ADMIN_PASSWORD=" in first
    assert (tmp_path / ".env").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "source").is_dir()


@pytest.fixture(scope="session")
def image_path(tmp_path_factory: pytest.TempPathFactory) -> str:
    """What Python finds in the image: the dependencies and include/, but no installed package of ours."""
    dependencies = tmp_path_factory.mktemp("dependencies")
    for place in {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}:
        for entry in Path(place).iterdir():
            if not entry.name.startswith(("controltower", "__editable__")):
                (dependencies / entry.name).symlink_to(entry)
    return f"{ROOT / 'include'}:{dependencies}"


def as_in_the_image(image_path: str, *arguments: str) -> str:
    """What Python writes; -S leaves out the site-packages with our editable install."""
    command = [sys.executable, "-S", *arguments]
    environment = os.environ | {"PYTHONPATH": image_path}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, cwd="/")
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_the_images_path_is_enough_for_the_command_line(image_path: str) -> None:
    assert "dispatch" in as_in_the_image(image_path, "-m", "controltower.cli", "--help")


def test_the_images_path_is_enough_for_a_models_card(image_path: str) -> None:
    assert as_in_the_image(image_path, "-c", WITHOUT_A_PACKAGE) == code_version()
    assert code_version().startswith(f"{controltower.__version__}+")


def test_one_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["version"] == controltower.__version__


def test_ci_runs_make_check() -> None:
    script = ROOT / ".ci" / "run"
    assert os.access(script, os.X_OK)
    subprocess.run(["bash", "-n", str(script)], check=True)
    assert "set -euo pipefail" in script.read_text()
    assert re.search(r"make .*\bcheck\b", script.read_text())


def test_every_make_target_is_in_help() -> None:
    makefile = (ROOT / "Makefile").read_text()
    documented = subprocess.run(["make", "-s", "help"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    for target in ("demo", "test", "check", "bench", "lock", "setup", "clean", "env", "compose-trial"):
        assert re.search(rf"^{target}:.*## ", makefile, re.MULTILINE)
        assert re.search(rf"^{target}\s", documented, re.MULTILINE)
