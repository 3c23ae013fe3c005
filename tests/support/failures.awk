# What failed, from the output of a test file: of each test that failed its name
# and, under it, what was said and where. For tests/run.sh, whose last lines this
# is. Knows cmocka, unittest, node's TAP, and "FAILED name" before a traceback.
function say(text) { print substr(text, 1, 600) }

# A traceback ends with the exception, at the left; its place is that of the last
# frame, and in a chain of exceptions the last one counts.
/^Traceback / { in_trace = 1; place = source = ""; next }
in_trace && /^  File "/ {
    n = split($2, path, "/")
    place = path[n]
    sub(/",?$/, "", place)
    line = $4
    sub(/,$/, "", line)
    place = place ":" line
    source = ""
    next
}
in_trace && /^    / {
    if (source == "") {
        source = $0
        sub(/^ +/, "", source)
    }
    next
}
in_trace && /^[A-Za-z_]/ {
    in_trace = 0
    say("  " $0)
    if (place != "")
        say("    at " place ": " source)
    next
}

# TAP: the reason is a scalar, or the lines under "error: |-".
/^ *not ok / { say($0); in_tap = 1; next }
in_tap && /^ *location:/ { say("    at" substr($0, index($0, ":") + 1)); next }
in_tap && /^ *error: *\|/ { n_reason = 4; next }
in_tap && n_reason > 0 { n_reason--; say("  " $0); next }
in_tap && /^ *error:/ { say("  " $0); next }
in_tap && /^ *\.\.\.$/ { in_tap = n_reason = 0; next }

# cmocka says why before it says which.
/^\[  ERROR   \]|^\[   LINE   \]/ { say("  " $0); next }
/^\[  FAILED  \] [0-9]+ test/ { next }
/^\[  FAILED  \]|^FAIL(ED)?:? |^ERROR: / { say($0); next }
/^sanitizers reported:/ { n_report = 4 }
n_report > 0 { n_report--; say("  " $0) }
