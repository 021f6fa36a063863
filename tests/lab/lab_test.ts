import { assert, assertEquals, assertMatch, assertNotEquals, assertRejects } from "@std/assert";
import { hierarchy } from "./cgroup.ts";
import { Lab, type LabOptions, must, run, until } from "./lab.ts";

/** Each test has a lab of its own name, so that files of tests may run at the same time. */
async function withLab(
  name: string,
  test: (lab: Lab) => Promise<void>,
  options: Partial<LabOptions> = {},
): Promise<void> {
  await using lab = await Lab.up({ prefix: `self-${name}`, ...options });
  await test(lab);
}

async function reaches(lab: Lab, from: "node1" | "node2" | "client", address: string): Promise<boolean> {
  return (await lab.exec(from, ["ping", "-q", "-c", "1", "-W", "1", address])).code === 0;
}

Deno.test("Lab.up() boots four hosts that reach one another, and down() leaves nothing", async () => {
  let folder = "";
  await withLab("up", async (lab) => {
    folder = lab.folder;
    assertEquals(await lab.sh("node1", "hostname"), "node1\n");
    assert(await reaches(lab, "client", "node1"));
    assert(await reaches(lab, "client", "witness"));
    assert(await reaches(lab, "node1", lab.address("node2", "repl")));
    assertEquals((await lab.arp()).get(lab.address("node1")), lab.mac("node1"));
  }, { repl: true });
  await assertRejects(() => Deno.lstat(folder), Deno.errors.NotFound);
  await assertRejects(() => Deno.lstat(`${hierarchy()}/binome-lab/self-up`), Deno.errors.NotFound);
  assertEquals((await must(["losetup", "-l", "-n", "-O", "BACK-FILE"])).includes(`${folder}/`), false);
});

for (const filesystem of ["ext4", "xfs"] as const) {
  Deno.test(`powerOff() loses what was not synced on ${filesystem} and keeps what was`, async () => {
    await withLab(`power-${filesystem}`, async (lab) => {
      await lab.sh(
        "node1",
        `cd /srv; mkdir d; sync -f .
        dd if=/dev/zero of=d/synced bs=64k count=1 conv=fsync status=none; sync d/synced d
        dd if=/dev/zero of=d/unsynced bs=64k count=1 status=none; echo state > /var/lib/binome/unsynced`,
      );
      await lab.powerOff("node1");
      assertEquals(lab.isOn("node1"), false);
      await assertRejects(() => lab.exec("node1", ["true"]), Error, "it is powered off");
      await lab.powerOn("node1");
      assertEquals(
        await lab.sh("node1", "cd /srv; find d -type f -size 64k; ls /var/lib/binome"),
        "d/synced\n",
      );
    }, { filesystem });
  });
}

Deno.test("powerOff() of both nodes at once, then one alone, works", async () => {
  await withLab("both", async (lab) => {
    await lab.powerOff("node1", "node2");
    await lab.powerOn("node2");
    assert(await reaches(lab, "client", lab.address("node2")));
    assertEquals(await reaches(lab, "client", lab.address("node1")), false);
  });
});

Deno.test("powerOff() never hangs on a FUSE mount whose server no longer answers", async () => {
  await withLab("fuse", async (lab) => {
    await lab.sh("node1", "mkdir /srv/a /srv/b; echo x > /srv/a/f; sync -f /srv");
    await using server = lab.spawn("node1", ["bindfs", "-f", "/srv/a", "/srv/b"]);
    await until(
      "the mount",
      async () => (await lab.exec("node1", ["mountpoint", "-q", "/srv/b"])).code === 0,
    );
    server.signal("SIGSTOP");
    await using reader = lab.spawn("node1", ["cat", "/srv/b/f"]);
    await until(
      "the reader to wait in the kernel",
      async () => (await lab.exec("node1", ["pgrep", "-x", "-r", "D,S", "cat"])).code === 0,
    );
    await lab.powerOff("node1");
    assertNotEquals(await reader.status(), 0);
    await lab.powerOn("node1");
    assertEquals(await lab.sh("node1", "ls /srv/b"), "");
  });
});

Deno.test("a boot gives new /run and /tmp, and keeps /srv, /var/lib and /etc after an orderly shutdown", async () => {
  await withLab("boot", async (lab) => {
    await lab.sh("node1", "for d in run tmp srv var/lib var/log etc; do echo 1 > /$d/mark; done");
    await lab.shutdown("node1");
    await lab.powerOn("node1");
    const left = await lab.sh(
      "node1",
      "ls -d /run/mark /tmp/mark /srv/mark /var/lib/mark /var/log/mark /etc/mark || :",
    );
    assertEquals(left.split("\n").sort().join(" ").trim(), "/etc/mark /srv/mark /var/lib/mark /var/log/mark");
    await assertRejects(() => Deno.lstat("/etc/mark"), Deno.errors.NotFound);
  });
});

Deno.test("cut() drops both ways or one, on one network or all; heal() undoes it", async () => {
  await withLab("cut", async (lab) => {
    const lan = lab.address("node2");
    const repl = lab.address("node2", "repl");
    await lab.cut("node1", "node2", { network: "repl" });
    assertEquals([await reaches(lab, "node1", lan), await reaches(lab, "node1", repl)], [true, false]);
    await lab.heal();
    assert(await reaches(lab, "node1", repl));
    await lab.cut("node2", "node1", { oneWay: true });
    // What node1 sends still arrives: only the answers are lost.
    const send = `import socket,time
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
for _ in range(20): s.sendto(b"hello\\n", ("${lan}", 7000)); time.sleep(0.05)`;
    const listen = `import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM); s.bind(("", 7000)); print(s.recv(9).decode(), flush=True)`;
    await using receiver = lab.spawn("node2", ["/usr/bin/python3", "-c", listen]);
    await lab.exec("node1", ["/usr/bin/python3", "-c", send]);
    assertEquals(await receiver.line((line) => line === "hello", 5000), "hello");
    assertEquals(await reaches(lab, "node1", lan), false);
  }, { repl: true });
});

Deno.test("loss() loses about the share it was told", async () => {
  await withLab("loss", async (lab) => {
    await reaches(lab, "client", "node1");
    await lab.loss("client", "node1", 50, { oneWay: true });
    const { stdout } = await lab.exec("client", [
      "ping",
      "-q",
      "-c",
      "200",
      "-i",
      "0.002",
      "-W",
      "1",
      "node1",
    ]);
    const lost = Number(/(\d+(?:\.\d+)?)% packet loss/.exec(stdout)?.[1]);
    assert(lost > 25 && lost < 75, stdout);
    await assertRejects(() => lab.loss("client", "node1", 0), Error, "from 1 to 100");
  });
});

Deno.test("unplug() takes the carrier away and plug() gives it back", async () => {
  await withLab("plug", async (lab) => {
    await lab.unplug("node1");
    assertMatch(await lab.sh("node1", "ip link show e0"), /NO-CARRIER/);
    await lab.plug("node1");
    assert(await reaches(lab, "client", "node1"));
  });
});

Deno.test("freeze() stops every process while the kernel answers ping; thaw() resumes them", async () => {
  await withLab("freeze", async (lab) => {
    await using counter = lab.spawn("node1", ["sh", "-c", "while :; do echo tick; sleep 0.01; done"]);
    await counter.line((line) => line === "tick", 5000);
    await lab.freeze("node1");
    await new Promise((resolve) => setTimeout(resolve, 100)); // what is in the pipe arrives
    const frozenAt = counter.lines.length;
    assert(await reaches(lab, "client", "node1"));
    await new Promise((resolve) => setTimeout(resolve, 200));
    assertEquals(counter.lines.length, frozenAt);
    await lab.thaw("node1");
    await until("ticks after the thaw", () => counter.lines.length > frozenAt);
  });
});

Deno.test("exec() gives status, both outputs and standard input through, and runs as another user", async () => {
  await withLab("exec", async (lab) => {
    const result = await lab.exec("node1", ["sh", "-c", "cat; echo bad >&2; exit 7"], { stdin: "in" });
    assertEquals(result, { code: 7, stdout: "in", stderr: "bad\n", timedOut: false });
    assertEquals(
      await lab.sh("node1", "id -un; pwd; echo $A", { user: "nobody", cwd: "/srv", env: { A: "b" } }),
      "nobody\n/srv\nb\n",
    );
  });
});

Deno.test("exec() kills what a command started when its limit passes", async () => {
  await withLab("limit", async (lab) => {
    const result = await lab.exec("node1", ["sh", "-c", "sleep 1001 & sleep 1002"], { timeoutMs: 200 });
    assertEquals(result.timedOut, true);
    assertEquals((await lab.exec("node1", ["pgrep", "-f", "sleep 100[12]"])).code, 1);
  });
});

Deno.test("Lab.up() leaves nothing when its owner is killed, and refuses a name that is in use", async () => {
  const owner = new Deno.Command(Deno.execPath(), {
    args: [
      "run",
      "--quiet",
      "-A",
      "--no-check",
      new URL("owner_fixture.ts", import.meta.url).pathname,
      "self-orphan",
    ],
    stdin: "null",
    stdout: "piped",
    stderr: "null",
  }).spawn();
  const reader = owner.stdout.getReader();
  const { value } = await reader.read();
  assertEquals(new TextDecoder().decode(value), "up\n");
  await assertRejects(() => Lab.sweep("self-orphan"), Error, "another process has it up");
  owner.kill("SIGKILL");
  await owner.status;
  await reader.cancel();
  const group = `${hierarchy()}/binome-lab/self-orphan`;
  await until("the warden to sweep", async () => (await run(["test", "-e", group])).code !== 0);
  // A new one of the same name waits until the sweep is over.
  await withLab("orphan", async (lab) => assertEquals(await lab.sh("node1", "hostname"), "node1\n"));
});

Deno.test("Lab.up() says what is missing, and leaves nothing when a boot fails", async () => {
  await assertRejects(
    () => Lab.up({ prefix: "self-bad", binary: "/nonexistent" }),
    Error,
    "run scripts/compile",
  );
  await assertRejects(() => Lab.up({ prefix: "a/b" }), Error, "use letters");
  // A folder where the program should be: the boot itself fails, in every host.
  await assertRejects(() => Lab.up({ prefix: "self-bad", binary: "/var/tmp" }), Error, "Cannot boot");
  await assertRejects(() => Deno.lstat(`${hierarchy()}/binome-lab/self-bad`), Deno.errors.NotFound);
  assertEquals((await must(["losetup", "-l", "-n", "-O", "BACK-FILE"])).includes("self-bad"), false);
});

Deno.test("two labs with the same addresses run at once and do not hear each other", async () => {
  await withLab("one", async (one) => {
    await withLab("two", async (two) => {
      await one.powerOff("node2");
      assertEquals(await reaches(one, "client", "node2"), false);
      assertEquals(await reaches(two, "client", "node2"), true);
    });
  });
});

/** Stands in for the program: counts its starts per role, and ends cleanly on SIGTERM. */
const FAKE = `#!/bin/sh
[ "$1" != halt ] && [ "$2" != --end ] || exit 0
echo start >> /var/log/starts.$1
trap 'echo ended >> /var/log/starts.$1; exit 0' TERM
while :; do sleep 0.02; done
`;

Deno.test("startBinome() keeps keeper and agent running across deaths and boots, until stopBinome()", async () => {
  const fake = await Deno.makeTempFile({ dir: "/var/tmp" });
  try {
    await Deno.writeTextFile(fake, FAKE);
    await Deno.chmod(fake, 0o755);
    await withLab("super", async (lab) => {
      const starts = async (role: string): Promise<string[]> =>
        (await lab.exec("node1", ["cat", `/var/log/starts.${role}`])).stdout.split("\n").filter(Boolean);
      await lab.startBinome("node1");
      await until(
        "both to start",
        async () => (await starts("keeper")).length + (await starts("agent")).length === 2,
      );
      await lab.sh("node1", "kill -KILL $(cat /run/lab/supervise/agent.pid)");
      await until("the agent to start again", async () => (await starts("agent")).length === 2);
      assertEquals(await starts("keeper"), ["start"]);
      await lab.shutdown("node1");
      await lab.powerOn("node1");
      await until("the agent to start at boot", async () => (await starts("agent")).length === 4);
      assertEquals(await starts("agent"), ["start", "start", "ended", "start"]);
      await lab.stopBinome("node1");
      assertEquals((await starts("agent")).at(-1), "ended");
      assertMatch(await lab.log("node1", "supervise"), /binome agent ended with status 137/);
    }, { binary: fake });
  } finally {
    await Deno.remove(fake);
  }
});

Deno.test("PostgreSQL runs in a node as its own user, and keeps committed rows over a power cut", async () => {
  await withLab("pg", async (lab) => {
    const bin = (await lab.sh("node1", "ls -d /usr/lib/postgresql/*/bin")).trim();
    const start = `${bin}/pg_ctl -D /srv/pg -w -s -l /srv/pg.log -o '-c unix_socket_directories=/tmp' start`;
    const sql = async (text: string): Promise<string> =>
      (await lab.sh("node1", `psql -h /tmp -XAtc "${text}" postgres`, { user: "postgres" })).trim();
    await lab.sh("node1", "chown postgres /srv");
    await lab.sh("node1", `${bin}/initdb -D /srv/pg -A trust >/dev/null; ${start}`, { user: "postgres" });
    await sql("create table t (n int); insert into t select generate_series(1, 1000)");
    await lab.powerOff("node1");
    await lab.powerOn("node1");
    await lab.sh("node1", start, { user: "postgres", timeoutMs: 60_000 });
    assertEquals(await sql("select count(*) from t"), "1000");
  });
});
