"""Queues of BullMQ: as they were recorded, and as the npm package makes them where it is installed."""

import json
import os
import shutil
import subprocess
from pathlib import Path

HERE = Path(__file__).parent
RECORDED = sorted(HERE.glob("bullmq-*.json"))
NAME = "orders"
WITHOUT_NPM = "BULLMQ_HOME names no folder in which `npm install bullmq ioredis` was run."


def home():
    """The folder with the npm package, or None."""
    folder = os.environ.get("BULLMQ_HOME")
    return Path(folder) if folder and shutil.which("node") and Path(folder, "node_modules/bullmq").is_dir() else None


def load(client, recording):
    """Write a recorded queue into Redis."""
    for command in json.loads(recording.read_text())["commands"]:
        client.execute_command(*command)


def node(script, *arguments):
    """Run a script beside this file with the npm package. Returns what it has printed."""
    place = home() / script
    place.write_text((HERE / script).read_text())
    done = subprocess.run(
        ["node", str(place), *map(str, arguments)], cwd=home(), capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
