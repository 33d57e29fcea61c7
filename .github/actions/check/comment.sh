#!/usr/bin/env bash
# Posts the report on the pull request, or brings the comment of an earlier run up to date: it is ours, and begins with a hidden
# marker. Where that is not allowed, as with the read-only token of a fork, a notice says so; the job is not red for it.
set -uo pipefail
marker="<!-- calibrax check: $(printf %s "$KEY" | tr -cs 'A-Za-z0-9._/' '-') -->"
body=$RUNNER_TEMP/calibrax-comment.md
said=$RUNNER_TEMP/calibrax-comment.txt
longest=60000       # GitHub takes 65536 characters
export GH_HOST=${GITHUB_SERVER_URL#*://} GH_ENTERPRISE_TOKEN=$GH_TOKEN

{
  printf '%s\n' "$marker"
  if [ "$(wc -c < "$REPORT")" -le "$longest" ]; then cat "$REPORT"
  else
    head -c "$longest" "$REPORT" | sed '$d'
    printf '\n</details>\n\nThis is not all: the rest is in the [summary of the job](%s/%s/actions/runs/%s).\n' "$GITHUB_SERVER_URL" "$GITHUB_REPOSITORY" "$GITHUB_RUN_ID"
  fi
} > "$body"

# the marker holds neither quotation marks nor backslashes
ours='query($owner: String!, $name: String!, $number: Int!, $endCursor: String) { repository(owner: $owner, name: $name) { pullRequest(number: $number) {
  comments(first: 100, after: $endCursor) { nodes { databaseId viewerDidAuthor body } pageInfo { hasNextPage endCursor } } } } }'
{
  id=$(gh api graphql --paginate -f query="$ours" -f owner="${GITHUB_REPOSITORY%%/*}" -f name="${GITHUB_REPOSITORY#*/}" -F number="$PULL_REQUEST" \
    --jq ".data.repository.pullRequest.comments.nodes[] | select(.viewerDidAuthor and (.body | startswith(\"$marker\"))) | .databaseId") &&
  id=${id%%$'\n'*} &&
  if [ -n "$id" ]; then gh api --method PATCH "repos/$GITHUB_REPOSITORY/issues/comments/$id" -F body=@"$body"
  else gh api --method POST "repos/$GITHUB_REPOSITORY/issues/$PULL_REQUEST/comments" -F body=@"$body"; fi
} > "$said" 2>&1 || {
  cat "$said"
  echo "::notice title=Benchmarks::no comment on the pull request: the token may not write there, as for a fork; the report is in the summary of this job"
}
