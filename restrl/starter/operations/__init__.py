"""The operations that the starter's problems are composed of, one module per type of input."""

from __future__ import annotations

from restrl.starter.operations import number, numbers, tables, text, words
from restrl.starter.operations.base import Operation

OPERATIONS: dict[str, Operation] = {
    operation.name: operation
    for operation in (numbers.OPERATIONS + words.OPERATIONS + text.OPERATIONS + tables.OPERATIONS + number.OPERATIONS)
}
