// Four validators as processes, on free ports, that end with the one that started them.
import { execFile, spawn } from "node:child_process";
import { createSocket } from "node:dgram";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { promisify } from "node:util";

const run = promisify(execFile);
const children = new Set();
// A program with children of its own does not end by itself, so tests call this, and others do when they exit.
const stop = () => children.forEach((child) => child.kill("SIGKILL"));
process.on("exit", stop);

const bindTcp = (port) => new Promise((resolve, reject) => {
  const server = createServer().once("error", reject);
  server.listen(port, "127.0.0.1", () => resolve([server.address().port, () => new Promise((done) => server.close(done))]));
});

const bindUdp = (port) => new Promise((resolve, reject) => {
  const socket = createSocket("udp4").once("error", reject);
  socket.bind(port, "127.0.0.1", () => resolve([socket.address().port, () => new Promise((done) => socket.close(done))]));
});

// The first of some neighbouring ports that nobody uses just now.
export async function freePorts(count, bind = bindTcp) {
  for (let tries = 0; tries < 100; tries += 1) {
    const closes = [];
    try {
      const [first, close] = await bind(0);
      closes.push(close);
      for (let next = 1; next < count; next += 1) closes.push((await bind(first + next))[1]);
      return first;
    } catch {
      // Somebody has one of them: from another place on.
    } finally {
      await Promise.all(closes.map((close) => close()));
    }
  }
  throw new Error("no free ports");
}

// Without contracts in block 0 nobody but the tests sends anything.
export async function startValidators(folder, { chainId, emptyBlockMs = 1_000, count = 4 }) {
  const program = process.env.CORTENSOR_BIN;
  const places = ["--rpc-port", await freePorts(count), "--peer-port", await freePorts(count, bindUdp)];
  const options = ["--validators", count, "--chain-id", chainId, "--empty-block-ms", emptyBlockMs, "--fund-test-accounts", "--bare"];
  await run(program, ["chain", "init", folder, ...options, ...places].map(String));
  const urls = await Promise.all(Array.from({ length: count }, async (_, index) => {
    const child = spawn(program, ["chain", "run", "--home", `${folder}/node-${index}`, "--json"], { stdio: ["ignore", "pipe", "inherit"] });
    children.add(child);
    child.on("exit", () => children.delete(child));
    for await (const line of createInterface({ input: child.stdout })) {
      child.stdout.resume();
      return JSON.parse(line).rpc;
    }
    throw new Error(`validator ${index} ended before it was ready`);
  }));
  await Promise.all(urls.map((url) => connected(url, count - 1)));
  return { urls, stop };
}

// Waits until a validator has all its peers: what it is told before that reaches nobody else.
async function connected(url, peers) {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method: "net_peerCount", params: [] });
  for (let tries = 0; tries < 600; tries += 1) {
    const response = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body });
    if (Number((await response.json()).result) >= peers) return;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error(`${url} does not find its peers`);
}
