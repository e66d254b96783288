"""sushy-tools' emulator with its fake host, as a process: one line of JSON in, the port out.

Nothing of Redfish is ours. Changed are the delay of its power (random, 1 to 11 s; here none) and, if told
so, what becomes of power commands.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from unittest import mock

os.environ.pop("SUSHY_EMULATOR_CONFIG", None)

import bcrypt
from sushy_tools import error
from sushy_tools.emulator import main as emulator
from sushy_tools.emulator.resources.systems import fakedriver
from werkzeug.serving import make_server

_EFFECTS = {
    "deaf": None,
    "freezes": lambda *_: time.sleep(60),
    "refuses": error.BadRequest("not in this state"),
    "fails": error.FishyError("a bug"),
}


def main() -> None:
    """Serve until killed."""
    told = json.loads(sys.stdin.readline())
    directory = Path(told["directory"])
    fakedriver.random.randint = lambda _low, _high: 0
    if "power" in told:
        effect = _EFFECTS[told["power"]]
        mock.patch.object(fakedriver.FakeDriver, "set_power_state", side_effect=effect).start()
    accounts = directory / "accounts"
    accounts.write_bytes(b"admin:" + bcrypt.hashpw(told["password"].encode(), bcrypt.gensalt(4)) + b"\n")
    access = {} if told.get("open") else {"SUSHY_EMULATOR_AUTH_FILE": str(accounts)}
    host = {
        "uuid": "27946b59-9e44-4fa7-8e91-f3527a1ef094",
        "name": "host-1",
        "power_state": told.get("state", "On"),
        "nics": [],
    }
    second = {**host, "uuid": "37946b59-9e44-4fa7-8e91-f3527a1ef094", "name": "host-2"}
    emulator.app.configure(
        extra_config={
            "SUSHY_EMULATOR_FAKE_DRIVER": True,
            "SUSHY_EMULATOR_FAKE_SYSTEMS": [host, second][: told.get("systems", 1)],
            "SUSHY_EMULATOR_STATE_DIR": str(directory),
            **access,
        }
    )
    tls = (told["chain"], told["key"]) if "chain" in told else None
    server = make_server("127.0.0.1", 0, emulator.app, ssl_context=tls, threaded=True)
    sys.stdout.write(f"{server.port}\n")
    sys.stdout.flush()
    server.serve_forever()


if __name__ == "__main__":
    main()
