#!/usr/bin/env bash
# Builds .venv from requirements/cpu.lock: the whole stack for a machine without a GPU, then this project (editable).
# Done once per lock file; a second call returns at once, and a call after an interrupted one repairs what that one left.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
ROOT=$PWD
VENV=.venv
LOCK=requirements/cpu.lock
NEEDED_GIB=6 # 3 for .venv, 3 for the download cache, which shares files with .venv on one file system

# Containers often set this; byte code written once here makes every later import of the stack about twice as fast.
unset PYTHONDONTWRITEBYTECODE

say() { printf 'setup: %s\n' "$*" >&2; }
fail() {
    say "error: $1"
    say "  -> $2"
    exit 1
}
hash_of() { cat "$@" | sha256sum | cut -c1-16; }
is_py311() { "$1" -c 'import sys; sys.exit(sys.version_info[:2] != (3, 11))' >/dev/null 2>&1; }

find_python() {
    local candidate
    for candidate in ${PYTHON:+"$PYTHON"} python3.11 python3 python /usr/bin/python3.11 /usr/local/bin/python3.11; do
        if is_py311 "$candidate"; then
            "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1 || fail "$candidate has no venv module" \
                "install it (Debian, Ubuntu: apt-get install python3.11-venv), then run make setup again"
            printf '%s\n' "$candidate"
            return
        fi
    done
    fail "no Python 3.11 found (the pinned stack has wheels for 3.11)" \
        "install Python 3.11, or name it: make setup PYTHON=/path/to/python3.11"
}

check_machine() {
    local machine free_gib
    machine="$(uname -s)-$(uname -m)"
    [ "$machine" = Linux-x86_64 ] || fail "the training stack is locked for Linux-x86_64, this is $machine" \
        "the light commands work everywhere: python3.11 -m venv .venv && .venv/bin/pip install -e ."
    free_gib=$(($(df -Pk . | awk 'NR == 2 {print $4}') / 1048576))
    [ "$free_gib" -ge "$NEEDED_GIB" ] || fail "$free_gib GiB free on the disk of $ROOT, the environment takes up to $NEEDED_GIB" \
        "free some space, then run make setup again"
}

# A pip setting: from its environment variable, else from pip's configuration files. uv reads neither.
pip_setting() {
    local from_env="PIP_$1"
    printf '%s' "${!from_env:-$("$VENV/bin/python" -m pip config get "global.${2}" 2>/dev/null || true)}"
}

lend_pip_settings_to_uv() {
    local links index cert
    links=${UV_FIND_LINKS:-$(pip_setting FIND_LINKS find-links | xargs | tr ' ' ',')}
    index=$(pip_setting INDEX_URL index-url)
    cert=$(pip_setting CERT cert)
    if [ -n "$links" ]; then export UV_FIND_LINKS=$links; fi
    if [ -n "$index" ] && [ -z "${UV_DEFAULT_INDEX:-}${UV_INDEX_URL:-}" ]; then export UV_DEFAULT_INDEX=$index; fi
    if [ -n "$cert" ] && [ -z "${SSL_CERT_FILE:-}" ]; then export SSL_CERT_FILE=$cert; fi
    export UV_HTTP_TIMEOUT=${UV_HTTP_TIMEOUT:-180}
}

# The CPU build of torch is in no general index: it comes from a folder of wheels, or from PyTorch's own CPU index.
choose_torch_source() {
    local folder wheel
    wheel=$(sed -n 's/^torch==\([^ ]*\).*/torch-\1-cp311-/p' "$LOCK")
    for folder in ${UV_FIND_LINKS:+${UV_FIND_LINKS//,/ }}; do
        if compgen -G "${folder#file://}/$wheel*.whl" >/dev/null; then
            say "torch: from $folder"
            return
        fi
    done
    if [ -z "${UV_INDEX:-}${UV_EXTRA_INDEX_URL:-}" ]; then
        say "torch: from PyTorch's CPU index"
        export UV_TORCH_BACKEND=${UV_TORCH_BACKEND:-cpu}
    fi
}

make_venv() {
    local python
    if [ -e "$VENV/.installing" ]; then
        say "the last set-up was interrupted: starting $VENV anew (what it downloaded is kept)"
    elif [ -e "$VENV/.root" ] && [ "$(cat "$VENV/.root")" != "$ROOT" ]; then
        say "$VENV was made in $(cat "$VENV/.root"): making it anew"
    elif is_py311 "$VENV/bin/python" && "$VENV/bin/python" -m pip --version >/dev/null 2>&1; then
        printf '%s\n' "$ROOT" >"$VENV/.root"
        return
    fi
    python=$(find_python)
    check_machine
    say "creating $VENV with $("$python" --version)"
    "$python" -m venv --clear "$VENV"
    printf '%s\n' "$ROOT" >"$VENV/.root"
}

install_packages() {
    local todo
    todo=$(mktemp)
    "$VENV/bin/python" scripts/missing_pins.py "$LOCK" >"$todo"
    if [ -s "$todo" ]; then
        check_machine
        lend_pip_settings_to_uv
        if ! "$VENV/bin/python" -c 'import uv' 2>/dev/null; then
            "$VENV/bin/python" -m pip install -q --disable-pip-version-check "$(grep -o '^uv==[^ ]*' "$LOCK")" ||
                fail "pip could not install uv" "check the network and pip's index settings, then run make setup again"
        fi
        if grep -q '^torch==' "$todo"; then choose_torch_source; fi
        say "installing $(wc -l <"$todo") pinned packages"
        touch "$VENV/.installing"
        # Only what differs, without resolving: the lock is complete, and the unused CUDA requirements stay away.
        "$VENV/bin/uv" pip install --python "$VENV/bin/python" --no-deps --index-strategy unsafe-best-match -r "$todo" 2>&1 |
            sed '/^ [-+~] /d; s/^/  /' >&2 ||
            fail "uv could not install the pinned packages (its message is above)" \
                "check the network; for a mirror or a folder of wheels set UV_DEFAULT_INDEX or UV_FIND_LINKS; then run make setup again"
        "$VENV/bin/python" scripts/missing_pins.py "$LOCK" >"$todo"
        [ -s "$todo" ] && fail "still not as locked: $(xargs <"$todo")" "run make setup again; if it stays: rm -rf $VENV"
        rm "$VENV/.installing"
    fi
    rm -f "$todo"
}

compile_bytecode() {
    say "compiling byte code (once)"
    # The packages' own tests are a quarter of the work and never imported. Files written for newer Python versions do not
    # compile on 3.11 and are never imported either: not an error.
    "$VENV/bin/python" -m compileall -q -j "$(nproc)" -x '/(tests?|testing/_internal)/' \
        "$VENV/lib/python3.11/site-packages" >/dev/null || true
}

SECONDS=0
exec 9<"$ROOT"
flock -n 9 || { say "another set-up is running here: waiting for it" && flock 9; }

make_venv
STAMP=$VENV/.stamp-$(hash_of "$LOCK")
if [ ! -e "$STAMP" ]; then
    install_packages
    compile_bytecode
    say "letting vLLM look at the model architectures (once)"
    VLLM_LOGGING_LEVEL=${VLLM_LOGGING_LEVEL:-WARNING} "$VENV/bin/python" scripts/warm_vllm.py || say "vLLM could not be warmed up: its first engine start will take longer"
    rm -f "$VENV"/.stamp-*
    touch "$STAMP"
fi
PROJECT=$VENV/.project-$(hash_of setup.py pyproject.toml)
if [ ! -e "$PROJECT" ]; then
    say "installing openrlhf-ext (editable)"
    "$VENV/bin/uv" pip install -q --python "$VENV/bin/python" --no-deps --no-build-isolation -e . ||
        fail "the project itself could not be installed (uv's message is above)" "check setup.py and pyproject.toml"
    rm -f "$VENV"/.project-*
    touch "$PROJECT"
fi
if ! "$VENV/bin/python" -c 'import ctypes; ctypes.CDLL("libnuma.so.1")' 2>/dev/null; then
    say "warning: libnuma.so.1 is not on this system, and vLLM's CPU kernels need it"
    say "  -> apt-get install libnuma1 (Debian, Ubuntu) or dnf install numactl-libs (Fedora)"
fi
if [ "$SECONDS" -gt 2 ]; then say "ready after $SECONDS s: $VENV"; fi
