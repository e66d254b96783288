"""Stand-alone scripts that play a failing history again: `python reproducer.py --config acme.toml`.

    the text of `expecting.py` and of a player, then one line for each step

Exit code 1 and the difference, or 0 if it does not show any more.
"""

from __future__ import annotations

import inspect
import re
from types import ModuleType

from . import expecting, pool_player, store_player
from .history import Failure

_HISTORY = '''"""Shows a difference that Bollard's conformance suite found, without the suite.

{told}

{difference}

    python reproducer.py --config acme.toml     exit code 1 and the difference; 0 if it shows no more

`history`, at the end of this file, has the calls in order.
"""

from __future__ import annotations

{player}

def history(play: {cls}) -> None:
    """Each line is one call, with how it must end."""
{steps}


if __name__ == "__main__":
    sys.exit(replay(__doc__ or "", lambda settings: {run}))
'''


def reproducer_for_pool(failure: Failure, unit: int) -> str:
    """Return a script that plays a history on a pool; `unit` as given to the player, bytes."""
    return _script(failure, pool_player, "PoolPlayer", f"play_on_pool(settings, {unit}, history)")


def reproducer_for_store(failure: Failure) -> str:
    """Return a script that plays a history on a secondary store."""
    return _script(failure, store_player, "StorePlayer", "play_on_store(settings, history)")


def _script(failure: Failure, player: ModuleType, cls: str, run: str) -> str:
    told = [f"    {number}. {step.words}" for number, step in enumerate(failure.told, 1)]
    return _HISTORY.format(
        told=_harmless("\n".join(told)),
        difference=_harmless(failure.difference),
        player=_text_of(expecting) + "\n\n" + _text_of(player),
        cls=cls,
        steps="\n".join(f"    {step.line}" for step in failure.steps),
        run=run,
    )


def _harmless(text: str) -> str:
    """Return text that cannot end the docstring it stands in: a driver's message is in it."""
    return text.replace("\\", "/").replace('"""', "'''")


def _text_of(module: ModuleType) -> str:
    """Return a module's source as part of a script: absolute imports, and none of its neighbours."""
    source = inspect.getsource(module).partition("from __future__ import annotations\n")[2].strip()
    source = re.sub(r"^from \.\w+ import .*\n", "", source, flags=re.MULTILINE)
    source = re.sub(r"^from \.\.\.", "from bollard.", source, flags=re.MULTILINE)
    source = re.sub(r"^from \.\. import", "from bollard.conformance import", source, flags=re.MULTILINE)
    return re.sub(r"^from \.\.(?=\w)", "from bollard.conformance.", source, flags=re.MULTILINE) + "\n"
