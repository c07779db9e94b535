// Runs script/Deploy.s.sol against a fresh anvil and asks the deployed contracts, through cast, whether they are wired.
import { execFileSync, spawn } from "node:child_process";
import { createServer } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { options } from "./foundry.mjs";

// Anvil's first account: unlocked there, worthless anywhere else.
const SENDER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
const ATTEMPTS = 100;
// In the order of `Deployed`.
const CONTRACTS =
  ["token", "registry", "models", "sessions", "guards", "scores", "court", "batches", "audits", "rewards", "capabilities", "usefulness",
    "validators", "equivocations"];
// What forge prints about a deployment holds the code of every contract.
const MAX_OUTPUT = 64 * 1024 * 1024;
// Far more than any of it takes.
const TIMEOUT_MS = 180_000;
const run = (tool, args) =>
  execFileSync(tool, args, {
    ...options, encoding: "utf8", stdio: ["ignore", "pipe", "pipe"], maxBuffer: MAX_OUTPUT, timeout: TIMEOUT_MS,
  });

function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

async function waitFor(rpc) {
  for (let attempt = 0; attempt < ATTEMPTS; attempt += 1) {
    try {
      return run("cast", ["chain-id", "--rpc-url", rpc]).trim();
    } catch {
      await sleep(100);
    }
  }
  throw new Error(`anvil did not answer at ${rpc}`);
}

function deploy(rpc) {
  // One transaction after the other: sent together, one of them can be lost, and the rest wait for its nonce.
  const args = [
    "script", "script/Deploy.s.sol", "--rpc-url", rpc, "--broadcast", "--slow", "--unlocked", "--sender", SENDER, "--json",
  ];
  const lines = run("forge", args).split("\n").filter((line) => line.startsWith("{")).map((line) => JSON.parse(line));
  const { returns } = lines.find((line) => line.returns);
  // A struct of addresses: (0x..., 0x..., ...).
  const addresses = returns.all.value.match(/0x[0-9a-fA-F]{40}/g);
  return Object.fromEntries(CONTRACTS.map((name, place) => [name, addresses[place]]));
}

function check(what, actual, expected) {
  if (actual.trim().toLowerCase() !== expected.toLowerCase()) throw new Error(`${what}: ${actual.trim()} instead of ${expected}`);
  console.log(`${what}: ${actual.trim()}`);
}

const port = await freePort();
const rpc = `http://127.0.0.1:${port}`;
const anvil = spawn("anvil", ["--port", String(port), "--silent"], { ...options, stdio: "inherit" });
try {
  console.log(`anvil: chain ${await waitFor(rpc)}`);
  const { token, registry, models, sessions, guards, scores, court, batches, audits, rewards, capabilities, usefulness, validators, equivocations } =
    deploy(rpc);
  const call = (to, signature, ...args) => run("cast", ["call", "--rpc-url", rpc, to, signature, ...args]);
  check("sessions.token", call(sessions, "token()(address)"), token);
  check("sessions.nodeRegistry", call(sessions, "nodeRegistry()(address)"), registry);
  check("sessions.modelRegistry", call(sessions, "modelRegistry()(address)"), models);
  check("registry.token", call(registry, "token()(address)"), token);
  check("registry.isSlasher(sessions)", call(registry, "isSlasher(address)(bool)", sessions), "true");
  check("registry.isSlasher(court)", call(registry, "isSlasher(address)(bool)", court), "true");
  check("audits.guards", call(audits, "guards()(address)"), guards);
  check("audits.scores", call(audits, "scores()(address)"), scores);
  check("audits.court", call(audits, "court()(address)"), court);
  check("capabilities.guards", call(capabilities, "guards()(address)"), guards);
  check("capabilities.nodeRegistry", call(capabilities, "nodeRegistry()(address)"), registry);
  check("audits.sessions", call(audits, "sessions()(address)"), sessions);
  check("guards.nodeRegistry", call(guards, "nodeRegistry()(address)"), registry);
  check("scores.auditor", call(scores, "auditor()(address)"), audits);
  check("scores.court", call(scores, "court()(address)"), court);
  check("court.auditor", call(court, "auditor()(address)"), audits);
  check("court.token", call(court, "token()(address)"), token);
  check("audits.batches", call(audits, "batches()(address)"), batches);
  check("batches.auditor", call(batches, "auditor()(address)"), audits);
  check("sessions.treasury", call(sessions, "treasury()(address)"), rewards);
  check("rewards.court", call(rewards, "court()(address)"), court);
  check("rewards.quality", call(rewards, "quality()(address)"), usefulness);
  check("rewards.owner", call(rewards, "owner()(address)"), SENDER);
  check("audits.owner", call(audits, "owner()(address)"), SENDER);
  check("usefulness.audits", call(usefulness, "audits()(address)"), audits);
  check("usefulness.token", call(usefulness, "token()(address)"), token);
  check("validators.nodeRegistry", call(validators, "nodeRegistry()(address)"), registry);
  check("validators.scores", call(validators, "scores()(address)"), scores);
  check("validators.equivocations", call(validators, "equivocations()(address)"), equivocations);
  check("equivocations.validators", call(equivocations, "validators()(address)"), validators);
  check("equivocations.court", call(equivocations, "court()(address)"), court);
  check("registry.isSlasher(equivocations)", call(registry, "isSlasher(address)(bool)", equivocations), "true");
  check("sessions.owner", call(sessions, "owner()(address)"), SENDER);
} finally {
  anvil.kill();
}
