// The same conversation with this chain and with anvil must go the same way, apart from what is each chain's own.
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { Interface, Wallet } from "ethers";
import { foundry, KEYS, OTHER, OWNER, PROBE_ABI, PROBE_CODE, rpc, start, startChain, TOKEN_ABI, TOKEN_CODE } from "./node.mjs";

const anvil = foundry("anvil");
const token = new Interface(TOKEN_ABI);
const probe = new Interface(PROBE_ABI);
// Keys of responses that one of the two adds on its own.
const OWN = new Set(["blobGasPrice", "requestsHash", "blockTimestamp", "size", "totalDifficulty", "yParity", "accessList"]);
let ours, theirs;

before(async () => {
  if (!anvil) return;
  ours = await startChain();
  const line = await start(anvil, ["--port", "0", "--chain-id", "31337", "--hardfork", "osaka"], /127\.0\.0\.1:\d+/);
  theirs = `http://${line}`;
});

const both = (method, params) => Promise.all([rpc(ours, method, params), rpc(theirs, method, params)]);

async function send(fields) {
  const nonce = Number((await rpc(ours, "eth_getTransactionCount", [OWNER, "latest"])).result);
  const signed = await new Wallet(KEYS[0]).signTransaction({
    type: 2, chainId: 31337, nonce, gasLimit: 3_000_000, maxFeePerGas: 10n ** 10n, maxPriorityFeePerGas: 1n, ...fields,
  });
  const answers = await both("eth_sendRawTransaction", [signed]);
  assert.equal(answers[0].result, answers[1].result);
  const hash = answers[0].result;
  for (;;) {
    const receipts = await both("eth_getTransactionReceipt", [hash]);
    if (receipts.every((receipt) => receipt.result)) return receipts.map((receipt) => receipt.result);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const keys = (object) => Object.keys(object).filter((key) => !OWN.has(key) && object[key] !== null).sort();

test("both chains tell the same story", { skip: !anvil }, async () => {
  const deployed = await send({ data: TOKEN_CODE + "03e8".padStart(64, "0") });
  const address = deployed[0].contractAddress;
  const probed = await send({ data: PROBE_CODE });
  const transferred = await send({ to: address, data: token.encodeFunctionData("transfer", [OTHER, 5n]) });
  const failed = await send({ to: address, data: token.encodeFunctionData("transfer", [OTHER, 5000n]) });
  for (const [mine, other] of [deployed, probed, transferred, failed]) {
    assert.deepEqual(keys(mine), keys(other));
    for (const key of ["status", "gasUsed", "cumulativeGasUsed", "contractAddress", "from", "to", "type", "logsBloom", "transactionIndex"]) {
      assert.equal(mine[key], other[key], key);
    }
    assert.deepEqual(mine.logs.map(({ data, topics, logIndex }) => ({ data, topics, logIndex })),
      other.logs.map(({ data, topics, logIndex }) => ({ data, topics, logIndex })));
  }
  const where = probed[0].contractAddress;
  const call = (to, data) => [{ from: OWNER, to, data }, "latest"];
  const questions = [
    ["eth_getTransactionCount", [OWNER, "latest"]],
    ["eth_getCode", [address, "latest"]],
    ["eth_getStorageAt", [address, "0x1", "latest"]],
    ["eth_getBalance", [OTHER, "latest"]],
    ["eth_call", call(address, token.encodeFunctionData("balanceOf", [OTHER]))],
    ["eth_getBlockTransactionCountByNumber", ["0x1"]],
    ["eth_getTransactionReceipt", ["0x" + "11".repeat(32)]],
    ["eth_getBlockByNumber", ["0x999", false]],
    ["net_version", []],
    ["eth_syncing", []],
  ];
  for (const [method, params] of questions) {
    const [mine, other] = await both(method, params);
    assert.deepEqual(mine.result, other.result, method);
  }
  for (const name of ["failReason", "failCustom", "failEmpty"]) {
    const [mine, other] = await both("eth_call", call(where, probe.encodeFunctionData(name)));
    assert.equal(mine.error.code, other.error.code, name);
    assert.equal(mine.error.data, other.error.data, name);
  }
  for (const [method, params] of [["eth_getBlockByNumber", ["0x3", true]], ["eth_getTransactionByHash", [transferred[0].transactionHash]]]) {
    const [mine, other] = await both(method, params);
    const missing = keys(other.result).filter((key) => !keys(mine.result).includes(key));
    assert.deepEqual(missing, [], method);
  }
  const transfer = { from: OWNER, to: address, data: token.encodeFunctionData("transfer", [OTHER, 1n]) };
  const [mine, other] = await both("eth_estimateGas", [transfer]);
  const spread = Number(mine.result) / Number(other.result);
  assert.ok(spread > 0.97 && spread < 1.03, `estimates ${mine.result} and ${other.result}`);
  const tolerate = { from: OWNER, to: where, data: probe.encodeFunctionData("tolerate", [20n]) };
  const [enough] = await both("eth_estimateGas", [tolerate]);
  assert.ok(Number(enough.result) > 20 * 22_100, "the estimate pays for the inner call");
});
