// Every method of our JSON-RPC, asked with the same words of anvil, of a chain of one validator, and of one of four: after
// the same transactions the answers are the same, but for what rpc-differences.json lists with a reason. What is listed and
// does not differ any more fails as well.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { createRequire } from "node:module";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { after, before, test } from "node:test";
import { ethers, freePort, KEYS, OTHER, OWNER, WebSocket } from "./clients.mjs";
import { startValidators } from "./validators.mjs";

const CHAIN_ID = 31337;
// Ours lowers the base fee after the empty block 0, as EIP-1559 says; anvil's block 1 has whatever it is given.
const FIRST_BASE_FEE = "875000000";
const LISTED = JSON.parse(readFileSync(new URL("rpc-differences.json", import.meta.url), "utf8"));
const NOBODY = "0x00000000000000000000000000000000000000ae";
const POOR = new ethers.Wallet("0x" + "77".repeat(32));
const fixture = (name) => "0x" + readFileSync(new URL(`../../crates/chain/contracts/${name}.hex`, import.meta.url), "utf8").trim();
const TOKEN = new ethers.Interface([
  "event Transfer(address indexed from, address indexed to, uint256 value)",
  "function balanceOf(address) view returns (uint256)", "function transfer(address to, uint256 value) returns (bool)",
]);
const PROBE = new ethers.Interface([
  "function failReason()", "function failCustom()", "function failPanic(uint256)", "function failEmpty()",
  "function failInvalid()", "function burn(uint256)", "function environment() view returns (uint256,uint256,uint256,uint256,bytes32,uint256)",
  "function sender() view returns (address,uint256)",
]);
const TOKEN_CODE = fixture("token") + "03e8".padStart(64, "0");
const PROBE_CODE = fixture("probe");

// What is a chain's own whatever it does: block 0, clocks, who proposes, and everything that hashes them.
const OWN = new Set([
  "blockHash", "parentHash", "stateRoot", "mixHash", "timestamp", "blockTimestamp", "miner", "extraData", "hash", "size",
  "prevRandao", "accountProof",
]);

const children = new Set();
after(() => children.forEach((child) => child.kill("SIGKILL")));
const folder = mkdtempSync(join(tmpdir(), "cortensor-rpc-"));
after(() => rmSync(folder, { recursive: true, force: true }));

// Resolves with the first line of a program's output that matches.
async function start(program, args, pattern) {
  const child = spawn(program, args, { stdio: ["ignore", "pipe", "inherit"] });
  children.add(child);
  child.on("exit", () => children.delete(child));
  for await (const line of createInterface({ input: child.stdout })) {
    const found = line.match(pattern);
    if (found) {
      child.stdout.resume();
      return found[1];
    }
  }
  throw new Error(`${program} ended before it was ready`);
}

function anvil() {
  const require = createRequire(new URL("../../contracts/package.json", import.meta.url));
  return require.resolve("@foundry-rs/anvil-linux-amd64/package.json").replace("package.json", "bin/anvil");
}

async function post(url, body) {
  const text = typeof body === "string" ? body : JSON.stringify(body);
  const response = await fetch(url, { method: "POST", headers: { "content-type": "application/json" }, body: text });
  const answer = await response.text();
  try {
    return JSON.parse(answer);
  } catch {
    return { unparsable: true, status: response.status };
  }
}

const ask = (url, method, params) => post(url, { jsonrpc: "2.0", id: 1, method, params });

async function result(url, method, params) {
  const answer = await ask(url, method, params);
  assert.ok(!answer.error, `${method}: ${JSON.stringify(answer.error)}`);
  return answer.result;
}

const sign = (nonce, fields, key = KEYS[0]) => new ethers.Wallet(key).signTransaction({
  type: 2, chainId: CHAIN_ID, nonce, gasLimit: 3_000_000, maxFeePerGas: 10n ** 10n, maxPriorityFeePerGas: 1n, ...fields,
});

// One of the three, with what the same transactions left on it.
class Target {
  constructor(name, url) {
    Object.assign(this, { name, url });
  }

  async mine(encoded) {
    const hash = await result(this.url, "eth_sendRawTransaction", [encoded]);
    for (;;) {
      const receipt = await result(this.url, "eth_getTransactionReceipt", [hash]);
      if (receipt) return receipt;
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }

  async prepare(transactions) {
    this.receipts = [];
    for (const encoded of transactions) this.receipts.push(await this.mine(encoded));
    this.token = this.receipts[0].contractAddress;
    this.probe = this.receipts[1].contractAddress;
    this.block = await result(this.url, "eth_getBlockByNumber", ["0x3", false]);
  }
}

let targets;

let four;
after(() => four?.stop());
before(async () => {
  const theirs = await start(anvil(), ["--port", "0", "--chain-id", String(CHAIN_ID), "--hardfork", "osaka", "--gas-limit", "120000000", "--block-base-fee-per-gas", FIRST_BASE_FEE], /Listening on (\S+)/);
  const single = await start(process.env.CORTENSOR_BIN, ["chain", "--chain-id", String(CHAIN_ID), "--listen", `127.0.0.1:${await freePort()}`, "--json"], /"rpc":"([^"]+)"/);
  four = await startValidators(join(folder, "four"), { chainId: CHAIN_ID, emptyBlockMs: 600_000 });
  targets = [new Target("anvil", `http://${theirs}`), new Target("single", single), new Target("four", four.urls[1])];
  const transfer = (value) => ({ data: TOKEN.encodeFunctionData("transfer", [OTHER, value]) });
  const token = ethers.getCreateAddress({ from: OWNER, nonce: 0 });
  const transactions = await Promise.all([
    sign(0, { data: TOKEN_CODE }),
    sign(1, { data: PROBE_CODE }),
    sign(2, { to: token, ...transfer(5n) }),
    sign(3, { to: token, ...transfer(5_000n) }),
    sign(4, { to: NOBODY, value: 7n, gasLimit: 21_000 }),
    sign(5, { to: NOBODY, value: 7n, gasLimit: 30_000, type: 0, gasPrice: 10n ** 10n, maxFeePerGas: undefined, maxPriorityFeePerGas: undefined }),
    sign(6, { to: token, ...transfer(1n), type: 1, gasPrice: 10n ** 10n, maxFeePerGas: undefined, maxPriorityFeePerGas: undefined, accessList: [[token, ["0x" + "00".repeat(32)]]] }),
  ]);
  await Promise.all(targets.map((target) => target.prepare(transactions)));
});

// The questions: a name, and what is asked of a target. Hashes of blocks are each chain's own.
async function questions() {
  const call = (to, data, block = "latest", more = {}) => [{ from: OWNER, to, data, ...more }, block];
  const tokenCall = (name, args) => (t) => call(t.token, TOKEN.encodeFunctionData(name, args));
  const probe = (name, args = []) => (t) => call(t.probe, PROBE.encodeFunctionData(name, args));
  const hash = (index) => (t) => [t.receipts[index].transactionHash];
  const missing = "0x" + "11".repeat(32);
  const at = (method, params) => [method, typeof params === "function" ? params : () => params];
  const stale = await sign(0, { to: NOBODY, value: 1n });
  const poor = await sign(0, { to: NOBODY, value: 1n, gasLimit: 21_000 }, POOR.privateKey);
  const cheap = await sign(7, { to: NOBODY, value: 1n, gasLimit: 20_000 });
  const foreign = await sign(7, { to: NOBODY, value: 1n, chainId: 5 });
  const greedy = await sign(7, { to: NOBODY, gasLimit: 121_000_000 });
  const code = await sign(7, { data: "0x" + "00".repeat(49_153) });
  return {
    "chain id": at("eth_chainId", []),
    "net version": at("net_version", []),
    "listening": at("net_listening", []),
    "peers": at("net_peerCount", []),
    "client version": at("web3_clientVersion", []),
    "sha3": at("web3_sha3", ["0x68656c6c6f"]),
    "modules": at("rpc_modules", []),
    "protocol version": at("eth_protocolVersion", []),
    "syncing": at("eth_syncing", []),
    "accounts": at("eth_accounts", []),
    "coinbase": at("eth_coinbase", []),
    "mining": at("eth_mining", []),
    "height": at("eth_blockNumber", []),
    "height with empty object": at("eth_blockNumber", {}),
    "gas price": at("eth_gasPrice", []),
    "priority fee": at("eth_maxPriorityFeePerGas", []),
    "blob base fee": at("eth_blobBaseFee", []),
    "fee history": at("eth_feeHistory", ["0x3", "latest", [0, 50, 100]]),
    "fee history without percentiles": at("eth_feeHistory", ["0x2", "0x4", null]),
    "fee history by a decimal count": at("eth_feeHistory", [2, "latest", []]),
    "fee history beyond the head": at("eth_feeHistory", ["0x2", "0xffff", []]),
    "fee history with wrong percentiles": at("eth_feeHistory", ["0x2", "latest", [50, 10]]),
    "balance": at("eth_getBalance", [NOBODY, "latest"]),
    "balance at a block": at("eth_getBalance", [NOBODY, "0x5"]),
    "balance at the first block": at("eth_getBalance", [OTHER, "earliest"]),
    "balance while pending": at("eth_getBalance", [NOBODY, "pending"]),
    "balance when safe": at("eth_getBalance", [NOBODY, "safe"]),
    "balance when finalized": at("eth_getBalance", [NOBODY, "finalized"]),
    "balance by block hash": at("eth_getBalance", (t) => [NOBODY, { blockHash: t.block.hash }]),
    "balance by unknown hash": at("eth_getBalance", [NOBODY, { blockHash: missing }]),
    "balance beyond the head": at("eth_getBalance", [NOBODY, "0xffff"]),
    "balance without a block": at("eth_getBalance", [NOBODY]),
    "balance of no address": at("eth_getBalance", ["0x12", "latest"]),
    "balance of nothing": at("eth_getBalance", []),
    "balance at no block": at("eth_getBalance", [NOBODY, "sometime"]),
    "nonce": at("eth_getTransactionCount", [OWNER, "latest"]),
    "nonce at a block": at("eth_getTransactionCount", [OWNER, "0x2"]),
    "nonce while pending": at("eth_getTransactionCount", [OWNER, "pending"]),
    "code": at("eth_getCode", (t) => [t.token, "latest"]),
    "code of nobody": at("eth_getCode", [NOBODY, "latest"]),
    "code before": at("eth_getCode", (t) => [t.probe, "0x1"]),
    "slot": at("eth_getStorageAt", (t) => [t.token, "0x0", "latest"]),
    "slot by a long key": at("eth_getStorageAt", (t) => [t.token, "0x" + "00".repeat(32), "latest"]),
    "slot of nobody": at("eth_getStorageAt", [NOBODY, "0x0", "latest"]),
    "proof of nobody": at("eth_getProof", [POOR.address, [], "latest"]),
    "proof with a slot": at("eth_getProof", (t) => [t.token, ["0x" + "00".repeat(32)], "latest"]),
    "proof with a short key": at("eth_getProof", (t) => [t.token, ["0x0"], "latest"]),
    "block": at("eth_getBlockByNumber", ["0x3", false]),
    "block with transactions": at("eth_getBlockByNumber", ["0x3", true]),
    "block, legacy": at("eth_getBlockByNumber", ["0x6", true]),
    "block, access list": at("eth_getBlockByNumber", ["0x7", true]),
    "block unknown": at("eth_getBlockByNumber", ["0xffff", false]),
    "block by hash": at("eth_getBlockByHash", (t) => [t.block.hash, false]),
    "block by unknown hash": at("eth_getBlockByHash", [missing, false]),
    "block, one parameter": at("eth_getBlockByNumber", ["0x3"]),
    "header": at("eth_getHeaderByNumber", ["0x3"]),
    "header by hash": at("eth_getHeaderByHash", (t) => [t.block.hash]),
    "count by number": at("eth_getBlockTransactionCountByNumber", ["0x3"]),
    "count by hash": at("eth_getBlockTransactionCountByHash", (t) => [t.block.hash]),
    "count unknown": at("eth_getBlockTransactionCountByNumber", ["0xffff"]),
    "uncles by number": at("eth_getUncleCountByBlockNumber", ["0x3"]),
    "uncles by hash": at("eth_getUncleCountByBlockHash", (t) => [t.block.hash]),
    "receipts of a block": at("eth_getBlockReceipts", ["0x3"]),
    "receipts unknown": at("eth_getBlockReceipts", ["0xffff"]),
    "transaction": at("eth_getTransactionByHash", hash(2)),
    "transaction, legacy": at("eth_getTransactionByHash", hash(5)),
    "transaction, access list": at("eth_getTransactionByHash", hash(6)),
    "transaction, creation": at("eth_getTransactionByHash", hash(0)),
    "transaction unknown": at("eth_getTransactionByHash", [missing]),
    "transaction of no hash": at("eth_getTransactionByHash", ["0x11"]),
    "raw transaction": at("eth_getRawTransactionByHash", hash(2)),
    "transaction by place": at("eth_getTransactionByBlockNumberAndIndex", ["0x3", "0x0"]),
    "transaction by hash and place": at("eth_getTransactionByBlockHashAndIndex", (t) => [t.block.hash, "0x0"]),
    "transaction by a wrong place": at("eth_getTransactionByBlockNumberAndIndex", ["0x3", "0x9"]),
    "receipt": at("eth_getTransactionReceipt", hash(2)),
    "receipt of a failure": at("eth_getTransactionReceipt", hash(3)),
    "receipt of a creation": at("eth_getTransactionReceipt", hash(0)),
    "receipt unknown": at("eth_getTransactionReceipt", [missing]),
    "call": at("eth_call", tokenCall("balanceOf", [OTHER])),
    "call at a block": at("eth_call", (t) => call(t.token, TOKEN.encodeFunctionData("balanceOf", [OTHER]), "0x2")),
    "call without a block": at("eth_call", (t) => [{ to: t.token, data: TOKEN.encodeFunctionData("balanceOf", [OTHER]) }]),
    "call with input": at("eth_call", (t) => [{ to: t.token, input: TOKEN.encodeFunctionData("balanceOf", [OTHER]) }, "latest"]),
    "call of nobody": at("eth_call", call(NOBODY, "0x")),
    "call with an override": at("eth_call", (t) => [...call(t.probe, PROBE.encodeFunctionData("sender"), "latest", { value: "0x0" }), { [OWNER]: { balance: "0x1" } }]),
    "call with more than there is": at("eth_call", (t) => call(t.token, "0x", "latest", { from: POOR.address, value: "0x1" })),
    "call beyond the head": at("eth_call", (t) => call(t.token, "0x", "0xffff")),
    "revert with a reason": at("eth_call", probe("failReason")),
    "revert with an error": at("eth_call", probe("failCustom")),
    "revert with a panic": at("eth_call", probe("failPanic", [0])),
    "revert with nothing": at("eth_call", probe("failEmpty")),
    "invalid opcode": at("eth_call", probe("failInvalid")),
    "out of gas": at("eth_call", (t) => call(t.probe, PROBE.encodeFunctionData("burn", [50]), "latest", { gas: "0xc350" })),
    "too little gas": at("eth_call", (t) => call(t.probe, PROBE.encodeFunctionData("sender"), "latest", { gas: "0x5000" })),
    "estimate of a transfer": at("eth_estimateGas", [{ from: OWNER, to: NOBODY, value: "0x1" }]),
    "estimate of a call": at("eth_estimateGas", (t) => [{ from: OWNER, to: t.token, data: TOKEN.encodeFunctionData("transfer", [NOBODY, 1n]) }]),
    "estimate of a creation": at("eth_estimateGas", [{ from: OWNER, data: TOKEN_CODE }]),
    "estimate of a revert": at("eth_estimateGas", (t) => [{ from: OWNER, to: t.probe, data: PROBE.encodeFunctionData("failReason") }]),
    "estimate of a revert with an error": at("eth_estimateGas", (t) => [{ from: OWNER, to: t.probe, data: PROBE.encodeFunctionData("failCustom") }]),
    "estimate with more than there is": at("eth_estimateGas", [{ from: POOR.address, to: NOBODY, value: "0x1" }]),
    "access list": at("eth_createAccessList", (t) => [{ from: OWNER, to: t.token, data: TOKEN.encodeFunctionData("transfer", [NOBODY, 1n]) }]),
    "logs": at("eth_getLogs", [{ fromBlock: "0x0", toBlock: "latest" }]),
    "logs of a topic": at("eth_getLogs", [{ fromBlock: "0x0", topics: [TOKEN.getEvent("Transfer").topicHash, null, ethers.zeroPadValue(OTHER, 32)] }]),
    "logs of an address": at("eth_getLogs", (t) => [{ fromBlock: "0x0", address: [t.token] }]),
    "logs of a block": at("eth_getLogs", (t) => [{ blockHash: t.block.hash }]),
    "logs of an unknown block": at("eth_getLogs", [{ blockHash: missing }]),
    "logs of a range the wrong way": at("eth_getLogs", [{ fromBlock: "0x4", toBlock: "0x2" }]),
    "logs beyond the head": at("eth_getLogs", [{ fromBlock: "0xffff", toBlock: "0xfffff" }]),
    "logs with both": at("eth_getLogs", (t) => [{ fromBlock: "0x0", blockHash: t.block.hash }]),
    "a nonce that is used": at("eth_sendRawTransaction", [stale]),
    "no funds": at("eth_sendRawTransaction", [poor]),
    "intrinsic gas": at("eth_sendRawTransaction", [cheap]),
    "another chain": at("eth_sendRawTransaction", [foreign]),
    "gas above the block's": at("eth_sendRawTransaction", [greedy]),
    "too much creation code": at("eth_sendRawTransaction", [code]),
    "no transaction": at("eth_sendRawTransaction", ["0x1234"]),
    "nothing to send": at("eth_sendRawTransaction", ["0x"]),
    "pool": at("txpool_status", []),
    "pool content": at("txpool_content", []),
    "pool inspected": at("txpool_inspect", []),
    "trace": at("debug_traceTransaction", (t) => [t.receipts[2].transactionHash, { tracer: "callTracer" }]),
    "trace of a failure": at("debug_traceTransaction", (t) => [t.receipts[3].transactionHash, { tracer: "callTracer" }]),
    "trace of a call": at("debug_traceCall", (t) => [{ from: OWNER, to: t.token, data: TOKEN.encodeFunctionData("balanceOf", [OTHER]) }, "latest", { tracer: "callTracer" }]),
    "trace unknown": at("debug_traceTransaction", [missing, { tracer: "callTracer" }]),
    "unknown filter": at("eth_getFilterChanges", ["0xffff"]),
    "unknown filter removed": at("eth_uninstallFilter", ["0xffff"]),
    "unknown method": at("eth_doesNotExist", []),
    "keys are not held": at("eth_sign", [OWNER, "0x00"]),
    "certificate": at("cortensor_getCertificate", ["0x1"]),
  };
}

// The answer without what is a chain's own: only that it is there.
function masked(value) {
  if (Array.isArray(value)) return value.map(masked);
  if (value === null || typeof value !== "object") return value;
  return Object.fromEntries(Object.entries(value).filter(([, inner]) => inner !== null && inner !== undefined)
    .map(([key, inner]) => [key, OWN.has(key) ? "own" : masked(inner)]));
}

// Where two answers differ, as paths.
function differences(left, right, path = "") {
  if (left !== null && right !== null && typeof left === "object" && typeof right === "object" && Array.isArray(left) === Array.isArray(right)) {
    const keys = [...new Set([...Object.keys(left), ...Object.keys(right)])].sort();
    return keys.flatMap((key) => differences(left[key], right[key], path ? `${path}.${key}` : key));
  }
  return JSON.stringify(left) === JSON.stringify(right) ? [] : [path || "."];
}

// Holds the differences of a case against the list: `{ "case": { "why": "…", "paths": ["error.message"], "of": "four" } }`.
function judge(name, target, theirs, mine, problems) {
  const found = differences(masked(theirs), masked(mine));
  const entry = [LISTED[name]].flat().find((one) => one && (!one.of || one.of === target.name));
  const listed = entry?.paths ?? [];
  const unlisted = found.filter((path) => !listed.includes(path));
  const gone = listed.filter((path) => !found.includes(path));
  for (const path of unlisted) problems.push(`${name} (${target.name}) ${path}: anvil ${shown(theirs, path)}, ours ${shown(mine, path)}`);
  if (gone.length) problems.push(`${name} (${target.name}): ${gone} are listed and do not differ`);
}

// What stands at a path, short enough to read.
function shown(value, path) {
  const found = path === "." ? value : path.split(".").reduce((inner, key) => inner?.[key], value);
  return (JSON.stringify(found) ?? "nothing").slice(0, 300);
}

test("every method answers as anvil does, or the list says why not", { timeout: 180_000 }, async () => {
  const problems = [];
  const all = await questions();
  for (const [name, [method, params]] of Object.entries(all)) {
    const [theirs, ...ours] = await Promise.all(targets.map((target) => ask(target.url, method, params(target))));
    ours.forEach((mine, index) => judge(name, targets[index + 1], theirs, mine, problems));
  }
  const known = new Set([...Object.keys(all), ...Object.keys(WIRE), ...SOCKET, ...FILTERS, ...LAST]);
  for (const name of Object.keys(LISTED)) if (!known.has(name)) problems.push(`${name} is listed and is no question`);
  assert.equal(problems.length, 0, problems.join("\n"));
});

// Bodies as they are.
const WIRE = {
  "batch": [{ jsonrpc: "2.0", id: 1, method: "eth_chainId", params: [] }, { jsonrpc: "2.0", id: "two", method: "eth_nonsense" }],
  "empty batch": [],
  "no method": { jsonrpc: "2.0", id: 1 },
  "another version": { jsonrpc: "1.0", id: 1, method: "eth_chainId", params: [] },
  "no id": { jsonrpc: "2.0", method: "eth_chainId", params: [] },
  "id null": { jsonrpc: "2.0", id: null, method: "eth_chainId", params: [] },
  "no parameters": { jsonrpc: "2.0", id: 7, method: "eth_chainId" },
  "parameters null": { jsonrpc: "2.0", id: 7, method: "eth_chainId", params: null },
  "no JSON": "{\"jsonrpc\":",
  "not an object": "17",
};

test("bodies that are odd are answered as anvil does", { timeout: 60_000 }, async () => {
  const problems = [];
  for (const [name, body] of Object.entries(WIRE)) {
    const [theirs, ...ours] = await Promise.all(targets.map((target) => post(target.url, body)));
    ours.forEach((mine, index) => judge(name, targets[index + 1], theirs, mine, problems));
  }
  assert.equal(problems.length, 0, problems.join("\n"));
});

// Nonces go on from the preparation's; each test takes the next.
let nonce = 7;

async function transferEverywhere() {
  const encoded = await sign(nonce, { to: targets[0].token, data: TOKEN.encodeFunctionData("transfer", [NOBODY, 1n]) });
  nonce += 1;
  return Promise.all(targets.map((target) => target.mine(encoded)));
}

const FILTERS = ["block filter", "log filter", "log filter again", "removed"];

test("filters tell the same", { timeout: 60_000 }, async () => {
  const each = (work) => Promise.all(targets.map(work));
  const logs = await each((target) => result(target.url, "eth_newFilter", [{ address: target.token }]));
  const blocks = await each((target) => result(target.url, "eth_newBlockFilter", []));
  await transferEverywhere();
  const problems = [];
  const poll = async (name, method, ids, mask) => {
    const [theirs, ...ours] = await each(async (target, index) => mask(await ask(target.url, method, [ids[index]])));
    ours.forEach((mine, index) => judge(name, targets[index + 1], theirs, mine, problems));
  };
  await poll("block filter", "eth_getFilterChanges", blocks, ({ result }) => result.length);
  await poll("log filter", "eth_getFilterChanges", logs, (answer) => answer);
  await poll("log filter again", "eth_getFilterChanges", logs, (answer) => answer);
  await poll("removed", "eth_uninstallFilter", logs, (answer) => answer);
  assert.equal(problems.length, 0, problems.join("\n"));
});

const SOCKET = ["socket heads", "socket logs", "socket pending", "socket unsubscribed", "socket unknown kind", "socket batch"];

// A WebSocket that numbers its calls and keeps what it is told.
async function openSocket(url) {
  const socket = new WebSocket(url.replace("http", "ws"));
  const waiting = new Map();
  const told = [];
  let calls = 0;
  socket.onmessage = ({ data }) => {
    const message = JSON.parse(data);
    if (message.method) told.push(message.params);
    else waiting.get(Array.isArray(message) ? message[0].id : message.id)?.(message);
  };
  await new Promise((resolve, reject) => Object.assign(socket, { onopen: resolve, onerror: reject }));
  const send = (id, body) => new Promise((resolve) => {
    waiting.set(id, resolve);
    socket.send(JSON.stringify(body));
  });
  return {
    told,
    close: () => socket.close(),
    call: (method, ...params) => send(++calls, { jsonrpc: "2.0", id: calls, method, params }),
    batch: (...methods) => send(++calls, methods.map((method) => ({ jsonrpc: "2.0", id: calls, method, params: [] }))),
  };
}

test("subscriptions tell the same", { timeout: 60_000 }, async () => {
  const sockets = await Promise.all(targets.map((target) => openSocket(target.url)));
  const problems = [];
  const compare = (name, [theirs, ...ours]) => ours.forEach((mine, index) => judge(name, targets[index + 1], theirs, mine, problems));
  const each = (work) => Promise.all(sockets.map(work));
  const subscribed = async (...params) => (await each((socket) => socket.call("eth_subscribe", ...params))).map(({ result }) => result);
  const heads = await subscribed("newHeads");
  const logs = await subscribed("logs", {});
  const pending = await subscribed("newPendingTransactions");
  const receipts = await transferEverywhere();
  const news = (ids) => sockets.map((socket, index) => socket.told.filter(({ subscription }) => subscription === ids[index]).map(({ result }) => result));
  for (let tries = 0; tries < 200 && [heads, logs, pending].some((ids) => news(ids).some((told) => told.length < 1)); tries += 1) {
    await new Promise((resolve) => setTimeout(resolve, 25));
  }
  compare("socket heads", news(heads));
  compare("socket logs", news(logs));
  compare("socket pending", news(pending));
  assert.ok(news(pending).every(([hash]) => hash === receipts[0].transactionHash));
  compare("socket unsubscribed", await each((socket, index) => socket.call("eth_unsubscribe", heads[index])));
  compare("socket unknown kind", await each((socket) => socket.call("eth_subscribe", "nonsense")));
  compare("socket batch", await each((socket) => socket.batch("eth_chainId", "net_version")));
  sockets.forEach((socket) => socket.close());
  assert.equal(problems.length, 0, problems.join("\n"));
});

const LAST = ["gas above the cap"];

// The last, because anvil takes it and is a block ahead from then on.
test("what is refused here and taken there", { timeout: 60_000 }, async () => {
  const huge = await sign(nonce, { to: NOBODY, gasLimit: 16_777_217 });
  const [theirs, ...ours] = await Promise.all(targets.map((target) => ask(target.url, "eth_sendRawTransaction", [huge])));
  const problems = [];
  ours.forEach((mine, index) => judge("gas above the cap", targets[index + 1], theirs, mine, problems));
  assert.equal(problems.length, 0, problems.join("\n"));
});
