#!/bin/sh
# Made every lock in this folder. POETRY1_PYTHON runs poetry 1.8.5, POETRY_PYTHON poetry 2.5.1, PDM pdm 2.29.3, UV uv 0.13.9;
# PYTHON an interpreter that satisfies every project (3.13). Each asks the index.
set -eu
cd "$(dirname "$0")"
: "${UV:=uv}" "${PDM:=pdm}" "${PYTHON:=python3.13}"

(cd uv-app && "$UV" lock --python "$PYTHON")
(cd uv-workspace && "$UV" lock --python "$PYTHON")
(cd poetry-app && "$POETRY_PYTHON" ../poetry_by_simple_api.py lock)
(cd poetry1-app && "$POETRY1_PYTHON" ../poetry_by_simple_api.py lock)
(cd pdm-app && PDM_IGNORE_SAVED_PYTHON=1 "$PDM" lock --group :all --strategy inherit_metadata)
(cd pdm-static && PDM_IGNORE_SAVED_PYTHON=1 "$PDM" lock --group :all --strategy static_urls,no_inherit_metadata)
