#!/usr/bin/env bash
# A reward model of RLLR as a Ray job, from the merged start model: label-sensitive or rationale-sensitive pairs, training, and what
# held-out pairs say about it (accuracy, tau, the scale of its scores).
# Usage: KIND=label|rationale [MODEL=llama2-7b|...] bash examples/scripts/rllr_rm.sh TASK
#        [--dry-run [--cluster NxG]] [--section.key VALUE ...]         epochs and batches are those of the public code's scripts
# RATIONALES and HELD_OUT: rows with rationales, or the original's ranked pairs. With --dry-run nothing is submitted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

TASK=${1:?which task?} && shift
MODEL=${MODEL:-llama2-7b}
KIND=${KIND:-label}
DATA=${DATA:-data/$TASK}
RATIONALES=${RATIONALES:-$DATA/rationales.jsonl}
HELD_OUT=${HELD_OUT:-$DATA/rationales_test.jsonl}
RUNS=${RUNS:-runs/rllr-$TASK-$MODEL}
case $MODEL in
llama2-*) template=llama2 ;;
mistral) template=mistral ;;
baichuan2-*) template=baichuan2 ;;
bloom*) template=default ;;
*) echo "MODEL=$MODEL has no template here (docs/rllr.md)" >&2 && exit 2 ;;
esac
case $KIND-$MODEL in # epochs and batch
label-llama2-13b | label-bloom3b) size=(--train.max_epochs 1 --train.batch_size 128) ;;
label-*) size=(--train.max_epochs 1 --train.batch_size 64) ;;
rationale-bloom7b) size=(--train.max_epochs 1 --train.batch_size 128) ;;
*) size=(--train.max_epochs 5 --train.batch_size 128) ;;
esac
submit() { case " $dry " in *" --dry-run "*) "$@" ;; *) ray job submit -- env -C "$PWD" "$@" ;; esac; }
dry=$*

for part in "$RATIONALES:train" "$HELD_OUT:test"; do
    openrlhf-ext prepare pairs --kind "$KIND" --task "$TASK" --in "${part%:*}" --template "$template" --out "$DATA/${KIND}_${template}_${part#*:}.jsonl"
done
submit openrlhf-ext train rm --config examples/configs/rm_rllr_paper.yaml --model.model_name_or_path "$RUNS/sft-rationale/merged" \
    --data.dataset "$DATA/${KIND}_${template}_train.jsonl" --run.dir "$RUNS/rm-$KIND" "${size[@]}" "$@"
case " $dry " in *" --dry-run "*) ;; *) submit openrlhf-ext score --model "$RUNS/rm-$KIND/model" --pairs "$DATA/${KIND}_${template}_test.jsonl" --save ;; esac
