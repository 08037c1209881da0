#!/usr/bin/env bash
# Installs the real transformers and PEFT into a virtual environment (some GB) and compares with build/loraine. Called by ./dev interop.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
venv=${INTEROP_VENV:-build/venv}
if [[ ! -f $venv/with_modelscope_hub ]]; then
  echo "installing torch, transformers, peft, bitsandbytes, scipy, datasets and modelscope-hub into $venv (some GB)"
  python3 -m venv "$venv" || { echo "interop: python3 -m venv failed; on Debian: apt-get install python3-venv" >&2; exit 1; }
  "$venv/bin/pip" install --quiet --disable-pip-version-check torch transformers peft bitsandbytes scipy safetensors numpy datasets modelscope-hub
  touch "$venv/with_modelscope_hub"
fi
"$venv/bin/python" tools/interop_hub.py
"$venv/bin/python" tools/interop_modelscope.py
"$venv/bin/python" tools/interop_data.py
"$venv/bin/python" tools/interop_families.py
"$venv/bin/python" -O tools/interop_gguf.py # -O: the converters assert sizes of published models
"$venv/bin/python" tools/interop_adapters.py
exec "$venv/bin/python" tools/interop.py "$@"
