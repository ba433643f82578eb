#!/usr/bin/python
"""Ansible module: all preflight checks of a host in one round trip. A thin shell over kvkit.checks."""

from __future__ import annotations

DOCUMENTATION = r"""
module: kv_preflight
short_description: Name what breaks KV sharing on a host
description:
  - Looks at RDMA links, GPUs, the network, the Mooncake store, LMCache's file, the running vLLM and the host itself,
    and judges what it saw. Everything of a host comes in one round trip.
  - Changes nothing, also outside check mode. With a store that answers, one key is put into it, read back and removed;
    switch that off with I(target.canary).
  - With I(fleet) it looks at nothing. It judges the facts of several hosts together, and the hosts that gave none.
options:
  target:
    description:
      - What the host is meant to be. The settings are the fields of C(Target) in kvkit/checks/target.py; what is not
        told is skipped.
    type: dict
    default: {}
  fleet:
    description: Facts by host, as earlier calls returned them.
    type: dict
  silent:
    description: Failed and unreachable results of earlier calls, by host.
    type: dict
    default: {}
  control_time:
    description: The control node's clock when the call is made, in seconds since 1970.
    type: float
  sysfs_root:
    description: Where sysfs is mounted.
    type: path
    default: /sys
  proc_root:
    description: Where procfs is mounted.
    type: path
    default: /proc
attributes:
  check_mode:
    description: It only looks.
    support: full
author: kvkit
"""

EXAMPLES = r"""
- name: Check a vLLM host that shares its KV over RDMA
  kv_preflight:
    target:
      parts: [vllm]
      connector: lmcache-inprocess
      protocol: rdma
      rdma_devices: [mlx5_0, mlx5_1]
      mooncake_host: 10.0.0.1
      mooncake_rpc_port: 50051
      mooncake_metrics_port: 9003
      lmcache_config: /opt/kvkit/lmcache_config.yaml
  register: checked

- name: Hold the hosts against each other
  kv_preflight:
    fleet: "{{ dict(ansible_play_hosts | zip(ansible_play_hosts | map('extract', hostvars, ['checked', 'facts']))) }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
findings:
  description: What every check says, in the order of C(kvkit preflight --list).
  returned: always
  type: list
  elements: dict
  contains:
    id: {description: Stable name of the check., type: str}
    status: {description: "pass, warn, fail, skip or error (could not look).", type: str}
    subject: {description: "What it is about: a device, an address, a key.", type: str}
    seen: {description: What was found., type: str}
    expected: {description: What is right., type: str}
    mend: {description: What to do., type: str}
    doc: {description: Page of the documentation., type: str}
silent:
  description: With I(fleet), a finding for each host that gave no facts.
  returned: with I(fleet)
  type: dict
facts:
  description: What was gathered, by section; never a secret.
  returned: without I(fleet)
  type: dict
"""

import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.kvkit_checks.answers import judge_silence
from ansible.module_utils.kvkit_checks.fleet import judge_fleet
from ansible.module_utils.kvkit_checks.host import Host
from ansible.module_utils.kvkit_checks.run import gather, judge
from ansible.module_utils.kvkit_checks.target import Target, TargetError


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            # The engines' API key is among its fields.
            "target": {"type": "dict", "default": {}, "no_log": False},
            "fleet": {"type": "dict"},
            "silent": {"type": "dict", "default": {}},
            "control_time": {"type": "float"},
            "sysfs_root": {"type": "path", "default": "/sys"},
            "proc_root": {"type": "path", "default": "/proc"},
        },
        supports_check_mode=True,
    )
    if module.params["fleet"] is not None:
        judge_together(module)
    try:
        target = Target.from_dict(module.params["target"])
    except TargetError as error:
        module.fail_json(msg=f"target.{error}")
    arrived = time.time()
    facts = gather(Host(sysfs=Path(module.params["sysfs_root"]), procfs=Path(module.params["proc_root"])), target)
    # The clocks are held against each other on the control node: between these two lies the way here.
    facts["call"] = {"sent": module.params["control_time"], "arrived": arrived}
    module.exit_json(changed=False, findings=[one.as_dict() for one in judge(facts, target)], facts=facts)


def judge_together(module: AnsibleModule) -> None:
    findings = judge_fleet(module.params["fleet"], module.params["control_time"])
    silent = {host: [judge_silence(result).as_dict()] for host, result in module.params["silent"].items()}
    module.exit_json(changed=False, findings=[finding.as_dict() for finding in findings], silent=silent)


if __name__ == "__main__":
    main()
