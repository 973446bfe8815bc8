"""What is said about a reward model's scores, by hand; the scale that is kept beside the model; what the command refuses."""

import argparse
import json
import math
from pathlib import Path

import pytest

from openrlhf_ext.evaluate import score
from openrlhf_ext.evaluate.reward_diagnostics import Diagnosis, calibration, diagnose, quantile
from openrlhf_ext.record.reward_scale import FILE, RewardScale, read_scale, write_scale


def test_four_pairs_by_hand() -> None:
    found = diagnose([2.0, 1.0, 4.0, 3.0], [0.0, 2.0, 4.0, -1.0])
    scale = found.scale
    assert (scale.accuracy, scale.margin, scale.pairs) == (
        0.625,
        1.25,
        4,
    )  # two won, one lost, one tie; (2 - 1 + 0 + 4) / 4
    assert (scale.tau, scale.highest, scale.mean) == (2.5, 4.0, 1.875)
    assert scale.std == pytest.approx(math.sqrt(22.875 / 7))
    assert found.error == pytest.approx(1.96 * math.sqrt(0.625 * 0.375 / 4))
    assert diagnose([2.0, 1.0, 4.0, 3.0], [0.0, 2.0, 4.0, -1.0], 1.0).scale.tau == 4.0


def test_quantiles_lie_between_the_values() -> None:
    assert [quantile([3.0, 1.0, 2.0], q) for q in (0.0, 0.25, 0.5, 1.0)] == [1.0, 1.5, 2.0, 3.0]
    assert quantile([5.0], 0.3) == 5.0


def test_calibration_compares_confidence_with_accuracy() -> None:
    # Two pairs at distance ln 3 (confidence .75), one right: bin .7 to .8 with accuracy .5. One at 10 (confidence near 1), right.
    sure = math.log(3)
    bins = calibration([sure, 0.0, 10.0], [0.0, sure, 0.0], bins=5)
    assert [(b.count, round(b.confidence, 3), b.accuracy) for b in bins] == [(2, 0.75, 0.5), (1, 1.0, 1.0)]
    found = diagnose([sure, 0.0, 10.0], [0.0, sure, 0.0])
    assert found.calibration_error == pytest.approx((2 * 0.25 + 1 / (1 + math.exp(10))) / 3)
    assert calibration([1000.0], [0.0])[0].confidence == 1.0


@pytest.mark.parametrize(("chosen", "rejected"), [([], []), ([1.0], []), ([math.nan], [0.0]), ([1.0], [math.inf])])
def test_what_cannot_be_diagnosed_is_refused(chosen: list[float], rejected: list[float]) -> None:
    with pytest.raises(ValueError, match=r"scores|finite"):
        diagnose(chosen, rejected)


def test_the_scale_is_kept_with_the_model(tmp_path: Path) -> None:
    assert read_scale(tmp_path) is None
    scale = diagnose([2.0, 1.0], [0.0, 2.0]).scale
    write_scale(tmp_path, scale)
    assert read_scale(tmp_path) == scale and [p.name for p in tmp_path.iterdir()] == [FILE]
    for text in ("{", "[]", '{"mean": 1}'):
        (tmp_path / FILE).write_text(text)
        with pytest.raises(ValueError, match="measure the model again"):
            read_scale(tmp_path)


def request(words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    score.add_parser(parser.add_subparsers())
    return parser.parse_args(["score", *words.split()])


def test_the_command_says_everything_that_is_wrong(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "m").mkdir()
    (tmp_path / "m" / "config.json").write_text("{}")
    args = request(f"--model {tmp_path}/m {tmp_path}/n --pairs {tmp_path}/p.jsonl --tau-quantile 2")
    assert score.run(args) == 2
    said = capsys.readouterr().err
    for words in ("n: no config.json", "m: has no value head", "p.jsonl: no such file", "--tau-quantile 2"):
        assert words in said


def test_the_command_writes_the_table_the_numbers_and_the_scale(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "m"
    model.mkdir()
    (model / "config.json").write_text('{"value_head_prefix": "score"}')
    files = [tmp_path / "label.jsonl", tmp_path / "rationale.jsonl"]
    for file in files:
        file.write_text("{}")
    found: dict[str, Diagnosis] = {str(files[0]): diagnose([2.0], [0.0]), str(files[1]): diagnose([0.0], [1.0])}
    monkeypatch.setattr(score, "_diagnoses", lambda model, args: found)
    args = request(f"--model {model} --pairs {files[0]} {files[1]} --save --out {tmp_path}/out.json")
    assert score.run(args) == 0
    assert "1.000 +- 0.000" in capsys.readouterr().out
    scale = read_scale(model)
    assert isinstance(scale, RewardScale) and scale.accuracy == 1.0 and scale.tau == 2.0
    written = json.loads((tmp_path / "out.json").read_text())
    assert written[str(model)][str(files[1])]["scale"]["accuracy"] == 0.0
