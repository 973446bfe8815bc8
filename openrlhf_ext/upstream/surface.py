"""Every OpenRLHF name that this package relies on, with its signature; tests/contract compares it with the source.

``SURFACE``: module -> name -> what it must be. The parameters with their defaults for a function or method, ``class``
for a class, ``import`` for a name that the module imports and we use or replace there. Adding an import of
OpenRLHF anywhere in the package means adding a line here; removing the last use means removing it.
"""

from __future__ import annotations

import ast
import hashlib
from pathlib import Path

SURFACE: dict[str, dict[str, str]] = {
    "openrlhf.cli.train_dpo": {
        "train": "args",
        "Actor": "import",
        "DPOTrainer": "import",
        "RewardDataset": "import",
        "blending_datasets": "import",
    },
    "openrlhf.cli.train_ppo_ray": {
        "train": "args",
    },
    "openrlhf.cli.train_rm": {
        "train": "args",
        "RewardModelTrainer": "import",
        "RewardDataset": "import",
        "blending_datasets": "import",
    },
    "openrlhf.cli.train_sft": {
        "train": "args",
        "SFTTrainer": "import",
        "SFTDataset": "import",
    },
    "openrlhf.datasets": {
        "PromptDataset": "import",
    },
    "openrlhf.datasets.prompts_dataset": {
        "PromptDataset": "class",
        "PromptDataset.__init__": "self, dataset, tokenizer, strategy, input_template=None",
        "PromptDataset.__getitem__": "self, idx",
    },
    "openrlhf.datasets.utils": {
        "blending_datasets": "datasets, probabilities=None, strategy=None, seed=42, max_count=100000000.0, stopping_strategy='all_exhausted', dataset_split='train'",
    },
    "openrlhf.models": {
        "Actor": "import",
        "get_llm_for_sequence_regression": "import",
    },
    "openrlhf.models.loss": {
        "aggregate_loss": "loss, loss_mask, token_level_loss=True, dp_size=1, batch_num_tokens=None, global_batch_size=None",
    },
    "openrlhf.models.ring_attn_utils": {
        "torch": "import",
        "index_first_axis": "import",
        "pad_input": "import",
        "rearrange": "import",
        "unpad_input": "import",
        "all_gather": "import",
    },
    "openrlhf.models.utils": {
        "compute_entropy": "logits",
        "compute_reward": "r, kl_coef, kl, action_mask=None, reward_clip_range=None",
    },
    "openrlhf.trainer.ppo_trainer": {
        "BasePPOTrainer": "class",
        "BasePPOTrainer.__init__": "self, strategy, actor_model_group, critic_model_group, reward_model_group, reference_model_group, vllm_engines, tokenizer",
        "BasePPOTrainer.train_step": "self, rollout_samples, global_step",
        "BasePPOTrainer.ppo_train": "self, global_steps",
        "BasePPOTrainer.broadcast_to_vllm": "self",
    },
    "openrlhf.trainer.ppo_utils.experience": {
        "Experience": "class",
        "split_experience_batch": "experience",
        "make_experience_batch": "items, packing_samples=False",
    },
    "openrlhf.trainer.ppo_utils.experience_maker": {
        "RemoteExperienceMaker": "class",
        "RemoteExperienceMaker.__init__": "self, actor_model_group, critic_model_group, reward_model_group, initial_model_group, kl_controller, strategy, tokenizer, **kwargs",
        "RemoteExperienceMaker.make_experience_batch": "self, rollout_samples",
        "RemoteExperienceMaker.make_experience": "self, samples_list",
        "RemoteExperienceMaker._dispatch_forward": "self, group, sync_condition, **kwargs",
        "RemoteExperienceMaker._flatten_results": "self, refs, duplicate_factor",
        "RemoteExperienceMaker.compute_advantages_and_returns": "self, experiences",
        "RemoteExperienceMaker.get_advantages_and_returns": "self, values, rewards, action_mask, gamma, lambd",
        "RemoteExperienceMaker.get_cumulative_returns": "self, rewards, action_mask, gamma",
    },
    "openrlhf.trainer.ppo_utils.length_penalty": {
        "apply_length_penalties": "experiences, args",
    },
    "openrlhf.trainer.ppo_utils.replay_buffer": {
        "torch": "import",
        "NaiveReplayBuffer": "class",
    },
    "openrlhf.trainer.ppo_utils.samples_generator": {
        "SamplingParams": "import",
        "SamplesGenerator": "class",
        "SamplesGenerator.__init__": "self, strategy, prompts_dataloader, eval_dataloader, tokenizer, vllm_engines",
        "SamplesGenerator._process_response_into_experience": "self, response, **generate_kwargs",
    },
    "openrlhf.trainer.ray.launcher": {
        "torch": "import",
        "BaseDistributedActor": "class",
        "BaseDistributedActor.__init__": "self, world_size, rank, master_addr, master_port",
        "BaseDistributedActor.get_master_addr_port": "self",
        "BaseModelActor": "class",
        "BaseModelActor._setup_distributed": "self, strategy",
        "BaseModelActor.empty_cache": "self",
        "ReferenceModelActor": "class",
        "ReferenceModelActor.init_model_from_pretrained": "self, strategy, pretrain",
        "RewardModelActor": "class",
        "RewardModelActor.init_model_from_pretrained": "self, strategy, pretrain",
        "RewardModelActor.forward": "self, sequences, attention_mask=None, packed_seq_lens=None, pad_sequence=False",
        "RayActorGroup": "class",
        "RayActorGroup.__init__": "self, num_nodes, num_gpus_per_node, ray_actor_type, pg=None, num_gpus_per_actor=1, duplicate_actors=1, resources=None, num_resources_per_node=None",
        "RayActorGroup._initiate_actors": "self, pg, num_gpus_per_actor",
        "RayActorGroup.async_init_model_from_pretrained": "self, *args, **kwargs",
        "RayActorGroup.async_run_method": "self, method_name, *args, **kwargs",
        "RayActorGroup.async_run_method_batch": "self, method_name, **kwargs",
    },
    "openrlhf.trainer.ray.ppo_actor": {
        "torch": "import",
        "torch_dist_barrier_and_cuda_sync": "import",
        "stateless_init_process_group": "import",
        "aggregate_loss": "import",
        "ActorPPOTrainer": "class",
        "ActorPPOTrainer._init_vllm_sync_group": "self, backend",
        "ActorPPOTrainer.broadcast_to_vllm": "self",
        "PolicyModelActor": "class",
        "PolicyModelActor.init_model_from_pretrained": "self, strategy, pretrain, max_steps=None, vllm_engines=None",
        "PolicyModelActor.broadcast_to_vllm": "self",
        "PolicyModelActor.fit": "self, kl_ctl=0",
    },
    "openrlhf.trainer.ray.ppo_critic": {
        "torch": "import",
        "CriticModelActor": "class",
        "CriticModelActor.init_model_from_pretrained": "self, strategy, pretrain, max_steps",
        "get_llm_for_sequence_regression": "import",
    },
    "openrlhf.trainer.ray.vllm_engine": {
        "vllm": "import",
        "TokensPrompt": "import",
        "random_uuid": "import",
        "get_bundle_indices": "import",
        "RolloutRayActor": "class",
        "RolloutRayActor.__init__": "self, *args, bundle_indices=None, agent_func_path=None, remote_rm_url=None, mm_pad_token_ids=None, **kwargs",
        "RolloutRayActor.init_process_group": "self, master_address, master_port, rank_offset, world_size, group_name, backend, use_ray",
        "RolloutRayActor.update_weight": "self, name, dtype, shape, empty_cache=False",
        "RolloutRayActor.generate": "self, prompt_token_ids, sampling_params, multi_modal_data=None",
        "RolloutRayActor.generate_responses": "self, prompt, label, sampling_params, max_length, hf_tokenizer, num_samples=1, images=None",
        "RolloutRayActor.reset_prefix_cache": "self",
        "create_vllm_engines": "num_engines, tensor_parallel_size, pretrain, seed, full_determinism, enable_prefix_caching, enforce_eager, max_model_len, shared_pg=None, gpu_memory_utilization=None, vllm_enable_sleep=False, logprobs_mode=None, agent_func_path=None, remote_rm_url=None, max_images_per_prompt=0",
    },
    "openrlhf.trainer.ray.vllm_worker_wrap": {
        "WorkerWrap": "class",
        "WorkerWrap.init_process_group": "self, master_address, master_port, rank_offset, world_size, group_name, backend='nccl', use_ray=False",
        "WorkerWrap.update_weight": "self, name, dtype, shape, empty_cache=False",
        "WorkerWrap.update_weight_cuda_ipc": "self, name, dtype, shape, ipc_handles=None, empty_cache=False",
    },
    "openrlhf.trainer.dpo_trainer": {
        "DPOTrainer": "class",
        "DPOTrainer.__init__": "self, model, ref_model, strategy, tokenizer, optim, train_dataloader, eval_dataloader, scheduler, max_norm=0.5, beta=0.01, max_epochs=2, save_hf_ckpt=False, disable_ds_ckpt=False",
        "DPOTrainer.fit": "self, args, consumed_samples=0, num_update_steps_per_epoch=None",
        "DPOTrainer.save_logs_and_checkpoints": "self, args, global_step, step_bar, logs_dict=None, client_states=None",
        "DPOTrainer.evaluate": "self, eval_dataloader, steps=0",
        "DPOTrainer.concatenated_forward": "self, model, chosen_ids, c_mask, reject_ids, r_mask, prompt_id_lens",
        "DPOTrainer._get_batch_logps": "self, per_token_logps, attention_mask, prompt_id_lens",
    },
    "openrlhf.trainer.rm_trainer": {
        "RewardModelTrainer": "class",
        "RewardModelTrainer.fit": "self, args, consumed_samples=0, num_update_steps_per_epoch=None",
        "RewardModelTrainer.save_logs_and_checkpoints": "self, args, global_step, step_bar, logs_dict=None, client_states=None",
        "RewardModelTrainer.evaluate": "self, eval_dataloader, steps=0",
    },
    "openrlhf.trainer.sft_trainer": {
        "SFTTrainer": "class",
        "SFTTrainer.__init__": "self, model, strategy, optim, train_dataloader, eval_dataloader, scheduler, max_norm=1, pretrain_mode=False, batch_size=1, max_epochs=2, tokenizer=None, save_hf_ckpt=False, disable_ds_ckpt=False",
        "SFTTrainer.fit": "self, args, consumed_samples=0, num_update_steps_per_epoch=None",
        "SFTTrainer.save_logs_and_checkpoints": "self, args, global_step, step_bar, logs_dict=None, client_states=None",
        "SFTTrainer.evaluate": "self, eval_dataloader, steps=0",
    },
    "openrlhf.utils": {
        "get_strategy": "import",
        "get_tokenizer": "import",
    },
    "openrlhf.utils.agent": {
        "AgentExecutorBase": "class",
        "AgentInstanceBase": "class",
        "AgentInstanceBase.__init__": "self, *args, **kwargs",
        "AgentInstanceBase.reset": "self, states, **kwargs",
        "AgentInstanceBase.step": "self, state_dict, **kwargs",
        "MultiTurnAgentExecutor": "class",
        "MultiTurnAgentExecutor.__init__": "self, agent_instance_cls",
        "MultiTurnAgentExecutor.execute": "self, prompt, label, sampling_params, max_length, hf_tokenizer, llm_engine, images=None",
        "SingleTurnAgentExecutor": "class",
        "SingleTurnAgentExecutor.__init__": "self, remote_rm_url=None",
        "SingleTurnAgentExecutor.execute": "self, prompt, label, sampling_params, max_length, hf_tokenizer, llm_engine, images=None",
    },
    "openrlhf.utils.config": {
        "hierarchize": "args",
    },
    "openrlhf.utils.deepspeed.deepspeed": {
        "torch": "import",
        "init_device_mesh": "import",
        "torch_dist_barrier_and_cuda_sync": "import",
        "DeepspeedStrategy": "class",
        "DeepspeedStrategy.setup_distributed": "self, timeout=timedelta(minutes=60)",
        "DeepspeedStrategy.get_ds_train_config": "self, optim_dict=None, *, max_norm=None",
        "DeepspeedStrategy.moving_average": "self, model, model_ema, beta=0.992, device='cpu'",
        "DeepspeedStrategy.backward": "self, loss, model, _optimizer, **kwargs",
        "DeepspeedStrategy.optimizer_step": "self, _optimizer, model, _scheduler, name='model', **kwargs",
        "DeepspeedStrategy.get_grad_norm": "self, model",
        "DeepspeedStrategy.load_ckpt": "self, model, load_dir, tag=None, load_module_strict=True, load_optimizer_states=True, load_lr_scheduler_states=True, load_module_only=False",
        "DeepspeedStrategy.save_model": "self, model, tokenizer, output_dir, **kwargs",
        "DeepspeedStrategy.all_reduce": "self, data, op='mean'",
    },
    "openrlhf.utils.deepspeed.deepspeed_utils": {
        "torch": "import",
    },
    "openrlhf.utils.distributed_util": {
        "torch_dist_barrier_and_cuda_sync": "",
        "stateless_init_process_group": "master_address, master_port, rank, world_size, device",
    },
    "openrlhf.utils.logging_utils": {
        "TensorboardLogger": "class",
        "TensorboardLogger.__init__": "self, args",
        "TensorboardLogger.log_train": "self, global_step, logs_dict",
        "WandbLogger": "class",
        "WandbLogger.__init__": "self, args",
        "WandbLogger.log_train": "self, global_step, logs_dict",
    },
    "openrlhf.utils.utils": {
        "convert_to_torch_dtype": "param_dtype",
        "get_strategy": "args",
        "get_tokenizer": "pretrain, model, padding_side='left', strategy=None, use_fast=True",
        "zero_pad_sequences": "sequences, side='left', value=0, stack=False",
    },
}

TRAIN_BODIES: dict[str, str] = {
    "train_ppo_ray": "c029c8fd6c5d4493",
    "train_sft": "51e275ac2aaadcdd",
    "train_rm": "4472a34e569679f5",
    "train_dpo": "a9335e29b51af14a",
}
"""``openrlhf.cli`` module -> fingerprint of its ``train``. launch.py stands for the first and runs the others as they
are: when one changes, read it again before writing the new value here."""


def described(source: ast.Module, name: str) -> str | None:
    """What ``name`` (dotted for a method) is in a module's source, in the words of ``SURFACE``; None if it is missing."""
    owner, _, leaf = name.rpartition(".")
    body = source.body
    if owner:
        body = next((n.body for n in source.body if isinstance(n, ast.ClassDef) and n.name == owner), [])
    for node in body:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.name == leaf:
            for parameter in ast.walk(node.args):
                if isinstance(parameter, ast.arg):
                    parameter.annotation = None
            return ast.unparse(node.args)
        if isinstance(node, ast.ClassDef) and node.name == leaf:
            return "class"
        if isinstance(node, (ast.Import, ast.ImportFrom)) and leaf in [a.asname or a.name for a in node.names]:
            return "import"
    return None


def fingerprint(source: ast.Module, function: str) -> str:
    """Hash of a function's code; comments, layout and docstring do not count."""
    node = next(n for n in source.body if isinstance(n, ast.FunctionDef) and n.name == function)
    if ast.get_docstring(node) is not None:
        node.body = node.body[1:]
    return hashlib.sha256(ast.dump(node).encode()).hexdigest()[:16]


def imports_of_openrlhf(package: Path) -> dict[tuple[str, str], Path]:
    """(module, name) of every ``openrlhf`` import below ``package`` -> a file that has it; name is "" for a module."""
    found: dict[tuple[str, str], Path] = {}
    for file in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "openrlhf":
                found.update({(str(node.module), alias.name): file for alias in node.names})
            elif isinstance(node, ast.Import):
                found.update({(a.name, ""): file for a in node.names if a.name.split(".")[0] == "openrlhf"})
    return found
