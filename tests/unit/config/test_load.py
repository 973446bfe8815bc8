"""Preset < YAML < command line; names and types are checked; OpenRLHF's arguments hold what was asked."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from openrlhf_ext.config.knobs import AVAILABLE_METHODS, PROGRAM_OF_METHOD
from openrlhf_ext.config.load import ConfigError, load


def resolve(method="grpo", path=None, device="cpu", **settings):
    pairs = [(key.replace("__", "."), text) for key, text in settings.items()]
    return load(method, path, pairs, local_device=device)


def problems_of(call) -> dict[str, str]:
    with pytest.raises(ConfigError) as error:
        call()
    return {problem.where: f"{problem.what} / {problem.fix}" for problem in error.value.problems}


def test_command_line_over_file_over_preset_over_method_over_openrlhf(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("grpo:\n  preset: report\nrollout:\n  temperature: 0.8\n  top_p: 0.95\n")
    resolved = resolve(path=str(path), rollout__top_p="1")
    assert resolved.get("rollout.top_p") == 1.0  # command line; file 0.95, preset 0.9
    assert resolved.get("rollout.temperature") == 0.8  # file; preset 0.7
    assert resolved.get("actor.adam.lr") == 2e-6  # preset
    assert resolved.get("algo.advantage.estimator") == "group_norm"  # method; OpenRLHF gae
    assert resolved.get("actor.adam.eps") == 1e-8  # OpenRLHF
    assert resolved.origins["rollout.top_p"] == "command line"
    assert resolved.origins["rollout.temperature"] == "run.yaml line 4"
    assert resolved.origins["actor.adam.lr"] == "preset report"
    assert "actor.adam.eps" not in resolved.origins


def test_a_switch_that_is_on_in_the_file_can_be_turned_off(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("train.colocate_all: true\n")
    assert resolve(path=str(path)).upstream_args().train.colocate_all is True
    args = resolve(path=str(path), train__colocate_all="false").upstream_args()
    assert args.train.colocate_all is False


def test_openrlhf_arguments_hold_the_values():
    args = resolve(
        actor__adam__lr="1e-6",
        actor__adam__betas="0.9,0.99",
        rollout__batch_size="12",
        rollout__n_samples_per_prompt="8",
        run__seed="7",
        reward__clip_range="-5,5",
        eval__steps="-1",
        actor__muon__nesterov="false",
    ).upstream_args()
    assert args.actor.adam.lr == 1e-6
    assert list(args.actor.adam.betas) == [0.9, 0.99]
    assert args.rollout.vllm_generate_batch_size == 12
    assert args.train.seed == 7
    assert list(args.reward.clip_range) == [-5.0, 5.0]
    assert args.eval.steps == -1
    assert args.actor.muon.nesterov is False
    assert args.critic.model_name_or_path is None


@pytest.mark.parametrize(
    ("device", "wanted", "precision"),
    [("cpu", "auto", "float32"), ("cpu", "bf16", "bf16"), ("cuda", "auto", "bf16"), ("cuda", "float32", "float32")],
)
def test_precision_reaches_openrlhf(device, wanted, precision):
    resolved = resolve(device=device, run__precision=wanted)
    assert resolved.precision == precision
    assert resolved.upstream_args().ds.param_dtype == precision


def test_device_decides_defaults_in_one_place():
    cpu, cuda = resolve(device="cpu"), resolve(device="cuda")
    assert (cpu.get("vllm.sync_backend"), cuda.get("vllm.sync_backend")) == ("gloo", "nccl")
    assert (cpu.get("ds.attn_implementation"), cuda.get("ds.attn_implementation")) == ("sdpa", "flash_attention_2")
    assert (cpu.get("vllm.enforce_eager"), cuda.get("vllm.enforce_eager")) == (True, False)
    assert resolve(device="cuda", run__precision="float32").get("ds.attn_implementation") == "sdpa"
    assert resolve(device="cpu", run__device="cuda").device == "cuda"


def test_paths_follow_the_run_directory(tmp_path):
    resolved = resolve(run__dir=str(tmp_path / "r"))
    args = resolved.upstream_args()
    assert args.ckpt.output_dir == str(tmp_path / "r" / "model")
    assert args.ckpt.path == str(tmp_path / "r" / "checkpoints")
    assert args.logger.tensorboard_dir == str(tmp_path / "r" / "tensorboard")
    assert resolve(run__tensorboard="false").upstream_args().logger.tensorboard_dir is None


def test_a_model_folder_reaches_workers_as_an_absolute_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("m").mkdir()
    assert resolve(actor__model_name_or_path="m").upstream_args().actor.model_name_or_path == str(tmp_path / "m")
    assert resolve(actor__model_name_or_path="org/name").upstream_args().actor.model_name_or_path == "org/name"


def test_derived_keys_may_only_be_set_to_what_they_are():
    found = problems_of(lambda: resolve(ckpt__path="elsewhere", train__seed="1", run__seed="2"))
    assert set(found) == {"ckpt.path (command line)", "train.seed (command line)"}
    assert "<run.dir>/checkpoints" in found["ckpt.path (command line)"]
    assert resolve(train__seed="2", run__seed="2").run.seed == 2


def test_all_problems_of_names_and_types_come_together(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("actor:\n  adam:\n    l: 1\nrollout.temperature: hot\nalgo.kl.estimator: k9\n")
    found = problems_of(lambda: resolve(path=str(path), lr="3", grpo__preset="repor"))
    assert set(found) == {
        "actor.adam.l (run.yaml line 3)",
        "rollout.temperature (run.yaml line 4)",
        "algo.kl.estimator (run.yaml line 5)",
        "lr (command line)",
        "grpo.preset (command line)",
    }
    assert "actor.adam.lr" in found["actor.adam.l (run.yaml line 3)"]
    assert "k1, k2, k3" in found["algo.kl.estimator (run.yaml line 5)"]


def test_a_partial_configuration_comes_with_the_problems():
    with pytest.raises(ConfigError) as error:
        resolve(rollout__temperature="hot", rollout__batch_size="3")
    assert error.value.partial.get("rollout.batch_size") == 3
    assert error.value.partial.get("rollout.temperature") == 1.0


@pytest.mark.parametrize("method", sorted(set(PROGRAM_OF_METHOD) - set(AVAILABLE_METHODS)))
def test_methods_to_come_say_so_and_what_works(method):
    (text,) = problems_of(lambda: resolve(method)).values()
    assert "not available yet" in text
    assert "sft, rm" in text


def test_a_misspelt_method_is_suggested():
    assert "grpo" in next(iter(problems_of(lambda: resolve("gpro")).values()))


def test_keys_of_another_method_are_unknown():
    assert "grpo.max_steps (command line)" in problems_of(lambda: resolve("sft", grpo__max_steps="3"))
    assert "actor.adam.lr (command line)" in problems_of(lambda: resolve("sft", actor__adam__lr="3"))


def test_the_task_section_belongs_to_the_task():
    resolved = resolve(task__name="game24", task__weights="0.5,0.3,0.2", task__length__t="5", task__on_error="fail")
    assert resolved.task == {"name": "game24", "weights": [0.5, 0.3, 0.2], "length.t": 5}
    assert resolved.task_options.on_error == "fail"
    assert resolve().task == {}


def test_the_reference_is_as_large_as_the_policy_unless_told():
    assert resolve(actor__num_gpus_per_node="4").get("ref.num_gpus_per_node") == 4
    assert resolve(actor__num_gpus_per_node="4", ref__num_gpus_per_node="1").get("ref.num_gpus_per_node") == 1


def test_sft_does_not_wrap_inputs_in_a_template_of_its_own():
    assert not resolve("sft").upstream_args().data.input_template  # OpenRLHF's default: "User: {}\nAssistant: "
    template = "Q: {}\nA: "
    assert resolve("sft", data__input_template=template).upstream_args().data.input_template == template


def test_the_dump_gives_the_same_run_again(tmp_path):
    first = resolve(
        grpo__preset="head",
        task__name="game24",
        task__length__t="5",
        run__dir=str(tmp_path / "r"),
        actor__adam__lr="3e-7",
        logger__wandb__key="secret",
    )
    path = tmp_path / "config.yaml"
    path.write_text(first.dump())
    again = resolve(path=str(path))
    assert again.upstream_args().actor == first.upstream_args().actor
    assert again.grpo == first.grpo
    assert again.task == first.task
    assert again.run == first.run.__class__(**{**vars(first.run), "device": "cpu", "precision": "float32"})
    changed = {k for k, v in first.values.items() if again.values.get(k) != v}
    assert changed == {"run", "logger"}  # device and precision are decided; the key is not written
    assert "secret" not in first.dump()


def test_the_dump_lists_every_key_but_the_derived_ones():
    dumped = yaml.safe_load(resolve(run__dir="r").dump())
    assert dumped["rollout"]["temperature"] == 1.0
    assert dumped["grpo"]["max_momentum"] == 0.0
    assert "path" not in dumped["ckpt"]
    assert "remote_url" not in dumped["reward"]


def test_a_key_for_wandb_switches_it_on():
    assert resolve().run.wandb is False
    assert resolve(logger__wandb__key="k").run.wandb is True
