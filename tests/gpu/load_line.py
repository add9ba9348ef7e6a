"""For loads of the same model: the best one's rate and peaks, predicted and measured; where its
threads' time went.

    load_line.py REPORT.json…
"""
import json
import sys

reports = [json.load(open(path)) for path in sys.argv[1:]]
rates = [report["read_bytes"] / report["seconds"] / 1e9 for report in reports]
best = reports[rates.index(max(rates))]
peaks = best["peaks"]
print("%.1f GB/s (of %s)  %.2f s  host %d of %d MiB  device %d of %d MiB  ring %d + pinned %d MiB" % (
    max(rates), ", ".join("%.1f" % rate for rate in rates), best["seconds"],
    *(peaks[key] >> 20 for key in ("measured_host", "predicted_host", "measured_device",
                                   "predicted_device", "ring", "pinned"))))
threads = best["threads"]
print("  ms of each thread: " + ", ".join(
    "%s %.0f" % (phase["name"], 1e3 * phase["seconds"] / threads)
    for phase in best["phases"] if phase["seconds_are"] == "of all threads") + "; of the clock: " +
    ", ".join("%s %.0f" % (phase["name"], 1e3 * phase["seconds"])
              for phase in best["phases"] if phase["seconds_are"] == "elapsed"))
