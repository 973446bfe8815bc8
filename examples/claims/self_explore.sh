#!/usr/bin/env bash
# Step pairs against outcome pairs: chains of STEPS additions from a model that gets 20 to 60 % right. SFT, RFT, DPO on outcomes, DPO on first
# pits; the same start, rows, rate and epochs; 500 held-out chains, greedy. And DPO on the 24-point game, before and after.
# One SFT model for all seeds; RFT goes on from it (the paper: from the base model) for one epoch, at a rate that leaves DPO something to learn.
# Usage: bash examples/claims/self_explore.sh [DIR] [--section.key VALUE ...]    the settings are those of the DPO runs on chains
# SEEDS="1" PROBLEMS=200 GAME=0: short. Started again, it keeps what is finished (remove an unfinished run's folder).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.." && PATH=$PWD/.venv/bin:$PATH
case ${1:-} in "" | --*) OUT=runs/claims/self-explore ;; *) OUT=$1 && shift ;; esac
SEEDS=${SEEDS:-1 2 3} STEPS=${STEPS:-6} OPERAND=${OPERAND:-9} TEST=${TEST:-500}
SLIPS=${SLIPS:-0.9} SLIPS_FROM=${SLIPS_FROM:-8} SFT_ROWS=${SFT_ROWS:-4000} SFT_EPOCHS=${SFT_EPOCHS:-5} SFT_LR=${SFT_LR:-2e-3} # right but at operands 8 and 9
RFT_LR=${RFT_LR:-5e-5} PROBLEMS=${PROBLEMS:-1500} N=${N:-4} K=${K:-4} LR=${LR:-5e-5} EPOCHS=${EPOCHS:-3} GAME=${GAME:-1}
LENGTH=$((40 + 12 * STEPS)) game24=examples/models/game24-sft-v2
openrlhf-ext prepare tiny-model --out "$OUT/init" --task chain --layers 2 --hidden 128 --heads 4 --context 256 --overwrite
openrlhf-ext prepare chain --out "$OUT/data" --steps "$STEPS" --max-operand "$OPERAND" --test "$TEST" --slips "$SLIPS" --slips-from "$SLIPS_FROM"
openrlhf-ext prepare sft --from "$OUT/data/slips.jsonl" --out "$OUT/data/sft.jsonl"
openrlhf-ext prepare game24-puzzles --out "$OUT/game24/data" && mkdir -p "$OUT" && : >"$OUT/claim.jobs"
sft="train sft --config examples/configs/sft_chain_tiny.yaml --data.output_key output --data.max_len $LENGTH --train.batch_size 16 --train.micro_batch_size 16"
job() { if [ ! -e "$1" ]; then echo "${@:2}" >>"$OUT/claim.jobs"; fi; } # what it leaves, then its words
job "$OUT/sft/model" "$sft --run.dir $OUT/sft --model.model_name_or_path $OUT/init --data.dataset $OUT/data/sft.jsonl --data.max_samples $SFT_ROWS --train.max_epochs $SFT_EPOCHS --adam.lr $SFT_LR"
for seed in $SEEDS; do
    d=$OUT/seed-$seed
    dpo="train self-explore --config examples/configs/self_explore_chain_tiny.yaml --run.seed $seed --model.model_name_or_path $d/rft/model --data.max_len $LENGTH --adam.lr $LR --train.max_epochs $EPOCHS $*"
    job "$d/rft.jsonl" "collect --model $OUT/sft/model --task chain --prompts $OUT/data/train.jsonl --limit $PROBLEMS --n $N --seed $seed --wave 2048 --out $d/samples.jsonl --resume"
    job "$d/rft.jsonl" "prepare sft --from $d/samples.jsonl --select rft --out $d/rft.jsonl"
    job "$d/outcome_pairs.jsonl" "prepare pairs --kind outcome --in $d/samples.jsonl --out $d/outcome_pairs.jsonl"
    job "$d/rft/model" "$sft --run.seed $seed --run.dir $d/rft --model.model_name_or_path $OUT/sft/model --data.dataset $d/rft.jsonl --data.max_samples 100000 --train.max_epochs 1 --adam.lr $RFT_LR"
    job "$d/step_pairs.jsonl" "explore --model $d/rft/model --pairs $d/outcome_pairs.jsonl --k $K --seed $seed --out $d/explored.jsonl --resume"
    job "$d/step_pairs.jsonl" "prepare pairs --kind step --in $d/explored.jsonl --out $d/step_pairs.jsonl"
    for pairs in outcome step; do job "$d/$pairs/model" "$dpo --run.dir $d/$pairs --data.dataset $d/${pairs}_pairs.jsonl"; done
    job "$d/eval/summary.md" "evaluate --suite chain --data $OUT/data --samples 1 --out $d/eval --model sft=$OUT/sft/model rft=$d/rft/model outcome=$d/outcome/model step=$d/step/model --resume"
    if [ "$GAME" = 0 ]; then continue; fi
    g=$OUT/game24/seed-$seed
    job "$g/pairs.jsonl" "collect --model $game24 --task game24 --prompts $OUT/game24/data/train.jsonl --n 2 --temperature 1 --max-new-tokens 256 --seed $seed --wave 1024 --out $g/samples.jsonl --resume"
    job "$g/pairs.jsonl" "prepare pairs --kind step --task game24 --in $g/samples.jsonl --out $g/pairs.jsonl"
    job "$g/dpo/model" "train dpo --config examples/configs/dpo_game24_tiny.yaml --run.seed $seed --data.dataset $g/pairs.jsonl --run.dir $g/dpo"
    job "$g/eval/summary.md" "evaluate --suite game24 --data $OUT/game24/data --samples 1 --max-new-tokens 256 --out $g/eval --model sft=$game24 dpo=$g/dpo/model --resume"
done
if [ -s "$OUT/claim.jobs" ]; then openrlhf-ext jobs "$OUT/claim.jobs"; fi # one process and one Ray session for all of them
if [ -e "$OUT/seed-${SEEDS%% *}/eval" ]; then python benchmarks/self_explore.py "$OUT"; fi
