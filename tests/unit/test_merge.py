"""Merging an adapter: the merged files compute what base + adapter computed, and a wrong merge is never written."""

from pathlib import Path

import pytest

from openrlhf_ext.config.problem import ConfigError

torch = pytest.importorskip("torch")
peft = pytest.importorskip("peft")

from openrlhf_ext import merge as merging  # noqa: E402
from openrlhf_ext.merge import MergeError, largest_difference, logits, merge, probe  # noqa: E402
from openrlhf_ext.prepare.tiny_model import build_tiny_model  # noqa: E402


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "base"
    build_tiny_model(folder, task="chain", layers=1, hidden=64, heads=2, context=64, tie_embeddings=True)
    return folder


def adapter_for(base: Path, folder: Path, *, trained: bool = True, **config: object) -> Path:
    """A LoRA adapter with random (``trained``) or zero B matrices."""
    from transformers import AutoModelForCausalLM

    settings: dict = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj", "v_proj"],
        "task_type": "CAUSAL_LM",
    } | config
    model = peft.get_peft_model(
        AutoModelForCausalLM.from_pretrained(base, dtype=torch.float32), peft.LoraConfig(**settings)
    )
    torch.manual_seed(1)
    for name, parameter in model.named_parameters():
        if trained and "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.3)
    model.save_pretrained(folder)
    return folder


def load(folder: Path) -> torch.nn.Module:
    from transformers import AutoModelForCausalLM

    return AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)


def test_the_merged_files_compute_what_base_and_adapter_computed(base: Path, tmp_path: Path):
    adapter = adapter_for(base, tmp_path / "adapter")
    result = merge(base, adapter, tmp_path / "out")
    inputs = probe(load(base).config.vocab_size)
    together = logits(peft.PeftModel.from_pretrained(load(base), str(adapter)), inputs)
    assert (logits(load(tmp_path / "out"), inputs) - together).abs().max() < 1e-4
    # Control: the base alone computes something else.
    assert (logits(load(base), inputs) - together).abs().max() > 1e-2
    assert (
        result.modules == 2 and result.difference < 1e-4 and result.difference_from_disk < 1e-4 and result.effect > 1e-2
    )
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"} <= names
    assert "adapter_config.json" not in names
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (base / "tokenizer.json").read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter", "out"]


def test_one_weight_by_hand(base: Path, tmp_path: Path):
    from safetensors.torch import load_file

    adapter = adapter_for(base, tmp_path / "adapter")
    merge(base, adapter, tmp_path / "out")
    name = "model.layers.0.self_attn.q_proj"
    lora = load_file(adapter / "adapter_model.safetensors")
    a, b = lora[f"base_model.model.{name}.lora_A.weight"], lora[f"base_model.model.{name}.lora_B.weight"]
    before, after = load_file(base / "model.safetensors"), load_file(tmp_path / "out" / "model.safetensors")
    # W + alpha / r * B A, with alpha 8 and r 4
    assert torch.allclose(after[f"{name}.weight"], before[f"{name}.weight"] + 2 * b @ a, atol=1e-6)
    assert torch.equal(after["model.layers.0.mlp.up_proj.weight"], before["model.layers.0.mlp.up_proj.weight"])


def test_half_precision_is_written_and_checked_with_its_own_tolerance(base: Path, tmp_path: Path):
    result = merge(base, adapter_for(base, tmp_path / "adapter"), tmp_path / "out", "bf16")
    from safetensors.torch import load_file

    assert load_file(tmp_path / "out" / "model.safetensors")["model.norm.weight"].dtype == torch.bfloat16
    assert result.difference < 1e-4 < result.difference_from_disk


def test_a_tokenizer_beside_the_adapter_wins(base: Path, tmp_path: Path):
    adapter = adapter_for(base, tmp_path / "adapter")
    text = (base / "tokenizer.json").read_text() + " "
    (adapter / "tokenizer.json").write_text(text)
    assert merge(base, adapter, tmp_path / "out").tokenizer_from == adapter
    assert (tmp_path / "out" / "tokenizer.json").read_text() == text


def test_an_adapter_of_another_base_names_the_shapes(base: Path, tmp_path: Path):
    wider = tmp_path / "wider"
    build_tiny_model(wider, task="chain", layers=2, hidden=96, heads=3, context=64)
    adapter = adapter_for(wider, tmp_path / "adapter")
    with pytest.raises(ConfigError) as caught:
        merge(base, adapter, tmp_path / "out")
    said = str(caught.value)
    assert "model.layers.0.self_attn.q_proj.weight (96, 96) against (64, 64)" in said
    assert "2 of its 4 parameters are not in" in said and "model.layers.1.self_attn.q_proj.weight" in said
    assert str(wider) in said
    assert not (tmp_path / "out").exists()


def test_wrong_folders_are_all_named(base: Path, tmp_path: Path):
    (tmp_path / "out").mkdir()
    with pytest.raises(ConfigError) as caught:
        merge(tmp_path / "none", base, tmp_path / "out")
    said = str(caught.value)
    assert len(caught.value.problems) == 3
    assert "no such folder" in said and "a whole model, not an adapter" in said and "exists already" in said


def test_a_merge_that_changes_the_logits_leaves_nothing(base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    adapter = adapter_for(base, tmp_path / "adapter")
    honest = merging.logits
    calls = []

    def wrong_from_disk(model: torch.nn.Module, inputs: torch.Tensor) -> torch.Tensor:
        calls.append(model)
        return honest(model, inputs) + (1.0 if len(calls) == 4 else 0.0)  # base, base + adapter, merged, read back

    monkeypatch.setattr(merging, "logits", wrong_from_disk)
    with pytest.raises(MergeError, match="writing it as float32 changed the logits by 1"):
        merge(base, adapter, tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["adapter"]


def test_an_untrained_adapter_is_remarked_on(base: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    from openrlhf_ext.cli import main

    adapter = adapter_for(base, tmp_path / "adapter", trained=False)
    words = ["merge", "--base", str(base), "--adapter", str(adapter), "--out", str(tmp_path / "out")]
    assert main(words) == 0
    printed = capsys.readouterr()
    assert "2 modules merged" in printed.out and "changes nothing" in printed.err
    assert main(words) == 2
    assert "exists already" in capsys.readouterr().err


def test_the_limit_follows_the_largest_logit_and_nan_is_wrong():
    before = torch.tensor([10.0, -20.0])
    assert largest_difference(before, before + 0.001, "x", 1e-4) == pytest.approx(0.001, rel=1e-3)
    with pytest.raises(MergeError, match=r"more than 0\.002"):
        largest_difference(before, before + 0.01, "x", 1e-4)
    with pytest.raises(MergeError):
        largest_difference(before, before * torch.nan, "x", 1e-4)
