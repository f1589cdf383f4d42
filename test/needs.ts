/**
 * What the longer test files need of the machine; `run.ts` plans with it which of them go side by side.
 * `npm test` prints both numbers for the slowest files, as they were in that run: a number here that is far
 * from them makes the whole take longer, and nothing else.
 */
export interface Need {
  /** How long it takes: the longest begin first. */
  readonly seconds: number
  /** How many cores it keeps busy, on average; a file that waits for timers has few, and others go beside it. */
  readonly cores: number
  /** Why nothing else may go on meanwhile. */
  readonly alone?: string
}

/** What every other file is taken to need. */
const USUAL: Need = { seconds: 2, cores: 0.8 }

/** By path below test/, or the name of a check. */
export const NEEDS: Readonly<Record<string, Need>> = {
  'checks: the sources follow the house style': { seconds: 4, cores: 1.2 },
  'checks: the types are sound': { seconds: 10, cores: 1.2 },
  'packets/bracket.test.ts': { seconds: 18, cores: 0.8 },
  'packets/cut.test.ts': { seconds: 22, cores: 0.8 },
  'differential/differential.test.ts': { seconds: 20, cores: 1 },
  'differential/tc.test.ts': { seconds: 14, cores: 0.8 },
  'bench/stand.test.ts': { seconds: 13, cores: 0.8 },
  'preload/ipvsadm.test.ts': { seconds: 12, cores: 0.8 },
  'docs/command-lines.test.ts': { seconds: 11, cores: 0.8 },
  'conformance/packets-tc.test.ts': { seconds: 150, cores: 0.2 },
  'conformance/packets-userspace.test.ts': { seconds: 155, cores: 0.2 },
  'conformance/packets-xdp.test.ts': { seconds: 150, cores: 0.2 },
  'control/daemon/daemon.test.ts': { seconds: 15, cores: 1 },
  'control/cli/top.test.ts': { seconds: 8, cores: 0.7 },
  'control/daemon/events.test.ts': { seconds: 5, cores: 0.7 },
  'control/daemon/metrics.test.ts': { seconds: 8, cores: 0.7 },
  'control/insight/explain-truth.test.ts': { seconds: 13, cores: 1 },
  'control/front/ipvsadm/packets.test.ts': { seconds: 60, cores: 0.3 },
  'control/front/ipvsadm/recordings.test.ts': { seconds: 55, cores: 0.6 },
  'control/daemon/fleet.test.ts': { seconds: 15, cores: 0.8 },
  'control/daemon/page.test.ts': { seconds: 8, cores: 0.8 },
  'control/page/browser.test.ts': { seconds: 30, cores: 1.2 },
  'control/page/watched.test.ts': { seconds: 14, cores: 0.8 },
  'control/daemon/registry.test.ts': { seconds: 9, cores: 0.5 },
  'control/registry/dns.test.ts': { seconds: 17, cores: 0.2 },
  'control/registry/register.test.ts': { seconds: 24, cores: 0.3 },
  'control/registry/zookeeper.test.ts': { seconds: 20, cores: 0.2 },
  'control/registry/etcd.test.ts': { seconds: 19, cores: 0.2 },
  'control/source/kubernetes/kubernetes.test.ts': { seconds: 25, cores: 1 },
  'control/daemon/choose-plane.test.ts': { seconds: 9, cores: 1 },
  'control/daemon/stalled-clients.test.ts': { seconds: 8, cores: 0.8 },
  'control/daemon/signals.test.ts': { seconds: 10, cores: 0.6 },
  'control/daemon/keepalived.test.ts': { seconds: 8, cores: 1 },
  'control/front/ipvsadm/debian.test.ts': { seconds: 6, cores: 1 },
  'dataplane/kernel/kernel-dataplane.test.ts': { seconds: 13, cores: 0.3 },
  'dataplane/kernel/recording.test.ts': { seconds: 25, cores: 0.6 },
  'dataplane/kernel/companion-kills.test.ts': { seconds: 100, cores: 0.5 },
  'dataplane/kernel/migration.test.ts': { seconds: 100, cores: 0.4 },
  'dataplane/userspace/forwarder-workers.test.ts': { seconds: 50, cores: 0.4 },
  'dataplane/userspace/plane.test.ts': { seconds: 105, cores: 0.2 },
  'e2e/bad-input.test.ts': { seconds: 15, cores: 0.8 },
  'e2e/doctor.test.ts': { seconds: 12, cores: 0.8 },
  'e2e/egress.test.ts': { seconds: 26, cores: 0.6 },
  'e2e/examples.test.ts': { seconds: 30, cores: 0.7 },
  'e2e/explain.test.ts': { seconds: 14, cores: 0.8 },
  'e2e/forwarding.test.ts': { seconds: 36, cores: 0.8 },
  'e2e/forwarding-off.test.ts': { seconds: 12, cores: 0.8 },
  'e2e/full-nat.test.ts': { seconds: 30, cores: 0.8 },
  'e2e/health.test.ts': { seconds: 36, cores: 0.6 },
  'e2e/health-kinds.test.ts': { seconds: 62, cores: 0.6 },
  'e2e/jumbo.test.ts': { seconds: 130, cores: 0.4 },
  'e2e/interfaces.test.ts': { seconds: 30, cores: 0.6 },
  'e2e/manuals.test.ts': { seconds: 12, cores: 0.7 },
  'e2e/keepalived.test.ts': { seconds: 20, cores: 0.3 },
  'e2e/kill-change.test.ts': { seconds: 85, cores: 0.6 },
  'e2e/kill-restore.test.ts': { seconds: 30, cores: 0.8 },
  'e2e/kill-start.test.ts': { seconds: 45, cores: 0.7 },
  'e2e/lab.test.ts': { seconds: 8, cores: 0.7 },
  'e2e/fleet.test.ts': { seconds: 32, cores: 0.7 },
  'e2e/kubernetes.test.ts': { seconds: 30, cores: 0.8 },
  'e2e/lab-registry.test.ts': { seconds: 12, cores: 0.8 },
  'e2e/ldirectord.test.ts': { seconds: 14, cores: 0.4 },
  'e2e/lifecycle.test.ts': { seconds: 12, cores: 0.8 },
  'e2e/load.test.ts': { seconds: 34, cores: 1 },
  'e2e/local-node.test.ts': { seconds: 10, cores: 0.8 },
  'e2e/neighbour.test.ts': { seconds: 12, cores: 0.8 },
  'e2e/own-clients.test.ts': { seconds: 12, cores: 0.8 },
  'e2e/plane-change.test.ts': { seconds: 38, cores: 0.8 },
  'e2e/readme.test.ts': { seconds: 6, cores: 0.8 },
  'e2e/record.test.ts': { seconds: 15, cores: 0.7 },
  'e2e/replacement.test.ts': { seconds: 20, cores: 0.7 },
  'e2e/restart.test.ts': { seconds: 38, cores: 0.8 },
  'e2e/rough-day.test.ts': { seconds: 165, cores: 0.4 },
  'e2e/route-storm.test.ts': { seconds: 14, cores: 1.2 },
  'e2e/sip.test.ts': { seconds: 50, cores: 0.5 },
  'e2e/site.test.ts': { seconds: 26, cores: 0.4 },
  'e2e/soak.test.ts': { seconds: 85, cores: 0.3 },
  'e2e/soak-sources.test.ts': { seconds: 26, cores: 0.8 },
  'e2e/two-daemons.test.ts': { seconds: 15, cores: 0.7 },
  'e2e/unit.test.ts': { seconds: 12, cores: 0.8 },
  'e2e/untracked.test.ts': { seconds: 40, cores: 0.7 },
  'e2e/upgrade.test.ts': { seconds: 45, cores: 0.8 },
  'e2e/uplinks.test.ts': { seconds: 55, cores: 0.5 },
  'e2e/vrrp.test.ts': { seconds: 15, cores: 0.6 },
  'fuzz/capacity.test.ts': { seconds: 49, cores: 1 },
  'fuzz/fuzz.test.ts': { seconds: 62, cores: 1 },
  'fuzz/moved.test.ts': { seconds: 3, cores: 1 },
  'fuzz/other-cpu.test.ts': { seconds: 8, cores: 1 },
  'fuzz/race-hosts.test.ts': { seconds: 25, cores: 1.2 },
  'fuzz/race.test.ts': { seconds: 25, cores: 1.5 },
  'package/deb.test.ts': { seconds: 50, cores: 0.8 },
  'package/npm.test.ts': { seconds: 20, cores: 0.8 },
}

export function needOf(name: string): Need {
  return NEEDS[name] ?? USUAL
}
