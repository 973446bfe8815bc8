"""OpenRLHF's SFT program on two ranks of real Ray workers, with a trainer of ours substituted; and its failure."""

import json
import sys

import pytest
import ray

from openrlhf_ext.upstream import cli
from openrlhf_ext.upstream.actors import ProgramActor, ProgramError, gather

pytestmark = [pytest.mark.system, pytest.mark.timeout(600)]

NOTE = "tests_note_of_the_substituted_trainer"


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A Llama shape of a few thousand parameters with its tokenizer, 16 rows, and a module with our trainer."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("program")
    tokens = ["<pad>", "</s>", *"0123456789+= "]
    inner = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, unk_token="<pad>"))
    inner.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=inner, pad_token="<pad>", eos_token="</s>", unk_token="<pad>")
    tokenizer.save_pretrained(folder / "model")
    sizes = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 1}
    config = LlamaConfig(
        vocab_size=len(tokens), num_key_value_heads=1, head_dim=32, pad_token_id=0, eos_token_id=1, **sizes
    )
    LlamaForCausalLM(config).save_pretrained(folder / "model")
    rows = [{"input": f"{a}+{a}=", "output": str(2 * a)} for a in range(16)]
    (folder / "train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (folder / f"{NOTE}.py").write_text(
        "import json, os\n"
        "from openrlhf.trainer.sft_trainer import SFTTrainer\n"
        "class Noting(SFTTrainer):\n"
        "    def fit(self, args, *more):\n"
        "        if args.fail_on == self.strategy.get_rank():\n"
        "            raise FileNotFoundError('the rows went missing')\n"
        "        super().fit(args, *more)\n"
        "        sums = [float(p.double().sum()) for p in self.model.model.module.parameters()]\n"
        '        name = f\'rank{os.environ["RANK"]}_of{os.environ["WORLD_SIZE"]}.json\'\n'
        "        open(os.path.join(args.ckpt.output_dir, name), 'w').write(json.dumps(sums))\n"
    )
    return folder


@pytest.fixture(scope="module")
def group(folder):
    """Start both ranks anew for each run."""
    environment = {"TORCHDYNAMO_DISABLE": "1", "OMP_NUM_THREADS": "1", "PYTHONPATH": ":".join([str(folder), *sys.path])}
    ray.init(
        address="local",
        num_cpus=2,
        num_gpus=0,
        include_dashboard=False,
        log_to_driver=False,
        object_store_memory=80 * 2**20,
        runtime_env={"env_vars": environment, "worker_process_setup_hook": "openrlhf_ext.upstream.install"},
    )

    def run(args) -> list[dict]:
        actor_class = ray.remote(ProgramActor).options(num_cpus=1)
        first = actor_class.remote(2, 0, None, None)
        second = actor_class.remote(2, 1, *ray.get(first.get_master_addr_port.remote(), timeout=240))
        try:
            substitutions = {"SFTTrainer": f"{NOTE}:Noting"}
            return gather([rank.run.remote("sft", args, substitutions) for rank in (first, second)], timeout_s=240)
        finally:
            for rank in (first, second):
                ray.kill(rank)

    yield run
    ray.shutdown()


def arguments(folder):
    args = cli.parse(
        "sft",
        [
            *("--model.model_name_or_path", str(folder / "model"), "--data.dataset", str(folder / "train.jsonl")),
            *("--data.input_key", "input", "--data.output_key", "output", "--data.input_template", "{}"),
            *("--data.max_len", "32", "--train.batch_size", "8", "--train.micro_batch_size", "2"),
            *("--train.max_epochs", "1", "--adam.lr", "1e-2", "--ds.param_dtype", "float32", "--ds.zero_stage", "2"),
            *("--ds.attn_implementation", "sdpa", "--ckpt.output_dir", str(folder / "out"), "--ckpt.disable_ds"),
        ],
    )
    args.fail_on = None
    return args


def test_two_ranks_train_one_model_with_our_trainer(folder, group):
    statuses = group(arguments(folder))
    assert [(status["program"], status["rank"]) for status in statuses] == [("sft", 0), ("sft", 1)]
    first, second = (json.loads((folder / "out" / f"rank{rank}_of2.json").read_text()) for rank in (0, 1))
    assert first == second and len(first) > 5
    assert (folder / "out" / "model.safetensors").exists()


def test_a_failing_rank_is_heard_at_once_with_its_own_traceback(folder, group):
    args = arguments(folder)
    args.fail_on = 1
    with pytest.raises(ProgramError, match="sft failed on rank 1: FileNotFoundError: the rows went missing") as caught:
        group(args)
    assert f"{NOTE}.py" in str(caught.value)
