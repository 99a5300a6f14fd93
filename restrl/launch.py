"""A command that `accelerate launch` or `torchrun` starts several times: who does what.

Training is shared by all processes. Everything else is done by the first process, which must then not look to the
libraries like one of several: they would wait for the others. So a launch is *left* when the command begins, its
variables taken out of the environment, and *joined* again for the time of a training stage.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

# What the launchers set and the libraries read.
_PREFIXES = ("ACCELERATE_", "FSDP_", "TORCHELASTIC_", "MASTER_", "GROUP_", "ROLE_", "PARALLELISM_CONFIG_")
_NAMES = ("RANK", "WORLD_SIZE", "LOCAL_RANK", "LOCAL_WORLD_SIZE")
_POLL_S = 0.5

_left: dict[str, str] = {}


def leave() -> None:
    """Takes the launch's variables out of the environment and remembers them; where nothing was launched, nothing."""
    if int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return
    for name in list(os.environ):
        if name in _NAMES or name.startswith(_PREFIXES):
            _left[name] = os.environ.pop(name)


@contextmanager
def joined() -> Iterator[None]:
    """Puts the launch's variables back for the length of a block."""
    os.environ.update(_left)
    try:
        yield
    finally:
        for name in _left:
            os.environ.pop(name, None)


def index() -> int:
    """Returns the number of this process among those of the launch, from 0."""
    return int(_left.get("RANK", "0"))


def processes() -> int:
    """Returns how many processes were launched, at least 1."""
    return int(_left.get("WORLD_SIZE", "1"))


def uses_fsdp() -> bool:
    """Whether the launcher asked for FSDP."""
    return _left.get("ACCELERATE_USE_FSDP", "false").lower() == "true"


def processes_here() -> int:
    """Returns how many processes of the launch run on this machine, at least 1."""
    return int(_left.get("LOCAL_WORLD_SIZE", "1"))


def wait_for(condition: Callable[[], bool]) -> None:
    """Waits until a condition holds; the launcher ends the process if another one fails meanwhile."""
    while not condition():
        time.sleep(_POLL_S)
