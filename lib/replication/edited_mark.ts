/**
 * A file beside a module's log: written before its directories are opened for a person to edit (`binome uncover`), taken
 * away once the ledger has it. In a file of its own, so that the agent can write it without loading the data road.
 *
 * @module
 */
export const EDITED_MARK = "edited";
