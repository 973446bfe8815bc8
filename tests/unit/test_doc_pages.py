"""What the pages say about the code is true: links, command names, keys, methods, presets, the prompt of the chat suite."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import yaml

from openrlhf_ext.cli import COMMANDS
from openrlhf_ext.config.knobs import AVAILABLE_METHODS, PROGRAM_OF_METHOD, knobs
from openrlhf_ext.config.presets import METHOD_DEFAULTS, PRESET_TASKS, PRESETS
from openrlhf_ext.evaluate.suite import load_suite
from openrlhf_ext.tasks import make_task

ROOT = Path(__file__).resolve().parents[2]
PAGES = [*sorted(ROOT.glob("*.md")), ROOT / "benchmarks/README.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?:|#)([^)#\s]+)(?:#[^)]*)?\)")
CODE = re.compile(r"(?<!`)`([^`\n]+)`(?!`)")


def page_id(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(page: Path) -> str:
    """The page without its fenced blocks."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.M | re.S)


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_links_lead_somewhere(page: Path) -> None:
    missing = [
        target for target in LINK.findall(page.read_text(encoding="utf-8")) if not (page.parent / target).exists()
    ]
    assert not missing


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_commands_named_in_prose_exist(page: Path) -> None:
    named = {match[1] for code in CODE.findall(prose(page)) if (match := re.match(r"openrlhf-ext (\w+)", code))}
    assert named <= COMMANDS.keys()


@pytest.mark.parametrize("page", PAGES, ids=page_id)
def test_keys_named_in_prose_exist(page: Path) -> None:
    """Dotted words in code style that begin with a namespace, but name no file, function or metric."""
    known = {key for method in AVAILABLE_METHODS for key in knobs(method)}
    sections = {key.split(".")[0] for key in known} - {"task"}
    words = {
        word for code in CODE.findall(prose(page)) for word in re.findall(r"^-{0,2}([a-z_]+(?:\.[a-z_0-9]+)+)", code)
    }
    files = (".py", ".md", ".yaml", ".jsonl", ".json", ".html", ".sh", ".txt", ".safetensors")
    keys = {word for word in words if word.split(".")[0] in sections and not word.endswith(files)}
    assert keys <= known


def test_task_keys_of_the_page_are_options() -> None:
    """Every `task.*` key of the page can be given to the task."""
    page = (ROOT / "docs/grpo_game24.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`task\.(\w+)", page))
    assert {"checker", "weights", "wrong_expression_reward"} <= named
    values = {"checker": "strict", "weights": [0.55, 0.3, 0.15], "wrong_expression_reward": 0.0}
    make_task({"name": "game24"} | {key: values[key] for key in named})


def test_readme_says_which_methods_work() -> None:
    rows = re.findall(r"^\| .*? \| (`train .*?`) \| .* \| (\w+) \|$", (ROOT / "README.md").read_text(), re.M)
    says = {method: word for commands, word in rows for method in re.findall(r"`train ([\w-]+)`", commands)}
    assert len(rows) == 6
    assert {method for method, word in says.items() if word == "yes"} == set(AVAILABLE_METHODS)
    assert {word for method, word in says.items() if method not in AVAILABLE_METHODS} <= {"planned"}
    assert says.keys() <= PROGRAM_OF_METHOD.keys()


def test_preset_table_is_the_presets() -> None:
    text = (ROOT / "docs/grpo_game24.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `([\w.]+)` \|[^|]*\| ([^|]+) \| ([^|]+) \| ([^|]+) \|$", text, re.M)
    assert len(rows) >= 15
    task = make_task({"name": "game24"})
    own = {"task.checker": "strict", "task.weights": list(task.rule.weights), "task.wrong_expression_reward": 0.0}
    defaults = {key: knob.default for key, knob in knobs("grpo").items()} | METHOD_DEFAULTS["grpo"] | own
    for key, *cells in rows:
        for preset, cell in zip(("none", "report", "head"), cells, strict=True):
            of_task = {f"task.{k}": v for k, v in PRESET_TASKS.get(preset, {}).get("game24", {}).items()}
            want = (defaults | PRESETS[preset] | of_task)[key]
            said = [float(x) for x in cell.split(",")] if "," in cell else yaml.safe_load(cell)
            if isinstance(want, float):
                said = float(said)
            assert said == want, f"{key} of preset {preset}"


def test_chat_suite_asks_as_the_paper_configs_train() -> None:
    suite = load_suite("game24_chat")
    prompt = f"<|im_start|>system\n{suite.system}<|im_end|>\n<|im_start|>user\n{{}}<|im_end|>\n<|im_start|>assistant\n"
    for name in ("sft", "grpo"):
        config = yaml.safe_load((ROOT / f"examples/configs/{name}_game24_paper.yaml").read_text(encoding="utf-8"))
        assert config["data"]["input_template"] == prompt


def test_make_targets_named_exist() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    for page in PAGES:
        named = set(re.findall(r"(?:^|`)make ([a-z-]+)", page.read_text(encoding="utf-8"), re.M))
        assert named <= targets, page
    assert "bash examples/demo.sh" in (ROOT / "Makefile").read_text()


def test_demo_model_is_shipped() -> None:
    """The folder that the demo's config names holds a model and its tokenizer, a few MB of safetensors."""
    config = yaml.safe_load((ROOT / "examples/configs/grpo_game24_demo.yaml").read_text(encoding="utf-8"))
    folder = ROOT / config["actor"]["model_name_or_path"]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in folder.iterdir()}
    assert (folder / "model.safetensors").stat().st_size < 20e6
