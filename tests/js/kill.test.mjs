// kill -9 of the chain, again and again, while transactions come in: every transaction whose receipt a client has seen is
// there afterwards, in the same block, and the money is where the receipts say.
import assert from "node:assert/strict";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { ethers, freePort, KEYS, rpc, startChain } from "./clients.mjs";

const ROUNDS = 5;
// Acknowledgements of a round before its kill: the load is well under way, wherever the chain is with its work.
const ACKNOWLEDGED = 15;
const SENDERS = 2;

const folder = mkdtempSync(join(tmpdir(), "cortensor-kill-"));
after(() => rmSync(folder, { recursive: true, force: true }));

// Sends transfers one after the other, waits for each receipt, and notes it. Ends when the chain is gone.
async function load(url, key, round, acknowledged) {
  const wallet = new ethers.Wallet(key);
  let nonce = Number(await rpc(url, "eth_getTransactionCount", wallet.address, "latest"));
  for (let count = 0; ; count += 1) {
    // A receiver of its own for each transfer, so that its balance tells whether it happened, and that it did so once.
    const to = ethers.getCreateAddress({ from: wallet.address, nonce: nonce + 1_000_000 });
    const signed = await wallet.signTransaction({
      type: 2, chainId: 31338, nonce, to, value: 1n + BigInt(round), gasLimit: 21_000, maxFeePerGas: 10n ** 11n, maxPriorityFeePerGas: 1n,
    });
    const hash = await rpc(url, "eth_sendRawTransaction", signed);
    let receipt = null;
    while (receipt === null) receipt = await rpc(url, "eth_getTransactionReceipt", hash);
    assert.equal(receipt.status, "0x1");
    acknowledged.push({ hash, block: receipt.blockHash, from: wallet.address, nonce, to, value: 1n + BigInt(round) });
    nonce += 1;
  }
}

async function check(url, acknowledged) {
  for (const { hash, block, to, value } of acknowledged) {
    const receipt = await rpc(url, "eth_getTransactionReceipt", hash);
    assert.ok(receipt, `${hash} is lost`);
    assert.equal(receipt.blockHash, block, `${hash} is in another block now`);
    assert.equal(BigInt(await rpc(url, "eth_getBalance", to, "latest")), value);
  }
  for (const key of KEYS.slice(0, SENDERS)) {
    const { address } = new ethers.Wallet(key);
    const next = Number(await rpc(url, "eth_getTransactionCount", address, "latest"));
    const known = acknowledged.filter(({ from }) => from === address).map(({ nonce }) => nonce);
    assert.ok(known.every((nonce) => nonce < next), "the nonce is behind what was acknowledged");
    assert.equal(new Set(known).size, known.length, "a nonce was acknowledged twice");
  }
}

// Walks back from the newest block: each must name the one before, down to the first.
async function checkBlocks(url) {
  let block = await rpc(url, "eth_getBlockByNumber", "latest", false);
  const newest = Number(block.number);
  while (Number(block.number) > 0) {
    const parent = await rpc(url, "eth_getBlockByHash", block.parentHash, false);
    assert.equal(Number(parent.number), Number(block.number) - 1);
    block = parent;
  }
  return newest;
}

test("nothing that was acknowledged is lost", { timeout: 240_000 }, async () => {
  const listen = `127.0.0.1:${await freePort()}`;
  const acknowledged = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const node = await startChain("--listen", listen, "--data", join(folder, "chain"));
    await check(node.rpc, acknowledged);
    const before = acknowledged.length;
    const loads = KEYS.slice(0, SENDERS).map((key) => load(node.rpc, key, round, acknowledged).catch((error) => error));
    while (acknowledged.length < before + ACKNOWLEDGED) {
      await sleep(1);
      assert.equal(node.child.exitCode, null, "the chain ended by itself");
    }
    // Each round at another moment of the chain's work.
    await sleep(round * 3);
    node.child.kill("SIGKILL");
    for (const error of await Promise.all(loads)) assert.match(error.message, /fetch failed|terminated|closed/, String(error));
    const { said } = await node.ended;
    assert.doesNotMatch(said, /panicked/);
  }
  const node = await startChain("--listen", listen, "--data", join(folder, "chain"));
  await check(node.rpc, acknowledged);
  assert.ok(acknowledged.length >= ROUNDS * ACKNOWLEDGED);
  assert.ok((await checkBlocks(node.rpc)) >= node.block);
  node.child.kill("SIGTERM");
  assert.equal((await node.ended).code, 0);
});
