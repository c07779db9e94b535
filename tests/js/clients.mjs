// The clients, from the packages that crates/chain/tests/js pins, and processes that end with the test file.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createServer } from "node:net";
import { createInterface } from "node:readline";
import { after } from "node:test";

const require = createRequire(new URL("../../crates/chain/tests/js/package.json", import.meta.url));
export const ethers = require("ethers");
export const viem = require("viem");
export const WebSocket = require("ws");
export const { privateKeyToAccount } = require("viem/accounts");

export const KEYS = [
  "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
  "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
];
export const OWNER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
export const OTHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";
export const CHAIN_ID = 31338;

// A contract as it is committed: ABI and creation code.
export function artifact(name) {
  return JSON.parse(readFileSync(new URL(`../../contracts/artifacts/${name}.json`, import.meta.url), "utf8"));
}

const children = new Set();
after(() => children.forEach((child) => child.kill("SIGKILL")));

// Starts a chain and resolves, once it is ready, with the process and what it said about itself.
export async function startChain(...options) {
  const program = process.env.CORTENSOR_BIN;
  const child = spawn(program, ["chain", "--chain-id", String(CHAIN_ID), "--json", ...options], { stdio: ["ignore", "pipe", "pipe"] });
  children.add(child);
  let said = "";
  child.stderr.on("data", (data) => (said += data));
  const ended = new Promise((resolve) => child.on("exit", (code, signal) => {
    children.delete(child);
    resolve({ code, signal, said });
  }));
  for await (const line of createInterface({ input: child.stdout })) {
    child.stdout.resume();
    return { child, ended, ...JSON.parse(line) };
  }
  throw new Error(`the chain ended before it was ready: ${JSON.stringify(await ended)}`);
}

export function freePort() {
  return new Promise((resolve, reject) => {
    const server = createServer().once("error", reject);
    server.listen(0, "127.0.0.1", () => {
      const { port } = server.address();
      server.close(() => resolve(port));
    });
  });
}

// One JSON-RPC call; rejects when nobody answers or the answer is an error.
export async function rpc(url, method, ...params) {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
  const response = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body });
  const { result, error } = await response.json();
  if (error) throw new Error(`${method}: ${error.message}`);
  return result;
}
