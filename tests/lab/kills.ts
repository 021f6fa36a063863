/**
 * The program's parts killed, and the wait until others are in their place.
 *
 * @module
 */
import { type Cluster, NODES } from "./cluster.ts";
import { type NodeName, until } from "./lab.ts";

/** SIGKILL, then waits until another process has taken its place. */
export async function kill(
  cluster: Cluster,
  node: NodeName,
  role: "agent" | "keeper" | "replicator",
): Promise<void> {
  const pid = await cluster.pid(node, role);
  await cluster.lab.sh(node, `kill -KILL ${pid}`);
  await until(`another ${role} on ${node}`, async () => {
    const next = await cluster.pid(node, role).catch(() => pid);
    return next !== pid;
  }, { timeoutMs: 60_000, everyMs: 20 });
}

/**
 * Kills the keeper; answers when the next one has taken over what the replicator holds. Before that a death of the
 * replicator would be the second one, and the mount would be nobody's.
 */
export async function killKeeper(cluster: Cluster, node: NodeName): Promise<void> {
  const adoptions = async (): Promise<number> =>
    Number(
      (await cluster.lab.sh(node, "grep -c 'took over from' /var/log/binome/keeper.log || true")).trim(),
    );
  const before = await adoptions();
  await kill(cluster, node, "keeper");
  await until(`the keeper of ${node} to take over`, async () => await adoptions() > before, {
    timeoutMs: 60_000,
    everyMs: 50,
  });
}

/** Waits until both agents have seen the replication channel stand again. */
export async function connected(cluster: Cluster): Promise<void> {
  for (const node of NODES) {
    await until(`${node} to see the channel`, async () => (await cluster.status(node)).peerConnected, {
      timeoutMs: 60_000,
      everyMs: 20,
    });
  }
}
