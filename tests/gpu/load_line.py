"""One line of a load's report: rate, peaks predicted and measured.

    load_line.py REPORT.json
"""
import json
import sys

report = json.load(open(sys.argv[1]))
peaks = report["peaks"]
load = next(phase for phase in report["phases"] if phase["name"] == "load")
print("%5.2f s (moving %.2f s, %.1f GB/s)  host %d of %d MiB  device %d of %d MiB  ring %d pinned %d MiB" % (
    report["seconds"], load["seconds"], load["bytes"] / load["seconds"] / 1e9,
    *(peaks[key] >> 20 for key in ("measured_host", "predicted_host", "measured_device",
                                   "predicted_device", "ring", "pinned"))))
