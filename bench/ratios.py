"""The figures of bench/compare's rounds as ratios and Markdown. A ratio is the median of the rounds' ratios, with the smallest and the
largest. Measures nothing. Imported by its folder."""
import statistics

# What a scenario's CPU is told in, by what it is divided by, and the nanoseconds of that.
UNITS = {"transaction": ("µs", 1e3), "login": ("µs", 1e3), "GiB": ("ms", 1e6)}


def ratio(rounds, of, to, key="cpu"):
    """Median, least and most of the rounds' ratios; None without such rounds."""
    found = [one[of][key] / one[to][key] for one in rounds if of in one and to in one and one[to].get(key)]
    return (statistics.median(found), min(found), max(found)) if found else None


def median(rounds, name, key):
    found = [one[name][key] for one in rounds if name in one and key in one[name]]
    return statistics.median(found) if found else None


def cell(value, form="%.1f"):
    return "" if value is None else form % value


def ratio_cell(found, aim=None):
    if found is None:
        return ""
    text = "%.2f (%.2f .. %.2f)" % found
    if aim is None:
        return text
    return "%s, aim %.2f: %s" % (text, aim, "reached" if found[0] <= aim else "**missed**")


def tables(results, names):
    """Two Markdown tables: CPU with ratios, and latencies."""
    pairs = [("workers", "pgsluice") if name == "workers" else ("pgsluice", name) for name in names if name != "pgsluice"]
    if "floor" in names and "PgBouncer" in names:
        pairs.append(("floor", "PgBouncer"))
    lines = ["| CPU | per | %s | %s |" % (" | ".join(names), " | ".join("%s / %s (min .. max)" % pair for pair in pairs)),
             "|---|---|" + "---:|" * (len(names) + len(pairs))]
    for scenario, rounds in results:
        aims = {("pgsluice", "PgBouncer"): scenario.aims[0], ("pgsluice", "floor"): scenario.aims[1], ("workers", "pgsluice"): 1.10}
        lines.append("| %s | %s, %s | %s | %s |" % (
            scenario.name, scenario.per, UNITS[scenario.per][0], " | ".join(cell(median(rounds, name, "cpu")) for name in names),
            " | ".join(ratio_cell(ratio(rounds, *pair), aims.get(pair)) for pair in pairs)))
    lines += ["", "| latency, ms | of | p50 | p99 | p99.9 | max | load late | p99 / p50 | a second | p99 / PgBouncer's (min .. max) |",
              "|---|---|" + "---:|" * 8]
    for scenario, rounds in results:
        for name in names:
            if median(rounds, name, "p50_us") is None:
                continue
            values = [median(rounds, name, key + "_us") for key in ("p50", "p99", "p999", "max")]
            spread = statistics.median(one[name]["p99_us"] / max(one[name]["p50_us"], 1e-3) for one in rounds)
            late = max((one[name]["late_ms"] for one in rounds if "late_ms" in one[name]), default=None)
            lines.append("| %s | %s | %s | %s | %.1f | %.0f | %s |" % (
                scenario.name, name, " | ".join(cell(None if it is None else it / 1000, "%.2f") for it in values), cell(late, "%.2f"), spread,
                median(rounds, name, "per_second"), ratio_cell(ratio(rounds, name, "PgBouncer", "p99_us")) if name != "PgBouncer" else ""))
    return "\n".join(lines)
