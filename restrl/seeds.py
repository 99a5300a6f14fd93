"""Seeds derived from names, so that a draw depends on what it is for and never on when it happens."""

from __future__ import annotations

import hashlib


def derive_seed(*parts: int | str) -> int:
    """Returns a seed in [0, 2**63) that depends on every part and on their order.

    Args:
        *parts: For example the run seed, the iteration, the problem id and the sample index.

    >>> derive_seed(0, "sample", "p/1", 3) == derive_seed(0, "sample", "p/1", 3)
    True
    >>> derive_seed(1, 23) == derive_seed(12, 3)
    False
    """
    digest = hashlib.blake2b(digest_size=8)
    for part in parts:
        raw = f"{type(part).__name__}:{part}".encode()
        digest.update(len(raw).to_bytes(4, "little"))
        digest.update(raw)
    return int.from_bytes(digest.digest(), "little") >> 1
