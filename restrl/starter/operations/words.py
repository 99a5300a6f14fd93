"""Operations on lists of words (``words``)."""

from __future__ import annotations

from restrl.starter.operations.base import Operation, Type, added, counted, filtered, mapped


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
    return Operation(f"words.{name}", "words", target, parameter, phrases, forms, noun, rare, guard)


def _keep(name: str, parameter: str, condition: str, *phrases: str, rare: bool = False) -> Operation:
    return _op(name, "words", parameter, phrases, filtered("words", "w", condition), rare=rare)


def _map(name: str, parameter: str, expression: str, *phrases: str, rare: bool = False) -> Operation:
    return _op(name, "words", parameter, phrases, mapped("words", "w", expression), rare=rare)


_FILTERS = (
    _keep(
        "keep_longer",
        "length",
        "len(w) «>|>=|<» {k}",
        "keep the words longer than {k} letters",
        "drop the words of {k} letters or fewer",
        "keep only words with more than {k} letters",
    ),
    _keep(
        "keep_shorter",
        "length",
        "len(w) «<|<=|>» {k}",
        "keep the words shorter than {k} letters",
        "drop the words of {k} letters or more",
        "keep only words with fewer than {k} letters",
    ),
    _keep(
        "keep_length",
        "length",
        "len(w) «==|!=» «{k}|{k+1}»",
        "keep the words of exactly {k} letters",
        "drop the words whose length is not {k}",
        "keep only words with {k} letters",
    ),
    _keep(
        "keep_starting",
        "letter",
        "w.«startswith|endswith»('{k}')",
        "keep the words that start with '{k}'",
        "drop the words that do not begin with '{k}'",
        "keep only words beginning with '{k}'",
    ),
    _keep(
        "keep_ending",
        "letter",
        "w.«endswith|startswith»('{k}')",
        "keep the words that end with '{k}'",
        "drop the words that do not end in '{k}'",
        "keep only words ending in '{k}'",
    ),
    _keep(
        "keep_containing",
        "letter",
        "'{k}' «in|not in» w",
        "keep the words that contain '{k}'",
        "drop the words without '{k}'",
        "keep only words with a '{k}' in them",
    ),
    _keep(
        "drop_containing",
        "letter",
        "'{k}' «not in|in» w",
        "drop the words that contain '{k}'",
        "keep the words without '{k}'",
        "remove every word with a '{k}' in it",
    ),
    _keep(
        "keep_even_length",
        "",
        "len(w) % 2 == «0|1»",
        "keep the words of even length",
        "drop the words of odd length",
        "keep only words with an even number of letters",
    ),
    _keep(
        "keep_same_ends",
        "",
        "w[:1] «==|!=» w[«-1:|1:»]",
        "keep the words whose first and last letter agree",
        "drop the words that start and end differently",
        "keep only words that end with their first letter",
        rare=True,
    ),
    _keep(
        "keep_repeats",
        "",
        "words.count(w) «>|>=» 1",
        "keep the words that occur more than once",
        "drop the words that occur only once",
        "keep only words with a repeat in the list",
        rare=True,
    ),
)

_MAPS = (
    _map(
        "upper",
        "",
        "w.«upper|title|lower»()",
        "write each word in upper case",
        "turn every word into capital letters",
        "convert the words to upper case",
    ),
    _map(
        "capitalize",
        "",
        "w.«title|upper|lower»()",
        "capitalize each word",
        "make the first letter of every word a capital",
        "start each word with a capital letter",
    ),
    _map(
        "reverse_each",
        "",
        "w[«::-1|:-1|1:»]",
        "reverse each word",
        "spell every word backwards",
        "turn the letters of each word around",
    ),
    _map(
        "cut",
        "length",
        "w[«:{k}|:{k-1}|{k}:»]",
        "keep the first {k} letters of each word",
        "cut every word after {k} letters",
        "shorten each word to its first {k} letters",
    ),
    _map(
        "skip_first",
        "",
        "w[«1:|:1|2:»]",
        "drop the first letter of each word",
        "remove the first letter from every word",
        "strip each word of its first letter",
    ),
    _map(
        "skip_last",
        "",
        "w[«:-1|:1|1:»]",
        "drop the last letter of each word",
        "remove the last letter from every word",
        "strip each word of its last letter",
    ),
    _map(
        "append",
        "letter",
        "«w + '{k}'|'{k}' + w»",
        "add '{k}' to the end of each word",
        "append '{k}' to every word",
        "put '{k}' behind each word",
    ),
    _map(
        "prepend",
        "letter",
        "«'{k}' + w|w + '{k}'»",
        "add '{k}' to the front of each word",
        "put '{k}' before every word",
        "start each word with an extra '{k}'",
    ),
    _map(
        "double", "", "w * «2|3»", "repeat each word twice", "double every word", "write each word two times in a row"
    ),
    _map(
        "mask",
        "letter",
        "w.replace(«'{k}', '*'|'*', '{k}'»)",
        "replace '{k}' by '*' in each word",
        "put '*' for every '{k}' in the words",
        "mask each '{k}' in the words with '*'",
    ),
    _map(
        "sort_letters",
        "",
        "''.join(sorted(w«|, reverse=True»))",
        "sort the letters of each word",
        "put the letters of every word in alphabetical order",
        "order the letters within each word",
        rare=True,
    ),
    _map(
        "rotate_letters",
        "",
        "«w[1:] + w[:1]|w[-1:] + w[:-1]»",
        "move the first letter of each word to its end",
        "rotate the letters of every word left by one",
        "put the first letter of each word last",
        rare=True,
    ),
)

_ORDER = (
    _op(
        "sort_up",
        "words",
        "",
        ("sort the words alphabetically", "put the words in alphabetical order", "order the words from a to z"),
        ("words = sorted(words«|, reverse=True|, key=len»)",),
    ),
    _op(
        "sort_down",
        "words",
        "",
        (
            "sort the words in reverse alphabetical order",
            "order the words from z to a",
            "put the words in descending alphabetical order",
        ),
        ("words = sorted(words«, reverse=True|»)", "words = sorted(words)[«::-1|1:»]"),
    ),
    _op(
        "sort_by_length",
        "words",
        "",
        (
            "sort the words by length",
            "order the words from shortest to longest",
            "put shorter words before longer ones",
        ),
        ("words = sorted(words«, key=len|»)", "words = sorted(words, key=len«|, reverse=True»)"),
    ),
    _op(
        "sort_longest_first",
        "words",
        "",
        (
            "sort the words by length, longest first",
            "order the words from longest to shortest",
            "put longer words before shorter ones",
        ),
        ("words = sorted(words, key=len«, reverse=True|»)", "words = sorted(words, key=lambda w: «-|»len(w))"),
    ),
    _op(
        "sort_by_last_letter",
        "words",
        "",
        (
            "sort the words by their last letter",
            "order the words by the final letter",
            "put the words in order of their last letters",
        ),
        ("words = sorted(words, key=lambda w: w[«-1:|:1»])",),
        rare=True,
    ),
    _op(
        "reverse",
        "words",
        "",
        ("reverse the order of the words", "put the words in reverse order", "turn the list of words around"),
        ("words = words[«::-1|:-1|1:»]", "out = []\nfor w in words:\n    out = «[w] + out|out + [w]»\nwords = out"),
    ),
    _op(
        "take_first",
        "words",
        "count",
        ("keep the first {k} words", "take only the first {k} words", "cut the list after {k} words"),
        ("words = words[«:{k}|:{k-1}|{k}:»]",),
    ),
    _op(
        "take_last",
        "words",
        "count",
        ("keep the last {k} words", "take only the last {k} words", "keep just the {k} words at the end"),
        ("words = words[«-{k}:|:{k}|:-{k}»]",),
    ),
    _op(
        "drop_first",
        "words",
        "count",
        ("drop the first {k} words", "skip the first {k} words", "remove {k} words from the front"),
        ("words = words[«{k}:|{k-1}:|:{k}»]",),
    ),
    _op(
        "drop_last",
        "words",
        "count",
        ("drop the last {k} words", "cut off the last {k} words", "remove {k} words from the end"),
        ("words = words[«:-{k}|:{k}|-{k}:»]",),
    ),
    _op(
        "every_second",
        "words",
        "",
        (
            "keep every second word, starting with the first",
            "keep the words at even positions, counted from 0",
            "take the first word, the third, and so on",
        ),
        (
            "words = words[«::2|1::2»]",
            "out = []\nfor i, w in enumerate(words):\n    if i % 2 == «0|1»:\n        out.append(w)\nwords = out",
        ),
    ),
    _op(
        "dedupe",
        "words",
        "",
        (
            "remove duplicates, keeping the first of each",
            "drop repeated words and keep the order",
            "keep each word only once, in order",
        ),
        (
            "words = «list(dict.fromkeys(words))|sorted(set(words))»",
            "out = []\nfor w in words:\n    if w not in «out|words[:1]»:\n        out.append(w)\nwords = out",
        ),
    ),
    _op(
        "collapse",
        "words",
        "",
        (
            "collapse runs of equal words into one",
            "drop each word that equals the one before it",
            "remove adjacent duplicates of words",
        ),
        ("out = []\nfor w in words:\n    if not out or w «!=|>» out[«-1|0»]:\n        out.append(w)\nwords = out",),
        rare=True,
    ),
    _op(
        "chain",
        "words",
        "",
        (
            "join each word with the one after it",
            "replace the list by its adjacent pairs joined",
            "glue every two neighbouring words",
        ),
        ("words = [«a + b|b + a» for a, b in zip(words, words[1:])]",),
        rare=True,
    ),
)

_GUARDS = (
    _op(
        "guard_empty",
        "words",
        "",
        (
            "if no words are left, return 'none'",
            "return 'none' if the list is empty",
            "answer 'none' when there are no words",
        ),
        ("if «not words|words»:\n    return '«none|»'", "if len(words) == «0|1»:\n    return '«none|»'"),
        guard=True,
        rare=True,
    ),
    _op(
        "guard_short",
        "words",
        "count",
        (
            "if there are fewer than {k} words, return 0",
            "return 0 if the list has fewer than {k} words",
            "answer 0 when fewer than {k} words are there",
        ),
        ("if len(words) «<|<=» {k}:\n    return «0|-1»",),
        guard=True,
    ),
)

_REDUCTIONS = (
    _op(
        "count",
        "number",
        "",
        ("how many words there are", "the count of the words", "the number of words"),
        ("n = len(words)«| - 1»", "count = «0|1»\nfor w in words:\n    count += 1\nn = count"),
        noun=True,
    ),
    _op(
        "total_length",
        "number",
        "",
        (
            "the total length of the words",
            "how many letters the words have together",
            "the sum of the lengths of the words",
        ),
        added("words", "w", "len(w)"),
        noun=True,
    ),
    _op(
        "longest_length",
        "number",
        "",
        (
            "the length of the longest word, or 0 if there are none",
            "the greatest word length, 0 if empty",
            "how long the longest word is (0 if none)",
        ),
        (
            "n = «max|min»((len(w) for w in words), default=«0|-1»)",
            "n = 0\nfor w in words:\n    if len(w) «>|<» n:\n        n = len(w)",
        ),
        noun=True,
    ),
    _op(
        "count_containing",
        "number",
        "letter",
        ("how many words contain '{k}'", "the count of words with '{k}'", "the number of words that have a '{k}'"),
        counted("words", "w", "'{k}' «in|not in» w"),
        noun=True,
    ),
    _op(
        "count_longer",
        "number",
        "length",
        (
            "how many words have more than {k} letters",
            "the count of words longer than {k}",
            "the number of words above length {k}",
        ),
        counted("words", "w", "len(w) «>|>=|<» {k}"),
        noun=True,
    ),
    _op(
        "count_distinct",
        "number",
        "",
        ("how many different words there are", "the count of distinct words", "the number of words without repeats"),
        (
            "n = len(«set(words)|words»)",
            "seen = []\nfor w in words:\n    if w «not in|in» seen:\n        seen.append(w)\nn = len(seen)",
        ),
        noun=True,
    ),
    _op(
        "join",
        "text",
        "separator",
        (
            "join the words with '{k}'",
            "write the words in a row with '{k}' between them",
            "put '{k}' between the words and make a string",
        ),
        ("s = '«{k}|»'.join(words)",),
    ),
    _op(
        "join_space",
        "text",
        "",
        ("join the words with spaces", "write the words in one line with spaces", "make a sentence of the words"),
        ("s = '« |»'.join(words)",),
    ),
    _op(
        "initials",
        "text",
        "",
        (
            "the first letters of the words in one string",
            "the initials of the words, joined",
            "a string of the first letter of each word",
        ),
        ("s = ''.join(w[«:1|-1:»] for w in words)", "s = ''\nfor w in words:\n    s «+=|=» w[«:1|-1:»]"),
        noun=True,
    ),
    _op(
        "last_letters",
        "text",
        "",
        (
            "the last letters of the words in one string",
            "the final letters of the words, joined",
            "a string of the last letter of each word",
        ),
        ("s = ''.join(w[«-1:|:1»] for w in words)", "s = ''\nfor w in words:\n    s «+=|=» w[«-1:|:1»]"),
        noun=True,
    ),
    _op(
        "longest",
        "text",
        "",
        (
            "the longest word, the first on ties, '' if there are none",
            "the first of the longest words ('' if none)",
            "the word with the most letters, earliest on ties, or ''",
        ),
        (
            "s = «max|min»(words, key=len, default='')",
            "s = ''\nfor w in words:\n    if len(w) «>|>=» len(s):\n        s = w",
        ),
        noun=True,
    ),
    _op(
        "first_in_order",
        "text",
        "",
        (
            "the alphabetically first word, or '' if there are none",
            "the smallest word in the alphabet, '' if empty",
            "the word that comes first from a to z ('' if none)",
        ),
        ("s = «min|max»(words, default='')", "s = sorted(words)[«0|-1»] if words else ''"),
        noun=True,
    ),
    _op(
        "lengths",
        "numbers",
        "",
        ("replace each word by its length", "turn the words into their lengths", "take the length of every word"),
        ("xs = [len(w)«| - 1» for w in words]", "xs = []\nfor w in words:\n    xs.append(len(w)«| - 1»)"),
    ),
    _op(
        "letter_counts",
        "numbers",
        "letter",
        (
            "count '{k}' in each word",
            "replace every word by how often it has '{k}'",
            "turn the words into their counts of '{k}'",
        ),
        (
            "xs = [w.«count|find»('{k}') for w in words]",
            "xs = []\nfor w in words:\n    xs.append(w.«count|find»('{k}'))",
        ),
    ),
    _op(
        "vowel_counts",
        "numbers",
        "",
        (
            "count the vowels of each word",
            "replace every word by its number of vowels",
            "turn the words into their vowel counts",
        ),
        (
            "xs = [sum(1 for c in w if c «in|not in» 'aeiou') for w in words]",
            "xs = []\nfor w in words:\n    count = 0\n    for c in w:\n        if c «in|not in» 'aeiou':\n            count += 1\n    xs.append(count)",
        ),
        rare=True,
    ),
    _op(
        "word_counts",
        "table",
        "",
        (
            "count how often each word occurs, in a dictionary",
            "map every word to its count",
            "build a dictionary of word counts",
        ),
        ("d = {}\nfor w in words:\n    d[w] = d.get(w, «0|1») + 1", "d = {w: words.count(w)«| + 1» for w in words}"),
    ),
    _op(
        "length_table",
        "table",
        "",
        (
            "map every word to its length, in a dictionary",
            "build a dictionary from each word to its length",
            "make a table of word lengths",
        ),
        ("d = {w: len(w)«| - 1» for w in words}", "d = {}\nfor w in words:\n    d[w] = len(w)«| - 1»"),
    ),
    _op(
        "initial_counts",
        "table",
        "",
        (
            "count the words by their first letter, in a dictionary",
            "map every first letter to its number of words",
            "build a dictionary of counts by first letter",
        ),
        ("d = {}\nfor w in words:\n    key = w[«:1|-1:»]\n    d[key] = d.get(key, «0|1») + 1",),
        rare=True,
    ),
    _op(
        "length_sums",
        "table",
        "",
        (
            "add up the word lengths by last letter, in a dictionary",
            "map every last letter to the total length of its words",
            "build a dictionary of length totals by last letter",
        ),
        ("d = {}\nfor w in words:\n    key = w[«-1:|:1»]\n    d[key] = d.get(key, 0) + «len(w)|1»",),
        rare=True,
    ),
    _op(
        "any_containing",
        "truth",
        "letter",
        (
            "whether any word contains '{k}'",
            "True if some word has a '{k}', else False",
            "whether '{k}' occurs in a word",
        ),
        (
            "ok = «any|all»('{k}' in w for w in words)",
            "for w in words:\n    if '{k}' «in|not in» w:\n        return True\nok = False",
        ),
        noun=True,
    ),
    _op(
        "all_longer",
        "truth",
        "length",
        (
            "whether all the words have more than {k} letters",
            "True if every word is longer than {k}, else False",
            "whether no word has {k} letters or fewer",
        ),
        (
            "ok = «all|any»(len(w) «>|>=» {k} for w in words)",
            "for w in words:\n    if len(w) «<=|<» {k}:\n        return False\nok = True",
        ),
        noun=True,
    ),
)

OPERATIONS: tuple[Operation, ...] = _FILTERS + _MAPS + _ORDER + _GUARDS + _REDUCTIONS
