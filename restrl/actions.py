"""Actions: the lines of a solution (ReST-RL, section 3.1).

Deviation from the published implementation: a blank line or a line that holds only a comment is not an action of its
own; it joins the next line that says something (trailing ones join the last action).
"""

from __future__ import annotations

import re

_LINE = re.compile(r"[^\n]*\n|[^\n]+")


def split_actions(code: str) -> list[str]:
    """Splits code into actions; joined, they give the code back.

    Args:
        code: Lines of a solution after the initial state.

    >>> split_actions("    x = 1\\n\\n    # add\\n    x += 1\\n    return x\\n")
    ['    x = 1\\n', '\\n    # add\\n    x += 1\\n', '    return x\\n']
    >>> split_actions("")
    []
    """
    actions: list[str] = []
    pending = ""
    for line in _LINE.findall(code):
        pending += line
        text = line.strip()
        if text and not text.startswith("#"):
            actions.append(pending)
            pending = ""
    if pending:
        if actions:
            actions[-1] += pending
        else:
            actions.append(pending)
    return actions


def boundaries(code: str) -> list[int]:
    """Returns the character offset of the end of every action of ``code``, ascending; the last is ``len(code)``.

    >>> boundaries("a\\nbb\\n")
    [2, 5]
    """
    ends: list[int] = []
    position = 0
    for action in split_actions(code):
        position += len(action)
        ends.append(position)
    return ends


def finish(code: str) -> str:
    """Returns the code of a finished solution, ending in exactly one newline, so that equal programs are equal texts.

    >>> finish("    return x")
    '    return x\\n'
    >>> finish("    return x\\n\\n")
    '    return x\\n'
    """
    return code.rstrip() + "\n" if code.strip() else ""
