/** How an error leaves the API: `{"error": {"code", "message", "hint"}}` and a status. */

/** Statuses used. */
export type ErrorStatus = 400 | 401 | 403 | 404 | 409 | 413 | 502 | 503;

/** An answer that is a refusal. `message` says what cannot be done and why; `hint` what to do. */
export class ApiError extends Error {
  override readonly name = "ApiError";
  readonly status: ErrorStatus;
  readonly code: string;
  readonly hint: string;

  constructor(
    options: { status: ErrorStatus; code: string; message: string; hint?: string; cause?: unknown },
  ) {
    super(options.message, { cause: options.cause });
    this.status = options.status;
    this.code = options.code;
    this.hint = options.hint ?? "";
  }
}

/** The body of an error answer. */
export interface ErrorBody {
  readonly error: { readonly code: string; readonly message: string; readonly hint: string };
}

/** The body for an error, whichever it is. */
export function errorBody(error: { code: string; message: string; hint: string }): ErrorBody {
  return { error: { code: error.code, message: error.message, hint: error.hint } };
}
