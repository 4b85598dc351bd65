"""Checks the table and the chart of the example backpressure."""

import re, sys, xml.etree.ElementTree as xml

units = {"s": 1, "KiB": 1 << 10, "MiB": 1 << 20}
rows = {}
with open(sys.argv[1]) as table:
    for line in table:
        if match := re.fullmatch(r"(\S.*?) {2,}([\d.]+) (\w+) +([\d.]+) (\w+)\n", line):
            title, heeding, unit, ignoring, other = match.groups()
            rows[title] = float(heeding) * units[unit], float(ignoring) * units[other]
MIB = 1 << 20

peak = rows["peak of the write buffer"]
assert 64 << 10 < peak[0] <= 128 << 10 and peak[1] > 4 * MIB, peak
growth = rows.get("growth of resident memory")
assert growth is None or growth[0] < 4 * MIB < growth[1], growth
for run in 0, 1:
    of = {title: values[run] for title, values in rows.items()}
    assert abs(of["offered by the source"] - 64 * MIB * of["duration"]) < MIB, of
    assert of["received by the reader"] <= 16 * MIB * of["duration"] + MIB, of
    assert abs(of["written"] - of["sent to the kernel"] - of["unsent at the end"]) < MIB, of
    left = of["left at the source"]
    assert abs(of["offered by the source"] - of["written"] - left) < MIB, of
    assert left > 4 * MIB if run == 0 else left < MIB, of

namespace = "{http://www.w3.org/2000/svg}"
chart = xml.parse(sys.argv[2]).getroot()
texts = " ".join(text.text for text in chart.iter(namespace + "text"))
for expected in "ignoring Flow: peak", "heeding Flow: peak", "seconds", "buffered bytes":
    assert expected in texts, texts
highest = {}
for curve in chart.iter(namespace + "polyline"):
    points = [tuple(map(float, point.split(","))) for point in curve.get("points").split()]
    assert len(points) > 10 and points == sorted(points, key=lambda point: point[0])
    highest[curve.find(namespace + "title").text] = min(y for _, y in points)
assert highest["ignoring Flow"] < highest["heeding Flow"] - 50, highest
