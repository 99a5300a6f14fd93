"""Hides a message from whoever has the channel but not the key: test code, from the program that shares its process.

The key comes before the program runs, and goes into no place that it can read without a detector noticing. The message
comes after, over a descriptor that a thread of the program could read from, or put another in the place of.
"""

from __future__ import annotations

import hashlib

_TAG_BYTES = 16

_shake, _blake = hashlib.shake_128, hashlib.blake2b


def _crossed(key: bytes, data: bytes) -> bytes:
    stream = int.from_bytes(_shake(key).digest(len(data)), "little")
    return (int.from_bytes(data, "little") ^ stream).to_bytes(len(data), "little")


def seal(key: bytes, data: bytes) -> bytes:
    """Returns the message, unreadable; a key is good for one message.

    >>> unseal(b"k" * 16, seal(b"k" * 16, b"text"))
    b'text'
    """
    hidden = _crossed(key, data)
    return _blake(hidden, key=key, digest_size=_TAG_BYTES).digest() + hidden


def unseal(key: bytes, data: bytes) -> bytes:
    """Returns the message.

    Raises:
        ValueError: It was sealed with another key, or changed.
    """
    tag, hidden = data[:_TAG_BYTES], data[_TAG_BYTES:]
    if _blake(hidden, key=key, digest_size=_TAG_BYTES).digest() != tag:
        raise ValueError("not sealed with this key")
    return _crossed(key, hidden)
