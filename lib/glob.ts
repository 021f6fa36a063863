/**
 * Patterns of names, as of a shell: `*` any run of characters, `?` one, `[a-z]` one of a set, `[!a-z]` one of none, `\` takes the
 * next one as it is. A leading dot is nothing special. No "/" ever matches: a pattern is of one name.
 *
 * Names are bytes: a character is a byte of ASCII, or a whole UTF-8 sequence; what is no UTF-8 counts byte by byte.
 *
 * @module
 */

type Token =
  | { readonly kind: "byte"; readonly byte: number }
  | { readonly kind: "one" }
  | { readonly kind: "run" }
  | {
    readonly kind: "set";
    readonly ranges: readonly (readonly [number, number])[];
    readonly negated: boolean;
  };

/** A pattern of one name. */
export class Glob {
  readonly #tokens: readonly Token[];

  /** @throws {SyntaxError} with what is wrong in the pattern, as a part of a sentence. */
  constructor(pattern: string) {
    this.#tokens = parse(pattern);
  }

  /** Whether a name, without a NUL at its end, is one of the pattern's. Takes time by the product of both lengths at most. */
  matches(name: Uint8Array): boolean {
    const tokens = this.#tokens;
    let at = 0;
    let token = 0;
    // Where the last run began, and how far it reaches by now: runs before it need not grow any more.
    let run = -1;
    let reached = 0;
    while (at < name.length) {
      const next = tokens[token];
      if (next?.kind === "run") {
        run = token++;
        reached = at;
        continue;
      }
      const taken = next === undefined ? 0 : step(next, name, at);
      if (taken > 0) {
        token++;
        at += taken;
        continue;
      }
      if (run < 0) return false;
      token = run + 1;
      at = ++reached;
    }
    while (tokens[token]?.kind === "run") token++;
    return token === tokens.length;
  }
}

/** How many bytes a token takes at a place; 0: it does not fit. */
function step(token: Token, name: Uint8Array, at: number): number {
  const byte = name[at] ?? 0;
  if (token.kind === "byte") return token.byte === byte ? 1 : 0;
  const length = characterAt(name, at);
  if (token.kind !== "set") return length;
  const inside = length === 1 && token.ranges.some(([first, last]) => byte >= first && byte <= last);
  return inside === token.negated ? 0 : length;
}

/** Bytes of the character at a place. */
function characterAt(name: Uint8Array, at: number): number {
  const first = name[at] ?? 0;
  const length = first < 0xc2 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 1;
  for (let i = 1; i < length; i++) if (((name[at + i] ?? 0) & 0xc0) !== 0x80) return 1;
  return length;
}

function parse(pattern: string): Token[] {
  const bytes = new TextEncoder().encode(pattern);
  const tokens: Token[] = [];
  for (let at = 0; at < bytes.length;) {
    const byte = bytes[at] ?? 0;
    if (byte === 0 || byte === 0x2f) throw new SyntaxError("a name has neither NUL nor /");
    if (byte === 0x2a) tokens.push({ kind: "run" }), at++;
    else if (byte === 0x3f) tokens.push({ kind: "one" }), at++;
    else if (byte === 0x5b) at = parseSet(bytes, at, tokens);
    else if (byte === 0x5c) {
      if (at + 1 === bytes.length) throw new SyntaxError("nothing follows its last \\");
      tokens.push({ kind: "byte", byte: bytes[at + 1] ?? 0 });
      at += 2;
    } else tokens.push({ kind: "byte", byte }), at++;
  }
  return tokens;
}

function parseSet(bytes: Uint8Array, start: number, into: Token[]): number {
  let at = start + 1;
  const negated = bytes[at] === 0x21 || bytes[at] === 0x5e;
  if (negated) at++;
  const ranges: [number, number][] = [];
  // A "]" that comes first is one of the set.
  for (let first = true; first || bytes[at] !== 0x5d; first = false) {
    const from = bytes[at++];
    if (from === undefined) throw new SyntaxError("a [ in it has no ]");
    const ranged = bytes[at] === 0x2d && bytes[at + 1] !== 0x5d && bytes[at + 1] !== undefined;
    const to = ranged ? bytes[at + 1] ?? 0 : from;
    if (ranged) at += 2;
    if (from > 0x7f || to > 0x7f) throw new SyntaxError("a [ ] in it has more than plain ASCII");
    if (to < from) throw new SyntaxError("a range within its [ ] runs backwards");
    ranges.push([from, to]);
  }
  into.push({ kind: "set", ranges, negated });
  return at + 1;
}
