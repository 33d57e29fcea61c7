#!/usr/bin/env bash
# Measures, then judges the run by the baseline or makes it the baseline; action.yml says what the variables mean. The verdict
# is an output and not the exit status, since what comes next, such as the comment, is to happen whatever it is.
set -uo pipefail
shopt -s nullglob
export CALIBRAX_DATA=$DATA
reports=$RUNNER_TEMP/calibrax-check
report=$reports/report.md
code=0 judged=''
read -r -a options <<< "${OPTIONS//$'\n'/ }"
read -r -a profile_options <<< "${PROFILE_OPTIONS//$'\n'/ }"
read -r -a functions <<< "${FUNCTIONS//$'\n'/ }"
case $SET_BASELINE$ON_DEFAULT_BRANCH in autotrue) SET_BASELINE=always ;; auto*) SET_BASELINE=never ;; esac

# the newest run of the store, or nothing
newest() { calibrax runs --data "$DATA" --limit 1 --json 2> /dev/null | python -c 'import json, sys; print(json.load(sys.stdin)[0]["id"])' 2> /dev/null; }

# keep the worst exit code: a regression, then nothing to say, then doubts
worse() {
  local codes=" $code $1 "
  case $codes in *' 1 '*) code=1 ;; *' 2 '*) code=2 ;; *' 3 '*) code=3 ;; *) [ "$codes" = ' 0 0 ' ] || code=2 ;; esac
}

# say why nothing can be judged; what a program said, in the file $2, is shown as it is
unjudged() {
  echo "::$ANNOTATION title=Benchmarks::$1"
  { printf '### Benchmarks: nothing to judge\n\n%s\n\n' "$1"; [ -z "${2:-}" ] || sed 's/^/    /' "$2"; echo; } >> "$report"
  worse 2
}

# judge the run $1 by the baseline $2, or make it that
judge() {
  local part=$reports/part.md said=$reports/said.txt verdict=0
  rm -f "$part"
  judged="$judged${judged:+ }$1"
  if [ "$SET_BASELINE" = always ]; then
    if calibrax baseline --data "$DATA" --run "$1" --name "$2" > "$said" 2>&1; then
      cat "$said"
      { printf '### Benchmarks: the new baseline\n\n'; sed 's/^/    /' "$said"; calibrax summary --data "$DATA" --run "$1" | sed 's/^/    /'; echo; } >> "$report"
    else cat "$said" >&2; unjudged 'the baseline cannot be set' "$said"; fi
    return
  fi
  calibrax check --data "$DATA" --run "$1" --baseline "$2" --threshold "$THRESHOLD" --first-run "$FIRST_RUN" --markdown "$part" \
    ${options[@]+"${options[@]}"} 2> "$said" || verdict=$?
  cat "$said" >&2
  if [ ! -s "$part" ]; then unjudged 'there is no verdict' "$said"; return; fi
  cat "$part" >> "$report"
  case $verdict in
    1) echo "::$ANNOTATION title=Benchmarks::worse than the baseline; the summary of this job says what" ;;
    3) echo "::$ANNOTATION title=Benchmarks::there are doubts, and --strict; the summary of this job says which" ;;
  esac
  worse "$verdict"
}

measure_functions() {
  local function before after
  before=$(newest)
  for function in "${functions[@]}"; do
    printf '## %s\n\n' "$function" >> "$report"
    calibrax profile --module "$MODULE" --function "$function" --data "$DATA" ${profile_options[@]+"${profile_options[@]}"} ||
      { unjudged "$function was not measured; the log says why"; continue; }
    after=$(newest)
    if [ "$after" = "$before" ]; then unjudged "the run of $function is not the newest of the store"; else judge "$after" "$function"; fi
    before=$after
  done
}

run_suite() {
  local before after pattern file status found='' IFS=''
  before=$(newest)
  if [ -n "$SUITE" ]; then
    bash -eo pipefail -c "$SUITE"
    status=$?
    if [ "$status" -ne 0 ]; then unjudged "the suite ended with exit status $status; the log says why"; return; fi
  fi
  while read -r pattern; do
    for file in $pattern; do
      calibrax ingest --data "$DATA" --input "$file" 2> "$reports/said.txt" || { cat "$reports/said.txt" >&2; unjudged 'a file of results cannot be read' "$reports/said.txt"; return; }
      found=yes
    done
  done <<< "$RESULTS"
  after=$(newest)
  if [ -n "$RESULTS" ] && [ -z "$found" ]; then unjudged 'the suite wrote no file that `results` names'
  elif [ -n "$SUITE$RESULTS" ] && [ "$after" = "$before" ]; then unjudged 'the suite saved no run in the store that is newer than those that are there'
  else judge "${after:-latest}" "$BASELINE"; fi
}

rm -rf "$reports"
mkdir -p "$reports"
case $SET_BASELINE in
  always|never) if [ "${#functions[@]}" -gt 0 ]; then measure_functions; else run_suite; fi ;;
  *) unjudged 'set-baseline is none of auto, always and never' ;;
esac
keep=false
if [ "$ON_DEFAULT_BRANCH" = true ]; then
  keep=true
  [ -z "$KEEP" ] || [ -z "$judged" ] || calibrax prune --data "$DATA" --keep "$KEEP"
fi
printf '<sub>Commit %s, [log](%s/%s/actions/runs/%s)</sub>\n' "${COMMIT:0:8}" "$GITHUB_SERVER_URL" "$GITHUB_REPOSITORY" "$GITHUB_RUN_ID" >> "$report"
cat "$report" >> "$GITHUB_STEP_SUMMARY"
{ echo "exit-code=$code"; echo "report=$report"; echo "runs=$judged"; echo "keep=$keep"; } >> "$GITHUB_OUTPUT"
