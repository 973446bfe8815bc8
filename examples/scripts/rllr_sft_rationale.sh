#!/usr/bin/env bash
# RLLR's start model as a Ray job: supervised fine-tuning (LoRA) on rationale and label, and the adapter merged into its base.
# Usage: [MODEL=llama2-7b|llama2-13b|mistral|chatglm3|baichuan2-7b|baichuan2-13b|bloom7b] bash examples/scripts/rllr_sft_rationale.sh TASK
#        [--dry-run [--cluster NxG]] [--section.key VALUE ...]         rates, epochs and adapters are those of the public code's scripts
# TRAIN: rows with a rationale. The merged model starts the reward models and PPO, and is the reference. With --dry-run nothing is submitted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

TASK=${1:?which task?} && shift
MODEL=${MODEL:-llama2-7b}
DATA=${DATA:-data/$TASK}
TRAIN=${TRAIN:-$DATA/sft_rationale.jsonl}
RUN_DIR=${RUN_DIR:-runs/rllr-$TASK-$MODEL/sft-rationale}
rate=2e-4 targets=q_proj,v_proj
case $MODEL in
llama2-7b) base=meta-llama/Llama-2-7b-chat-hf template=llama2 ;;
llama2-13b) base=meta-llama/Llama-2-13b-chat-hf template=llama2 rate=1e-3 ;;
mistral) base=mistralai/Mistral-7B-Instruct-v0.2 template=mistral rate=1e-4 ;;
chatglm3) base=THUDM/chatglm3-6b template=chatglm3 targets=query_key_value ;; # refused: docs/rllr.md says why
baichuan2-7b) base=baichuan-inc/Baichuan2-7B-Chat template=baichuan2 targets=W_pack ;;
baichuan2-13b) base=baichuan-inc/Baichuan2-13B-Chat template=baichuan2 targets=W_pack rate=1e-3 ;;
bloom7b) base=bigscience/bloom-7b1 template=default targets=query_key_value rate=1e-3 ;;
*) echo "MODEL=$MODEL: the public code has the models above (docs/rllr.md)" >&2 && exit 2 ;;
esac
dry=()
case " $* " in *" --dry-run "*) dry=(--dry-run) ;; esac
submit() { if [ "${#dry[@]}" -gt 0 ]; then "$@"; else ray job submit -- env -C "$PWD" "$@"; fi; }

openrlhf-ext prepare sft --from "$TRAIN" --task "$TASK" --rationales only --template "$template" --out "$DATA/sft_rationale_$template.jsonl"
submit openrlhf-ext train sft --config examples/configs/sft_rllr_paper.yaml --task "$TASK" --run.dir "$RUN_DIR" \
    --model.model_name_or_path "${BASE:-$base}" --data.dataset "$DATA/sft_rationale_$template.jsonl" \
    --train.max_epochs 10 --adam.lr "$rate" --ds.lora.target_modules "$targets" "$@"
if [ "${#dry[@]}" -eq 0 ]; then
    submit openrlhf-ext merge --base "${BASE:-$base}" --adapter "$RUN_DIR/model" --out "$RUN_DIR/merged"
fi
