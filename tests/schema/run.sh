#!/usr/bin/env bash
# Answers under random JSON Schemas, validated by Python's jsonschema: tests/schema/run.sh BUILD [N_SCHEMAS [N_SEEDS]]
# Without python3-venv the check is skipped, or fails where CI=true.
# Its packages come from PyPI into a folder of their own outside the tree, $TROL_PYTHON_PACKAGES if that is set.
set -euo pipefail
build=$(cd "$1" && pwd)
shift
source=$(cd "$(dirname "$0")/../.." && pwd)
packages=${TROL_PYTHON_PACKAGES:-}
if [ -z "$packages" ]; then
    packages=$(mktemp -d)
    trap 'rm -rf "$packages"' EXIT
fi
if ! "$packages/bin/python" -c 'import jsonschema, rfc3339_validator' 2>/dev/null; then
    if ! python3 -m venv "$packages" 2>/dev/null; then
        echo "skipped: the Debian package python3-venv is missing"
        [ "${CI:-}" != true ]
        exit
    fi
    "$packages/bin/pip" -q --disable-pip-version-check install 'jsonschema[format-nongpl]'
fi
"$packages/bin/python" "$source/tests/schema/check.py" "$build" "$source" "$@"
