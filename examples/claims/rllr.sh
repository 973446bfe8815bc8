#!/usr/bin/env bash
# What a reward that looks at the label does, and one that looks at the prose: the synthetic label task with 15 % label noise in SFT; two
# reward models; PPO by quality, by label, by both, and by the verifier, 3 seeds each; 600 held-out lines.
# Usage: bash examples/claims/rllr.sh [DIR] [--section.key VALUE ...]            SEEDS="1" ARMS="label mixed" RL_STEPS=4: short
# All runs start from the same models. Started again, it keeps finished runs (remove an unfinished folder).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

OUT=runs/claims/rllr
case ${1:-} in "" | --*) ;; *) OUT=$1 && shift ;; esac
SEEDS=${SEEDS:-1 2 3} ARMS=${ARMS:-rationale label mixed exact-match}
SFT_EPOCHS=${SFT_EPOCHS:-10} SFT_LR=${SFT_LR:-3e-3} RM_EPOCHS=${RM_EPOCHS:-4} RM_LR=${RM_LR:-1e-3}
RL_STEPS=${RL_STEPS:-80} DATA=$OUT/data

openrlhf-ext prepare tiny-model --out "$OUT/init" --task label-toy --layers 2 --hidden 64 --heads 2 --context 64 --overwrite
openrlhf-ext prepare label-toy --out "$DATA" --labels 3 --noise 0.15 --train 4000 --test 600
openrlhf-ext prepare sft --from "$DATA/sft_rationale.jsonl" --task label-toy --out "$DATA/sft_rows.jsonl"
for split in train test; do openrlhf-ext prepare prompts --task label-toy --in "$DATA" --split "$split" --out "$DATA/${split}_prompts.jsonl"; done

runs=() && mkdir -p "$OUT" && : >"$OUT/claim.jobs"
add() { [ -e "$1/model/config.json" ] || echo "${*:2} --run.dir $1" >>"$OUT/claim.jobs"; }
add "$OUT/sft" train sft --config examples/configs/sft_toy_tiny.yaml --model.model_name_or_path "$OUT/init" --data.dataset "$DATA/sft_rows.jsonl" --train.max_epochs "$SFT_EPOCHS" --adam.lr "$SFT_LR"
for kind in label rationale; do
    for part in "" _test; do openrlhf-ext prepare pairs --kind $kind --task label-toy --in "$DATA/rationales$part.jsonl" --out "$DATA/${kind}_pairs$part.jsonl"; done
    add "$OUT/rm-$kind" train rm --config examples/configs/rm_toy_tiny.yaml --model.model_name_or_path "$OUT/sft/model" --data.dataset "$DATA/${kind}_pairs.jsonl" --train.max_epochs "$RM_EPOCHS" --adam.lr "$RM_LR"
done
echo "score --model $OUT/rm-label/model $OUT/rm-rationale/model --pairs $DATA/label_pairs_test.jsonl $DATA/rationale_pairs_test.jsonl --save --out $OUT/rm-label/score.json" >>"$OUT/claim.jobs"
for seed in $SEEDS; do
    for arm in $ARMS; do
        run=$OUT/$arm-$seed && runs+=("$run")
        add "$run" train rllr --config examples/configs/rllr_toy_claim.yaml --run.seed "$seed" --actor.model_name_or_path "$OUT/sft/model" --rllr.reward "$arm" --rllr.max_steps "$RL_STEPS" \
            --rllr.label_model "$OUT/rm-label/model" --rllr.rationale_model "$OUT/rm-rationale/model" --data.prompt_dataset "$DATA/train_prompts.jsonl" --eval.dataset "$DATA/test_prompts.jsonl" "$@"
    done
done
echo "report ${runs[*]} --out $OUT/report.html" >>"$OUT/claim.jobs"
openrlhf-ext jobs "$OUT/claim.jobs" # one process and one Ray session for all of them
if [ -e "${runs[0]}" ]; then python benchmarks/rllr.py "$OUT"; fi
