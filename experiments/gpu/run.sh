#!/usr/bin/env bash
# What of ajet needs a GPU, on a machine that may have no network: docs/gpu.md.
#
#   experiments/gpu/run.sh                        all parts
#   experiments/gpu/run.sh tests update           these parts: tests gradients attention update rollout trl_loss learn
#   experiments/gpu/run.sh update --device cpu --small     tiny shapes, to see that every line runs
#   experiments/gpu/run.sh keep                   only put aside the wheels that were brought, and bring more next time
#   experiments/gpu/run.sh machine                what is installed, and which of ajet's requirements are not
#
# In:  OUT      where results go (outputs/gpu)
#      WHEELS   a folder of wheels to install, or of pieces of them, NAME.whl.part-00, NAME.whl.part-01, ... (.whl)
#      PYTHON   the interpreter; else that of .venv, else python3
# Out: $OUT/<part>.json as soon as a part is done, $OUT/gpu.json and $OUT/gpu.md of all parts there.
set -euo pipefail
cd "$(dirname "$0")/../.."

out=${OUT:-outputs/gpu}
brought=${WHEELS:-.whl}
kept=${AJET_WHEELS_KEPT:-/tmp/ajet_wheels}
site=${AJET_SITE:-/tmp/ajet_site}
python=${PYTHON:-}
if [ -z "$python" ]; then
  python=python3
  if [ -x .venv/bin/python ]; then python=.venv/bin/python; fi
fi

if [ -d "$brought" ]; then
  mkdir -p "$kept"
  find "$brought" -maxdepth 1 \( -name '*.whl' -o -name '*.whl.part-*' \) -exec cp -n {} "$kept" \;
fi
if [ "${1:-}" = keep ]; then
  ls -l "$kept"
  exit
fi

if [ -d "$kept" ]; then
  for first in "$kept"/*.whl.part-00; do
    [ -e "$first" ] || continue
    whole=${first%.part-00}
    cat "$whole".part-* > "$whole"
    rm "$whole".part-*
  done
  # Once, for a later command on the same machine finds them installed; and all at once, which takes a fraction of the time.
  new=()
  for wheel in "$kept"/*.whl; do
    if [ -e "$wheel" ] && [ ! -e "$wheel.installed" ]; then new+=("$wheel"); fi
  done
  if [ ${#new[@]} -gt 0 ]; then
    "$python" -m pip install -q --disable-pip-version-check --no-index --no-deps --no-compile --upgrade \
      --target "$site" "${new[@]}"
    for wheel in "${new[@]}"; do touch "$wheel.installed"; done
  fi
fi

# ajet need not be installed: its source is enough.
export PYTHONPATH="src:$PWD:$site${PYTHONPATH:+:$PYTHONPATH}"
export HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1} TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
if [ "${1:-}" = machine ]; then
  exec "$python" -m experiments.gpu.machine
fi
exec "$python" -m experiments.gpu --out "$out" "$@"
