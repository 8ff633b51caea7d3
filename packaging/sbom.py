#!/usr/bin/env python3
"""Prints what the shipped program is made of, as a bill of materials (CycloneDX 1.5, JSON).

Reads Cargo.lock by way of cargo: every crate that is compiled into the program for Linux, with its version, licence
and the checksum of what was downloaded. Build-time and test-time crates are not in it. Run in the workspace.
"""

import json
import subprocess
import tomllib


def cargo(*arguments):
    """What a cargo command prints."""
    return subprocess.run(["cargo", *arguments], check=True, capture_output=True, text=True).stdout


def main():
    tree = cargo(
        "tree", "--locked", "--package", "proxy", "--edges", "no-dev,no-build,no-proc-macro",
        "--prefix", "none", "--format", "{p}|{l}",
    )  # fmt: skip
    with open("Cargo.lock", "rb") as lock:
        checksums = {(p["name"], p["version"]): p.get("checksum") for p in tomllib.load(lock)["package"]}
    components = {}
    for line in tree.splitlines():
        package, _, licence = line.partition("|")
        name, version = package.split()[:2]
        version = version.removeprefix("v")
        component = {"type": "library", "name": name, "version": version}
        checksum = checksums.get((name, version))
        if checksum:
            component["purl"] = f"pkg:cargo/{name}@{version}"
            component["hashes"] = [{"alg": "SHA-256", "content": checksum}]
        licence = licence.split(" (*)")[0].strip().replace("/", " OR ")
        if licence:
            component["licenses"] = [{"expression": licence}]
        components[(name, version)] = component
    proxy = next(c for (name, _), c in components.items() if name == "proxy")
    bill = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {"component": {"type": "application", "name": "adit", "version": proxy["version"]}},
        "components": [components[key] for key in sorted(components) if key[0] != "proxy"],
    }
    print(json.dumps(bill, indent=1))


if __name__ == "__main__":
    main()
