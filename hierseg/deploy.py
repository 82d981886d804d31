"""Put the page on Hugging Face Spaces: `python -m hierseg.deploy OWNER/NAME`; `--dry-run` only lists the files."""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

from huggingface_hub import HfApi
from huggingface_hub.errors import HfHubHTTPError

from hierseg.errors import UserError
from hierseg.files import is_hidden

ROOT = Path(__file__).resolve().parent.parent
# Only what the page needs: no training code, tests or runs.
PATTERNS = (
    *("README.md", "LICENSE", "app.py", "requirements.txt", "pre-requirements.txt"),
    *("hierseg/**/*.*", "checkpoints/*.safetensors", "checkpoints/*.onnx", "checkpoints/README.md"),
    *("examples/*.jpg", "examples/README.md", "studies/losses/report/losses*", "docs/page.*", "docs/*.md"),
    "docs/states/example-desktop.jpg",  # see page/preview.py
)
LARGEST = 25_000_000  # most bytes of a file
_SECRET = re.compile(rb"\bhf_[A-Za-z0-9]{30,}|-----BEGIN [A-Z ]*PRIVATE KEY-----|\bgh[pousr]_[A-Za-z0-9]{30,}")


class DeployError(UserError):
    """Something must not be uploaded, or is missing. The message lists every fault."""


def files(root: Path = ROOT) -> list[str]:
    """Return the files to upload.

    Args:
        root: A clone of the repository.

    Returns:
        Paths below the root, with `/`, sorted.

    Raises:
        DeployError: A file is missing, too large, a link, or holds what looks like a secret; or an example photo has no
            stated source.
    """
    found: set[Path] = set()
    faults = []
    for pattern in PATTERNS:
        inside = (path.relative_to(root) for path in root.glob(pattern) if path.is_file())
        matched = {path for path in inside if "__pycache__" not in path.parts and not is_hidden(path)}
        found |= matched
        if not matched:
            faults.append(f"{pattern} is missing.")
    sources = root / "examples" / "README.md"
    stated = sources.read_text(encoding="utf-8") if sources.is_file() else ""
    for path in sorted(found):
        if (root / path).is_symlink():
            faults.append(f"{path} is a link; only plain files are uploaded.")
        elif (size := (root / path).stat().st_size) > LARGEST:
            faults.append(f"{path} has {size:,} bytes, more than {LARGEST:,}.")
        elif _SECRET.search((root / path).read_bytes()):
            faults.append(f"{path} holds what looks like a secret.")
        if path.match("examples/*.jpg") and f"| {path.name} |" not in stated:
            faults.append(f"{path} has no source in examples/README.md: may it be published?")
    if faults:
        raise DeployError("\n".join(faults))
    return sorted(path.as_posix() for path in found)


def upload(space: str) -> str:
    """Create or update a Space, with the token saved by `hf auth login`.

    Args:
        space: OWNER/NAME. In the uploaded folders, the Space's files that are no longer among `files` are deleted.

    Returns:
        The Space's address.

    Raises:
        DeployError: As for `files`.
        HfHubHTTPError: The hub refuses.
    """
    listed = files()
    api = HfApi()
    address = api.create_repo(space, repo_type="space", space_sdk="gradio", exist_ok=True)
    api.upload_folder(
        repo_id=space,
        repo_type="space",
        folder_path=ROOT,
        allow_patterns=listed,
        delete_patterns=sorted({f"{name.partition('/')[0]}/*" for name in listed if "/" in name}),
        commit_message="Bring the page up to date",
    )
    return str(address)


def main(arguments: list[str] | None = None) -> int:
    """Upload the page, or list its files.

    Args:
        arguments: The command line after the program's name; None for the process's own.

    Returns:
        Exit status: 0, or 1 if the hub refuses or something must not be uploaded.
    """
    parser = argparse.ArgumentParser(prog="hierseg.deploy", description="Put the page on Hugging Face Spaces.")
    parser.add_argument("space", nargs="?", metavar="OWNER/NAME")
    parser.add_argument("--dry-run", action="store_true", help="list what would be uploaded, and upload nothing")
    options = parser.parse_args(arguments)
    if not options.space and not options.dry_run:
        parser.error("name the Space, OWNER/NAME, or pass --dry-run")
    try:
        if options.dry_run:
            print(*(f"{(ROOT / name).stat().st_size:>10,}  {name}" for name in files()), sep="\n")
        else:
            print(upload(options.space))
    except (DeployError, HfHubHTTPError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
