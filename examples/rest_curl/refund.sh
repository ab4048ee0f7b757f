#!/usr/bin/env bash
# Records a decision over REST with curl and reads it back: the trace, the context graph, precedents, the log as it grows.
#
#   make run                                  # in another terminal
#   examples/rest_curl/refund.sh [NUMBER]     # needs bash, curl 7.76 or newer, and jq
#
# NUMBER is that of the refund; unset, a new one. The same number again records nothing twice: every event has an
# idempotency key that is made of it. So whatever went wrong, run it again with the same number.
#
# Another service than that of `make run`: set DG_REST=https://…, and DG_API_KEY (a key, exchanged for a token) or
# DG_TOKEN (a token) of an account with the roles reader and writer.
set -euo pipefail
umask 077

number=${1:-$(date +%s)}
trace=refund-$number
service=$(dirname "$0")/../../.run/service.json
scratch=$(mktemp -d)
watcher=
trap 'kill ${watcher:+"$watcher"} 2>/dev/null || true; rm -rf "$scratch"' EXIT

step() { printf '\n== %s\n' "$*"; }
die() { printf 'refund.sh: %s\n' "$*" >&2; exit 1; }

# Who calls goes by a file: what stands on a command line, everybody on the machine can read.
authorize() { printf 'authorization: Bearer %s' "$2" >"$scratch/$1"; }

# call ROLE PATH [CURL OPTION …]: prints the answer, or ends the script. Every attempt has its time limit. After 408, 429,
# 503, 504 and when nobody listens, curl tries again, when `retry-after` says so if it is there. That is safe: what is sent
# again has the same idempotency key.
call() {
  local role=$1 path=$2
  shift 2
  rm -f "$scratch/answer"
  curl --silent --show-error --fail-with-body --output "$scratch/answer" \
    --connect-timeout 3 --max-time 10 --retry 5 --retry-connrefused --retry-max-time 60 \
    --header @"$scratch/$role" --header 'content-type: application/json' "$@" "$rest$path" || explain "$path"
  cat "$scratch/answer"
}

# The reason is what programs decide by, the message says what to change, the request id finds the call in the log.
explain() {
  [ -s "$scratch/answer" ] || die "$1: no answer; run it again with the same number: $number"
  die "$1: $(jq -r '([.details[]? | .reason // empty][0] // "UNKNOWN") as $reason
    | ([.details[]? | .request_id // empty][0] // "unknown") as $request
    | "\($reason): \(.message) (request id \($request))"' "$scratch/answer" || head -c 500 "$scratch/answer")"
}

# Ids may be any text, so they are percent-encoded in paths.
encoded() { jq -rn --arg text "$1" '$text | @uri'; }

for tool in curl jq; do command -v "$tool" >/dev/null || die "$tool is missing"; done

# --- where, and as whom ---

rest=${DG_REST:-}
if [ -z "$rest" ]; then
  [ -r "$service" ] || die "no service: start one with \`make run\`, or set DG_REST, and DG_API_KEY or DG_TOKEN"
  rest=$(jq -er .rest "$service")
fi
if [ -n "${DG_API_KEY:-}" ]; then
  step "exchange the API key for a token"
  : >"$scratch/nobody"
  # It is good for minutes (`expires_at`), which is enough here; a program that runs longer exchanges again in time.
  token=$(jq -n '{api_key: env.DG_API_KEY}' | call nobody /api/v1/auth/token --data @- | jq -er .token)
elif [ -n "${DG_TOKEN:-}" ]; then
  token=$DG_TOKEN
elif [ -n "${DG_REST:-}" ]; then
  die "DG_REST is set, so set DG_API_KEY or DG_TOKEN too"
fi
for role in reader writer; do
  authorize "$role" "${token:-$(jq -er --arg role "$role" '.tokens[$role]' "$service")}"
done

# --- the decision, as the agent made it ---

jq -n --arg number "$number" --arg trace "$trace" --arg now "$(date -u +%Y-%m-%dT%H:%M:%SZ)" '
  {actor_type: "agent", actor_id: "refund-bot"} as $bot
  | {actor_type: "person", actor_id: "m.huber"} as $huber
  | {policy_id: "refund_limit", policy_version: "2026-02"} as $policy
  | {entity_type: "order", entity_id: "A-\($number)", system: "shop"} as $order
  | [
    {key: "start", actor: $bot, event_type: "TraceStarted", payload: {
      workflow: "refund", title: "Refund of 240 EUR for a damaged espresso machine", primary_entity: $order}},
    {key: "policy", actor: $bot, event_type: "PolicyEvaluated", payload: {
      policy: $policy, inputs: [], decision: "require_exception",
      violations: [{code: "amount_over_limit", message: "240.00 EUR is over the limit of 200.00 EUR"}]}},
    {key: "exception", actor: $bot, event_type: "ExceptionRequested", payload: {
      exception_id: "exc-\($number)", policy: $policy, reason: "Damage is proven, customer since 2019"}},
    {key: "approval", actor: $huber, event_type: "ApprovalRecorded", payload: {
      approval_id: "apr-\($number)", subject: {subject_type: "exception", subject_id: "exc-\($number)"},
      approver: $huber, decision: "approved", reason: "Photo is clear"}},
    {key: "proposal", actor: $bot, event_type: "ActionProposed", payload: {
      action_id: "act-\($number)", action_type: "refund", target_entity: $order, target_system: "payments",
      changes: [{path: "refunded", old_value: null, new_value: {type: "decimal", value: "240.00"}}]}},
    {key: "payment", actor: $bot, event_type: "ActionCommitted", payload: {
      action_id: "act-\($number)", status: "success", external_reference: "pay-\($number)"}},
    {key: "end", actor: $bot, event_type: "TraceFinished", payload: {
      outcome: "success", summary: "Refunded in full"}}
  ]
  | {events: map({
      trace_id: $trace, event_type, payload, actor, occurred_at: $now,
      source: {producer_id: "refund-agent", system: "support"},
      idempotency_key: "\($trace)/\(.key)"})}
' >"$scratch/events"

step "append $trace: all of its events, or none"
call writer /api/v1/events:batch --data @"$scratch/events" >"$scratch/receipts"
jq -r '.receipts | "stored \(map(select(.reused | not)) | length), reused \(map(select(.reused)) | length)"' \
  "$scratch/receipts"
first=$(jq -er '.receipts[0].log_seq' "$scratch/receipts")
last=$(jq -er '.receipts[-1].log_seq' "$scratch/receipts")

# min_log_seq: the answer includes what was just written.
step "read the trace"
call reader "/api/v1/traces/$(encoded "$trace")" --get --data-urlencode "min_log_seq=$last" >"$scratch/trace"
jq -r '"\(.summary.title): \(.summary.status), \(.summary.outcome)", (.events[] | "  \(.trace_seq) \(.event_type)")' \
  "$scratch/trace"

step "read what surrounds the order"
call reader /api/v1/graph/context --get --data-urlencode "min_log_seq=$last" --data-urlencode max_depth=2 \
  --data-urlencode node_type=entity --data-urlencode "node_id=order:A-$number" >"$scratch/graph"
jq -r '.edges[] | "  \(.from_node_id) --\(.edge_type)--> \(.to_node_id)"' "$scratch/graph"

step "find decisions like this one"
call reader /api/v1/precedents --get --data-urlencode "min_log_seq=$last" --data-urlencode page_size=3 \
  --data-urlencode "like_trace_id=$trace" >"$scratch/precedents"
jq -r '.precedents[] | "  score \(.score): \(.trace_id), \(.outcome)"' "$scratch/precedents"

# A watch has no end, and says every few seconds how far it has seen; so it is silence that ends it here, and not a time
# limit. After a break, go on with the last log_seq that was seen.
step "follow the log from position $first to $last"
mkfifo "$scratch/watch"
curl --silent --show-error --fail-with-body --no-buffer --connect-timeout 3 --speed-limit 1 --speed-time 30 \
  --header @"$scratch/reader" --get --data-urlencode "since_log_seq=$((first - 1))" --data-urlencode "trace_id=$trace" \
  "$rest/api/v1/events:watch" >"$scratch/watch" &
watcher=$!
seen=0
while [ "$seen" -lt "$last" ]; do
  IFS= read -r -t 30 line <&3 || die "the watch ended after position $seen; go on with since_log_seq=$seen"
  seen=$(jq -er '.event.log_seq // .heartbeat.head_log_seq' <<<"$line") || die "the watch was refused: $line"
  jq -r '.event // empty | "  \(.log_seq) \(.event_type) by \(.actor.actor_id)"' <<<"$line"
done 3<"$scratch/watch"

step "done: $trace"
