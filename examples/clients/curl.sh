#!/usr/bin/env bash
# Keystile with curl. Start a gateway that answers offline, and copy the key it prints:
#
#     keystile serve --demo          (from a checkout: cargo run --release -- serve --demo)
#     KEYSTILE_KEY=ks_… examples/clients/curl.sh
#
# For a gateway elsewhere set KEYSTILE_BASE_URL, for another model KEYSTILE_MODEL.
set -euo pipefail

: "${KEYSTILE_KEY:?set it to a virtual key (ks_…)}"
base=${KEYSTILE_BASE_URL:-http://127.0.0.1:8080/v1}
model=${KEYSTILE_MODEL:-demo/keystile-chat}

ask() { # PATH [MORE CURL ARGUMENTS]
  local path=$1
  shift
  curl --silent --show-error --fail-with-body "$base$path" -H "Authorization: Bearer $KEYSTILE_KEY" "$@"
  echo
}

echo "What this key may call:"
ask /models

echo
echo "An answer in one piece, with what it cost in its headers:"
ask /chat/completions --include -H "Content-Type: application/json" -H "x-keystile-tags: example=curl" \
  -d '{"model":"'"$model"'","max_tokens":60,"messages":[{"role":"user","content":"What is a virtual key?"}]}'

echo
echo "The same as it is written, with the token counts at its end:"
ask /chat/completions --no-buffer -H "Content-Type: application/json" \
  -d '{"model":"'"$model"'","max_tokens":20,"stream":true,"stream_options":{"include_usage":true},"messages":[{"role":"user","content":"What is a spend cap?"}]}'

echo "What is left to spend (spent, reserved and remaining, in micro-dollars):"
ask /key
