"""One of several processes that work on the same volumes at the same time; run by the tests.

python -m volume_racer PLACE SEED ROUNDS       the place as JSON; tells a line per operation
"""

from __future__ import annotations

import json
import random
import sys
from collections.abc import Callable
from contextlib import closing

from bollard.core.service.volumes_records import NewVolume
from bollard.core.spi import StorageError
from bollard.transfer_objects.ids import VolumeId
from volume_site import H1, VM, Place, Process, call

MIB = 2**20
NAMES = ("v-1", "v-2", "v-3")


def operations(process: Process, volume: VolumeId) -> dict[str, Callable[[], object]]:
    """What may be done to a volume."""
    new = NewVolume(id=volume, pool="gold", size=8 * MIB)
    return {
        "create": lambda: process.volumes.create(new, call()),
        "resize": lambda: process.volumes.resize(volume, 16 * MIB, call()),
        "attach": lambda: process.attachments.attach(volume, VM, H1, "cluster", call()),
        "detach": lambda: process.attachments.detach(volume, call()),
        "give": lambda: process.attachments.give(volume, H1, call()),
        "take": lambda: process.attachments.take(volume, H1, call()),
        "delete": lambda: process.volumes.delete(volume, call()),
    }


def main(place: Place, seed: int, rounds: int) -> None:
    """Do something to some volume, so many times, whatever comes of it."""
    chance = random.Random(seed)  # noqa: S311 - what is drawn is no secret
    with closing(Process(place)) as process:
        for number in range(rounds):
            # A deleted id is never used again, so each generation has new ones.
            volume = VolumeId(f"{chance.choice(NAMES)}-{number // 12}")
            acts = operations(process, volume)
            name = chance.choice([*acts, "create", "attach"])
            try:
                acts[name]()
                outcome = "done"
            except StorageError as error:
                outcome = error.code
            sys.stdout.write(f"{name} {volume} {outcome}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(Place(**json.loads(sys.argv[1])), int(sys.argv[2]), int(sys.argv[3]))
