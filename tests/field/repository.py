"""Git repositories as people have them."""

import os
import subprocess
from pathlib import Path

WHO = {"GIT_AUTHOR_NAME": "a", "GIT_AUTHOR_EMAIL": "a@b", "GIT_COMMITTER_NAME": "a", "GIT_COMMITTER_EMAIL": "a@b",
       "GIT_AUTHOR_DATE": "2026-11-20T09:30:00Z", "GIT_COMMITTER_DATE": "2026-11-21T10:00:00Z",
       "GIT_CONFIG_GLOBAL": "/dev/null"}  # fmt: skip


def git(folder: Path, *words: str) -> str:
    """Run git in a folder; what it prints."""
    argv = ("git", "-C", str(folder), "-c", "protocol.file.allow=always", *words)
    done = subprocess.run(argv, check=True, capture_output=True, text=True, env={**os.environ, **WHO})
    return done.stdout.strip()


def commit(folder: Path, files: dict[str, str], *, message: str = "x") -> str:
    """Write files, and commit everything in a folder, which becomes a repository if it is none; the commit."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)
    if not (folder / ".git").exists():
        git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", message)
    return git(folder, "rev-parse", "HEAD")
