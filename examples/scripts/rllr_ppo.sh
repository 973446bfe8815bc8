#!/usr/bin/env bash
# PPO of RLLR as a Ray job, from the merged start model and the reward models of rllr_rm.sh; the last step: greedy answers to the test set.
# Usage: [REWARD=label|rationale|mixed|exact-match] [MODEL=llama2-7b|llama2-13b|mistral|baichuan2-7b|bloom7b|bloom3b]
#        bash examples/scripts/rllr_ppo.sh TASK [--dry-run [--cluster NxG]] [--section.key VALUE ...]
# tau is what the label model's held-out pairs suggest; --rllr.tau T sets another. With --dry-run nothing is submitted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

TASK=${1:?which task?} && shift
MODEL=${MODEL:-llama2-7b}
REWARD=${REWARD:-mixed}
DATA=${DATA:-data/$TASK}
TRAIN=${TRAIN:-$DATA/train.jsonl}
TEST=${TEST:-$DATA/test.jsonl}
RUNS=${RUNS:-runs/rllr-$TASK-$MODEL}
case $MODEL in
llama2-*) template=llama2 ;;
mistral) template=mistral ;;
baichuan2-7b) template=baichuan2 ;;
bloom*) template=default ;;
*) echo "MODEL=$MODEL has no template or no PPO script in the public code (docs/rllr.md)" >&2 && exit 2 ;;
esac
models=()
case $REWARD in label | mixed) models+=(--rllr.label_model "$RUNS/rm-label/model") ;; esac
case $REWARD in rationale | mixed) models+=(--rllr.rationale_model "$RUNS/rm-rationale/model") ;; esac
case $REWARD-$MODEL in label-bloom7b) models+=(--actor.adam.lr 1e-5 --critic.adam.lr 1e-5) ;; esac
case $REWARD in mixed) models+=(--rllr.tau "${TAU:-null}") ;; esac
submit() { case " $dry " in *" --dry-run "*) "$@" ;; *) ray job submit -- env -C "$PWD" "$@" ;; esac; }
dry=$*

for part in "$TRAIN:train" "$TEST:test"; do
    openrlhf-ext prepare prompts --task "$TASK" --in "${part%:*}" --template "$template" --out "$DATA/prompts_${template}_${part##*:}.jsonl"
done
submit openrlhf-ext train rllr --config examples/configs/rllr_sst2_paper.yaml --task "$TASK" --rllr.preset "$MODEL" --rllr.reward "$REWARD" "${models[@]}" \
    --actor.model_name_or_path "$RUNS/sft-rationale/merged" --data.prompt_dataset "$DATA/prompts_${template}_train.jsonl" \
    --eval.dataset "$DATA/prompts_${template}_test.jsonl" --run.dir "$RUNS/$REWARD" "$@"
