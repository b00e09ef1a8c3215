"""What holds for the whole: names, import order, weights, notebooks, and the README's numbers."""

import ast
import graphlib
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

# What each place may import of ours: other places, and files of its own that stand before it.
CORE = ("data", "model", "training", "evaluation")
PLACES = {
    "engine": (),
    "sources": ("engine",),
    "data": ("engine", "sources"),
    "model": ("engine",),
    "training": ("engine", "data", "model"),
    "evaluation": ("engine", "model"),
    "pixel_vae": ("engine", "model"),
    "pretrained": ("engine", *CORE),
    "analysis": ("engine", *CORE, "pretrained"),
    "figures": ("engine.atomic",),
    "explorer": ("engine", *CORE, "pixel_vae"),
    "exports": ("engine", "model"),
    "summaries": ("engine", "model", "evaluation"),
}
MODULES = sorted(path for path in PACKAGE.rglob("*.py") if path != PACKAGE / "__init__.py")


def name_of(path):
    """Returns a module's name below the package's, such as "engine.noise"."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def at_once(node):
    """Yields what is in a node, but for the insides of functions: what an import runs."""
    for each in ast.iter_child_nodes(node):
        if not isinstance(each, ast.FunctionDef | ast.Lambda):
            yield each
            yield from at_once(each)


def imports(path, walk=ast.walk):
    """Returns the names, below the package's, of our own modules that a module imports."""
    package, found = path.relative_to(PACKAGE).parts[:-1], set()
    for node in walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.level:
            base = [*package[: len(package) - node.level + 1], *(node.module or "").split(".")]
            base = ".".join(filter(None, base))
            beneath = PACKAGE.joinpath(*base.split(".")) if base else PACKAGE
            is_module = beneath.with_suffix(".py").is_file()
            found |= {base} if is_module else {f"{base}.{a.name}".strip(".") for a in node.names}
        elif isinstance(node, ast.Import | ast.ImportFrom):
            assert not ast.unparse(node).startswith(("import vae_tf", "from vae_tf")), path
    return found


@pytest.mark.parametrize("path", MODULES, ids=name_of)
def test_imports_run_one_way(path):
    place = name_of(path).split(".")[0]
    for name in imports(path):
        allowed = (place, *PLACES[place])
        assert any(name == each or name.startswith(f"{each}.") for each in allowed), name


def test_no_file_imports_one_that_imports_it():
    after = {name_of(path): imports(path) for path in MODULES}
    order = graphlib.TopologicalSorter(
        {name: {n for n in names if n in after} for name, names in after.items()}
    )
    order.prepare()  # raises CycleError where they go round


def test_every_place_is_in_the_table():
    found = {name_of(path).split(".")[0] for path in MODULES}
    assert found == set(PLACES)
    assert not any(place in PLACES["engine"] for place in CORE)


def packages(paths, walk=ast.walk):
    """Returns the names of the packages of others that these files import."""
    names = [
        alias.name if isinstance(node, ast.Import) else node.module
        for path in paths
        for node in walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Import | ast.ImportFrom) and not getattr(node, "level", 0)
        for alias in node.names
    ]
    return {name.split(".")[0] for name in names} - set(sys.stdlib_module_names)


def test_figures_need_numpy_and_matplotlib_only():
    assert packages((PACKAGE / "figures").glob("*.py")) == {"numpy", "matplotlib"}


def test_public_names():
    assert set(vae_tf.__all__) >= {"VAE", "Recipe", "History", "load_mnist", "train", "evaluate"}
    for name in vae_tf.__all__:
        assert getattr(vae_tf, name) is not None
    with pytest.raises(AttributeError, match="nonsense"):
        _ = vae_tf.nonsense


def test_analysis_is_there_without_importing_its_modules():
    names = {path.stem for path in (PACKAGE / "analysis").glob("*.py")} - {"__init__"}
    assert set(vae_tf.analysis.__all__) == names
    assert names <= set(dir(vae_tf.analysis))
    assert not imports(PACKAGE / "analysis" / "__init__.py", at_once)
    assert vae_tf.analysis.bounds.bound_curve.__name__ == "bound_curve"
    with pytest.raises(AttributeError, match="nonsense"):
        _ = vae_tf.analysis.nonsense


def test_public_functions_are_documented():
    for path in PACKAGE.rglob("*.py"):
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


HEAVY = {"matplotlib", "mlxtend", "tensorflow_datasets", "pandas", "sklearn", "PIL", "optuna"}


def test_nothing_heavy_is_imported_at_once():
    """By the text of the modules that importing the package runs."""
    modules = {name_of(path): path for path in MODULES}
    reached, left = set(), [PACKAGE / "__init__.py"]
    while left:
        reached.add(path := left.pop())
        for name in imports(path, at_once):
            parts = name.split(".")  # of "engine.noise", "engine" as well
            names = {".".join(parts[: i + 1]) for i in range(len(parts))}
            left += {modules[each] for each in names & set(modules)} - reached
    assert reached > {modules[name] for name in ("model", "engine", "engine.noise", "explorer")}
    assert not reached & {modules[name] for name in ("figures", "analysis", "analysis.bounds")}
    found = packages(reached, at_once)
    assert found > {"tensorflow", "keras", "numpy"}
    assert not found & HEAVY


@pytest.mark.slow
def test_importing_costs_no_more_than_what_it_stands_on():
    code = (
        "import tensorflow, keras, tensorflow_probability as tfp; tfp.distributions; import sys;"
        "before = set(sys.modules); import vae_tf;"
        "print(*sorted({name.split('.')[0] for name in set(sys.modules) - before}));"
        "vae_tf.analysis; dir(vae_tf.analysis);"
        "print(*[name for name in sys.modules if name.startswith('vae_tf.analysis.')]);"
        "print(vae_tf.analysis.bounds.bound_curve.__name__)"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    brought, of_analysis, name = (line.split() for line in result.stdout.splitlines())
    assert "vae_tf" in brought
    assert not set(brought) & HEAVY
    assert of_analysis == []
    assert name == ["bound_curve"]


def test_the_public_address_stands_in_one_place():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    address = project["urls"]["Repository"]
    for path in [*PACKAGE.rglob("*"), *(ROOT / "tests").glob("*.py"), ROOT / "README.md"]:
        if path.is_file():
            assert address not in path.read_text(errors="ignore"), path
    assert address not in (ROOT / "notebooks" / "furnish.py").read_text()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_are_stored_clean(path):
    sys.path.insert(0, str(ROOT / "notebooks"))
    import furnish
    import run

    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert notebook.metadata == run.METADATA
    assert notebook.cells[0].source.startswith(f"# {int(path.stem[:2])} · ")
    assert code[0].source == furnish.setup_source()
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    outputs = [output for cell in code for output in cell.outputs]
    assert not [o for o in outputs if o.get("name") == "stderr" or o.output_type == "error"]
    assert any("image/png" in o.get("data", {}) for o in outputs)
    for cell in code:
        assert "0x" not in json.dumps([o for o in cell.outputs if "data" not in o])
        if "print(evaluation)" in cell.source or "load_mnist" in cell.source:
            assert cell.metadata.tags == ["nbval-ignore-output"]
    source = path.read_text()
    furnish.furnish(notebook, path)
    assert nbformat.writes(notebook) + "\n" == source  # as `python notebooks/furnish.py` leaves it
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
