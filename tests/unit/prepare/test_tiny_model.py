import json
import random
import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.prepare.byte_tokenizer import byte_level_tokenizer
from openrlhf_ext.prepare.tiny_model import build_tiny_model
from openrlhf_ext.prepare.word_tokenizer import word_level_tokenizer
from openrlhf_ext.tasks.chain import PIECES as CHAIN_PIECES
from openrlhf_ext.tasks.chain import chain_examples
from openrlhf_ext.tasks.game24 import traces
from openrlhf_ext.tasks.game24.puzzles import solvable_puzzles
from openrlhf_ext.tasks.game24.tokenizer import PIECES

PUZZLES = solvable_puzzles()


@pytest.fixture(scope="module")
def tokenizer():
    return word_level_tokenizer(PIECES)


@pytest.fixture(scope="module")
def model_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    build_tiny_model(folder, layers=1, hidden=64, heads=2)
    return folder


def ids_of(tokenizer, text: str) -> list[int]:
    return tokenizer(text, add_special_tokens=False)["input_ids"]


def test_pieces_by_hand(tokenizer):
    text = "12 7\n(12) - (7) = -5, left: -5, 2\nroll back, left: 12 7\nreach 24! expression: ((12 - 7) + 1024)"
    pieces = ["12", " ", "7", "\n", "(", "12", ") - (", "7", ") = -", "5", ", left: ", "-", "5", ", ", "2", "\n"]
    pieces += [
        "roll back, left: ",
        "12",
        " ",
        "7",
        "\n",
        "reach 24! expression: ",
        "((",
        "12",
        " - ",
        "7",
        ") + ",
        "102",
        "4",
        ")",
    ]
    assert [tokenizer.decode([token]) for token in ids_of(tokenizer, text)] == pieces


@given(st.sampled_from(PUZZLES), st.integers(6, 17), st.integers(0, 10**6), st.sampled_from(traces.FORMATS))
def test_traces_survive_and_prompts_end_at_a_token_border(tokenizer, puzzle, nodes, seed, form):
    rng = random.Random(seed)
    tree = traces.search(puzzle, rng)
    prompt = traces.input_text(tree) + "\n"
    output = traces.rewrite(traces.render(tree, traces.prune(tree, nodes, rng)), form)
    ids = ids_of(tokenizer, prompt + output)
    assert tokenizer.decode(ids) == prompt + output
    assert tokenizer.unk_token_id not in ids
    assert ids == ids_of(tokenizer, prompt) + ids_of(tokenizer, output)


@given(st.text(alphabet=string.printable, max_size=60))
def test_any_ascii_text_survives(tokenizer, text):
    assert tokenizer.decode(ids_of(tokenizer, text)) == text


def test_chain_texts_survive_with_single_digits():
    tokenizer = word_level_tokenizer(CHAIN_PIECES, atomic_digits=1)
    for example in chain_examples(50, steps=4, modulus=100, max_operand=99, operations="+-", rng=random.Random(0)):
        text = example["question"] + "\n" + example["answer"]
        ids = ids_of(tokenizer, text)
        assert tokenizer.decode(ids) == text
        assert max(map(len, (tokenizer.decode([token]) for token in ids if tokenizer.decode([token]).isdigit()))) == 1


def test_foreign_text_becomes_unknown_instead_of_vanishing(tokenizer):
    assert ids_of(tokenizer, "é") == [tokenizer.unk_token_id]


def test_all_files_of_the_model_have_the_same_permissions(model_dir, tmp_path):
    (tmp_path / "new").write_text("")
    modes = {path.name: path.stat().st_mode & 0o777 for path in model_dir.iterdir()}
    assert "model.safetensors" in modes
    assert set(modes.values()) == {(tmp_path / "new").stat().st_mode & 0o777}


def test_saved_model_loads_with_its_tokenizer(model_dir, tokenizer):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    loaded = AutoTokenizer.from_pretrained(model_dir)
    text = "5 13 7 9\n(13) - (7) = 6, left: (13 - 7) = 6, 5, 9"
    assert ids_of(loaded, text) == ids_of(tokenizer, text) != []
    assert loaded.decode(ids_of(loaded, text)) == text
    assert (loaded.eos_token, loaded.pad_token) == ("<eos>", "<pad>")
    assert loaded.eos_token_id != loaded.pad_token_id
    model = AutoModelForCausalLM.from_pretrained(model_dir)
    assert model.config.vocab_size == len(loaded)
    assert model.config.eos_token_id == model.generation_config.eos_token_id == loaded.eos_token_id
    assert str(model.dtype) == "torch.float32"


def test_weights_follow_the_seed(model_dir, tmp_path):
    for name, seed in [("same", 42), ("other", 7)]:
        build_tiny_model(tmp_path / name, layers=1, hidden=64, heads=2, seed=seed)
    weights = [
        (folder / "model.safetensors").read_bytes() for folder in (model_dir, tmp_path / "same", tmp_path / "other")
    ]
    assert weights[0] == weights[1] != weights[2]


def test_untied_embeddings_are_saved_apart(tmp_path):
    tied = build_tiny_model(tmp_path / "tied", layers=1, hidden=64, heads=2)
    untied = build_tiny_model(tmp_path / "untied", layers=1, hidden=64, heads=2, tie_embeddings=False)
    vocabulary = json.loads((tmp_path / "tied" / "config.json").read_text())["vocab_size"]
    assert untied - tied == 64 * vocabulary


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ({"hidden": 96, "heads": 6}, "head size 16"),
        ({"hidden": 100, "heads": 3}, "multiple of heads"),
        ({"hidden": 120, "heads": 3}, "head size 40"),
        ({"hidden": 128, "heads": 4, "kv_heads": 3}, "kv_heads=3"),
        ({"layers": 0}, "layers=0"),
        ({"task": "math"}, "tiny models exist for"),
        ({"atomic_digits": 4}, "atomic_digits=4"),
    ],
)
def test_bad_shapes(tmp_path, shape, message):
    with pytest.raises(ValueError, match=message):
        build_tiny_model(tmp_path, **shape)


def test_a_model_is_not_replaced_by_accident(model_dir):
    with pytest.raises(ValueError, match="already holds a model"):
        build_tiny_model(model_dir, layers=1, hidden=64, heads=2)


@pytest.fixture(scope="module")
def byte_tokenizer():
    return byte_level_tokenizer()


@given(st.text(max_size=40))
def test_any_text_survives_as_bytes(byte_tokenizer, text):
    ids = ids_of(byte_tokenizer, text)
    assert byte_tokenizer.decode(ids) == text
    assert len(ids) == len(text.encode())
    assert len(byte_tokenizer) == 258


def test_a_model_for_any_text(tmp_path):
    """It loads as it was saved, ends as OpenRLHF writes ends, and takes no number option."""
    from transformers import AutoTokenizer

    build_tiny_model(tmp_path / "m", task="text", layers=1, hidden=64, heads=2)
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "m")
    text = "\u2019 costs 3\u20ac \u00d7 2\n#### 6"
    assert tokenizer.decode(ids_of(tokenizer, text)) == text
    assert ids_of(tokenizer, f"ab {tokenizer.eos_token}") == [*ids_of(tokenizer, "ab"), tokenizer.eos_token_id]
    assert tokenizer.pad_token_id != tokenizer.eos_token_id
    with pytest.raises(ValueError, match="every byte is a token"):
        build_tiny_model(tmp_path / "n", task="text", atomic_digits=2)


LEARNED = ["the cat sat on the mat\n", "the hat of the cat\nLabel: animal", "that cat"] * 3


@pytest.fixture(scope="module")
def learned_tokenizer():
    return byte_level_tokenizer(learn_from=LEARNED, vocabulary=300)


@given(st.text(max_size=40))
def test_any_text_survives_learned_pieces(learned_tokenizer, text):
    assert learned_tokenizer.decode(ids_of(learned_tokenizer, text)) == text


def test_pieces_are_learned_within_words_and_alike_each_time(learned_tokenizer):
    assert 258 < len(learned_tokenizer) <= 300
    assert len(ids_of(learned_tokenizer, "the cat")) == 2
    assert byte_level_tokenizer(learn_from=LEARNED, vocabulary=300).get_vocab() == learned_tokenizer.get_vocab()
    # A prompt ends with a line break: its tokens are the same with and without the answer behind it.
    prompt = "the cat sat\n"
    assert ids_of(learned_tokenizer, prompt + "Label: animal")[: len(ids_of(learned_tokenizer, prompt))] == ids_of(
        learned_tokenizer, prompt
    )


def test_learning_from_rows(tmp_path, capsys):
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps({"input": text, "n": 1}) + "\n" for text in LEARNED))
    build_tiny_model(
        tmp_path / "m", "text", layers=1, hidden=64, heads=2, learn_from=[tmp_path / "rows.jsonl"], vocabulary=300
    )
    from transformers import AutoTokenizer

    assert len(ids_of(AutoTokenizer.from_pretrained(tmp_path / "m"), "the cat")) == 2
    with pytest.raises(ValueError, match="the tokenizer of chain is fixed"):
        build_tiny_model(tmp_path / "n", "chain", learn_from=[tmp_path / "rows.jsonl"])
    (tmp_path / "bad.jsonl").write_text('{"n": 1}\n')
    with pytest.raises(ValueError, match=r"bad\.jsonl:1: no field holds text"):
        build_tiny_model(tmp_path / "n", "text", learn_from=[tmp_path / "bad.jsonl"])
