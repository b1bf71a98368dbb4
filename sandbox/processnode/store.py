"""What survives the agent: one file per pod, written whole or not at all, before the thing it speaks of happens."""

import json
import shutil
from pathlib import Path
from typing import Any

from sandbox.processnode.process import read_record


def pod_folder(state: Path, uid: str) -> Path:
    """Everything of one pod."""
    return state / "pods" / uid


def save(folder: Path, data: dict[str, Any]) -> None:
    """Write a pod's record."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = folder / "pod.json.partial"
    partial.write_text(json.dumps(data))
    partial.replace(folder / "pod.json")


def load_all(state: Path) -> dict[str, dict[str, Any]]:
    """All pods' records, by uid. A folder without a record never started anything and is removed."""
    result = {}
    for folder in sorted((state / "pods").glob("*")):
        record = read_record(folder / "pod.json")
        if record is None:
            shutil.rmtree(folder, ignore_errors=True)
        else:
            result[folder.name] = record
    return result


def remove(folder: Path) -> None:
    """Forget a pod."""
    shutil.rmtree(folder, ignore_errors=True)
