"""Index of the paper's equations: which function implements each, and which test covers it.

    python -m eval.equations            prints the table
    python -m eval.equations --write    puts it into README.md between its two markers

An equation counts as built where a docstring of ``t4d`` names it ("Eq. 10"); a test covers a function where it uses
its name.
"""

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Annotated

import typer

REPO = Path(__file__).resolve().parent.parent
BEGIN, END = "<!-- equations: begin -->", "<!-- equations: end -->"
TITLES = {
    1: "forward diffusion of frames 2..f",
    2: "time-dependent noise on the first frame",
    3: "diffusion loss",
    4: "correspondence tracking loss",
    5: "position loss",
    6: "hybrid feature: Hex-planes and diffusion features",
    7: "deformation heads",
    8: "4D spherical harmonics",
    9: "4D Gaussians",
    10: "reconstruction loss",
    11: "4D-SDS",
}
_MENTION = re.compile(r"\bEqs?\.\s*(\d+(?:\s*(?:,|-|and)\s*\d+)*)")


@dataclass(frozen=True)
class Implementation:
    """A function or class whose docstring names an equation."""

    equation: int
    name: str
    path: str


def equations_in(text: str) -> set[int]:
    """Numbers in mentions such as "Eq. 1", "Eq. 1-3" or "Eq. 6, 7"."""
    found = set()
    for mention in _MENTION.findall(text):
        for part in re.split(r",|and", mention):
            ends = [int(number) for number in part.split("-")]
            found |= set(range(ends[0], ends[-1] + 1))
    return found


def implementations() -> list[Implementation]:
    """Every definition in ``t4d`` whose own docstring names an equation, in equation order."""
    found = []
    for path in sorted((REPO / "t4d").rglob("*.py")):
        for name, node in _definitions(ast.parse(path.read_text())):
            for equation in equations_in(ast.get_docstring(node) or ""):
                found.append(Implementation(equation, name, path.relative_to(REPO).as_posix()))
    return sorted(found, key=lambda item: (item.equation, item.path, item.name))


def covering_tests(name: str) -> list[str]:
    """Tests, as ``file::test``, that use a function or class by its (last) name."""
    target, found = name.split(".")[0], []
    for path, helpers in _test_files():
        for test, names in helpers.items():
            reached = names.union(*(helpers[other] for other in names & set(helpers)))
            if test.startswith("test_") and target in reached:
                found.append(f"{path}::{test}")
    return found


@cache
def _test_files() -> list[tuple[str, dict[str, set[str]]]]:
    """Every test file, read once, with the names that each of its functions uses."""
    found = []
    for path in sorted((REPO / "tests").rglob("test_*.py")):
        body = ast.parse(path.read_text()).body
        helpers = {node.name: _names(node) for node in body if isinstance(node, ast.FunctionDef)}
        found.append((path.relative_to(REPO).as_posix(), helpers))
    return found


def table() -> str:
    """The Markdown table equation -> function -> test."""
    rows = ["| Eq. | what | function | test |", "| --- | --- | --- | --- |"]
    items = implementations()
    for equation, title in TITLES.items():
        built = [item for item in items if item.equation == equation]
        if not built:
            rows.append(f"| {equation} | {title} | not built yet | |")
        for item in built:
            tests = covering_tests(item.name)
            more = f" and {len(tests) - 1} more" if len(tests) > 1 else ""
            rows.append(
                f"| {equation} | {title} | `{item.path}` `{item.name}` | {f'`{tests[0]}`{more}' if tests else ''} |"
            )
    return "\n".join(rows)


def readme_with(new_table: str, readme: str) -> str:
    """README text with the table between the markers replaced."""
    head, rest = readme.split(BEGIN)
    _, tail = rest.split(END)
    return f"{head}{BEGIN}\n{new_table}\n{END}{tail}"


def _definitions(tree: ast.Module) -> Iterator[tuple[str, ast.FunctionDef | ast.ClassDef]]:
    for node in tree.body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            yield node.name, node
        if isinstance(node, ast.ClassDef):
            for member in node.body:
                if isinstance(member, ast.FunctionDef):
                    yield f"{node.name}.{member.name}", member


def _names(node: ast.AST) -> set[str]:
    names = {child.id for child in ast.walk(node) if isinstance(child, ast.Name)}
    return names | {child.attr for child in ast.walk(node) if isinstance(child, ast.Attribute)}


def main(write: Annotated[bool, typer.Option(help="Update README.md instead of printing.")] = False) -> None:
    """Print the equation index, or write it into README.md."""
    if not write:
        print(table())
        return
    readme = REPO / "README.md"
    readme.write_text(readme_with(table(), readme.read_text()))


if __name__ == "__main__":
    typer.run(main)
