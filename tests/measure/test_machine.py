"""What a result says about the machine it was measured on."""

from __future__ import annotations

import getpass
import json
import socket
from pathlib import Path

from sparsight.measure.machine import machine


def test_it_names_the_machine_and_survives_json():
    found = json.loads(json.dumps(machine()))
    assert found["cpu"]
    assert found["cores"] >= 1
    assert found["threads"] >= 1
    assert {"torch", "transformers"} <= set(found["versions"])
    assert isinstance(found["gpus"], list)


def test_it_tells_no_host_name_user_or_path():
    text = json.dumps(machine())
    for private in (socket.gethostname(), str(Path.home()), str(Path.cwd())):
        assert private not in text
    assert "/" not in text.replace(getpass.getuser(), "/") or "root" in getpass.getuser()
