"""No test reaches into the private parts of the product: what a test needs is a parameter of the constructor."""

import ast
from collections.abc import Iterator
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

STANDARD = {"os._exit", "files[0]._replace", "found._replace"}
"""Public parts of the standard library that only look private."""

STANDARD_ATTRIBUTES = {"_actions", "_option_string_actions", "_SubParsersAction"}
"""Parts of argparse that have no public form: the tests compare documents and completion with the real parser."""


def private_uses(path: Path) -> Iterator[str]:
    """Expressions `x._name`, imports of `_name`, and patches of a private name, as their source text."""
    tree = ast.parse(path.read_text())
    own = own_parts(tree)
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and is_private(node.attr):
            text = ast.unparse(node)
            if node.attr not in own | STANDARD_ATTRIBUTES and text not in STANDARD:
                yield text
        elif isinstance(node, ast.ImportFrom):
            yield from (f"import {one.name}" for one in node.names if is_private(one.name))
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith((".setattr", ".object", "getattr")):
            words = [
                one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)
            ]
            yield from (f"patch {word}" for word in words[:1] if is_private(word.rpartition(".")[2]))


def own_parts(tree: ast.Module) -> set[str]:
    """The private attributes that the classes of a file give to themselves."""
    names = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
    attributes = (node for node in ast.walk(tree) if isinstance(node, ast.Attribute))
    return names | {node.attr for node in attributes if ast.unparse(node.value) in ("self", "cls", "super()")}


def is_private(name: str) -> bool:
    return name.startswith("_") and not name.startswith("__")


def test_no_test_uses_private_parts() -> None:
    used = {
        str(path.relative_to(REPOSITORY)): uses
        for path in sorted((REPOSITORY / "tests").rglob("*.py"))
        if (uses := set(private_uses(path)))
    }
    assert not used


def test_each_way_to_reach_into_private_parts_is_recognised(tmp_path: Path) -> None:
    file = tmp_path / "file.py"
    for line in (
        "thing._part",
        "from module import _part",
        "monkeypatch.setattr(module, '_PART', 1)",
        "monkeypatch.setattr('agent.module._PART', 1)",
        "getattr(thing, '_part')",
    ):
        file.write_text(line)
        assert list(private_uses(file)), line
    file.write_text("self._part; os._exit(0); thing.part; from module import part; thing.__dict__")
    assert not list(private_uses(file))
