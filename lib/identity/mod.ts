/**
 * Who is who: the cluster's authority, the nodes' certificates, the tokens that admit a node, the signature on
 * requests between nodes.
 *
 * @module
 */
export { AdmissionError, admissionFromJson, admissionToJson, admit, createJoinToken } from "./admission.ts";
export { createRequest, fingerprint } from "./certificate.ts";
export {
  addressesOf,
  type Admission,
  type Ambient,
  createIdentity,
  type Identity,
  loadIdentity,
  refuseMember,
  saveAdmission,
} from "./identity.ts";
export { decodeJoinToken, type JoinToken } from "./join_token.ts";
export { importClusterKey, sameSecret, SCHEME, sign, type SignedRequest, verify } from "./signature.ts";
export { PUBLIC_MODE, readText, SECRET_MODE, STATE_FILE, type StateFiles } from "./state_files.ts";
