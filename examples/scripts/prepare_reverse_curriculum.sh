#!/usr/bin/env bash
# The data of one task of R3: start states for the training (they serve every mode), whole demonstrations for its SFT step, a dev split
# that neither sees, prompts of the test set. Rows that are too long for the paper's lengths are listed and left out.
# Usage: bash examples/scripts/prepare_reverse_curriculum.sh gsm8k|gsm8k-program|svamp|svamp-program|mnli-r3|snli-r3|race|boardgameqa
# Reads train.jsonl and test.jsonl (or .json), as they were released, from DATA; programs are made from GSM8K's or SVAMP's own rows.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

TASK=${1:-}
DATA=${DATA:-data/$TASK}
SOURCE=${SOURCE:-data/${TASK%-program}} # where programs take their questions from
HOLD_OUT=${HOLD_OUT:-100} # demonstrations of the dev split
MODEL=${MODEL:-meta-llama/Llama-2-7b-hf} # whose tokens are counted and, by some tasks, cut
case $TASK in # tokens of prompt and answer, of the prompt alone, of a record of SFT
    gsm8k | svamp) lengths=(700 699 512) ;;
    gsm8k-program | svamp-program) lengths=(700 699 1024) ;;
    mnli-r3 | snli-r3) lengths=(512 256 512) ;;
    race) lengths=(1536 1024 1024) ;;
    boardgameqa) lengths=(2048 1024 2048) ;; # the paper's SFT cuts at 512, which half of the rows exceed
    *) sed -n 4p "${BASH_SOURCE[0]}" >&2 && exit 2 ;;
esac

questions=$DATA
if [[ $TASK == *-program ]]; then
    questions=$SOURCE
    for file in "$SOURCE"/train.json*; do
        [ -e "$DATA/train.jsonl" ] || openrlhf-ext prepare programs --task "${TASK%-program}" --in "$file" --out "$DATA/train.jsonl"
    done
fi
demos=$DATA/train.jsonl
if [ ! -e "$demos" ] && [ -e "$DATA/train.json" ]; then demos=$DATA/train.json; fi
rows=(--task "$TASK" --demos "$demos" --template alpaca --tokenizer "$MODEL" --hold-out "$HOLD_OUT" --max-prompt-tokens "${lengths[1]}")

openrlhf-ext prepare reverse-curriculum "${rows[@]}" --max-tokens "${lengths[0]}" --out "$DATA/mixed.jsonl"
openrlhf-ext prepare reverse-curriculum "${rows[@]}" --max-tokens "${lengths[2]}" --mode plain --out "$DATA/plain.jsonl"
openrlhf-ext prepare prompts --task "$TASK" --in "$questions" --split test --template alpaca --out "$DATA/test_prompts.jsonl"
