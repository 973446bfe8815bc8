"""Pairs as token ids: exact boundary, ends where they belong, nothing cut. The tokenizers here are written out, so that every id is known."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from openrlhf_ext.data.offline import Encoded
from openrlhf_ext.data.pairs import Pair
from openrlhf_ext.data.step_preference import Encoding, encode_pairs, ended

END, BEGIN, MERGED = 1, 2, 3


def characters(text: str) -> Encoded:
    """One id per character, `</s>` is the end token."""
    ids, offsets, i = [], [], 0
    while i < len(text):
        step = 4 if text.startswith("</s>", i) else 1
        ids.append(END if step == 4 else ord(text[i]))
        offsets.append((i, i + step))
        i += step
    return Encoded(ids, offsets)


def merging(text: str) -> Encoded:
    """As `characters`, but two line breaks are one token."""
    found = characters(text)
    ids, offsets, i = [], [], 0
    while i < len(found.ids):
        two = found.ids[i : i + 2] == [10, 10]
        ids.append(MERGED if two else found.ids[i])
        offsets.append((found.offsets[i][0], found.offsets[i + two][1]))
        i += 1 + two
    return Encoded(ids, offsets)


def encoding(**changes) -> Encoding:
    return Encoding(**{"encode": characters, "end": (END, "</s>"), "max_length": 100} | changes)


def only(pair: Pair, **changes):
    data = encode_pairs([pair], encoding(**changes), "pairs.jsonl")
    assert data.errors == [], data.errors
    return data.pairs[0]


STEP = Pair("q\n", "a\nb\n", "w\n", "line 1")


def test_the_end_token_is_behind_the_chosen_side_alone_and_line_breaks_stay() -> None:
    found = only(STEP)
    assert found[:3] == ([113, 10], [97, 10, 98, 10, END], [119, 10])
    assert found.length == 7


def test_ends_can_be_on_both_sides_or_on_none() -> None:
    assert only(STEP, ends="both")[1:3] == ([97, 10, 98, 10, END], [119, 10, END])
    assert only(STEP, ends="none")[1:3] == ([97, 10, 98, 10], [119, 10])


def test_an_end_that_the_text_already_has_is_not_doubled() -> None:
    pair = Pair("q", "a</s>", "w</s>", "")
    assert only(pair)[1:3] == ([97, END], [119, END])
    assert only(pair, ends="both")[1:3] == ([97, END], [119, END])


def test_a_begin_token_is_put_before_prompts_that_lack_it() -> None:
    assert only(STEP, begin=BEGIN).prompt == [BEGIN, 113, 10]
    assert only(Pair("\x02q", "a", "w", ""), begin=BEGIN).prompt == [BEGIN, 113]


def test_a_token_over_the_boundary_does_not_move_it() -> None:
    pair = Pair("q\n", "\na", "w", "")
    data = encode_pairs([pair], encoding(encode=merging), "pairs.jsonl")
    assert data.pairs[0][:3] == ([113, 10], [10, 97, END], [119])
    assert "1 of 1 pairs a token would span" in data.findings[0].what and data.errors == []
    assert encode_pairs([STEP], encoding(encode=merging), "").findings == []


def test_the_template_is_around_the_prompt_alone() -> None:
    assert only(STEP, template="<{}>").prompt == [ord(c) for c in "<q\n>"]


def test_a_chat_template_renders_the_turns_and_its_closing_is_ours_to_place() -> None:
    def render(messages: list[dict[str, str]], opening: bool) -> str:
        return "".join(f"[{m['role'][0]}]{m['content']}</s>\n" for m in messages) + ("[a]" if opening else "")

    asked = [{"role": "user", "content": "q"}]
    for pair in (Pair("q", "a", "w", ""), Pair(asked, [{"role": "assistant", "content": "a"}], "w", "")):
        found = only(pair, render=render)
        assert found.prompt == [91, 117, 93, 113, END, 10, 91, 97, 93]
        assert found[1:3] == ([97, END], [119])


def test_the_rest_of_the_wrong_solution_is_taken_only_where_asked() -> None:
    pair = Pair("q", "a", "w\n", "", rest="x\n")
    assert only(pair).rejected == [119, 10]
    assert only(pair, with_rest=True).rejected == [119, 10, 120, 10]
    (error,) = encode_pairs([STEP], encoding(with_rest=True), "f").errors
    assert "meta.rest" in error.what


def test_a_long_pair_is_left_out_and_counted_never_cut() -> None:
    pairs = [STEP, Pair("q" * 4, "a" * 4, "w", "line 2"), Pair("q" * 9, "a", "w", "line 3")]
    data = encode_pairs(pairs, encoding(max_length=8), "f")
    assert [pair.place for pair in data.pairs] == ["line 1"]
    assert data.dropped == {"too long": 1, "prompt too long": 1}
    (note,) = data.findings
    assert note.note and "2 of 3 pairs" in note.what and "longest 11, line 3" in note.what


def test_nothing_left_is_an_error() -> None:
    (error,) = encode_pairs([STEP], encoding(max_length=3), "f").errors
    assert "1 of 1 pairs" in error.what


def test_sides_without_tokens_or_of_the_same_tokens_are_errors() -> None:
    def loses_stars(text: str) -> Encoded:
        return characters(text.replace("*", ""))

    for pair, said in (
        (Pair("q", "a", "*", "l"), "'rejected' to nothing"),
        (Pair("q", "a", "a*", "l"), "the same tokens"),
    ):
        (error,) = encode_pairs([pair], encoding(encode=loses_stars), "f").errors
        assert said in error.what and error.place == "l"


@given(
    prompt=st.text("ab\n", min_size=1, max_size=6),
    chosen=st.text("ab\n", min_size=1, max_size=6),
    rejected=st.text("ab\n", min_size=1, max_size=6),
    merges=st.booleans(),
)
def test_prompt_and_sides_spell_the_texts(prompt: str, chosen: str, rejected: str, merges: bool) -> None:
    data = encode_pairs([Pair(prompt, chosen, rejected, "")], encoding(encode=merging if merges else characters), "f")
    if chosen == rejected:
        assert data.pairs == []
        return
    (found,) = data.pairs

    def spelled(ids: list[int]) -> str:
        return "".join("\n\n" if i == MERGED else "" if i == END else chr(i) for i in ids)

    assert [spelled(ids) for ids in found[:3]] == [prompt, chosen, rejected]
    assert found.chosen[-1] == END and END not in found.rejected and END not in found.prompt
    assert found.prompt == (merging if merges else characters)(prompt).ids


def test_ended_adds_one_end_at_most() -> None:
    assert ended([5], END, True) == [5, END] == ended([5, END], END, True)
    assert ended([5], END, False) == [5]
