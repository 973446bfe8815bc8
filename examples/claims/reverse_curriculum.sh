#!/usr/bin/env bash
# Where a policy hardly ever reaches an answer, start states along demonstrations teach it and outcome reward alone does not: chains of
# STEPS additions, SFT on demonstrations that slip at operands of SLIPS_FROM or more, then plain, staged, mixed and adaptive PPO at equal
# rollouts, rate and KL; 500 held-out chains from the question.
# Usage: bash examples/claims/reverse_curriculum.sh [DIR] [--section.key VALUE ...]        SEEDS="1" MODES="plain mixed" RL_STEPS=4: short
# All runs start from one model. Started again, it keeps finished runs (remove an unfinished folder).
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

OUT=runs/claims/reverse-curriculum
case ${1:-} in "" | --*) ;; *) OUT=$1 && shift ;; esac
SEEDS=${SEEDS:-1 2 3} MODES=${MODES:-plain staged mixed adaptive}
STEPS=${STEPS:-10} STAGES=${STAGES:-5} OPERAND=${OPERAND:-9} TEST=${TEST:-500}     # the task
SLIPS=${SLIPS:-0.7} SLIPS_FROM=${SLIPS_FROM:-5}                                     # how good a step of the start model is: .5 to .8
SFT_ROWS=${SFT_ROWS:-4000} SFT_EPOCHS=${SFT_EPOCHS:-4} SFT_LR=${SFT_LR:-2e-3}
RL_STEPS=${RL_STEPS:-40} BATCH=${BATCH:-128} LR=${LR:-3e-4} KL=${KL:-0.01}         # the same for every mode
LENGTH=$((40 + 12 * STEPS)) # tokens of a question with its answer, and some

openrlhf-ext prepare tiny-model --out "$OUT/init" --task chain --layers 2 --hidden 128 --heads 4 --context 256 --overwrite
openrlhf-ext prepare chain --out "$OUT/data" --steps "$STEPS" --max-operand "$OPERAND" --test "$TEST" --slips "$SLIPS" --slips-from "$SLIPS_FROM"
openrlhf-ext prepare sft --from "$OUT/data/slips.jsonl" --out "$OUT/data/sft.jsonl"
openrlhf-ext prepare reverse-curriculum --task chain --demos "$OUT/data/train.jsonl" --stages "$STAGES" --out "$OUT/data/mixed.jsonl"
openrlhf-ext prepare prompts --task chain --in "$OUT/data" --split test --out "$OUT/data/test_prompts.jsonl"

runs=() && mkdir -p "$OUT" && : >"$OUT/claim.jobs"
[ -e "$OUT/sft/model/config.json" ] || echo "train sft --config examples/configs/sft_chain_tiny.yaml --run.dir $OUT/sft --model.model_name_or_path $OUT/init" \
    "--data.dataset $OUT/data/sft.jsonl --data.output_key output --data.max_samples $SFT_ROWS --train.max_epochs $SFT_EPOCHS --adam.lr $SFT_LR --train.batch_size 16 --train.micro_batch_size 16 --data.max_len $LENGTH" >>"$OUT/claim.jobs"
for seed in $SEEDS; do
    for mode in $MODES; do
        run=$OUT/$mode-$seed && runs+=("$run")
        [ -e "$run/model/config.json" ] || echo "train reverse-curriculum --config examples/configs/reverse_curriculum_chain_claim.yaml --run.dir $run --run.seed $seed" \
            "--actor.model_name_or_path $OUT/sft/model --data.prompt_dataset $OUT/data/mixed.jsonl --eval.dataset $OUT/data/test_prompts.jsonl" \
            "--data.max_len $LENGTH --reverse_curriculum.mode $mode --reverse_curriculum.max_steps $RL_STEPS --rollout.batch_size $BATCH --actor.adam.lr $LR --algo.kl.init_coef $KL $*" >>"$OUT/claim.jobs"
    done
done
echo "report ${runs[*]} --out $OUT/report.html" >>"$OUT/claim.jobs"
openrlhf-ext jobs "$OUT/claim.jobs" # one process and one Ray session for all of them
if [ -e "${runs[0]}" ]; then python benchmarks/reverse_curriculum.py "$OUT"; fi
