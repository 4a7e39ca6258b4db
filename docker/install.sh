#!/bin/sh
# Install the suite into a virtual environment of its own: pinned, compiled, without pip, with a bill of materials.
#
#   docker/install.sh TARGET EXTRAS
#
# The images' Dockerfiles run it, and so does the test that builds their file system without a container engine.
# PYTHON names the interpreter, which must be at the same path where the result runs; python3 unless said otherwise.
set -eu

target=$1
extras=$2
python=${PYTHON:-python3}
source=$(cd "$(dirname "$0")/.." && pwd)

[ -x "$target/bin/python" ] || "$python" -m venv --without-pip "$target"
# As a variable, so that it binds what builds the wheel too.
PIP_CONSTRAINT=$source/constraints.txt \
    "$python" -m pip --python "$target/bin/python" --disable-pip-version-check install --quiet "$source[$extras]"
"$target/bin/python" "$source/docker/sbom.py" "$target/share/sbom.cdx.json"
