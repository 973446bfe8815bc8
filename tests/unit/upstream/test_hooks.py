"""Hooks run around a module's code, once, and leave no trace on the module."""

import importlib
import inspect
import pickle
import sys

import pytest

from openrlhf_ext.upstream import hooks


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Name of an importable module that no other test uses; unloaded afterwards."""
    name = f"hooked_{tmp_path.name.replace('-', '_')}"
    (tmp_path / f"{name}.py").write_text("import sys\nseen = getattr(sys, 'mark', None)\nclass Thing:\n    value = 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    yield name
    sys.modules.pop(name, None)
    hooks._FINDER.hooks.pop(name, None)


def test_a_hook_surrounds_the_modules_own_code(module, monkeypatch):
    def hook(loaded):
        monkeypatch.setattr(sys, "mark", "before", raising=False)
        yield
        loaded.after = loaded.seen + " and after"

    hooks.register({module: hook})
    assert importlib.import_module(module).after == "before and after"


def test_registering_twice_runs_the_hook_once(module):
    runs = []

    def hook(loaded):
        yield
        runs.append(loaded.__name__)

    hooks.register({module: hook})
    hooks.register({module: hook})
    importlib.import_module(module)
    hooks.register({module: hook})  # still no "too early": it is the hook that has run
    assert runs == [module]


def test_a_hook_that_comes_too_late_is_an_error_and_not_silence(module):
    def hook(loaded):
        yield

    importlib.import_module(module)
    with pytest.raises(RuntimeError, match=f"{module} imported too early"):
        hooks.register({module: hook})


def test_source_and_loader_look_as_if_nothing_had_happened(module):
    def hook(loaded):
        yield

    hooks.register({module: hook})
    loaded = importlib.import_module(module)
    assert "class Thing" in inspect.getsource(loaded)
    assert type(loaded.__loader__).__module__ == "_frozen_importlib_external"


def test_an_error_in_the_module_reaches_the_importer_and_unwinds_the_hook(tmp_path, monkeypatch):
    (tmp_path / "hooked_broken.py").write_text("raise KeyError('inside')\n")
    monkeypatch.syspath_prepend(tmp_path)
    unwound = []

    def hook(loaded):
        try:
            yield
        finally:
            unwound.append(True)

    hooks.register({"hooked_broken": hook})
    with pytest.raises(KeyError, match="inside"):
        importlib.import_module("hooked_broken")
    assert unwound == [True]


def test_a_stand_in_is_pickled_as_the_name_it_stands_for(module):
    class Other:
        value = 2

    def hook(loaded):
        yield
        hooks.stand_in(Other, loaded, "Thing")

    hooks.register({module: hook})
    loaded = importlib.import_module(module)
    pickled = pickle.dumps(loaded.Thing)
    assert loaded.Thing.value == 2 and module.encode() in pickled

    # Another process whose hook does nothing finds its own class under the name.
    del sys.modules[module]
    hooks._FINDER.hooks.pop(module)
    assert pickle.loads(pickled).value == 1


def test_an_untested_openrlhf_is_refused(monkeypatch):
    monkeypatch.setattr(hooks, "version", lambda name: "0.11.3")
    with pytest.raises(RuntimeError, match=r"openrlhf 0\.11\.3 is installed.*install openrlhf==0\.11\.2"):
        hooks.require_tested_version()
