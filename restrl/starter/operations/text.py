"""Operations on strings (``s``)."""

from __future__ import annotations

from restrl.starter.operations.base import Operation, Type, counted


def _op(
    name: str,
    target: Type,
    parameter: str,
    phrases: tuple[str, ...],
    forms: tuple[str, ...],
    *,
    noun: bool = False,
    rare: bool = False,
    guard: bool = False,
) -> Operation:
    return Operation(f"text.{name}", "text", target, parameter, phrases, forms, noun, rare, guard)


def _keep(name: str, parameter: str, condition: str, *phrases: str, rare: bool = False) -> Operation:
    forms = (
        f"s = ''.join(c for c in s if {condition})",
        f"out = ''\nfor c in s:\n    if {condition}:\n        out += c\ns = out",
    )
    return _op(name, "text", parameter, phrases, forms, rare=rare)


_CHANGES = (
    _keep(
        "drop_vowels",
        "",
        "c «not in|in» 'aeiou'",
        "remove the vowels",
        "drop every vowel",
        "keep only what is not a vowel",
    ),
    _keep(
        "keep_vowels",
        "",
        "c «in|not in» 'aeiou'",
        "keep only the vowels",
        "drop everything but the vowels",
        "remove what is not a vowel",
        rare=True,
    ),
    _keep(
        "drop_letter",
        "letter",
        "c «!=|==» '{k}'",
        "remove every '{k}'",
        "drop the letter '{k}'",
        "keep the characters other than '{k}'",
    ),
    _keep(
        "keep_after",
        "letter",
        "c «>|>=|<» '{k}'",
        "keep the characters that come after '{k}' in order",
        "drop the characters up to '{k}' in order",
        "keep only characters greater than '{k}'",
        rare=True,
    ),
    _op(
        "upper",
        "text",
        "",
        ("convert it to upper case", "turn the string into capital letters", "write the string in upper case"),
        ("s = s.«upper|title|lower»()",),
    ),
    _op(
        "title",
        "text",
        "",
        (
            "capitalize every word of the string",
            "start each word of the string with a capital",
            "put the string in title case",
        ),
        ("s = s.«title|upper|lower»()",),
    ),
    _op(
        "reverse",
        "text",
        "",
        ("reverse the string", "turn the string around", "spell the string backwards"),
        ("s = s[«::-1|:-1|1:»]", "out = ''\nfor c in s:\n    out = «c + out|out + c»\ns = out"),
    ),
    _op(
        "star_vowels",
        "text",
        "",
        ("replace the vowels by '*'", "put '*' for every vowel", "mask each vowel with '*'"),
        (
            "s = ''.join('*' if c «in|not in» 'aeiou' else c for c in s)",
            "out = ''\nfor c in s:\n    if c «in|not in» 'aeiou':\n        out += '*'\n    else:\n        out += c\ns = out",
        ),
    ),
    _op(
        "replace_letter",
        "text",
        "letter",
        ("replace '{k}' by '#'", "put '#' for every '{k}'", "change each '{k}' into '#'"),
        ("s = s.replace(«'{k}', '#'|'#', '{k}'»)",),
    ),
    _op(
        "take_first",
        "text",
        "count",
        ("keep the first {k} characters", "take only the first {k} characters", "cut the string after {k} characters"),
        ("s = s[«:{k}|:{k-1}|{k}:»]",),
    ),
    _op(
        "take_last",
        "text",
        "count",
        (
            "keep the last {k} characters",
            "take only the last {k} characters",
            "keep just the {k} characters at the end",
        ),
        ("s = s[«-{k}:|:{k}|:-{k}»]",),
    ),
    _op(
        "drop_first",
        "text",
        "count",
        ("drop the first {k} characters", "skip the first {k} characters", "remove {k} characters from the front"),
        ("s = s[«{k}:|{k-1}:|:{k}»]",),
    ),
    _op(
        "drop_last",
        "text",
        "count",
        ("drop the last {k} characters", "cut off the last {k} characters", "remove {k} characters from the end"),
        ("s = s[«:-{k}|:{k}|-{k}:»]",),
    ),
    _op(
        "every_second",
        "text",
        "",
        (
            "keep every second character, starting with the first",
            "keep the characters at even positions, counted from 0",
            "take the first character, the third, and so on",
        ),
        ("s = s[«::2|1::2»]", "out = ''\nfor i, c in enumerate(s):\n    if i % 2 == «0|1»:\n        out += c\ns = out"),
    ),
    _op(
        "double",
        "text",
        "",
        ("double every character", "write each character twice", "repeat every character once more"),
        ("s = ''.join(c * «2|3» for c in s)", "out = ''\nfor c in s:\n    out += «c + c|c»\ns = out"),
    ),
    _op(
        "dedupe",
        "text",
        "",
        (
            "keep only the first of each character",
            "drop repeated characters and keep the order",
            "keep each character only once, in order",
        ),
        (
            "s = ''.join(«dict.fromkeys(s)|sorted(set(s))»)",
            "out = ''\nfor c in s:\n    if c not in «out|s[:1]»:\n        out += c\ns = out",
        ),
    ),
    _op(
        "drop_spaces",
        "text",
        "",
        ("remove the spaces", "drop every space", "close up the spaces"),
        ("s = s.«replace(' ', '')|strip()»", "out = ''\nfor c in s:\n    if c «!=|==» ' ':\n        out += c\ns = out"),
    ),
    _op(
        "sort_letters",
        "text",
        "",
        ("sort the characters", "put the characters in order", "order the characters from low to high"),
        ("s = ''.join(sorted(s«|, reverse=True»))",),
    ),
    _op(
        "mirror",
        "text",
        "",
        ("append its reverse", "add the reversed string behind it", "put the string and its mirror image together"),
        ("s = «s + s[::-1]|s[::-1] + s|s + s»",),
        rare=True,
    ),
    _op(
        "rotate",
        "text",
        "count",
        (
            "move the first {k} characters to the end",
            "rotate the string left by {k}",
            "put the first {k} characters behind the others",
        ),
        ("s = «s[{k}:] + s[:{k}]|s[-{k}:] + s[:-{k}]»",),
        rare=True,
    ),
    _op(
        "collapse",
        "text",
        "",
        (
            "collapse runs of equal characters into one",
            "drop each character that equals the one before it",
            "remove doubled characters",
        ),
        ("out = ''\nfor c in s:\n    if «out[-1:] != c|out[:1] != c|c not in out»:\n        out += c\ns = out",),
        rare=True,
    ),
    _op(
        "reverse_words",
        "text",
        "",
        (
            "reverse the order of the words in the string",
            "write the words of the string from last to first",
            "turn the word order of the string around",
        ),
        ("s = ' '.join(s.split()[«::-1|1:»])", "s = ' '.join(«reversed|sorted»(s.split()))"),
        rare=True,
    ),
    _op(
        "alternate_case",
        "text",
        "",
        (
            "put the characters at even positions in upper case",
            "write every second character in upper case, from the first on",
            "capitalize the characters at positions 0, 2, 4 and so on",
        ),
        (
            "out = ''\nfor i, c in enumerate(s):\n    if i % 2 == «0|1»:\n        out += c.upper()\n    else:\n        out += c\ns = out",
        ),
        rare=True,
    ),
)

_GUARDS = (
    _op(
        "guard_short",
        "text",
        "count",
        (
            "if the string has fewer than {k} characters, return it unchanged",
            "return the string as it is if shorter than {k}",
            "answer the string itself when it has fewer than {k} characters",
        ),
        ("if len(s) «<|<=» {k}:\n    return s",),
        guard=True,
        rare=True,
    ),
    _op(
        "guard_empty",
        "text",
        "",
        (
            "if the string is empty, return 'empty'",
            "return 'empty' if no characters are left",
            "answer 'empty' for an empty string",
        ),
        ("if «not s|s»:\n    return '«empty|»'", "if len(s) == «0|1»:\n    return '«empty|»'"),
        guard=True,
    ),
)

_OTHERS = (
    _op(
        "split",
        "words",
        "",
        ("split it into words", "split the string at spaces", "break the string into its words"),
        ("words = «s.split()|list(s)»",),
    ),
    _op(
        "positions",
        "numbers",
        "letter",
        (
            "list the positions of '{k}'",
            "collect every index where '{k}' stands",
            "find all the positions of '{k}', counted from 0",
        ),
        (
            "xs = [i for i, c in enumerate(s«|, 1») if c == '{k}']",
            "xs = []\nfor i, c in enumerate(s):\n    if c «==|!=» '{k}':\n        xs.append(«i|i + 1»)",
        ),
    ),
    _op(
        "word_lengths",
        "numbers",
        "",
        (
            "list the lengths of its words",
            "collect the length of every word of the string",
            "take the lengths of the words in the string",
        ),
        (
            "xs = [len(w)«| - 1» for w in s.split()]",
            "xs = []\nfor w in s.«split()|split()[1:]»:\n    xs.append(len(w))",
        ),
    ),
    _op(
        "count_vowels",
        "number",
        "",
        ("how many vowels it has", "the count of vowels in the string", "the number of vowels"),
        counted("s", "c", "c «in|not in» 'aeiou'"),
        noun=True,
    ),
    _op(
        "length",
        "number",
        "",
        ("how many characters it has", "the length of the string", "the number of characters"),
        ("n = len(s)«| - 1»",),
        noun=True,
    ),
    _op(
        "count_letter",
        "number",
        "letter",
        ("how often '{k}' occurs", "the count of '{k}' in the string", "the number of times '{k}' is there"),
        ("n = s.«count|find»('{k}')", counted("s", "c", "c «==|!=» '{k}'")[1]),
        noun=True,
    ),
    _op(
        "count_distinct",
        "number",
        "",
        (
            "how many different characters it has",
            "the count of distinct characters",
            "the number of characters without repeats",
        ),
        ("n = len(«set(s)|s»)", "seen = ''\nfor c in s:\n    if c «not in|in» seen:\n        seen += c\nn = len(seen)"),
        noun=True,
    ),
    _op(
        "count_words",
        "number",
        "",
        ("how many words it has", "the count of words in the string", "the number of words in it"),
        ("n = len(s.split())«| - 1»", "n = «0|1»\nfor w in s.split():\n    n += 1"),
        noun=True,
    ),
    _op(
        "longest_run",
        "number",
        "",
        (
            "the length of its longest run of one character",
            "the size of the longest block of equal characters",
            "how long the longest streak of one character is",
        ),
        (
            "best = 0\nrun = 0\nfor i, c in enumerate(s):\n    if i > 0 and c «==|>=» s[i - 1]:\n        run += 1\n    else:\n"
            "        run = «1|0»\n    best = max(best, run)\nn = best",
        ),
        noun=True,
        rare=True,
    ),
    _op(
        "char_counts",
        "table",
        "",
        (
            "count how often each character occurs, in a dictionary",
            "map every character to its count",
            "build a dictionary of character counts",
        ),
        ("d = {}\nfor c in s:\n    d[c] = d.get(c, «0|1») + 1", "d = {c: s.count(c)«| + 1» for c in s}"),
    ),
    _op(
        "last_positions",
        "table",
        "",
        (
            "map every character to its last position, in a dictionary",
            "build a dictionary of the last index of each character",
            "record where each character last stands",
        ),
        ("d = {c: i for i, c in enumerate(s«|, 1»)}", "d = {}\nfor i, c in enumerate(s):\n    d[c] = «i|i + 1»"),
        rare=True,
    ),
    _op(
        "palindrome",
        "truth",
        "",
        (
            "whether it reads the same backwards",
            "True if the string is a palindrome, else False",
            "whether the string equals its reverse",
        ),
        ("ok = s «==|!=» s[«::-1|:-1»]",),
        noun=True,
    ),
    _op(
        "starts_as_it_ends",
        "truth",
        "",
        (
            "whether its first and last character agree",
            "True if it starts and ends with one character, else False",
            "whether the string ends as it starts",
        ),
        ("ok = s[:1] «==|!=» s[«-1:|1:»]",),
        noun=True,
    ),
)

OPERATIONS: tuple[Operation, ...] = _CHANGES + _GUARDS + _OTHERS
