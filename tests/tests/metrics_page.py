"""Reads a page of metrics as Prometheus does, more strictly: metrics_page.py PREFIX URL [DIRECTORY]

DIRECTORY holds ca.crt, client.crt and client.key of who may read it. Prints one line `TYPE NAME` for each family, without the
prefix; exit code 0 only if the page is OpenMetrics, every family has a help text and a type, nothing is there twice, and
counters, and nothing else, end in _total.
"""

import ssl
import sys
import urllib.request

from prometheus_client.openmetrics.parser import text_string_to_metric_families

prefix, url = sys.argv[1:3]
context = None
if len(sys.argv) > 3:
    directory = sys.argv[3]
    context = ssl.create_default_context(cafile=f"{directory}/ca.crt")
    context.load_cert_chain(f"{directory}/client.crt", f"{directory}/client.key")
with urllib.request.urlopen(url, context=context, timeout=60) as answer:
    media_type = answer.headers["Content-Type"]
    page = answer.read().decode()
assert media_type == "application/openmetrics-text; version=1.0.0; charset=utf-8", media_type

# The parser refuses what is no OpenMetrics: families in two places, samples of no family, a missing end, and the like.
families = list(text_string_to_metric_families(page))
assert families, "an empty page"
described = {}
for line in page.splitlines():
    if line.startswith(("# HELP ", "# TYPE ")):
        _, what, name, text = line.split(" ", 3)
        described.setdefault(name, []).append(what)
        assert text.strip(), line
names, samples = set(), set()
for family in families:
    name = family.name
    assert name.startswith(prefix), name
    assert name not in names, f"{name} is there twice"
    names.add(name)
    assert described.get(name) == ["HELP", "TYPE"], f"{name}: {described.get(name)}"
    assert family.type in ("counter", "gauge", "histogram"), f"{name}: {family.type}"
    assert not name.endswith(("_total", "_count", "_sum", "_bucket")), name
    assert not name.endswith(("milliseconds", "microseconds", "minutes", "kilobytes")), f"{name}: no base unit"
    for sample in family.samples:
        key = (sample.name, tuple(sorted(sample.labels.items())))
        assert key not in samples, f"{key} is there twice"
        samples.add(key)
        assert (family.type == "counter") == sample.name.endswith("_total"), sample.name
    print(family.type, name.removeprefix(prefix))
assert set(described) == names, set(described) ^ names
