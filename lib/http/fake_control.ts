/** An agent for tests of the control plane: says what it is told, remembers what it was asked. */
import type {
  AgentControl,
  ClusterStatus,
  CommandResult,
  EventRow,
  ModuleStatus,
  NodeModuleStatus,
  Verb,
} from "../agent_control.ts";
import type { ModuleConfig } from "../config/types.ts";
import { PROTOCOL } from "../protocol.ts";

/** One module on one node, stopped unless told otherwise. */
export function fakeInstance(node: string, over: Partial<NodeModuleStatus> = {}): NodeModuleStatus {
  return {
    node,
    heard: true,
    state: "stopped",
    readiness: "not-ready",
    copy: "uptodate",
    epoch: 1,
    role: "none",
    members: [],
    sequence: "0",
    reason: "",
    ...over,
  };
}

/** A module as a status shows it. */
export function fakeModule(module: string, over: Partial<ModuleStatus> = {}): ModuleStatus {
  return {
    module,
    kind: "directory",
    generation: 1,
    nodes: [fakeInstance("node1"), fakeInstance("node2")],
    peerConnected: false,
    network: { preferred: "lan", used: null },
    resync: null,
    verification: null,
    vip: { addresses: [], set: false },
    service: { configured: false, state: "none" },
    maintenance: false,
    replicator: null,
    ...over,
  };
}

/** See the file's head. */
export class FakeControl implements AgentControl {
  readonly node: string;
  modules: ModuleStatus[] = [];
  readonly commands: { module: string; verb: Verb; by: string; force?: boolean }[] = [];
  readonly verifications: { module: string; by: string }[] = [];
  readonly notes: { level: EventRow["level"]; what: string; why: string }[] = [];
  readonly applied: { config: ModuleConfig; generation: number }[] = [];
  answer: CommandResult = { ok: true, code: "accepted", message: "" };
  /** Done before a command is answered: what the real agent would decide. */
  onCommand: (module: string, verb: Verb) => void = () => {};

  constructor(node: string) {
    this.node = node;
  }

  status(): ClusterStatus {
    return {
      cluster: "plant",
      node: this.node,
      arbiter: "none",
      peers: [{
        node: this.node === "node1" ? "node2" : "node1",
        heard: true,
        protocol: PROTOCOL.version,
        networks: { lan: 12 },
      }],
      modules: this.modules,
      warnings: [],
    };
  }

  command(module: string, verb: Verb, options: { by: string; force?: boolean }): Promise<CommandResult> {
    if (!this.modules.some((known) => known.module === module)) {
      return Promise.resolve({ ok: false, code: "unknown-module", message: "" });
    }
    this.commands.push({ module, verb, ...options });
    this.onCommand(module, verb);
    return Promise.resolve(this.answer);
  }

  verify(module: string, options: { by: string }): Promise<CommandResult> {
    if (!this.modules.some((known) => known.module === module)) {
      return Promise.resolve({ ok: false, code: "unknown-module", message: "" });
    }
    this.verifications.push({ module, ...options });
    return Promise.resolve(this.answer);
  }

  events(since: number, limit: number): readonly EventRow[] {
    const rows = [1, 2, 3].map((id): EventRow => ({
      id,
      time: "2026-01-01T00:00:00.000Z",
      node: this.node,
      module: "bms",
      epoch: 1,
      level: "info",
      what: `event ${id}`,
      why: "",
    }));
    return rows.filter(({ id }) => id > since).slice(0, limit);
  }

  applyModule(config: ModuleConfig, generation: number): Promise<CommandResult> {
    this.applied.push({ config, generation });
    if (this.answer.ok && !this.modules.some(({ module }) => module === config.name)) {
      this.modules = [...this.modules, fakeModule(config.name, { generation })];
    }
    return Promise.resolve(this.answer);
  }

  removeModule(module: string): Promise<CommandResult> {
    this.modules = this.modules.filter((known) => known.module !== module);
    return Promise.resolve(this.answer);
  }

  readonly covers: { module: string; covered: boolean }[] = [];

  setCover(module: string, covered: boolean): Promise<CommandResult> {
    this.covers.push({ module, covered });
    return Promise.resolve(this.answer);
  }

  applyCluster(): Promise<CommandResult> {
    return Promise.resolve(this.answer);
  }

  note(event: { level: EventRow["level"]; what: string; why: string }): void {
    this.notes.push({ level: event.level, what: event.what, why: event.why });
  }
}
