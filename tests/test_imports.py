"""Imports point one way: app -> studio -> t4d; train, eval -> t4d; and inside t4d along the flow of the data."""

import ast
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
# Lower layers first; a package may import itself and everything in an earlier entry.
LAYERS = [
    {"errors", "paths"},
    {"prompt", "config", "stages"},
    {"geometry"},
    {"splat", "metrics"},
    {"diffusion", "tracking"},
    {"motion", "data"},
    {"export", "clip_cameras", "cycles"},
    {"clip_folder", "bake"},
    {"steps"},
    {"stage_two", "delivery"},
    {"job", "job_clock"},
    {"pipeline"},
    {"__main__"},
]
RANK = {name: rank for rank, names in enumerate(LAYERS) for name in names}


def imported_modules(path: Path) -> set[str]:
    """Dotted names a file imports anywhere, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: relative import"
            found |= {node.module} | {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def test_t4d_imports_nothing_above_it():
    for path in (REPO / "t4d").rglob("*.py"):
        roots = {name.split(".")[0] for name in imported_modules(path)}
        assert not roots & {"gradio", "studio", "train", "eval", "app"}, path


def test_layers_inside_t4d():
    for path in (REPO / "t4d").rglob("*.py"):
        part = path.relative_to(REPO / "t4d").parts[0].removesuffix(".py")
        if part == "__init__":
            continue
        for name in imported_modules(path):
            target = name.split(".")
            if target[0] == "t4d" and len(target) > 1 and target[1] in RANK and target[1] != part:
                assert RANK[target[1]] < RANK[part], f"{path.relative_to(REPO)} imports {name}"


def test_programs_do_not_import_the_studio():
    for folder in ("train", "eval"):
        for path in (REPO / folder).rglob("*.py"):
            roots = {name.split(".")[0] for name in imported_modules(path)}
            assert not roots & {"gradio", "studio", "app"}, path
