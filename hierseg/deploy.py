"""Puts the page on Hugging Face Spaces: `python -m hierseg.deploy OWNER/NAME`; `--dry-run` lists what would go."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from huggingface_hub import CommitOperationAdd, HfApi
from huggingface_hub.errors import HfHubHTTPError

from hierseg.errors import UserError
from hierseg.files import is_hidden

ROOT = Path(__file__).resolve().parent.parent
# What the page needs where it is served, and nothing else: no training code, no tests, no run.
PATTERNS = (
    "README.md",
    "LICENSE",
    "app.py",
    "requirements.txt",
    "pre-requirements.txt",
    "hierseg/**/*.py",
    "hierseg/**/*.yaml",
    "hierseg/page/viewer/**/*.js",
    "hierseg/page/viewer/*.css",
    "hierseg/page/viewer/*.html",
    "checkpoints/*.safetensors",
    "checkpoints/*.onnx",
    "checkpoints/README.md",
    "examples/*.jpg",
    "examples/README.md",
    "studies/losses/report/losses*",
    "docs/page.*",
    "docs/*.md",
)
NEEDED = ("README.md", "LICENSE", "app.py", "requirements.txt", "pre-requirements.txt", "hierseg/page/viewer/viewer.js")
LARGEST = 25_000_000  # bytes of a file
_TEXT = {".py", ".md", ".json", ".svg", ".txt", ".yaml", ".js", ".css", ".html", ""}
_SECRET = re.compile(r"\bhf_[A-Za-z0-9]{30,}|-----BEGIN [A-Z ]*PRIVATE KEY-----|\bgh[pousr]_[A-Za-z0-9]{30,}")


class DeployError(UserError):
    """Something must not be uploaded, or is missing. The message lists every fault."""


def files(root: Path = ROOT) -> list[Path]:
    """Return what would be uploaded, relative to the root and sorted.

    Args:
        root: A clone of the repository.

    Returns:
        Paths of files.

    Raises:
        DeployError: A file is missing, too large, a link, or holds what looks like a secret; or an example photo has no
            stated source, or there is no checkpoint.
    """
    matched = {path.relative_to(root) for pattern in PATTERNS for path in root.glob(pattern)}
    found = sorted(root / path for path in matched if "__pycache__" not in path.parts and not is_hidden(path))
    faults = [f"{name} is missing." for name in NEEDED if root / name not in found]
    if not any(path.suffix == ".safetensors" for path in found):
        faults.append("There is no checkpoint in checkpoints/.")
    sources = root / "examples" / "README.md"
    stated = sources.read_text(encoding="utf-8") if sources.is_file() else ""
    for path in found:
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            faults.append(f"{name} is a link; what it points to would not go along.")
        elif path.stat().st_size > LARGEST:
            faults.append(f"{name} has {path.stat().st_size} bytes, more than {LARGEST}.")
        elif path.suffix in _TEXT and _SECRET.search(path.read_text(encoding="utf-8", errors="replace")):
            faults.append(f"{name} holds what looks like a secret.")
        if path.parent.name == "examples" and path.suffix == ".jpg" and f"| {path.name} |" not in stated:
            faults.append(f"{name} has no source in examples/README.md: may it be shown to everybody?")
    if faults:
        raise DeployError("\n".join(faults))
    return [path.relative_to(root) for path in found]


def upload(space: str, root: Path = ROOT) -> str:
    """Make a Space, or bring it up to date in one commit.

    Files that are there and are not among `files` stay. The token is the one that `hf auth login` saved.

    Args:
        space: OWNER/NAME.
        root: A clone of the repository.

    Returns:
        The Space's address.

    Raises:
        DeployError: As for `files`.
        HfHubHTTPError: The hub refuses.
    """
    listed = files(root)
    api = HfApi()
    address = api.create_repo(space, repo_type="space", space_sdk="gradio", exist_ok=True)
    api.create_commit(
        space,
        [CommitOperationAdd(path_in_repo=path.as_posix(), path_or_fileobj=root / path) for path in listed],
        commit_message="Bring the page up to date",
        repo_type="space",
    )
    return str(address)


def main(arguments: list[str] | None = None) -> int:
    """Upload, or list what would be.

    Args:
        arguments: The command line after the program's name; None for the process's own.

    Returns:
        Exit status: 0, 1 if the hub refuses, 2 if something must not be uploaded.
    """
    parser = argparse.ArgumentParser(prog="hierseg.deploy", description="Put the page on Hugging Face Spaces.")
    parser.add_argument("space", nargs="?", metavar="OWNER/NAME")
    parser.add_argument("--dry-run", action="store_true", help="list what would be uploaded, and upload nothing")
    options = parser.parse_args(arguments)
    if not options.space and not options.dry_run:
        parser.error("name the Space, OWNER/NAME, or pass --dry-run")
    try:
        if options.dry_run:
            listed = files()
            for path in listed:
                print(f"{(ROOT / path).stat().st_size:>10,}  {path.as_posix()}")
            print(f"{len(listed)} files, {sum((ROOT / path).stat().st_size for path in listed):,} bytes")
        else:
            print(upload(options.space))
    except DeployError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except HfHubHTTPError as error:
        print(f"error: the hub refuses: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
