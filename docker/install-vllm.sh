#!/bin/sh
# Install vLLM, pinned, into an environment of its own, and make ours, which sees its packages behind its own.
#
#   docker/install-vllm.sh VLLM_TARGET KAITO_TARGET
set -eu

vllm=$1
kaito=$2
python=${PYTHON:-python3}
source=$(cd "$(dirname "$0")/.." && pwd)
packages='import sysconfig; print(sysconfig.get_path("purelib"))'

"$python" -m venv --without-pip "$vllm"
PIP_CONSTRAINT=$source/docker/runtime/vllm-constraints.txt \
    "$python" -m pip --python "$vllm/bin/python" --disable-pip-version-check install --quiet vllm 'ray[cgraph]'
"$python" -m venv --without-pip "$kaito"
"$vllm/bin/python" -c "$packages" > "$("$kaito/bin/python" -c "$packages")/vllm.pth"
