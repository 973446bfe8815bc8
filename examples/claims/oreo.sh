#!/usr/bin/env bash
# What right and wrong answers teach beyond right ones: a tiny model on chains of STEPS additions, SFT to 20 to 60 %, its own graded answers, and from
# these, at equal data and passes, rejection sampling, DPO, KTO and OREO (token, step) for every seed; then greedy answers against the search.
# Usage: bash examples/claims/oreo.sh [DIR] [--oreo.KEY VALUE ...]          SEEDS="1" PROBLEMS=200 TEST=100 BEAMS="1 3": short. Goes on after a stop.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
PATH=$PWD/.venv/bin:$PATH

OUT=runs/claims/oreo
case ${1:-} in "" | --*) ;; *) OUT=$1 && shift ;; esac
SEEDS=${SEEDS:-1 2 3} SEARCH_SEEDS=${SEARCH_SEEDS:-1} BEAMS=${BEAMS:-1 3 5}
STEPS=${STEPS:-4} OPERAND=${OPERAND:-9} TEST=${TEST:-500} PROBLEMS=${PROBLEMS:-800} N=${N:-4}    # the task; N answers per problem
SLIPS=${SLIPS:-0.9} SLIPS_FROM=${SLIPS_FROM:-8} SFT_ROWS=${SFT_ROWS:-4000} SFT_EPOCHS=${SFT_EPOCHS:-5} SFT_LR=${SFT_LR:-2e-3} # right but at operands 8 and 9
EPOCHS=${EPOCHS:-2} RS_LR=${RS_LR:-3e-4} DPO_LR=${DPO_LR:-3e-4} KTO_LR=${KTO_LR:-2e-5} OREO_LR=${OREO_LR:-2e-4} VALUE_LR=${VALUE_LR:-1e-3}
ALPHA_token=${ALPHA_token:-1e-4} ALPHA_step=${ALPHA_step:-0.1} LENGTH=$((24 + 14 * STEPS)) curves="" C=examples/configs S=$OUT/sft/model jobs=$OUT/claim.jobs

mkdir -p "$OUT" && : >"$jobs"
unless() { [ -e "$1" ] || echo "${@:2}" >>"$jobs"; } # what is there already is not made again; a run that was stopped goes on
train() { unless "$OUT/$2/model/config.json" "train $1 --run.dir $OUT/$2 $([ ! -e "$OUT/$2/config.yaml" ] || echo --resume) --data.max_len $LENGTH" "${@:3}"; }
unless "$OUT/init/config.json" prepare tiny-model --out "$OUT/init" --task chain --layers 2 --hidden 128 --heads 4 --context 128
unless "$OUT/data/test.jsonl" prepare chain --out "$OUT/data" --steps "$STEPS" --max-operand "$OPERAND" --test "$TEST" --slips "$SLIPS" --slips-from "$SLIPS_FROM"
unless "$OUT/sft.jsonl" prepare sft --from "$OUT/data/slips.jsonl" --out "$OUT/sft.jsonl"
train sft sft --config $C/sft_chain_tiny.yaml --model.model_name_or_path "$OUT/init" --data.dataset "$OUT/sft.jsonl" --data.output_key output --data.max_samples "$SFT_ROWS" --train.batch_size 16 --train.micro_batch_size 16 --train.max_epochs "$SFT_EPOCHS" --adam.lr "$SFT_LR"
for seed in $SEEDS; do
    D=$OUT/answers-$seed same="--run.seed $seed --train.max_epochs $EPOCHS" from="--model.model_name_or_path $S --adam.lr"
    unless "$D-pairs.jsonl" collect --model "$S" --task chain --prompts "$OUT/data/train.jsonl" --limit "$PROBLEMS" --n "$N" --temperature 1 --seed "$seed" --out "$D.jsonl" --resume
    unless "$D-sft.jsonl" prepare sft --from "$D.jsonl" --select successes --out "$D-sft.jsonl"
    unless "$D-pairs.jsonl" prepare pairs --kind outcome --in "$D.jsonl" --out "$D-pairs.jsonl"
    train sft "rejection-$seed" --config $C/sft_chain_tiny.yaml "$same $from $RS_LR" --data.dataset "$D-sft.jsonl" --train.batch_size 32 --train.micro_batch_size 32 --data.max_samples 2048
    train dpo "dpo-$seed" --config $C/dpo_chain_tiny.yaml "$same $from $DPO_LR" --data.dataset "$D-pairs.jsonl"
    train kto "kto-$seed" --config $C/kto_chain_tiny.yaml "$same $from $KTO_LR" --data.dataset "$D.jsonl"
    for level in token step; do alpha=ALPHA_$level
        train oreo "oreo-$level-$seed" --config $C/oreo_chain_tiny.yaml "$same" --oreo.level $level --oreo.alpha ${!alpha} --actor.model_name_or_path "$S" --actor.adam.lr "$OREO_LR" --critic.adam.lr "$VALUE_LR" --data.prompt_dataset "$D.jsonl" "$@"
    done
    curves+=" $OUT/oreo-token-$seed $OUT/oreo-step-$seed" models="sft=$S" && for arm in rejection dpo kto oreo-token oreo-step; do models+=" $arm=$OUT/$arm-$seed/model"; done
    echo "evaluate --model $models --suite chain --data $OUT/data --samples 1 --out $OUT/eval-$seed --resume" >>"$jobs"
    case " $SEARCH_SEEDS " in *" $seed "*) echo "search --policy $OUT/oreo-token-$seed/model --value $OUT/oreo-token-$seed/value --suite chain --data $OUT/data --beams $BEAMS --out $OUT/search-$seed --resume" >>"$jobs" ;; esac
done
echo "report$curves --out $OUT/report.html" >>"$jobs" && openrlhf-ext jobs "$jobs" # one process and one Ray session for all of them
if [ -e "$OUT/sft" ]; then python benchmarks/oreo.py "$OUT"; fi
