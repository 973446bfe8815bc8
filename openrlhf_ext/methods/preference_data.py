"""Preferences as OpenRLHF's programs take them: what stands for its reader of files and for its data set. Runs in every rank's process."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from openrlhf.datasets.utils import blending_datasets
from openrlhf.utils.utils import zero_pad_sequences
from torch.utils.data import Dataset

from openrlhf_ext.data.pair_options import PairOptions, encode_source, raise_for, read_source
from openrlhf_ext.data.pairs import SUFFIXES, Pair, PairRows, few, files_of, pair_of
from openrlhf_ext.data.unpaired import read_responses

NO_LIMIT = 10**9


class PairTable(Sequence):
    """Pairs as texts, with as much of `datasets.Dataset` as the programs use."""

    def __init__(self, pairs: list[Pair], names: str) -> None:
        self.pairs, self.names = pairs, names

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index):
        return self.pairs[index]

    def select(self, indices: Sequence[int]) -> PairTable:
        return PairTable([self.pairs[i] for i in indices], self.names)


class FileList:
    """Names of files that are read later, with a tokenizer at hand."""

    def __init__(self, names: str, limit: int = NO_LIMIT) -> None:
        self.names, self.limit = names, limit

    def __len__(self) -> int:
        return self.limit

    def select(self, indices: Sequence[int]) -> FileList:
        return FileList(self.names, min(self.limit, len(indices)))


def read_table(
    datasets: str,
    probabilities: str | None = None,
    strategy=None,
    seed: int = 42,
    max_count: float = 1e8,
    stopping_strategy: str = "all_exhausted",
    dataset_split: str = "train",
) -> PairTable:
    """In the place of `blending_datasets`: local files are read by us (a half-written line is skipped), other sources by OpenRLHF."""
    options: PairOptions = strategy.args.pairs
    if probabilities is None and all(path.suffix in SUFFIXES for path in files_of(datasets)):
        found = read_source(datasets, options, int(max_count))
    else:
        rows = blending_datasets(datasets, probabilities, strategy, seed, max_count, stopping_strategy, dataset_split)
        judged = [
            pair_of(row, f"{datasets} row {i}", options.columns, messages=options.chat) for i, row in enumerate(rows)
        ]
        bad = few([row for row in judged if not isinstance(row, Pair)], datasets)
        found = PairRows([row for row in judged if isinstance(row, Pair)], bad)
    raise_for(found.findings)
    return PairTable(found.pairs, datasets)


def list_files(datasets: str, *args, **kwargs) -> FileList:
    """In the place of `blending_datasets` for single responses: trajectories hold token ids, the others wait for the tokenizer."""
    return FileList(datasets)


class RowOfLength(int):
    """The tokens of a prompt, as OpenRLHF's trainer reads it, and which row of the data set it belongs to."""

    row: int
    good: bool

    @classmethod
    def of(cls, length: int, row: int, good: bool = True) -> RowOfLength:
        made = cls(length)
        made.row, made.good = row, good
        return made


class PairDataset(Dataset):
    """Encoded pairs behind the constructor of OpenRLHF's `RewardDataset`.

    An item: ids [1, C] and mask of prompt + chosen, ids [1, R] and mask of prompt + rejected, and the prompt's length (DPO) or margin (RM).
    """

    def __init__(
        self, dataset: PairTable, tokenizer, max_length, strategy, input_template=None, is_dpo=False, num_processors=8
    ) -> None:
        super().__init__()
        self.is_dpo, self.tokenizer = is_dpo, tokenizer
        read = encode_source(PairRows(dataset.pairs, []), strategy.args.pairs, tokenizer, dataset.names)
        raise_for(read.findings)
        self.pairs = read.pairs

    def __len__(self) -> int:
        return len(self.pairs)

    def __getitem__(self, index: int):
        pair = self.pairs[index]
        extra = RowOfLength.of(len(pair.prompt), index) if self.is_dpo else pair.margin
        return *_row(pair.prompt + pair.chosen), *_row(pair.prompt + pair.rejected), extra

    def collate_fn(self, items: list):
        """Padded like OpenRLHF's: right for DPO, left for a reward model."""
        return _padded(items, "right" if self.is_dpo else "left", self.tokenizer.pad_token_id)


class ResponseDataset(Dataset):
    """Single responses in the form of pairs: the second sequence is the prompt with the response of another problem."""

    def __init__(
        self, dataset: FileList, tokenizer, max_length, strategy, input_template=None, is_dpo=True, num_processors=8
    ) -> None:
        super().__init__()
        self.tokenizer = tokenizer
        seed = strategy.args.train.seed
        read = read_responses(dataset.names, strategy.args.pairs, tokenizer, limit=dataset.limit, seed=seed)
        raise_for(read.findings)
        self.responses, self.counts = read.responses, read.counts

    def __len__(self) -> int:
        return len(self.responses)

    def __getitem__(self, index: int):
        found = self.responses[index]
        extra = RowOfLength.of(len(found.prompt), index, found.good)
        return *_row(found.prompt + found.response), *_row(found.prompt + found.partner), extra

    def collate_fn(self, items: list):
        """Padded on the right."""
        return _padded(items, "right", self.tokenizer.pad_token_id)


def _row(ids: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
    tokens = torch.tensor([ids], dtype=torch.long)
    return tokens, torch.ones_like(tokens)


def _padded(items: list, side: str, pad: int):
    chosen, chosen_masks, rejected, rejected_masks, extras = zip(*items, strict=True)
    return (
        zero_pad_sequences(list(chosen), side=side, value=pad),
        zero_pad_sequences(list(chosen_masks), side=side),
        zero_pad_sequences(list(rejected), side=side, value=pad),
        zero_pad_sequences(list(rejected_masks), side=side),
        list(extras),
    )
