/**
 * GlusterFS beside Binome: a volume with one replica on each node of the lab, on the same stores and the same wire.
 *
 * Debian's daemons run inside the hosts, so they, the volume and its mount end with the lab, however it ends.
 *
 * @module
 */
import { NODES } from "./cluster.ts";
import { type Lab, until } from "./lab.ts";

const VOLUME = "bench";
const BRICK = "/srv/gluster-brick";
/** It binds, forks and reads its volumes within a second or two; a busy machine needs more. */
const START_MS = 60_000;

/** Starts the daemons, makes the volume and mounts it on node1. */
export async function startGluster(lab: Lab, folder: string): Promise<void> {
  for (const node of NODES) {
    // What a GlusterFS of this machine knows is none of this volume's business: the host sees it through an overlay.
    await lab.sh(
      node,
      `mkdir -p ${BRICK} ${folder} /run/gluster /var/log/glusterfs
      rm -rf /var/lib/glusterd/glusterd.info /var/lib/glusterd/peers /var/lib/glusterd/vols
      glusterd`,
    );
    await until(
      `glusterd of ${node}`,
      async () => (await lab.exec(node, ["gluster", "--mode=script", "pool", "list"])).code === 0,
      { timeoutMs: START_MS, everyMs: 200 },
    );
  }
  const gluster = (words: string): Promise<string> =>
    lab.sh("node1", `gluster --mode=script ${words}`, { timeoutMs: 150_000 });
  await gluster(`peer probe ${lab.address("node2")}`);
  await until(
    "the peers of GlusterFS to know each other",
    async () => (await gluster("peer status")).includes("Peer in Cluster (Connected)"),
    { timeoutMs: START_MS, everyMs: 200 },
  );
  const bricks = NODES.map((node) => `${lab.address(node)}:${BRICK}`).join(" ");
  await gluster(`volume create ${VOLUME} replica 2 ${bricks} force`);
  await gluster(`volume start ${VOLUME}`);
  await until("both replicas of GlusterFS", () => glusterWhole(lab), { timeoutMs: START_MS, everyMs: 200 });
  await lab.sh("node1", `mount -t glusterfs ${lab.address("node1")}:/${VOLUME} ${folder}`);
}

/** Whether both replicas are served: what is measured on one alone is not of a pair. */
export async function glusterWhole(lab: Lab): Promise<boolean> {
  const { code, stdout } = await lab.exec("node1", [
    "gluster",
    "--mode=script",
    "--xml",
    "volume",
    "status",
    VOLUME,
  ]);
  if (code !== 0) return false;
  const bricks = [
    ...stdout.matchAll(
      /<hostname>10\.[^<]*<\/hostname>\s*<path>[^<]*<\/path>\s*<peerid>[^<]*<\/peerid>\s*<status>(\d)/g,
    ),
  ];
  return bricks.filter(([, status]) => status === "1").length === NODES.length;
}
