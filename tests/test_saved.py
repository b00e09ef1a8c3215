"""Files of strangers: nothing in them runs, and nothing of them lands anywhere."""

import ast
import json
import os
import re
import tarfile
import zipfile
from pathlib import Path

import keras
import nbformat
import numpy as np
import pytest

import vae_tf
from vae_tf import VAE
from vae_tf.engine import loading

ROOT = Path(__file__).parent.parent
PACKAGE = {path.name: path.read_text() for path in (ROOT / "vae_tf").rglob("*.py")}


@pytest.fixture(scope="module")
def file(tmp_path_factory, images):
    """A model that was trained for a moment, as `vae.save` writes it."""
    vae = VAE(latent_dim=3, hidden_units=6, seed=5)
    vae.compile(keras.optimizers.Adam(0.01))
    vae.fit(images, batch_size=16, verbose=0)
    path = tmp_path_factory.mktemp("saved") / "vae.keras"
    vae.save(path)
    return path


def rewritten(file, target, change=lambda config: None, **members):
    """Copies the archive with its configuration changed, and with more or other members."""
    with zipfile.ZipFile(file) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(contents["config.json"])
    change(config)
    contents |= {"config.json": json.dumps(config)} | members
    with zipfile.ZipFile(target, "w") as archive:
        for name, content in contents.items():
            archive.writestr(name, content)
    return target


def test_loads_what_was_saved(file, images):
    one, two = vae_tf.load_model(str(file)), keras.saving.load_model(file)
    assert type(one) is VAE
    assert (one.latent_dim, one.hidden_units, one.seed) == (3, 6, 5)
    for a, b in zip(one.optimizer.variables, two.optimizer.variables, strict=True):
        np.testing.assert_array_equal(a, b)
    one.fit(images, batch_size=16, verbose=0)
    two.fit(images, batch_size=16, verbose=0)
    for a, b in zip(one.get_weights(), two.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_files_carry_a_format_and_those_of_before_still_load(file, tmp_path):
    with zipfile.ZipFile(file) as archive:
        assert json.loads(archive.read("config.json"))["config"]["format"] == 3
    old = rewritten(file, tmp_path / "old.keras", lambda config: config["config"].pop("format"))
    for a, b in zip(
        vae_tf.load_model(old).get_weights(), vae_tf.load_model(file).get_weights(), strict=True
    ):
        np.testing.assert_array_equal(a, b)
    newer = rewritten(
        file, tmp_path / "newer.keras", lambda config: config["config"].update(format=4)
    )
    for load in (vae_tf.load_model, keras.saving.load_model):
        with pytest.raises(ValueError, match=r"received format 4\. .*update vae_tf"):
            load(newer)


def mark(path):
    """Returns a function that leaves a mark, should it ever run."""
    path = str(path)
    return lambda x: (open(path, "w").close(), x)[1]


def as_code(path):
    """Returns a function that leaves a mark, as Keras stores functions."""
    return keras.saving.serialize_keras_object(mark(path))


def lambda_file(path, marked):
    model = keras.Sequential([keras.Input((3,)), keras.layers.Lambda(mark(marked))])
    os.unlink(marked)  # building it ran it once
    model.save(path)


@pytest.mark.filterwarnings("ignore:The object being serialized")
def test_a_lambda_is_refused_and_does_not_run(tmp_path):
    path, marked = tmp_path / "lambda.keras", tmp_path / "ran"
    lambda_file(path, marked)
    with pytest.raises(ValueError, match="must be of class vae_tf>VAE"):
        vae_tf.load_model(path)
    with pytest.raises(ValueError, match="safe"):  # Keras's own loader, as it is by default
        keras.saving.load_model(path)
    assert not marked.exists()
    keras.saving.load_model(path, safe_mode=False)
    assert marked.exists()  # so it would have shown


CODE = {
    "in an argument": lambda config, code: config["config"].update(beta=code),
    "in the name": lambda config, code: config["config"].update(name=code),
    "as the optimizer": lambda config, code: config["compile_config"].update(optimizer=code),
    "as the learning rate": lambda config, code: config["compile_config"]["optimizer"][
        "config"
    ].update(learning_rate=code),
    "as a metric": lambda config, code: config["compile_config"].update(metrics=[code]),
    "as a loss": lambda config, code: config["compile_config"].update(loss=code),
    "as the model": lambda config, code: (config.clear(), config.update(code)),
}


@pytest.mark.filterwarnings("ignore:The object being serialized")
@pytest.mark.parametrize("where", CODE)
def test_code_in_a_models_file_is_refused_and_does_not_run(file, tmp_path, where):
    marked = tmp_path / "ran"
    code = as_code(marked)
    assert code["class_name"] == "__lambda__"
    path = rewritten(file, tmp_path / "code.keras", lambda config: CODE[where](config, code))
    with pytest.raises(ValueError, match=r"code\.keras cannot be loaded"):
        vae_tf.load_model(path)
    assert not marked.exists()


@pytest.mark.parametrize(
    "named",
    [
        {"module": "os", "class_name": "system", "config": "touch ran"},
        {"module": "builtins", "class_name": "function", "config": "exec"},
        {"module": "subprocess", "class_name": "Popen", "config": {"args": ["touch", "ran"]}},
        {"module": "keras.layers", "class_name": "Lambda", "config": {"name": "a"}},
    ],
    ids=["system", "exec", "Popen", "Lambda"],
)
def test_other_classes_and_functions_are_not_called(file, tmp_path, monkeypatch, named):
    monkeypatch.chdir(tmp_path)
    named = {"registered_name": named["class_name"]} | named
    for number, change in enumerate(
        (
            lambda config: config.update(named),
            lambda config: config["compile_config"].update(optimizer=named),
        )
    ):
        path = rewritten(file, tmp_path / f"{number}.keras", change)
        with pytest.raises(ValueError, match="cannot be loaded"):
            vae_tf.load_model(path)
    assert sorted(os.listdir(tmp_path)) == ["0.keras", "1.keras"]


@pytest.mark.parametrize(
    "member", ["../../outside", "/tmp/vae_tf_outside", "assets/../../outside", "assets/a", "x.h5"]
)
def test_members_beside_the_three_are_refused_and_never_written(file, tmp_path, member):
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    path = rewritten(file, inside / "more.keras", **{member: b"content"})
    with pytest.raises(ValueError, match=r"must hold config\.json, metadata"):
        vae_tf.load_model(path)
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
    assert not Path("/tmp/vae_tf_outside").exists()


def test_a_huge_configuration_is_not_read(file, tmp_path):
    path = rewritten(
        file, tmp_path / "huge.keras", **{"config.json": b" " * (loading.MAX_CONFIG + 1)}
    )
    with pytest.raises(ValueError, match=r"config\.json must have 1048576 bytes at most"):
        vae_tf.load_model(path)


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_an_archive_in_place_of_mnists_files_is_not_unpacked(tmp_path, kind):
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    (tmp_path / "source").write_text("content")
    for name in ("train-images-idx3-ubyte", "train-images-idx3-ubyte.gz"):
        if kind == "zip":
            with zipfile.ZipFile(inside / name, "w") as archive:
                archive.write(tmp_path / "source", "../../outside")
        else:
            with tarfile.open(inside / name, "w:gz" if name.endswith("gz") else "w") as archive:
                archive.add(tmp_path / "source", "../../outside")
        with pytest.raises(ValueError, match=rf"{name}: expected .*found"):
            vae_tf.load_mnist(inside)
        (inside / name).unlink()
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [tmp_path / "source"]


# The package's own text.


def test_nothing_unpickles_evaluates_or_unpacks():
    modules = {"pickle", "dill", "joblib", "shelve", "marshal", "tarfile", "shutil"}
    calls = {"eval", "exec", "compile", "__import__"}
    methods = {"extract", "extractall", "unpack_archive", "enable_unsafe_deserialization"}
    loads = 0
    for name, text in PACKAGE.items():
        assert "allow_pickle=True" not in text, name
        assert "safe_mode=False" not in text, name
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Import):
                assert not {alias.name.split(".")[0] for alias in node.names} & modules, name
            elif isinstance(node, ast.ImportFrom):
                assert (node.module or "").split(".")[0] not in modules, name
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in calls, name
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                assert node.func.attr not in methods, name
                if ast.unparse(node.func) == "np.load":
                    loads += 1
                    assert "allow_pickle=False" in ast.unparse(node), name
                if node.func.attr == "load_model" and "keras" in ast.unparse(node.func):
                    assert "safe_mode=True" in ast.unparse(node), name
    assert loads


ADDRESS = re.compile(r"(?:https?|ftp|wss?)://[^\s\"'`)>\]\\]+|(?<=git\+)\{?project[^ ]*")
EMBEDDED = re.compile(
    r"!\[[^\]]*\]\(\s*(http|//)|<(img|script|iframe|link|object|embed)[^>]*(http|//)"
)


def strings(tree):
    """Returns the texts in a module that are no docstrings."""
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef)
    prose = {id(n.body[0].value) for n in ast.walk(tree) if isinstance(n, nodes) and n.body
             and isinstance(n.body[0], ast.Expr)}  # fmt: skip
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in prose:
            yield node.value


def test_the_package_asks_one_host_for_one_thing():
    addresses, users = set(), set()
    for name, text in PACKAGE.items():
        tree = ast.parse(text)
        addresses |= {found for text in strings(tree) for found in ADDRESS.findall(text)}
        imported = {
            alias.name for n in ast.walk(tree) if isinstance(n, ast.Import) for alias in n.names
        }
        imported |= {n.module for n in ast.walk(tree) if isinstance(n, ast.ImportFrom) and n.module}
        network = {"urllib", "http", "socket", "requests", "ftplib", "httpx", "aiohttp"}
        users |= {name for module in imported if module.split(".")[0] in network}
    assert addresses == {vae_tf.sources.providers.PROBE}
    assert users == {"providers.py"}


@pytest.mark.parametrize("path", sorted((ROOT / "notebooks").glob("*.ipynb")), ids=lambda p: p.stem)
def test_notebooks_fetch_nothing(path):
    notebook = nbformat.read(path, as_version=4)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for cell in code[1:]:  # the first installs the package, in Colab alone
        assert not ADDRESS.findall(cell.source)
        assert not re.search(
            r"^\s*[!%]|urllib|requests|wget|curl|socket", cell.source, re.MULTILINE
        )
    for cell in notebook.cells:
        shown = json.dumps([o.get("data", {}) for o in cell.get("outputs", ())])
        assert not re.search(r"<(script|iframe|link|object|embed)|(src|href)=.?.?(http|//)", shown)
        if cell.cell_type == "markdown":  # which may name pages to read, and show none of them
            assert not EMBEDDED.search(cell.source)


def test_the_page_names_no_address_but_a_name_space():
    page = (ROOT / "vae_tf" / "explorer" / "page.html").read_text()
    assert set(ADDRESS.findall(page)) <= {"http://www.w3.org/2000/svg"}
