#!/usr/bin/env bash
# RLLR's baseline as a Ray job: supervised fine-tuning (LoRA) on the labels of a task alone, and the adapter merged into its base.
# Usage: [MODEL=llama2-7b|llama2-13b|mistral|baichuan2-7b|baichuan2-13b] bash examples/scripts/rllr_sft.sh TASK
#        [--dry-run [--cluster NxG]] [--section.key VALUE ...]         rates, epochs and adapters are those of the public code's scripts
# TRAIN is the task's file as it was released, or rows of its fields. With --dry-run nothing is submitted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

TASK=${1:?which task?} && shift
MODEL=${MODEL:-llama2-7b}
DATA=${DATA:-data/$TASK}
TRAIN=${TRAIN:-$DATA/train.jsonl}
RUN_DIR=${RUN_DIR:-runs/rllr-$TASK-$MODEL/sft}
epochs=20 targets=q_proj,v_proj length=1536
case $MODEL in
llama2-7b) base=meta-llama/Llama-2-7b-chat-hf template=llama2 ;;
llama2-13b) base=meta-llama/Llama-2-13b-chat-hf template=llama2 epochs=10 ;;
mistral) base=mistralai/Mistral-7B-Instruct-v0.2 template=mistral ;;
baichuan2-7b) base=baichuan-inc/Baichuan2-7B-Chat template=baichuan2 targets=W_pack ;;
baichuan2-13b) base=baichuan-inc/Baichuan2-13B-Chat template=baichuan2 targets=W_pack epochs=10 length=512 ;;
*) echo "MODEL=$MODEL: the public code trains its label-only baseline for the models above (docs/rllr.md)" >&2 && exit 2 ;;
esac
dry=()
case " $* " in *" --dry-run "*) dry=(--dry-run) ;; esac
submit() { if [ "${#dry[@]}" -gt 0 ]; then "$@"; else ray job submit -- env -C "$PWD" "$@"; fi; }

openrlhf-ext prepare sft --from "$TRAIN" --task "$TASK" --rationales drop --template "$template" --out "$DATA/sft_$template.jsonl"
submit openrlhf-ext train sft --config examples/configs/sft_rllr_paper.yaml --task "$TASK" --run.dir "$RUN_DIR" \
    --model.model_name_or_path "${BASE:-$base}" --data.dataset "$DATA/sft_$template.jsonl" --data.max_len "$length" \
    --train.max_epochs "$epochs" --adam.lr 2e-5 --ds.lora.target_modules "$targets" "$@"
if [ "${#dry[@]}" -eq 0 ]; then
    submit openrlhf-ext merge --base "${BASE:-$base}" --adapter "$RUN_DIR/model" --out "$RUN_DIR/merged"
fi
