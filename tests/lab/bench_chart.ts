/**
 * The chart of `scripts/bench`: one panel a case, one bar a system, as a plain SVG that needs nothing to be looked at.
 *
 * @module
 */
import type { Case, Measured, Row } from "./bench_report.ts";

const COLUMNS = 3;
const PANEL_WIDTH = 340;
const NAME_WIDTH = 96;
/** What stands behind a bar: "123.4k 0.98×". */
const FIGURE_WIDTH = 92;
const BAR = 18;
const HEAD = 30;
const GAP = 24;
const TOP = 58;

const TITLES: Readonly<Record<Case, string>> = {
  "write_4k_d1": "4 KiB random write, 1 writer",
  "write_4k_d16": "4 KiB random write, 16 writers",
  "write_fsync_4k": "4 KiB write + fsync",
  "seq_write_1m": "1 MiB sequential write",
  "read_4k": "4 KiB random read",
  "round_trip": "network round trip",
  "create": "create small files",
  "unlink": "unlink small files",
  "sqlite": "SQLite: inserts (WAL, FULL)",
  "pgbench": "PostgreSQL: pgbench, 4 clients",
  "checkout": "git checkout: files",
};

const COLOURS: Readonly<Record<Measured, string>> = {
  native: "#8a8f98",
  bindfs: "#b9bdc4",
  gluster: "#d9a05b",
  binome: "#1f6fb2",
  "binome-plain": "#6aa5d8",
  "binome-fsync": "#12466f",
  network: "#8a8f98",
};

/**
 * Draws the rows.
 *
 * @param about a line beneath the title: when, how long, on how busy a machine.
 * @returns the whole file.
 */
export function chart(rows: readonly Row[], about: string): string {
  const panels = panelsOf(rows);
  const tall = Math.max(0, ...panels.map((panel) => panel.length));
  const panelHeight = HEAD + tall * (BAR + 4) + GAP;
  const lines = Math.ceil(panels.length / COLUMNS);
  const width = GAP + COLUMNS * (PANEL_WIDTH + GAP);
  const height = TOP + lines * panelHeight + GAP;
  const body = panels.map((panel, at) => {
    const x = GAP + (at % COLUMNS) * (PANEL_WIDTH + GAP);
    const y = TOP + Math.floor(at / COLUMNS) * panelHeight;
    return `<g transform="translate(${x} ${y})">\n${draw(panel)}\n</g>`;
  });
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${width} ${height}" width="${width}" height="${height}" ` +
    `font-family="sans-serif" font-size="12" fill="#222" role="img" aria-label="Operations a second by case and system">`,
    `<rect width="${width}" height="${height}" fill="#fff"/>`,
    `<text x="${GAP}" y="26" font-size="17" font-weight="bold">Operations a second, longer is better; × is beside native</text>`,
    `<text x="${GAP}" y="45" fill="#666">${escaped(about)}</text>`,
    ...body,
    "</svg>",
    "",
  ].join("\n");
}

/** The rows of each case. The network's own is a limit, not a system. */
function panelsOf(rows: readonly Row[]): Row[][] {
  const panels = new Map<Case, Row[]>();
  for (const row of rows) {
    if (row.system === "network") continue;
    panels.set(row.case, [...panels.get(row.case) ?? [], row]);
  }
  return [...panels.values()];
}

/** A panel's own scale: its longest bar is its fastest system. */
function draw(panel: readonly Row[]): string {
  const most = Math.max(...panel.map(({ iops }) => iops));
  const native = panel.find(({ system }) => system === "native")?.iops;
  const [first] = panel;
  const title = first === undefined ? "" : TITLES[first.case];
  const bars = panel.map((row, at) => {
    const y = HEAD + at * (BAR + 4) - 12;
    const room = PANEL_WIDTH - NAME_WIDTH - FIGURE_WIDTH;
    const length = most === 0 ? 0 : Math.round(row.iops / most * room * 10) / 10;
    const beside = native === undefined || native === 0 || row.system === "native"
      ? ""
      : ` ${(row.iops / native).toFixed(2)}×`;
    const middle = y + BAR - 5;
    return [
      `<text x="${NAME_WIDTH - 8}" y="${middle}" text-anchor="end">${escaped(row.system)}</text>`,
      `<rect x="${NAME_WIDTH}" y="${y}" width="${length}" height="${BAR}" rx="2" fill="${
        COLOURS[row.system]
      }"/>`,
      `<text x="${NAME_WIDTH + length + 6}" y="${middle}" fill="#444">${short(row)}${beside}</text>`,
    ].join("");
  });
  return [`<text y="10" font-size="13" font-weight="bold">${escaped(title)}</text>`, ...bars].join("\n");
}

/** Bytes where they are what one asks for, else operations. */
function short(row: Row): string {
  if (row.case === "seq_write_1m") return `${Math.round(row["mb_s"])} MB/s`;
  return row.iops >= 10_000 ? `${(row.iops / 1000).toFixed(1)}k` : String(Math.round(row.iops));
}

function escaped(text: string): string {
  return text.replaceAll("&", "&amp;").replaceAll("<", "&lt;").replaceAll(">", "&gt;");
}
