"""Operations on one integer (``n``)."""

from __future__ import annotations

from restrl.starter.operations.base import Operation, Type


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
    first_only: bool = False,
) -> Operation:
    return Operation(f"number.{name}", "number", target, parameter, phrases, forms, noun, rare, guard, first_only)


_CHANGES = (
    _op(
        "add",
        "number",
        "threshold",
        ("add {k} to it", "increase it by {k}", "raise the result by {k}"),
        ("n = n «+|-» {k}", "n «+=|-=» {k}"),
    ),
    _op(
        "subtract",
        "number",
        "threshold",
        ("subtract {k} from it", "decrease it by {k}", "lower the result by {k}"),
        ("n = n «-|+» {k}", "n «-=|+=» {k}"),
    ),
    _op(
        "multiply",
        "number",
        "factor",
        ("multiply it by {k}", "scale it by {k}", "make it {k} times as large"),
        ("n = n * «{k}|{k+1}»", "n *= «{k}|{k+1}»"),
    ),
    _op(
        "remainder",
        "number",
        "factor",
        ("take it modulo {k}", "reduce it modulo {k}", "replace it by its remainder modulo {k}"),
        ("n = n «%|//» {k}",),
    ),
    _op(
        "halve",
        "number",
        "",
        ("halve it, rounding down", "floor-divide it by 2", "divide it by 2 without remainder"),
        ("n = n «//|%» 2",),
    ),
    _op(
        "absolute",
        "number",
        "",
        ("take its absolute value", "drop its sign", "make it non-negative by its size"),
        ("n = «abs(n)|-n»", "if n «<|>» 0:\n    n = -n"),
    ),
    _op(
        "cap",
        "number",
        "threshold",
        ("cap it at {k}", "lower it to {k} if it is larger", "limit it to at most {k}"),
        ("n = «min|max»(n, «{k}|{k-1}»)", "if n «>|<» {k}:\n    n = {k}"),
    ),
    _op(
        "floor_zero",
        "number",
        "",
        ("replace it by 0 if it is negative", "raise it to 0 if below zero", "make a negative result 0"),
        ("n = «max|min»(n, 0)", "if n «<|>» 0:\n    n = 0"),
    ),
    _op(
        "digit_sum",
        "number",
        "",
        ("the sum of its digits", "the total of its digits, ignoring the sign", "what its digits add up to"),
        (
            "n = sum(int(c) for c in str(abs(n)))«| % 10»",
            "n = abs(n)\ntotal = «0|1»\nwhile n > «0|9»:\n    total += n «% 10|// 10»\n    n //= 10\nn = total",
        ),
        noun=True,
    ),
    _op(
        "digit_count",
        "number",
        "",
        ("how many digits it has", "the count of its digits", "the number of its digits"),
        (
            "n = len(str(abs(n)))«| - 1»",
            "n = abs(n)\ncount = «1|0»\nwhile n > «9|10»:\n    n //= 10\n    count += 1\nn = count",
        ),
        noun=True,
    ),
    _op(
        "largest_digit",
        "number",
        "",
        ("its largest digit", "the greatest of its digits", "the maximum of its digits"),
        (
            "n = «max|min»(int(c) for c in str(abs(n)))",
            "n = abs(n)\nbest = 0\nwhile n > «0|9»:\n    best = «max|min»(best, n % 10)\n    n //= 10\nn = best",
        ),
        noun=True,
        rare=True,
    ),
    _op(
        "reverse_digits",
        "number",
        "",
        (
            "reverse its digits, ignoring the sign",
            "read its digits backwards without the sign",
            "turn its digits around, dropping the sign",
        ),
        (
            "n = int(str(abs(n))[«::-1|:1»])",
            "n = abs(n)\nout = 0\nwhile n > 0:\n    out = out «* 10 +|+» n % 10\n    n //= 10\nn = out",
        ),
        rare=True,
    ),
    _op(
        "halve_or_triple",
        "number",
        "",
        (
            "halve it if it is even, else triple it",
            "divide it by 2 if even, otherwise multiply it by 3",
            "take half of it if even and three times it if odd",
        ),
        ("if n % 2 == «0|1»:\n    n = n // 2\nelse:\n    n = n * «3|2»", "n = n // 2 if n % 2 == «0|1» else n * «3|2»"),
    ),
    _op(
        "halvings",
        "number",
        "",
        (
            "how often it can be halved before it is odd, 0 for zero",
            "the number of factors 2 in it, 0 for zero",
            "how many times 2 divides it (0 for zero)",
        ),
        ("count = «0|1»\nwhile n != 0 and n % 2 == 0:\n    n //= «2|4»\n    count += 1\nn = count",),
        noun=True,
        rare=True,
    ),
)

_GUARDS = (
    _op(
        "guard_negative",
        "number",
        "",
        ("if it is negative, return -1", "return -1 if it is below zero", "answer -1 when it is negative"),
        ("if n «<|<=» 0:\n    return «-1|0»",),
        guard=True,
    ),
    _op(
        "guard_large",
        "number",
        "threshold",
        ("if it is greater than {k}, return {k}", "return {k} if it is above {k}", "answer {k} when it exceeds {k}"),
        ("if n «>|<» {k}:\n    return «{k}|0»",),
        guard=True,
        rare=True,
    ),
)

_OTHERS = (
    _op(
        "digits",
        "numbers",
        "",
        (
            "list its digits from left to right",
            "take its digits as a list, ignoring the sign",
            "split it into its digits",
        ),
        (
            "xs = [int(c) for c in str(abs(n))«|[::-1]»]",
            "xs = []\nfor c in str(abs(n)):\n    xs.append(int(c))",
        ),
    ),
    _op(
        "up_to",
        "numbers",
        "",
        ("list the numbers from 1 to n", "make the list of 1 up to n", "count from 1 to n in a list"),
        ("xs = list(range(1, n« + 1|»))", "xs = []\nfor x in range(1, n «+|-» 1):\n    xs.append(x)"),
        first_only=True,
    ),
    _op(
        "divisors",
        "numbers",
        "",
        ("list the divisors of n", "collect the numbers from 1 to n that divide n", "find all positive divisors of n"),
        (
            "xs = [x for x in range(1, n« + 1|») if n % x == 0]",
            "xs = []\nfor x in range(1, n« + 1|»):\n    if n % x «==|!=» 0:\n        xs.append(x)",
        ),
        first_only=True,
    ),
    _op(
        "squares_below",
        "numbers",
        "",
        (
            "list the squares of 0 up to n - 1",
            "make the list of the first n squares, from 0",
            "collect the squares of the numbers below n",
        ),
        ("xs = [x * «x|2» for x in range(n«| + 1»)]", "xs = []\nfor x in range(n«| + 1»):\n    xs.append(x * «x|2»)"),
        first_only=True,
    ),
    _op(
        "collatz",
        "numbers",
        "",
        (
            "list the Collatz steps from n down to 1",
            "from n, halve if even, else triple and add 1, until 1, listing each",
            "collect the Collatz sequence of n until it reaches 1",
        ),
        (
            "xs = [n]\nwhile n > 1:\n    if n % 2 == 0:\n        n = n // 2\n    else:\n        n = «3 * n + 1|n + 1»\n    xs.append(n)",
        ),
        rare=True,
        first_only=True,
    ),
    _op(
        "binary",
        "text",
        "",
        (
            "write it in binary, ignoring the sign",
            "take its binary digits as a string",
            "turn it into a string of bits",
        ),
        ("s = bin(abs(n))[«2|1»:]",),
        rare=True,
    ),
    _op(
        "as_text", "text", "", ("write it as a string", "turn it into a string", "convert it to text"), ("s = str(n)",)
    ),
    _op(
        "even",
        "truth",
        "",
        ("whether it is even", "True if it is even, else False", "whether 2 divides it"),
        ("ok = n % 2 == «0|1»",),
        noun=True,
    ),
    _op(
        "above",
        "truth",
        "threshold",
        ("whether it is greater than {k}", "True if it exceeds {k}, else False", "whether it is above {k}"),
        ("ok = n «>|>=|<» {k}",),
        noun=True,
    ),
)

OPERATIONS: tuple[Operation, ...] = _CHANGES + _GUARDS + _OTHERS
