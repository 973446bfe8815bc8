#!/usr/bin/env bash
# Two Ray jobs: R3's supervised start model for one task of mathematics (made once), then PPO from its start states.
# Usage: [MODE=mixed|staged|plain|adaptive] bash examples/scripts/train_reverse_curriculum_math.sh gsm8k|gsm8k-program|svamp|svamp-program
#        [--dry-run [--cluster NxG]] [--section.key VALUE ...]                       the settings are those of the PPO run
# After prepare_reverse_curriculum.sh TASK. Every mode gets the same number of rollouts. With --dry-run nothing is submitted.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

TASK=${1:?which task?} && shift
MODE=${MODE:-mixed}
DATA=${DATA:-data/$TASK}
MODEL=${MODEL:-meta-llama/Llama-2-7b-hf}
SFT_DIR=${SFT_DIR:-runs/sft-$TASK}
RUN_DIR=${RUN_DIR:-runs/$MODE-$TASK}
CONFIG=${CONFIG:-examples/configs/reverse_curriculum_${TASK//-/_}_paper.yaml}
dry=()
case " $* " in *" --dry-run "*) dry=(--dry-run) ;; esac
if [[ " $* " =~ \ --cluster\ ([0-9x]+)\  ]]; then dry+=(--cluster "${BASH_REMATCH[1]}"); fi
submit() { if [ "${#dry[@]}" -gt 0 ]; then "$@"; else ray job submit -- env -C "$PWD" "$@"; fi; }

rows=$(wc -l <"$DATA/mixed.jsonl") # 5 start states of every demonstration
pass=$((rows / 32)) steps=$((rows * 10 / 32))
schedule=(--reverse_curriculum.mode "$MODE" --reverse_curriculum.max_steps "$steps" --eval.steps "$pass" --ckpt.save_steps "$pass")
case $TASK in *-program) length=1024 ;; *) length=512 ;; esac # tokens of a record

if [ ! -e "$SFT_DIR/model/config.json" ]; then
    submit openrlhf-ext train sft --config examples/configs/sft_reverse_curriculum_math_paper.yaml "${dry[@]}" --task "$TASK" \
        --model.model_name_or_path "$MODEL" --data.dataset "$DATA/plain.jsonl" --data.max_len "$length" --run.dir "$SFT_DIR"
fi
submit openrlhf-ext train reverse-curriculum --config "$CONFIG" --actor.model_name_or_path "$SFT_DIR/model" --run.dir "$RUN_DIR" \
    --data.prompt_dataset "$DATA/mixed.jsonl" --eval.dataset "$DATA/mixed.dev.jsonl" --evaluation.test_dataset "$DATA/test_prompts.jsonl" \
    "${schedule[@]}" "$@"
