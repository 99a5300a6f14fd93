"""Operations on lists of integers (``xs``)."""

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
    return Operation(f"numbers.{name}", "numbers", target, parameter, phrases, forms, noun, rare, guard)


def _keep(name: str, parameter: str, condition: str, *phrases: str, rare: bool = False) -> Operation:
    return _op(name, "numbers", parameter, phrases, filtered("xs", "x", condition), rare=rare)


def _map(name: str, parameter: str, expression: str, *phrases: str, rare: bool = False) -> Operation:
    return _op(name, "numbers", parameter, phrases, mapped("xs", "x", expression), rare=rare)


_FILTERS = (
    _keep(
        "keep_greater",
        "threshold",
        "x «>|>=|<» {k}",
        "keep the numbers greater than {k}",
        "keep only the numbers above {k}",
        "drop the numbers that are {k} or less",
    ),
    _keep(
        "keep_less",
        "threshold",
        "x «<|<=|>» {k}",
        "keep the numbers less than {k}",
        "keep only the numbers below {k}",
        "drop the numbers that are {k} or more",
    ),
    _keep(
        "keep_at_least",
        "threshold",
        "x «>=|>|<=» {k}",
        "keep the numbers that are at least {k}",
        "drop the numbers below {k}",
        "keep only the numbers from {k} up",
    ),
    _keep(
        "keep_at_most",
        "threshold",
        "x «<=|<|>=» {k}",
        "keep the numbers that are at most {k}",
        "drop the numbers above {k}",
        "keep only the numbers up to {k}",
    ),
    _keep(
        "keep_even", "", "x % 2 == «0|1»", "keep the even numbers", "drop the odd numbers", "remove every odd number"
    ),
    _keep(
        "keep_odd", "", "x % 2 == «1|0»", "keep the odd numbers", "drop the even numbers", "remove every even number"
    ),
    _keep(
        "keep_multiples",
        "factor",
        "x % «{k}|{k+1}» «==|!=» 0",
        "keep the multiples of {k}",
        "keep only the numbers divisible by {k}",
        "drop what {k} does not divide",
    ),
    _keep(
        "drop_multiples",
        "factor",
        "x % «{k}|{k+1}» «!=|==» 0",
        "drop the multiples of {k}",
        "remove the numbers divisible by {k}",
        "keep the numbers that {k} does not divide",
    ),
    _keep(
        "drop_value",
        "threshold",
        "x «!=|==|<» {k}",
        "remove every {k}",
        "drop the numbers equal to {k}",
        "keep the numbers that differ from {k}",
    ),
    _keep(
        "keep_positive",
        "",
        "x «>|>=» 0",
        "keep the positive numbers",
        "drop zeros and negative numbers",
        "keep only the numbers above zero",
    ),
    _keep(
        "keep_negative",
        "",
        "x «<|<=|>» 0",
        "keep the negative numbers",
        "drop zeros and positive numbers",
        "keep only the numbers below zero",
    ),
    _keep(
        "keep_above_first",
        "",
        "x «>|>=|<» xs[«0|-1»]",
        "keep the numbers greater than the first one",
        "drop the numbers that do not exceed the first one",
        "keep only what is larger than the first number",
        rare=True,
    ),
    _keep(
        "keep_above_mean",
        "",
        "x * len(xs) «>|>=|<» sum(xs)",
        "keep the numbers above the average",
        "drop the numbers that are not above the mean",
        "keep only the numbers larger than the mean",
        rare=True,
    ),
)

_MAPS = (
    _map(
        "add",
        "threshold",
        "x «+|-» {k}",
        "add {k} to each number",
        "increase every number by {k}",
        "raise each number by {k}",
    ),
    _map(
        "subtract",
        "threshold",
        "x «-|+» {k}",
        "subtract {k} from each number",
        "decrease every number by {k}",
        "lower each number by {k}",
    ),
    _map(
        "multiply",
        "factor",
        "x «*|+» «{k}|{k+1}»",
        "multiply each number by {k}",
        "scale every number by {k}",
        "make each number {k} times as large",
    ),
    _map(
        "square",
        "",
        "x * «x|2»",
        "square each number",
        "replace every number by its square",
        "raise each number to the power 2",
    ),
    _map(
        "negate",
        "",
        "«-x|abs(x)»",
        "negate each number",
        "flip the sign of every number",
        "replace each number by its opposite",
    ),
    _map(
        "absolute",
        "",
        "«abs(x)|-x»",
        "take the absolute value of each number",
        "drop the sign of every number",
        "make every number non-negative by its size",
    ),
    _map(
        "clip_high",
        "threshold",
        "«min|max»(x, «{k}|{k-1}»)",
        "cap each number at {k}",
        "lower the numbers above {k} to {k}",
        "limit every number to at most {k}",
    ),
    _map(
        "clip_low",
        "threshold",
        "«max|min»(x, «{k}|{k+1}»)",
        "raise the numbers below {k} to {k}",
        "lift each number to at least {k}",
        "make every number at least {k}",
    ),
    _map(
        "remainder",
        "factor",
        "x «%|//» «{k}|{k-1}»",
        "replace each number by its remainder modulo {k}",
        "take every number modulo {k}",
        "reduce each number modulo {k}",
    ),
    _map(
        "halve",
        "",
        "x «//|%» 2",
        "halve each number, rounding down",
        "divide every number by 2 without remainder",
        "floor-divide each number by 2",
    ),
    _map(
        "last_digit",
        "",
        "abs(x) «%|//» 10",
        "replace each number by its last digit",
        "keep only the last digit of every number",
        "take the final digit of each number",
        rare=True,
    ),
    _op(
        "zero_negatives",
        "numbers",
        "",
        ("replace the negative numbers by 0", "turn every negative number into 0", "set the numbers below zero to 0"),
        (
            "xs = [«max|min»(x, 0) for x in xs]",
            "out = []\nfor x in xs:\n    if x «<|>» 0:\n        out.append(0)\n    else:\n        out.append(x)\nxs = out",
        ),
    ),
    _op(
        "halve_or_triple",
        "numbers",
        "",
        (
            "halve the even numbers and triple the odd ones",
            "divide even numbers by 2 and multiply odd numbers by 3",
            "replace each even number by its half and each odd one by its triple",
        ),
        (
            "xs = [x // 2 if x % 2 == «0|1» else x * «3|2» for x in xs]",
            "out = []\nfor x in xs:\n    if x % 2 == «0|1»:\n        out.append(x «//|%» 2)\n    else:\n        out.append(x * «3|2»)\nxs = out",
        ),
        rare=True,
    ),
    _op(
        "times_position",
        "numbers",
        "",
        (
            "multiply each number by its position counted from 1",
            "scale every number by its place, starting at 1",
            "weight each number by its position, the first being 1",
        ),
        (
            "xs = [i * x for i, x in enumerate(xs«, 1|»)]",
            "out = []\nfor i, x in enumerate(xs):\n    out.append(«(i + 1)|i» * x)\nxs = out",
        ),
        rare=True,
    ),
)

_ORDER = (
    _op(
        "sort_up",
        "numbers",
        "",
        (
            "sort the numbers in ascending order",
            "order the numbers from smallest to largest",
            "sort them so that they increase",
        ),
        ("xs = sorted(xs«|, reverse=True»)",),
    ),
    _op(
        "sort_down",
        "numbers",
        "",
        (
            "sort the numbers in descending order",
            "order the numbers from largest to smallest",
            "sort them so that they decrease",
        ),
        ("xs = sorted(xs«, reverse=True|»)", "xs = sorted(xs)[«::-1|1:»]"),
    ),
    _op(
        "sort_by_size",
        "numbers",
        "",
        (
            "sort the numbers by absolute value",
            "order the numbers by their distance from zero",
            "sort them by size, ignoring signs",
        ),
        ("xs = sorted(xs, key=«abs|None»)",),
        rare=True,
    ),
    _op(
        "sort_by_last_digit",
        "numbers",
        "",
        (
            "sort the numbers by their last digit",
            "order the numbers by the final digit",
            "sort them by the last digit, ties in place",
        ),
        ("xs = sorted(xs, key=lambda x: abs(x) «%|//» 10)",),
        rare=True,
    ),
    _op(
        "reverse",
        "numbers",
        "",
        ("reverse the order of the numbers", "put the numbers in reverse order", "turn the list of numbers around"),
        ("xs = xs[«::-1|:-1|1:»]", "out = []\nfor x in xs:\n    out = «[x] + out|out + [x]»\nxs = out"),
    ),
    _op(
        "take_first",
        "numbers",
        "count",
        ("keep the first {k} numbers", "take only the first {k} numbers", "cut the list after {k} numbers"),
        ("xs = xs[«:{k}|:{k-1}|{k}:»]",),
    ),
    _op(
        "take_last",
        "numbers",
        "count",
        ("keep the last {k} numbers", "take only the last {k} numbers", "keep just the {k} numbers at the end"),
        ("xs = xs[«-{k}:|:{k}|:-{k}»]",),
    ),
    _op(
        "drop_first",
        "numbers",
        "count",
        ("drop the first {k} numbers", "skip the first {k} numbers", "remove {k} numbers from the front"),
        ("xs = xs[«{k}:|{k-1}:|:{k}»]",),
    ),
    _op(
        "drop_last",
        "numbers",
        "count",
        ("drop the last {k} numbers", "cut off the last {k} numbers", "remove {k} numbers from the end"),
        ("xs = xs[«:-{k}|:{k}|-{k}:»]",),
    ),
    _op(
        "every_second",
        "numbers",
        "",
        (
            "keep every second number, starting with the first",
            "keep the numbers at even positions, counted from 0",
            "take the first number, the third, and so on",
        ),
        (
            "xs = xs[«::2|1::2»]",
            "out = []\nfor i, x in enumerate(xs):\n    if i % 2 == «0|1»:\n        out.append(x)\nxs = out",
        ),
    ),
    _op(
        "rotate",
        "numbers",
        "count",
        (
            "move the first {k} numbers to the end",
            "rotate the list left by {k}",
            "put the first {k} numbers behind the others",
        ),
        ("xs = «xs[{k}:] + xs[:{k}]|xs[-{k}:] + xs[:-{k}]»",),
        rare=True,
    ),
)

_SHAPE = (
    _op(
        "dedupe",
        "numbers",
        "",
        (
            "remove duplicates, keeping the first of each",
            "drop repeated numbers and keep the order",
            "keep each number only once, in order",
        ),
        (
            "xs = «list(dict.fromkeys(xs))|sorted(set(xs))»",
            "out = []\nfor x in xs:\n    if x not in «out|xs[:1]»:\n        out.append(x)\nxs = out",
        ),
    ),
    _op(
        "running_sums",
        "numbers",
        "",
        (
            "replace each number by the running sum up to it",
            "compute the running sums",
            "turn the numbers into their cumulative sums",
        ),
        (
            "total = «0|1»\nout = []\nfor x in xs:\n    total «+=|=» x\n    out.append(total)\nxs = out",
            "xs = [sum(xs[:«i + 1|i»]) for i in range(len(xs))]",
        ),
    ),
    _op(
        "differences",
        "numbers",
        "",
        (
            "take the difference of each number and the one before it",
            "compute the differences of neighbours, later minus earlier",
            "replace the list by its consecutive differences",
        ),
        (
            "xs = [«b - a|a - b» for a, b in zip(xs, xs[1:])]",
            "out = []\nfor i in range(«1|2», len(xs)):\n    out.append(xs[i] «-|+» xs[i - 1])\nxs = out",
        ),
    ),
    _op(
        "neighbour_sums",
        "numbers",
        "",
        (
            "add each number to the one after it",
            "compute the sums of neighbouring numbers",
            "replace the list by the sums of adjacent pairs",
        ),
        (
            "xs = [a «+|-» b for a, b in zip(xs, xs[1:])]",
            "out = []\nfor i in range(len(xs) - 1):\n    out.append(xs[i] «+|-» xs[i + 1])\nxs = out",
        ),
        rare=True,
    ),
    _op(
        "running_max",
        "numbers",
        "",
        (
            "replace each number by the largest one so far",
            "compute the running maximum",
            "turn the numbers into their running maxima",
        ),
        (
            "xs = [«max|min»(xs[:i + 1]) for i in range(len(xs))]",
            "out = []\nfor x in xs:\n    if out and out[-1] «>|<» x:\n        x = out[-1]\n    out.append(x)\nxs = out",
        ),
        rare=True,
    ),
    _op(
        "collapse",
        "numbers",
        "",
        (
            "collapse runs of equal numbers into one",
            "drop each number that equals the one before it",
            "remove adjacent duplicates",
        ),
        ("out = []\nfor x in xs:\n    if not out or x «!=|>» out[«-1|0»]:\n        out.append(x)\nxs = out",),
        rare=True,
    ),
    _op(
        "append_sum",
        "numbers",
        "",
        (
            "append the sum of the numbers to the list",
            "add the total as one more number at the end",
            "put the sum of all numbers at the end",
        ),
        ("xs = «xs + [sum(xs)]|[sum(xs)] + xs|xs + [len(xs)]»",),
        rare=True,
    ),
)

_GUARDS = (
    _op(
        "guard_empty",
        "numbers",
        "threshold",
        (
            "if no numbers are left, return {k}",
            "return {k} if the list is empty",
            "answer {k} when there are no numbers",
        ),
        ("if «not xs|xs»:\n    return «{k}|0»", "if len(xs) == «0|1»:\n    return «{k}|0»"),
        guard=True,
        rare=True,
    ),
    _op(
        "guard_short",
        "numbers",
        "count",
        (
            "if there are fewer than {k} numbers, return 0",
            "return 0 if the list has fewer than {k} numbers",
            "answer 0 when fewer than {k} numbers are there",
        ),
        ("if len(xs) «<|<=» {k}:\n    return «0|-1»",),
        guard=True,
    ),
    _op(
        "guard_negative",
        "numbers",
        "",
        (
            "if a number is negative, return -1",
            "return -1 if any number is below zero",
            "answer -1 when a negative number is there",
        ),
        (
            "if any(x «<|<=» 0 for x in xs):\n    return «-1|0»",
            "for x in xs:\n    if x «<|<=» 0:\n        return «-1|0»",
        ),
        guard=True,
        rare=True,
    ),
)

_REDUCTIONS = (
    _op(
        "sum",
        "number",
        "",
        ("the sum of the numbers", "the total of the numbers", "what the numbers add up to"),
        ("n = «sum|len»(xs)", "total = «0|1»\nfor x in xs:\n    total «+=|=» x\nn = total"),
        noun=True,
    ),
    _op(
        "largest",
        "number",
        "",
        (
            "the largest number, or 0 if there are none",
            "the maximum, 0 for an empty list",
            "the greatest number (0 if none)",
        ),
        ("n = «max|min»(xs, default=«0|-1»)", "n = «0|-1»\nif xs:\n    n = «max|min»(xs)"),
        noun=True,
    ),
    _op(
        "smallest",
        "number",
        "",
        (
            "the smallest number, or 0 if there are none",
            "the minimum, 0 for an empty list",
            "the least number (0 if none)",
        ),
        ("n = «min|max»(xs, default=«0|-1»)", "n = «0|-1»\nif xs:\n    n = «min|max»(xs)"),
        noun=True,
    ),
    _op(
        "count",
        "number",
        "",
        ("how many numbers there are", "the count of the numbers", "the length of the list"),
        ("n = len(xs)«| - 1»", "count = «0|1»\nfor x in xs:\n    count += 1\nn = count"),
        noun=True,
    ),
    _op(
        "count_even",
        "number",
        "",
        ("how many numbers are even", "the count of even numbers", "the number of even ones"),
        counted("xs", "x", "x % 2 == «0|1»"),
        noun=True,
    ),
    _op(
        "count_greater",
        "number",
        "threshold",
        ("how many numbers exceed {k}", "the count of numbers greater than {k}", "the number of those above {k}"),
        counted("xs", "x", "x «>|>=|<» {k}"),
        noun=True,
    ),
    _op(
        "count_negative",
        "number",
        "",
        ("how many numbers are negative", "the count of numbers below zero", "the number of negative ones"),
        counted("xs", "x", "x «<|<=» 0"),
        noun=True,
    ),
    _op(
        "count_value",
        "number",
        "threshold",
        ("how often {k} occurs", "the count of numbers equal to {k}", "how many numbers are {k}"),
        ("n = xs.count(«{k}|{k+1}»)", counted("xs", "x", "x «==|!=» {k}")[1]),
        noun=True,
    ),
    _op(
        "sum_squares",
        "number",
        "",
        ("the sum of the squares", "the total of the squared numbers", "what the squares add up to"),
        added("xs", "x", "x * «x|2»"),
        noun=True,
    ),
    _op(
        "sum_positive",
        "number",
        "",
        ("the sum of the positive numbers", "the total of those above zero", "what the positive ones add up to"),
        (
            "n = sum(x for x in xs if x «>|<» 0)",
            "total = «0|1»\nfor x in xs:\n    if x «>|<» 0:\n        total «+=|=» x\nn = total",
        ),
        noun=True,
    ),
    _op(
        "sum_odd",
        "number",
        "",
        ("the sum of the odd numbers", "the total of the odd ones", "what the odd numbers add up to"),
        (
            "n = sum(x for x in xs if x % 2 == «1|0»)",
            "total = «0|1»\nfor x in xs:\n    if x % 2 == «1|0»:\n        total «+=|=» x\nn = total",
        ),
        noun=True,
    ),
    _op(
        "product",
        "number",
        "",
        ("the product of the numbers", "all the numbers multiplied together", "what the numbers multiply to"),
        ("total = «1|0»\nfor x in xs:\n    total «*=|+=» x\nn = total",),
        noun=True,
        rare=True,
    ),
    _op(
        "spread",
        "number",
        "",
        (
            "the largest minus the smallest number, 0 if there are none",
            "the spread from minimum to maximum, 0 if empty",
            "the difference of maximum and minimum (0 if none)",
        ),
        (
            "n = max(xs, default=0) «-|+» min(xs, default=0)",
            "n = 0\nif xs:\n    n = «max(xs) - min(xs)|xs[-1] - xs[0]»",
        ),
        noun=True,
    ),
    _op(
        "last",
        "number",
        "",
        (
            "the last number, or 0 if there are none",
            "the final number, 0 for an empty list",
            "the last one (0 if none)",
        ),
        ("n = xs[«-1|0»] if xs else «0|-1»", "n = «0|-1»\nfor x in xs:\n    n = x"),
        noun=True,
    ),
    _op(
        "first",
        "number",
        "",
        (
            "the first number, or 0 if there are none",
            "the opening number, 0 for an empty list",
            "the first one (0 if none)",
        ),
        ("n = xs[«0|-1»] if xs else «0|-1»", "n = «0|-1»\nif xs:\n    n = xs[«0|-1|1»]"),
        noun=True,
    ),
    _op(
        "alternating",
        "number",
        "",
        (
            "the alternating sum, starting with plus",
            "the first number minus the second plus the third and so on",
            "the sum with alternating signs, the first one plus",
        ),
        (
            "n = sum(xs[«::2|1::2»]) - sum(xs[«1::2|::2»])",
            "total = 0\nfor i, x in enumerate(xs):\n    if i % 2 == «0|1»:\n        total += x\n    else:\n        total «-=|+=» x\nn = total",
        ),
        noun=True,
        rare=True,
    ),
    _op(
        "count_rises",
        "number",
        "",
        (
            "how many numbers are greater than the one before",
            "the count of rises between neighbours",
            "how often a number exceeds the previous one",
        ),
        (
            "n = sum(1 for a, b in zip(xs, xs[1:]) if b «>|>=|<» a)",
            "count = 0\nfor i in range(1, len(xs)):\n    if xs[i] «>|>=|<» xs[i - 1]:\n        count += 1\nn = count",
        ),
        noun=True,
        rare=True,
    ),
    _op(
        "longest_run",
        "number",
        "",
        (
            "the length of the longest run of equal numbers",
            "the size of the longest block of equal neighbours",
            "how long the longest streak of one number is",
        ),
        (
            "best = 0\nrun = 0\nfor i, x in enumerate(xs):\n    if i > 0 and x «==|>=» xs[i - 1]:\n        run += 1\n    else:\n"
            "        run = «1|0»\n    best = max(best, run)\nn = best",
        ),
        noun=True,
        rare=True,
    ),
    _op(
        "index_of_largest",
        "number",
        "",
        (
            "the position of the largest number, or -1 if there are none",
            "the index of the maximum, -1 for an empty list",
            "where the largest number first stands (-1 if none)",
        ),
        ("n = xs.index(«max|min»(xs)) if xs else «-1|0»",),
        noun=True,
        rare=True,
    ),
)

_OTHERS = (
    _op(
        "count_values",
        "index",
        "",
        (
            "count how often each number occurs, in a dictionary",
            "map every number to its count",
            "build a dictionary of counts",
        ),
        ("d = {}\nfor x in xs:\n    d[x] = d.get(x, «0|1») + 1", "d = {x: xs.count(x)«| + 1» for x in xs}"),
    ),
    _op(
        "square_table",
        "index",
        "",
        (
            "map every number to its square, in a dictionary",
            "build a dictionary from each number to its square",
            "make a table of squares",
        ),
        ("d = {x: x * «x|2» for x in xs}", "d = {}\nfor x in xs:\n    d[x] = x * «x|2»"),
    ),
    _op(
        "first_positions",
        "index",
        "",
        (
            "map every number to its first position, in a dictionary",
            "build a dictionary of the first index of each number",
            "record where each number first stands",
        ),
        (
            "d = {}\nfor i, x in enumerate(xs):\n    if x «not in d|in xs»:\n        d[x] = i",
            "d = {x: xs.index(x)«| + 1» for x in xs}",
        ),
        rare=True,
    ),
    _op(
        "join",
        "text",
        "separator",
        (
            "join the numbers with '{k}'",
            "write the numbers in a row with '{k}' between them",
            "put '{k}' between the numbers and make a string",
        ),
        ("s = '«{k}|»'.join(str(x) for x in xs)",),
    ),
    _op(
        "all_positive",
        "truth",
        "",
        (
            "whether all the numbers are positive",
            "True if every number is above zero, else False",
            "whether no number is zero or less",
        ),
        ("ok = «all|any»(x «>|>=» 0 for x in xs)", "for x in xs:\n    if x «<=|<» 0:\n        return False\nok = True"),
        noun=True,
    ),
    _op(
        "any_even",
        "truth",
        "",
        (
            "whether any number is even",
            "True if at least one number is even, else False",
            "whether an even number is there",
        ),
        (
            "ok = «any|all»(x % 2 == «0|1» for x in xs)",
            "for x in xs:\n    if x % 2 == «0|1»:\n        return True\nok = False",
        ),
        noun=True,
    ),
    _op(
        "is_sorted",
        "truth",
        "",
        (
            "whether the numbers never decrease",
            "True if the numbers are in ascending order, else False",
            "whether the numbers are sorted",
        ),
        ("ok = all(a «<=|<» b for a, b in zip(xs, xs[1:]))", "ok = xs == sorted(«xs|xs, reverse=True»)"),
        noun=True,
    ),
)

OPERATIONS: tuple[Operation, ...] = _FILTERS + _MAPS + _ORDER + _SHAPE + _GUARDS + _REDUCTIONS + _OTHERS
