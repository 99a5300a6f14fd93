"""The reward that training sees (ReST-RL, section 3.2): the verifier's, with a small bonus and penalty for form."""

from __future__ import annotations


def shaped_reward(
    verifier: float,
    *,
    ended_with_stop: bool,
    trailing_chars: int,
    symbol_reward: float = 1e-3,
    trailing_penalty: float = 1e-6,
) -> float:
    """Returns ``verifier + symbol_reward * [ended with the stop symbol] - trailing_penalty * trailing_chars``.

    For training only: filters and targets use the verifier's reward, since a bonus for form makes a group without any
    spread look alive.

    Args:
        verifier: Fraction of the tests passed, in [0, 1].
        ended_with_stop: The completion ended with a stop symbol rather than at the token limit.
        trailing_chars: Characters generated after the stop symbol, >= 0.
        symbol_reward: Bonus for the stop symbol; the paper uses 1e-3.
        trailing_penalty: Penalty per trailing character; the paper uses 1e-6.

    >>> shaped_reward(0.5, ended_with_stop=True, trailing_chars=0)
    0.501
    """
    return verifier + (symbol_reward if ended_with_stop else 0.0) - trailing_penalty * trailing_chars
