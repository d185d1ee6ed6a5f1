#!/usr/bin/env bash
# Make an image of each prompt, and pay for each of them once, whatever goes wrong. It needs curl, jq and sha256sum.
#
# Usage: shell_careful.sh PROMPT...
#
# If it ends early, run it again: it goes on with the tasks that it has paid for.
set -uo pipefail

base_url=${SEEDREAM_BASE_URL:-https://api.kie.ai}
api_key=${SEEDREAM_API_KEY:-seedbed-key} # by default the key of the mock server
folder=${SEEDBED_DRILL_FOLDER:-.}        # a drill has an empty folder for each run
deadline=$((15 * 60))                    # the service advises to give up after 10 to 15 minutes
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

problem() { echo "$prompt: $1" >&2; }

unknown() {
  problem "its task may exist ($1)"
  pause=10 # the service has trouble: without a pause, all the other tasks would become as uncertain
}

# Send a request: set $code and $retry_after, and leave the response in $scratch/answer. There is no --retry here: curl
# cannot know which requests may be repeated.
call() {
  code='' retry_after=0
  # From standard input, the key is not visible in the list of processes.
  curl --silent --max-time 30 --config - --dump-header "$scratch/headers" --output "$scratch/answer" "$@" \
    <<<"header = \"Authorization: Bearer $api_key\"" || return
  # The outcome is the code in the body: the HTTP status is 200 for errors, too.
  code=$(jq -r 'if type == "object" then .code // empty else empty end' "$scratch/answer" 2>/dev/null)
  retry_after=$(tr -d '\r' <"$scratch/headers" | sed -nE 's/^retry-after: *([0-9]+)$/\1/Ip' | tail -n 1)
  retry_after=${retry_after:-0}
}

answer() { jq -r "$1 // empty" "$scratch/answer" 2>/dev/null; }
most() { printf '%s\n' "$@" | sort -n | tail -n 1; }

# Set $task to the ID of the task of $prompt, which is created if there is none yet.
create_task() {
  local record body attempt backoff=5
  record=$folder/$(sha256sum <<<"$prompt" | head -c 16).task
  # Before the request is sent: if this program is killed now, the next run knows that a task may exist. Only one of two
  # runs at the same time can make the file.
  if ! (set -o noclobber && : >"$record") 2>/dev/null; then
    task=$(<"$record")
    [ -n "$task" ] || problem "its task may exist; look into your account, then write its ID into $record"
    return
  fi
  body=$(jq -n --arg prompt "$prompt" \
    '{model: "seedream/4.5-text-to-image", input: {prompt: $prompt, aspect_ratio: "1:1", quality: "basic"}}')
  for attempt in 1 2 3 4 5 6 7 8; do
    if ! call "$base_url/api/v1/jobs/createTask" --json "$body"; then
      # The request may have arrived, and a second one might pay for a second image.
      unknown "the connection broke"
      return
    fi
    [ "$code" = 200 ] && task=$(answer .data.taskId) && [ -n "$task" ] && echo -n "$task" >"$record" && return
    case $code in 429 | 455) ;; *) break ;; esac
    # Too many requests, or maintenance: no task was created, and it is worth another try, but not at once.
    sleep "$(most "$retry_after" "$backoff")"
    backoff=$((backoff < 30 ? backoff * 2 : 60))
  done
  case $code in
    401 | 402 | 404 | 422 | 429 | 455 | 501 | 505)
      # Refused, so there is no task. To repeat the same request is pointless.
      rm "$record"
      problem "the service refused it with code $code"
      ;;
    *) unknown "code ${code:-missing}" ;;
  esac
}

# Set $state to the final state of $task, and leave its record in $scratch/answer.
wait_for_task() {
  local begun=$SECONDS failures=0 interval waited
  while true; do
    state=
    if call "$base_url/api/v1/jobs/recordInfo?taskId=$task" && [ "$code" = 200 ]; then state=$(answer .data.state); fi
    case $state in success | fail) return ;; esac
    if [ "$code" = 401 ]; then problem "the key was refused; the task $task is kept"; return 1; fi
    # Everything else may pass, also "unknown task": a new task is unknown for a moment. The task is paid for, so bad
    # responses are no reason to lose it.
    failures=$((${#state} ? 0 : failures < 5 ? failures + 1 : 5))
    waited=$((SECONDS - begun))
    if ((waited > deadline)); then problem "the task $task has not ended; run this again to go on"; return 1; fi
    # Often at first, seldom later, as the service advises, and even less often while it has trouble.
    interval=$((waited < 30 ? 3 : waited < 120 ? 8 : 20))
    sleep "$(most "$interval" "$retry_after" $((failures ? 2 ** failures : 0)))"
  done
}

# Save the image of the record in $scratch/answer, before the service deletes it.
fetch_image() {
  local url attempt
  url=$(answer '.data.resultJson | fromjson.resultUrls[0]')
  for attempt in 1 2 3 4; do
    # Without call, which would send the key. A JPEG file ends with ff d9. Without them, it is half an image.
    if curl --silent --fail --location --max-time 60 --output "$scratch/image" "$url" &&
      [ "$(tail -c 2 "$scratch/image" | od -An -tx1)" = " ff d9" ]; then
      mv "$scratch/image" "$folder/$task.jpg"
      return
    fi
    sleep $((2 ** attempt))
  done
  problem "its image cannot be fetched"
  return 1
}

status=0 pause=0
for prompt in "$@"; do
  sleep "$pause"
  pause=0
  task=
  create_task
  if [ -n "$task" ] && wait_for_task; then
    if [ "$state" = fail ]; then
      problem "its task failed, which costs nothing ($(answer .data.failCode): $(answer .data.failMsg))"
    elif fetch_image; then
      echo "$prompt: done"
      continue
    fi
  fi
  # Scripts rely on the exit code: it is 0 only if every image is there.
  status=1
done
exit "$status"
