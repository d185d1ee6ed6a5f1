#!/usr/bin/env bash
# Make an image of each prompt, as it is often written: curl repeats everything, and nothing is checked.
#
# Usage: shell_naive.sh PROMPT...

base_url=${SEEDREAM_BASE_URL:-https://api.kie.ai}
api_key=${SEEDREAM_API_KEY:-seedbed-key} # by default the key of the mock server
folder=${SEEDBED_DRILL_FOLDER:-.}

# Mistake: --retry-all-errors also repeats createTask, whose response may be all that was lost.
call() { curl --silent --max-time 10 --retry 3 --retry-all-errors -H "Authorization: Bearer $api_key" "$@"; }

for prompt in "$@"; do
  body=$(jq -n --arg prompt "$prompt" \
    '{model: "seedream/4.5-text-to-image", input: {prompt: $prompt, aspect_ratio: "1:1", quality: "basic"}}')
  task=$(call "$base_url/api/v1/jobs/createTask" --json "$body" | jq -r .data.taskId)
  # Mistake: this ends with a success only. A task that has failed is queried for ever, and "null", which is what jq
  # makes of a refused request, too.
  record=
  until [ "$(jq -r .data.state <<<"$record")" = success ]; do
    sleep 0.2
    record=$(call "$base_url/api/v1/jobs/recordInfo?taskId=$task")
  done
  # Mistake: the exit code is 0, whether there is an image or not.
  call "$(jq -r '.data.resultJson | fromjson.resultUrls[0]' <<<"$record")" --output "$folder/$prompt.jpg"
done
