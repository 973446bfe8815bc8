#!/usr/bin/env bash
# Self-Explore from the base to the table, stage after stage; every stage is a script of its own beside this one, and started again
# each goes on where it stopped. Usage: bash examples/scripts/self_explore.sh gsm8k|math|chain [--dry-run [--cluster NxG]]
# With --dry-run the trainings are checked as far as their data is there, and the rest is shown. Variables: those of the stages.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

TASK=${1:?gsm8k, math or chain} && shift
WORK=${WORK:-runs/self-explore-$TASK}
stage() { bash "examples/scripts/self_explore_$1.sh" "$TASK" "${@:2}"; }
case " $* " in
    *" --dry-run "*)
        engines() { echo "then: bash examples/scripts/self_explore_$1.sh $TASK"; }
        needs() { test -e "$WORK/$1.jsonl"; }
        ;;
    *)
        engines() { stage "$1"; }
        needs() { true; }
        ;;
esac

stage sft "$@"
engines sample
if needs samples; then stage rft "$@"; fi
engines explore
for pairs in outcome step; do
    if needs "${pairs}_pairs"; then PAIRS=$pairs stage dpo "$@"; fi
done
engines evaluate
