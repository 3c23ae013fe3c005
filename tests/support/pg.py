"""PostgreSQL for tests: a transaction that stays open while something is tried."""
import contextlib
import subprocess


@contextlib.contextmanager
def transaction(conninfo, text, seconds=20):
    """Has run `text` when the block begins, and is committed behind it; ends by
    itself in any case."""
    with subprocess.Popen(
            ["psql", conninfo, "-qXAt", "-v", "ON_ERROR_STOP=1"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as held:
        held.stdin.write(
            f"SET idle_in_transaction_session_timeout = {seconds * 1000};"
            f"BEGIN; {text}; SELECT 'begun';\n")
        held.stdin.flush()
        line = held.stdout.readline()
        while line not in ("begun\n", ""):
            line = held.stdout.readline()
        try:
            assert line, f"psql ended: {held.wait(10)}"
            yield
        finally:
            held.communicate("COMMIT;\n", timeout=seconds)
        assert held.returncode == 0, held.returncode
