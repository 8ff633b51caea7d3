#!/usr/bin/env python3
"""Checks that every pod in Kubernetes manifests meets the restricted Pod Security Standard, and a little more.

    check-manifests.py FILE...

More than the standard asks for: a read-only root file system, no token of a ServiceAccount, limits of memory, and an
image with a tag that is not `latest`. What is valid in Kubernetes at all is another program's business
(kubernetes-validate). Prints a line for each finding; exit code 1 if there is one, 2 if there is no pod at all.
"""

import sys

import yaml

# Volumes that the standard allows.
VOLUMES = {"configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret"}


def findings(spec):
    """What is wrong with a pod's spec, a sentence each."""
    pod = spec.get("securityContext", {})
    for key in ("hostNetwork", "hostPID", "hostIPC"):
        if spec.get(key):
            yield f"{key} is set"
    if spec.get("automountServiceAccountToken") is not False:
        yield "automountServiceAccountToken is not false"
    for volume in spec.get("volumes", []):
        for kind in volume.keys() - {"name"} - VOLUMES:
            yield f"volume {volume['name']} is a {kind}"
    containers = spec.get("initContainers", []) + spec.get("containers", [])
    for container in containers:
        name = f"container {container['name']}"
        own = container.get("securityContext", {})
        both = {**pod, **own}
        if both.get("runAsNonRoot") is not True:
            yield f"{name}: runAsNonRoot is not true"
        if not both.get("runAsUser"):
            yield f"{name}: runAsUser is no number but root's"
        if both.get("seccompProfile", {}).get("type") not in ("RuntimeDefault", "Localhost"):
            yield f"{name}: no seccomp profile"
        if own.get("privileged"):
            yield f"{name}: privileged"
        if own.get("allowPrivilegeEscalation") is not False:
            yield f"{name}: allowPrivilegeEscalation is not false"
        if own.get("readOnlyRootFilesystem") is not True:
            yield f"{name}: readOnlyRootFilesystem is not true"
        capabilities = own.get("capabilities", {})
        if capabilities.get("drop") != ["ALL"] or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
            yield f"{name}: capabilities are not all dropped"
        if any("hostPort" in port for port in container.get("ports", [])):
            yield f"{name}: a port of the host"
        if "memory" not in container.get("resources", {}).get("limits", {}):
            yield f"{name}: no limit of memory"
        tag = container.get("image", "").rpartition("/")[2].partition(":")[2]
        if tag in ("", "latest"):
            yield f"{name}: the image's tag says nothing"


def main(files):
    pods = found = 0
    for file in files:
        with open(file, encoding="utf-8") as text:
            documents = [document for document in yaml.safe_load_all(text) if document]
        for document in documents:
            spec = document.get("spec", {})
            spec = spec.get("template", {}).get("spec", spec)
            if "containers" not in spec:
                continue
            pods += 1
            for finding in findings(spec):
                print(f"{file}: {document['kind']} {document['metadata']['name']}: {finding}")
                found += 1
    print(f"{pods} pods, {found} findings")
    return 2 if not pods else int(found > 0)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
