/** Signed requests to the other nodes' APIs. */
import type { Identity } from "../identity/mod.ts";
import { addressesOf, sign } from "../identity/mod.ts";
import { type PeerAnswer, type PeerClient, PeerUnreachable } from "../http/control_types.ts";
import { HttpsError, openHttpsClient } from "./https.ts";

/** An address that does not answer in this time is passed over for the next network's. */
const TIMEOUT_MS = 3000;

/** Opens the client. Close it with `using`. */
export function openPeerClient(identity: Identity, clusterKey: CryptoKey): PeerClient & Disposable {
  const https = openHttpsClient(identity.authority);
  return {
    async request(node, { method, path, body, headers = {} }) {
      const bytes = new TextEncoder().encode(body ?? "");
      const authorization = await sign(clusterKey, {
        from: identity.node,
        to: node,
        method,
        path,
        body: bytes,
      });
      const tried: string[] = [];
      for (const address of addressesOf(identity.cluster, node)) {
        const url = `https://${address}:${identity.cluster.ports.api}${path}`;
        const content = body === undefined ? {} : { body };
        try {
          const answer: PeerAnswer = await https.send(url, {
            method,
            headers: { ...headers, authorization },
            ...content,
            timeoutMs: TIMEOUT_MS,
          });
          return answer;
        } catch (error) {
          if (!(error instanceof HttpsError)) throw error;
          tried.push(`${address}: ${error.message}`);
        }
      }
      throw new PeerUnreachable(tried.join("; "));
    },
    [Symbol.dispose]: () => https[Symbol.dispose](),
  };
}
