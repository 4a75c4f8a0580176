"""The code of a version, read and not run."""

import ast
import warnings


def parsed(source: str | bytes) -> ast.Module | None:
    """The syntax tree of a module; None, if it has none.

    What Python warns of while it reads (`invalid escape sequence`) is for its authors, and not for who sends it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return ast.parse(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError):
            return None
