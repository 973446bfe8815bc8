#!/usr/bin/env bash
# The same on real sentences: a small model with byte pairs of its own on a label task's released files (TREC by default), labels alone:
# SFT, then PPO by a label model and by the verifier, SEEDS each, from one start model. Rationales there are none, so no quality arm.
# Usage: bash examples/claims/rllr_real.sh [DIR] [--section.key VALUE ...]    TASK=sick DATA=data/sick EXT=txt: another task
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

TASK=${TASK:-trec} DATA=${DATA:-data/trec} EXT=${EXT:-txt} LENGTH=${LENGTH:-192} # tokens of instruction, sentence and label
OUT=runs/claims/rllr-$TASK
case ${1:-} in "" | --*) ;; *) OUT=$1 && shift ;; esac
SEEDS=${SEEDS:-1 2 3} ARMS=${ARMS:-label exact-match}
SFT_EPOCHS=${SFT_EPOCHS:-2} RM_EPOCHS=${RM_EPOCHS:-2} RL_STEPS=${RL_STEPS:-20} # SFT stops while there is something to learn
shape=(--data.max_len "$LENGTH" --run.kv_cache_gib 2 --rollout.max_new_tokens 32)
MADE=$OUT/data

openrlhf-ext prepare sft --from "$DATA/train.$EXT" --task "$TASK" --out "$MADE/sft.jsonl"
openrlhf-ext prepare tiny-model --out "$OUT/init" --task text --learn-from "$MADE/sft.jsonl" --vocabulary 2000 --layers 4 --hidden 128 --heads 4 --context "$LENGTH" --overwrite
for split in train test; do
    openrlhf-ext prepare prompts --task "$TASK" --in "$DATA/$split.$EXT" --out "$MADE/${split}_prompts.jsonl"
    openrlhf-ext prepare pairs --kind label --bare --task "$TASK" --in "$DATA/$split.$EXT" --out "$MADE/label_pairs_$split.jsonl"
done

runs=() && mkdir -p "$OUT" && : >"$OUT/claim.jobs"
add() { [ -e "$1/model/config.json" ] || echo "${*:2} ${shape[*]:0:2} --run.dir $1" >>"$OUT/claim.jobs"; }
add "$OUT/sft" train sft --config examples/configs/sft_toy_tiny.yaml --task "$TASK" --model.model_name_or_path "$OUT/init" --data.dataset "$MADE/sft.jsonl" --train.max_epochs "$SFT_EPOCHS" --adam.lr 2e-3
add "$OUT/rm-label" train rm --config examples/configs/rm_toy_tiny.yaml --model.model_name_or_path "$OUT/sft/model" --data.dataset "$MADE/label_pairs_train.jsonl" --train.max_epochs "$RM_EPOCHS" --adam.lr 5e-4
echo "score --model $OUT/rm-label/model --pairs $MADE/label_pairs_test.jsonl --save --out $OUT/rm-label/score.json" >>"$OUT/claim.jobs"
for seed in $SEEDS; do
    for arm in $ARMS; do
        run=$OUT/$arm-$seed && runs+=("$run")
        add "$run" train rllr --config examples/configs/rllr_toy_claim.yaml --task "$TASK" --run.seed "$seed" --actor.model_name_or_path "$OUT/sft/model" --rllr.reward "$arm" --rllr.max_steps "$RL_STEPS" \
            --rllr.label_model "$OUT/rm-label/model" --rllr.rationale_model null --data.prompt_dataset "$MADE/train_prompts.jsonl" --eval.dataset "$MADE/test_prompts.jsonl" "${shape[@]:2}" "$@"
    done
done
openrlhf-ext jobs "$OUT/claim.jobs" # one process and one Ray session for all of them
if [ -e "${runs[0]}" ]; then python benchmarks/rllr.py "$OUT"; fi
