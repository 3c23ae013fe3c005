"""What nginx needs to run the module's sanitized build: it has no sanitizer
itself, and the rules' library throws, which the sanitizer finds only when what
throws is there from the beginning."""
import os
import subprocess


def libraries():
    """For LD_PRELOAD, which parts them by ":"."""
    return [os.path.realpath(subprocess.run(
        ["gcc", f"-print-file-name=lib{name}.so"], check=True,
        capture_output=True, text=True).stdout.strip())
        for name in ("asan", "ubsan", "stdc++")]
