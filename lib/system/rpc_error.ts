/**
 * A refusal with a word that programs can act on. Thrown by a handler of `serveRpc`, it reaches the caller with the
 * same code; any other error arrives with the code `failed`.
 */
export class RpcError extends Error {
  override readonly name = "RpcError";
  constructor(readonly code: string, message: string, options?: ErrorOptions) {
    super(message, options);
  }
}
