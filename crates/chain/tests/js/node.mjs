// Starts a chain for one test file and stops it afterwards.
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { createInterface } from "node:readline";

// The development accounts that every Ethereum tool knows.
export const KEYS = [
  "0xac0974bec39a17e36ba4a6b4d238ff944bacb478cbed5efcae784d7bf4f2ff80",
  "0x59c6995e998f97a5a0044966f0945389dc9e86dae88c7a8412f4603b6b78690d",
];
export const OWNER = "0xf39Fd6e51aad88F6F4ce6aB8827279cffFb92266";
export const OTHER = "0x70997970C51812dc3A010C7d01b50e0d17dc79C8";

const code = (name) => "0x" + readFileSync(new URL(`../../contracts/${name}.hex`, import.meta.url), "utf8").trim();
export const TOKEN_CODE = code("token");
export const PROBE_CODE = code("probe");
export const TOKEN_ABI = [
  "constructor(uint256 supply)",
  "event Transfer(address indexed from, address indexed to, uint256 value)",
  "error InsufficientBalance(address from, uint256 balance, uint256 needed)",
  "function balanceOf(address) view returns (uint256)",
  "function transfer(address to, uint256 value) returns (bool)",
];
export const PROBE_ABI = [
  "error Custom(uint256 code, string text)",
  "function inner() view returns (bool)",
  "function failReason()",
  "function failCustom()",
  "function failPanic(uint256 divisor) view returns (uint256)",
  "function failEmpty()",
  "function failInvalid()",
  "function burn(uint256 slots)",
  "function tolerate(uint256 slots) returns (bool)",
];

// When the process ends rather than after the last test, so that no client finds its chain gone.
const children = [];
process.on("exit", () => children.forEach((child) => child.kill()));

// Runs a program until the tests of this file are done; resolves with the first line that matches.
export async function start(program, args, pattern) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  children.push(child);
  for await (const line of createInterface({ input: child.stdout })) {
    if (pattern.test(line)) {
      child.stdout.resume();
      child.stdout.unref();
      child.unref();
      return line.match(pattern)[0];
    }
  }
  throw new Error(`${program} ended before it was ready`);
}

export const startChain = () => start(process.env.CHAIN_NODE, ["memory"], /http:\/\/\S+/);

// A Foundry program from its npm package, or nothing on platforms that have none.
export function foundry(name) {
  try {
    const manifest = createRequire(import.meta.url).resolve(`@foundry-rs/${name}-linux-amd64/package.json`);
    return manifest.replace("package.json", `bin/${name}`);
  } catch {
    return null;
  }
}

export async function rpc(url, method, params = []) {
  const body = JSON.stringify({ jsonrpc: "2.0", id: 1, method, params });
  const response = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body });
  return response.json();
}
