"""The upload to a Space: exactly the files that the page needs, and they run without the rest."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from gradio_client import Client, handle_file
from huggingface_hub.utils import filter_repo_objects

from hierseg import deploy
from hierseg.deploy import DeployError, files, main, upload
from tests import HANGS, REPOSITORY
from tests.environment import environment_of
from tests.server import running_page

pytestmark = pytest.mark.slow  # all of a Space is read for each


def copy(folder: Path) -> Path:
    for path in files():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(REPOSITORY / path, folder / path)
    return folder


def test_the_list_is_what_the_page_needs_and_nothing_of_training() -> None:
    listed = set(files())
    assert {"app.py", "README.md", "requirements.txt", "pre-requirements.txt", "LICENSE"} <= listed
    assert {"checkpoints/bce.safetensors", "checkpoints/ftm.safetensors"} <= listed
    assert not [name for name in listed if name.startswith(("train/", "tests/", "runs/", ".")) or "__pycache__" in name]
    assert {name for name in listed if name.startswith("studies/")} == {
        f"studies/losses/report/{path.name}" for path in (REPOSITORY / "studies" / "losses" / "report").iterdir()
    }
    code = {path.relative_to(REPOSITORY).as_posix() for path in (REPOSITORY / "hierseg").rglob("*.py")}
    assert code <= listed


def test_dry_run_prints_every_file_and_uploads_nothing(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(deploy, "upload", lambda *_: pytest.fail("a dry run uploads nothing"))
    assert main(["--dry-run"]) == 0
    assert [line.split()[1] for line in capsys.readouterr().out.splitlines()] == files()


def _secret(folder: Path) -> None:
    (folder / "app.py").write_text("token = 'hf_" + "a" * 34 + "'\n")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "app.py").unlink(), "app.py is missing"),
        (
            lambda folder: [path.unlink() for path in folder.glob("checkpoints/*.safetensors")],
            r"checkpoints/\*\.safetensors is missing",
        ),
        (_secret, "app.py holds what looks like a secret"),
        (lambda folder: (folder / "examples" / "me.jpg").write_bytes(b"x"), "me.jpg has no source"),
        (
            lambda folder: (folder / "checkpoints" / "big.safetensors").write_bytes(bytes(25_000_001)),
            "25,000,001 bytes",
        ),
        (lambda folder: (folder / "examples" / "link.jpg").symlink_to(folder / "app.py"), "link.jpg is a link"),
    ],
    ids=["missing", "no checkpoint", "secret", "photo", "large", "link"],
)
def test_what_must_not_be_uploaded_is_refused_by_name(
    tmp_path: Path, spoil: Callable[[Path], object], sentence: str
) -> None:
    spoil(copy(tmp_path))
    with pytest.raises(DeployError, match=sentence):
        files(tmp_path)


def test_hidden_files_and_systems_folders_are_not_uploaded_and_stop_nothing(tmp_path: Path) -> None:
    listed = files(copy(tmp_path))
    places = ["examples/._camera.jpg", "checkpoints/._ftm.safetensors", "hierseg/._cli.py", "hierseg/@eaDir/cli.py"]
    for name in [*places, "hierseg/__MACOSX/cli.py", "hierseg/page/viewer/._viewer.js"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"\0\5\x16\7\xff")
    assert files(tmp_path) == listed


def test_hidden_and_damaged_files_do_not_stop_the_page_and_nothing_is_said_in_a_trace(tmp_path: Path) -> None:
    space = copy(tmp_path)
    (space / "examples" / "._camera.jpg").write_bytes(b"\0\5\x16\7")
    (space / "checkpoints" / "._ftm.safetensors").write_bytes(b"\0\5\x16\7")
    (space / "checkpoints" / "bad.safetensors").write_bytes(b"no checkpoint")

    def start() -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", "import app; print(*app.predictors, *(one.path.name for one in app.EXAMPLES))"]
        return subprocess.run(
            command, cwd=space, env={**os.environ, "PYTHONPATH": str(space)}, capture_output=True, text=True
        )

    done = start()
    assert done.returncode == 0, done.stderr
    assert {"bce", "ftm", "camera.jpg"} <= set(done.stdout.split())
    assert "bad" not in done.stdout and "._" not in done.stdout
    assert "bad.safetensors" in done.stderr and "._ftm" not in done.stderr
    for path in space.glob("checkpoints/*.safetensors"):
        path.write_bytes(b"no checkpoint")
    done = start()
    assert done.returncode == 1
    assert "error: There is no checkpoint in" in done.stderr and "Traceback" not in done.stderr


def test_upload_sends_the_list_and_deletes_what_is_no_longer_on_it(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: dict[str, Any] = {}

    class Hub:
        def create_repo(self, space: str, **options: Any) -> str:
            assert options == {"repo_type": "space", "space_sdk": "gradio", "exist_ok": True}
            return f"https://hub.example/{space}"

        def upload_folder(self, **options: Any) -> None:
            sent.update(options)

    monkeypatch.setattr(deploy, "HfApi", Hub)
    assert upload("somebody/hierseg") == "https://hub.example/somebody/hierseg"
    assert (sent["repo_id"], sent["repo_type"], sent["folder_path"]) == ("somebody/hierseg", "space", REPOSITORY)
    ours = [*files(), "checkpoints/stages/bce-1.safetensors", "train/fit.py", "hierseg/__pycache__/cli.pyc"]
    assert list(filter_repo_objects(ours, allow_patterns=sent["allow_patterns"])) == files()
    theirs = ["README.md", "hierseg/page/gone.py", "notes/mine.md"]
    assert list(filter_repo_objects(theirs, allow_patterns=sent["delete_patterns"])) == ["hierseg/page/gone.py"]


def test_what_would_be_uploaded_runs_by_itself(tmp_path: Path) -> None:
    space = copy(tmp_path / "space")
    python = environment_of((space / "requirements.txt").read_text().splitlines(), tmp_path / "environment")
    with running_page(tmp_path / "uploads", space, python) as url:
        client = Client(url, verbose=False, download_files=str(tmp_path), httpx_kwargs={"timeout": HANGS})
        _, _, areas = client.predict(
            handle_file(str(space / "examples" / "camera.jpg")), "bce", "parts", 0.5, api_name="/segment"
        )
    assert areas["areas"]["head"]["share_of_photo"] > 0.02
