"""The house rules that code can check: who imports whom, how long files are, what they are called."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / "include" / "controltower"
ROOMS = (
    "data", "ledger", "profiles", "models", "audiences", "content", "campaigns", "delivery", "feedback", "measurement"
)  # fmt: skip
EVERYBODY = {"settings", "shop", "errors", "clock", "garbage"}
ABOVE = {"jobs", "cli", "commands", "web"}  # may import every room
AIRFLOW_ALLOWED = {"settings.py", "web/auth.py", "web/fab.py"}
BAD_NAMES = {"utils", "util", "helpers", "helper", "common", "manager", "misc"}
FOLDERS = ("include", "dags", "plugins", "demo", "bench", "tests")
# What a DAG file and what it imports may load when parsed; jobs import the rest inside their functions.
HEAVY = {
    "pandas",
    "lightgbm",
    "numba",
    "ibis",
    "sklearn",
    "implicit",
    "duckdb",
    "firebase_admin",
    "mrml",
    "scipy",
    "pyarrow",
}


def sources(*folders: str) -> list[Path]:
    return sorted(p for folder in folders for p in (ROOT / folder).rglob("*.py") if "/versions/" not in str(p))


def imports(path: Path, top_only: bool = False) -> Iterator[str]:
    """Every module that a file imports, in full; with `top_only` those that importing the file imports."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    inside: set[ast.AST] = set()
    if top_only:
        for node in ast.walk(tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) or _type_checking(node):
                inside.update(n for n in ast.walk(node) if n is not node)
    for node in ast.walk(tree):
        if node in inside:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING"


def room_of(module: str) -> str | None:
    parts = module.split(".")
    return parts[1] if parts[0] == "controltower" and len(parts) > 1 else None


def allowed(room: str) -> set[str]:
    if room in ABOVE:
        return {*ROOMS, *EVERYBODY, *ABOVE, "simulation"} | ({"sandbox"} if room in ("cli", "commands") else set())
    if room in ROOMS:
        return {*ROOMS[: ROOMS.index(room) + 1], *EVERYBODY}
    if room == "simulation":
        return {"data", "simulation", *EVERYBODY}
    if room == "sandbox":
        return {"simulation", "sandbox", *EVERYBODY}
    return set(EVERYBODY)  # they, and the package itself


def test_a_room_imports_only_rooms_to_its_left() -> None:
    wrong = []
    for path in sources("include/controltower"):
        inside = path.relative_to(PACKAGE)
        room = inside.parts[0].removesuffix(".py")
        wrong += [
            f"{inside} imports {module}"
            for module in imports(path)
            if (target := room_of(module)) and target not in allowed(room)
        ]
    assert not wrong


def test_only_the_allowed_files_import_airflow() -> None:
    wrong = [
        str(path.relative_to(ROOT))
        for path in sources("include")
        if str(path.relative_to(PACKAGE)) not in AIRFLOW_ALLOWED
        and any(module.split(".")[0] == "airflow" for module in imports(path))
    ]
    assert not wrong


def test_nothing_of_the_product_imports_the_demo_the_bench_or_the_tests() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sources("include", "dags", "plugins")
        for module in imports(path)
        if module.split(".")[0] in {"demo", "bench", "tests", "support"}
    ]
    assert not wrong


def test_jobs_import_heavy_packages_inside_their_functions() -> None:
    wrong = [
        f"{path.relative_to(ROOT)} imports {module}"
        for path in sources("include/controltower/jobs", "dags")
        for module in imports(path, top_only=True)
        if module.split(".")[0] in HEAVY
    ]
    assert not wrong


@pytest.mark.parametrize("folder", FOLDERS)
def test_files_are_short(folder: str) -> None:
    most = {"dags": 60, "tests": 500}.get(folder, 400)
    long = {}
    for path in sources(folder):
        limit = 100 if folder == "dags" and path.name.startswith("_") else most
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > limit:
            long[str(path.relative_to(ROOT))] = lines
    assert not long


def test_no_module_is_named_after_nothing() -> None:
    assert not [str(p) for p in sources(*FOLDERS) if BAD_NAMES & set(re.split(r"[_/.]", p.stem))]


def test_only_the_command_line_prints() -> None:
    def prints(path: Path) -> bool:
        tree = ast.parse(path.read_text(encoding="utf-8"))
        calls = (n for n in ast.walk(tree) if isinstance(n, ast.Call))
        return any(isinstance(call.func, ast.Name) and call.func.id == "print" for call in calls)

    talkers = {str(p.relative_to(ROOT)) for p in sources("include", "dags", "plugins") if prints(p)}
    assert all(t.startswith(("include/controltower/cli.py", "include/controltower/commands/")) for t in talkers), (
        talkers
    )


def test_only_the_clock_reads_the_wall_clock() -> None:
    """Of the product; a monotonic clock for durations is no wall clock."""
    pattern = re.compile(r"datetime\.now\(|datetime\.utcnow\(|date\.today\(|\btime\.time\(")
    wrong = [
        str(path.relative_to(ROOT))
        for path in sources("include/controltower", "dags")
        if path != PACKAGE / "clock.py" and pattern.search(path.read_text(encoding="utf-8"))
    ]
    assert not wrong


def test_no_file_has_an_address_that_could_be_somebodys() -> None:
    """Fixtures, golden files, docs and code alike: made-up addresses end in what nobody can own (RFC 2606), telephones
    are of ranges that nobody has, push tokens don't look like FCM's; or they are masked."""
    address = re.compile(r"[\w.%+-]+@((?:[A-Za-z0-9-]+\.)+[A-Za-z]{2,})")
    nobodys = re.compile(r"(\.|^)(example|test|invalid|example\.(com|org|net))$|^x+\.x+$", re.IGNORECASE)
    mobile = re.compile(r"(?<![\w.])(?:(?:\+|00)82[ -]?(?:\(0\)|0)?10|010)[ -]?([1-9]\d{3}[ -]?\d{4})(?!\d)")
    token = re.compile(r"[\w-]{11,}:APA91b[\w-]{100,}")
    known = {"haru.kr", "12345678"}  # a sender's domain in tests/delivery/test_dispatch.py; the number in every manual
    found = set()
    for folder in (*FOLDERS, "docs", "deploy"):
        for path in (p for p in (ROOT / folder).rglob("*") if p.is_file() and "node_modules" not in p.parts):
            try:
                text = path.read_text(encoding="utf-8")
            except UnicodeDecodeError:
                continue
            domains = {d for d in address.findall(text) if not nobodys.search(d)}
            numbers = {re.sub(r"\D", "", n) for n in mobile.findall(text)}
            found |= {f"{path.relative_to(ROOT)}: {d}" for d in {*domains, *numbers, *token.findall(text)} - known}
    assert not found
