#!/usr/bin/env python3
"""How the cost of a unit of work changes with the number of streams, by `adit bench`.

    bench/scaling.py                               1, 10, 100 and 1,000 streams
    bench/scaling.py --streams 1,50,500 -- --engine epoll --secs 5

What follows `--` goes to `adit bench`. The program is $ADIT_BIN, else target/release/adit. Cost that
is flat (the target: within 15 %) shows in the last column as 1.00: each figure in relation to that of
the fewest streams.
"""

import argparse
import json
import os
import subprocess
import sys

# The workloads whose number of connections is --streams, and the figures that should stay flat.
FLAT = {
    "upload": "cpu_s_per_gib",
    "download": "cpu_s_per_gib",
    "round-trips": "cpu_us_each",
    "connects": "cpu_us_each",
}


def measure(program, streams, more):
    """The portal's medians by workload, over so many streams."""
    command = [program, "bench", "--json", "--streams", str(streams), *more]
    run = subprocess.run(command, stdout=subprocess.PIPE, check=False, text=True)
    if run.returncode != 0:
        sys.exit(f"{' '.join(command)}: exit code {run.returncode}")
    report = json.loads(run.stdout)
    cells = [cell for cell in report["cells"] if cell["way"] == "portal" and cell["streams"] == streams]
    return report, {cell["workload"]: cell["median"] for cell in cells}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--streams", default="1,10,100,1000", help="numbers with commas between")
    parser.add_argument("more", nargs="*", help="behind --: for adit bench")
    args = parser.parse_args()
    program = os.environ.get("ADIT_BIN", "target/release/adit")
    first = {}
    for streams in (int(number) for number in args.streams.split(",")):
        report, medians = measure(program, streams, args.more)
        if not first:
            machine = report["machine"]
            print(f"adit {report['version']}, engine {report['engine']}; {machine['processors']} × "
                  f"{machine['processor']}, Linux {machine['kernel']}")
            print(f"{'STREAMS':>7}  {'WORKLOAD':<11}  {'CPU':>9}  {'UNIT':<13}  TO THE FIRST")
        for workload, figure in FLAT.items():
            cost = medians[workload][figure]
            ratio = cost / first.setdefault(workload, cost)
            print(f"{streams:>7}  {workload:<11}  {cost:>9.3f}  {figure:<13}  {ratio:.2f}", flush=True)


if __name__ == "__main__":
    main()
