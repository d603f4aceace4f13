"""The files that a template is made of, read as text."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from controltower.content.locales import FALLBACK
from controltower.errors import BadSpec

MJML_INCLUDE = re.compile(r"""<mj-include\s+path=(["'])(?P<path>[^"']*)\1\s*(?:/>|>\s*</mj-include\s*>)""")
NOTICES = ("push", "in_app")  # channels whose design is one YAML file
_TEXT_INCLUDE = re.compile(r"""\{%[-+]?\s*include\s+(["'])(?P<path>[^"']*)\1""")


@dataclass(frozen=True)
class Sources:
    """A template's files by their path in the templates folder, those that it includes among them.

    Hashable, so that compiling can be cached by content.
    """

    name: str
    files: tuple[tuple[str, str], ...]

    def get(self, path: str) -> str | None:
        return dict(self.files).get(path)

    @property
    def content_hash(self) -> str:
        digest = hashlib.sha256(self.name.encode())
        for path, text in self.files:
            digest.update(f"\0{path}\0{len(text)}\0{text}".encode())
        return digest.hexdigest()


def read_sources(folder: Path, name: str) -> Sources:
    """Every file that takes part in the template `name`: its own, its partials, and all locales."""
    if not re.fullmatch(r"[a-z][a-z0-9_]*", name):
        raise BadSpec(f"{name!r} is no name of a template.", "Use small letters, digits and underscores.")
    known = template_names(folder)
    if name not in known:
        have = f"There are {', '.join(known)}." if known else f"{folder} holds none."
        raise BadSpec(f"There is no template {name!r} in {folder}.", have)
    files: dict[str, str] = {}
    if (folder / f"email/{name}.mjml").is_file():
        _collect(folder, f"email/{name}.mjml", MJML_INCLUDE, files)
        if not (folder / f"email/{name}.txt").is_file():
            raise BadSpec(f"email/{name}.txt is missing.", "Write the plain-text part beside the MJML file.")
        _collect(folder, f"email/{name}.txt", _TEXT_INCLUDE, files)
    for path in (f"{channel}/{name}.yaml" for channel in NOTICES):
        if (folder / path).is_file():
            files[path] = _read(folder, path)
    locales = [f"locales/{path.name}" for path in sorted((folder / "locales").glob("*.yaml"))]
    if f"locales/{FALLBACK}.yaml" not in locales:
        raise BadSpec(f"locales/{FALLBACK}.yaml is missing.", "Every language falls back to it: write it first.")
    for path in locales:
        files[path] = _read(folder, path)
    return Sources(name, tuple(sorted(files.items())))


def template_names(folder: Path) -> list[str]:
    """The templates in a folder: those with a design for any channel."""
    designs = ("email/*.mjml", *(f"{channel}/*.yaml" for channel in NOTICES))
    return sorted({p.stem for pattern in designs for p in folder.glob(pattern)})


def _collect(folder: Path, path: str, include: re.Pattern[str], files: dict[str, str]) -> None:
    """Read a file and what it includes; included paths are relative to templates/email."""
    files[path] = text = _read(folder, path)
    for found in include.finditer(text):
        wanted = f"email/{found['path']}"
        line = text.count("\n", 0, found.start()) + 1
        if ".." in PurePosixPath(wanted).parts or PurePosixPath(found["path"]).is_absolute():
            raise BadSpec(f"{path}:{line}: {found['path']} is outside templates/email.", "Include partials/<name>.")
        if not (folder / wanted).is_file():
            raise BadSpec(f"{path}:{line}: there is no {wanted}.", "Correct the path, or write the partial.")
        if wanted not in files:
            _collect(folder, wanted, include, files)


def _read(folder: Path, path: str) -> str:
    try:
        return (folder / path).read_text(encoding="utf-8")
    except UnicodeDecodeError:
        raise BadSpec(f"{path} is not UTF-8 text.", "Save it as UTF-8.") from None
    except OSError as e:
        raise BadSpec(f"{path} can't be read: {e.strerror}.", "Correct its permissions.") from None
