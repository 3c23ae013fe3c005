"""A strict reader of Prometheus' text format 0.0.4, for tests."""
import re

NAME = "[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\[\\"n])*)"'
SAMPLE = re.compile(rf"({NAME})(?:\{{({LABEL}(?:,{LABEL})*)\}})? (\S+)\Z")
SUFFIXES = {"histogram": ("_bucket", "_sum", "_count"),
            "counter": ("",), "gauge": ("",)}


def parse(text):
    """{name: {labels as a sorted tuple: value}}; raises on what is no
    exposition: order, types, duplicates, buckets that do not add up."""
    assert text.endswith("\n"), "the last line has no end"
    out, kind, family, seen = {}, None, None, set()
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            family, kind = line.split(" ", 3)[2], None
            assert re.fullmatch(NAME, family), line
            assert family not in seen, f"{family} comes twice"
            seen.add(family)
            continue
        if line.startswith("# TYPE "):
            _, _, name, kind = line.split(" ")
            assert name == family and kind in SUFFIXES, line
            continue
        m = SAMPLE.match(line)
        assert m and kind, f"no sample: {line!r}"
        name, labels = m.group(1), tuple(sorted(re.findall(
            LABEL, m.group(2) or "")))
        assert name in [family + s for s in SUFFIXES[kind]], line
        assert len({k for k, _ in labels}) == len(labels), line
        series = out.setdefault(name, {})
        assert labels not in series, f"twice: {line}"
        series[labels] = float(m.group(m.lastindex))
        assert kind != "counter" or series[labels] >= 0, line
    for name, series in out.items():
        if name.endswith("_bucket"):
            check_buckets(name[:-7], series, out)
    return out


def check_buckets(base, series, out):
    groups = {}
    for labels, value in series.items():
        rest = tuple(x for x in labels if x[0] != "le")
        groups.setdefault(rest, []).append((float(dict(labels)["le"]), value))
    for rest, buckets in groups.items():
        buckets.sort()
        counts = [n for _, n in buckets]
        assert counts == sorted(counts), (base, rest)
        assert buckets[-1][0] == float("inf"), (base, rest)
        assert counts[-1] == out[base + "_count"][rest], (base, rest)
        assert rest in out[base + "_sum"], (base, rest)
