"""What holds for the whole: names, import order, weights, notebooks, and the README's numbers."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest

import vae_tf

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "vae_tf"
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))

# Each module may import those of ours that stand before it.
ORDER = ["checks", "files", "providers", "data", "internals", "programs", "blocks", "noise"]
ORDER += ["model", "runs", "training", "evaluation"]
AFTER = {"baselines": ["checks"], "audit": ORDER, "explorer": ["files", "data", "model"]}
AFTER |= {"results": ["files"], "figures": ["files"]}
AFTER |= {"saved": ["model"], "pretrained": [*ORDER, "saved"]}
AFTER |= {"latent": ["checks", "evaluation"], "sweeps": ORDER}
AFTER["quality"] = ["checks", "files", "data", "evaluation", "pretrained"]
ALLOWED = {name: ORDER[:i] for i, name in enumerate(ORDER)} | AFTER


def imports(path):
    """Returns the names of our own modules that a module imports."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level == 1:
            found |= {node.module} if node.module else {alias.name for alias in node.names}
    return found


@pytest.mark.parametrize("path", sorted(PACKAGE.glob("[!_]*.py")), ids=lambda path: path.stem)
def test_imports_run_one_way(path):
    assert imports(path) <= set(ALLOWED[path.stem])


def test_figures_need_numpy_and_matplotlib_only():
    tree = ast.walk(ast.parse((PACKAGE / "figures.py").read_text()))
    names = [
        alias.name if isinstance(node, ast.Import) else node.module
        for node in tree
        if isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, "level", 0)
        for alias in node.names
    ]
    outside = {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)
    assert outside == {"numpy", "matplotlib"}


def test_public_names():
    assert set(vae_tf.__all__) >= {"VAE", "Recipe", "load_mnist", "train", "evaluate", "figures"}
    for name in vae_tf.__all__:
        assert getattr(vae_tf, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = vae_tf.nonsense


def test_public_functions_are_documented():
    for path in PACKAGE.glob("*.py"):
        tree = ast.parse(path.read_text())
        assert ast.get_docstring(tree), path
        private = [n for n in ast.walk(tree) if str(getattr(n, "name", "")).startswith("_")]
        for node in ast.walk(tree):
            if not isinstance(node, ast.Module | ast.ClassDef) or node in private:
                continue
            for inner in node.body:
                public = isinstance(inner, ast.FunctionDef | ast.ClassDef)
                if public and not inner.name.startswith("_"):
                    assert ast.get_docstring(inner), f"{path}: {inner.name}"


def test_importing_costs_no_more_than_what_it_stands_on():
    heavy = ("matplotlib", "mlxtend", "tensorflow_datasets", "pandas", "sklearn", "PIL")
    code = (
        "import tensorflow, keras, tensorflow_probability as tfp; tfp.distributions; import sys;"
        "before = set(sys.modules); import vae_tf;"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "vae_tf" in result.stdout.split()
    assert not set(result.stdout.split()) & set(heavy)


def test_the_public_address_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    address = project["urls"]["Repository"]
    for path in [*PACKAGE.glob("*"), *(ROOT / "tests").glob("*.py"), ROOT / "README.md"]:
        if path.is_file():
            assert address not in path.read_text(errors="ignore"), path
    assert "github.com" not in (ROOT / "notebooks" / "run.py").read_text()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_clean(path):
    sys.path.insert(0, str(ROOT / "notebooks"))
    import run

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.metadata == run.METADATA
    assert notebook.cells[0].source.startswith(f"# {int(path.stem[:2])} · ")
    assert code[0].source == run.setup_source()
    assert len(code) <= 12
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [o for o in outputs if o.get("name") == "stderr" or o.output_type == "error"]
    assert any("image/png" in o.get("data", {}) for o in outputs)
    for cell in code:
        assert len(cell.source.splitlines()) <= 16
        assert not re.search(r"^\s*(def|class) ", cell.source, re.MULTILINE)
        assert "0x" not in json.dumps([o for o in cell.outputs if "data" not in o])
        if "print(evaluation)" in cell.source or "load_mnist" in cell.source:
            assert cell.metadata.tags == ["nbval-ignore-output"]
    assert "## What we found" in notebook.cells[-1].source
    assert any("holds: " in o.get("text", "") for o in outputs)


def test_every_notebook_is_run_by_the_tests():
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["pytest"]["ini_options"]
    assert "notebooks" in settings["testpaths"]
    assert [path.stem[:2] for path in NOTEBOOKS] == [f"{i + 1:02}" for i in range(len(NOTEBOOKS))]
    assert len(NOTEBOOKS) >= 5


def test_nothing_names_a_place_on_a_machine():
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    if listed.returncode:
        pytest.skip("not a git checkout")
    for name in listed.stdout.split("\0"):
        path = ROOT / name
        if name and path.is_file() and path.suffix in {".py", ".md", ".ipynb", ".json", ".toml"}:
            assert not re.search(r"(?<![\w.])/(home|root|Users|work)/", path.read_text()), name
