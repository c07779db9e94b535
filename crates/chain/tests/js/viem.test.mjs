import assert from "node:assert/strict";
import { before, test } from "node:test";
import {
  BaseError, ContractFunctionRevertedError, createPublicClient, createWalletClient, defineChain, http, parseAbi, parseEther,
  webSocket,
} from "viem";
import { privateKeyToAccount } from "viem/accounts";
import { KEYS, OTHER, OWNER, PROBE_ABI, PROBE_CODE, startChain, TOKEN_ABI, TOKEN_CODE } from "./node.mjs";

const tokenAbi = parseAbi(TOKEN_ABI);
const probeAbi = parseAbi(PROBE_ABI);
let reader, socket, wallet, token;

before(async () => {
  const url = await startChain();
  const chain = defineChain({
    id: 31337, name: "chain", nativeCurrency: { name: "Coin", symbol: "C", decimals: 18 }, rpcUrls: { default: { http: [url] } },
  });
  reader = createPublicClient({ chain, transport: http(url, { batch: true }), pollingInterval: 20 });
  socket = createPublicClient({ chain, transport: webSocket(url.replace("http", "ws"), { reconnect: false }) });
  wallet = createWalletClient({ chain, transport: http(url), account: privateKeyToAccount(KEYS[0]) });
  const hash = await wallet.deployContract({ abi: tokenAbi, bytecode: TOKEN_CODE, args: [1000n] });
  token = (await reader.waitForTransactionReceipt({ hash })).contractAddress;
});

test("a transfer of coins", async () => {
  const before = await reader.getBalance({ address: OTHER });
  const hash = await wallet.sendTransaction({ to: OTHER, value: parseEther("1.5") });
  const receipt = await reader.waitForTransactionReceipt({ hash });
  assert.equal(receipt.status, "success");
  assert.equal(receipt.type, "eip1559");
  assert.equal(await reader.getBalance({ address: OTHER }), before + parseEther("1.5"));
  const block = await reader.getBlock({ blockHash: receipt.blockHash, includeTransactions: true });
  assert.equal(block.transactions[0].hash, hash);
  assert.equal((await reader.getTransaction({ hash })).from.toLowerCase(), OWNER.toLowerCase());
});

test("a contract is written, read, and its events are found", async () => {
  const hash = await wallet.writeContract({ address: token, abi: tokenAbi, functionName: "transfer", args: [OTHER, 7n] });
  const { blockNumber } = await reader.waitForTransactionReceipt({ hash });
  const balance = await reader.readContract({ address: token, abi: tokenAbi, functionName: "balanceOf", args: [OTHER] });
  assert.equal(balance, 7n);
  const earlier = await reader.readContract({
    address: token, abi: tokenAbi, functionName: "balanceOf", args: [OTHER], blockNumber: blockNumber - 1n,
  });
  assert.equal(earlier, 0n);
  const events = await reader.getContractEvents({ address: token, abi: tokenAbi, eventName: "Transfer", fromBlock: 0n, args: { to: OTHER } });
  assert.deepEqual(events.map((event) => event.args.value), [7n]);
});

test("custom errors are decoded in simulation and estimation", async () => {
  const call = { address: token, abi: tokenAbi, functionName: "transfer", args: [OTHER, 10_000n], account: OWNER };
  for (const attempt of [() => reader.simulateContract(call), () => reader.estimateContractGas(call)]) {
    const error = await attempt().then(() => assert.fail("it must fail"), (error) => error);
    assert.ok(error instanceof BaseError);
    const revert = error.walk((inner) => inner instanceof ContractFunctionRevertedError);
    assert.equal(revert.data.errorName, "InsufficientBalance");
    assert.equal(revert.data.args[2], 10_000n);
  }
});

test("fees, proofs, state overrides, access lists", async () => {
  const fees = await reader.estimateFeesPerGas();
  assert.ok(fees.maxFeePerGas > fees.maxPriorityFeePerGas);
  const history = await reader.getFeeHistory({ blockCount: 2, rewardPercentiles: [25, 75] });
  assert.equal(history.baseFeePerGas.length, history.gasUsedRatio.length + 1);
  const proof = await reader.getProof({ address: token, storageKeys: ["0x" + "00".repeat(31) + "01"] });
  assert.equal(proof.storageProof[0].value, 1000n);
  const { data } = await reader.call({ to: OTHER, data: "0x", stateOverride: [{ address: OTHER, code: "0x60426000526001601ff3" }] });
  assert.equal(data, "0x42");
  const list = await reader.createAccessList({ to: token, data: "0x18160ddd", account: OWNER });
  assert.equal(list.accessList.length, 1);
});

test("an estimate is enough for a call that tolerates failure", async () => {
  const deployed = await reader.waitForTransactionReceipt({ hash: await wallet.deployContract({ abi: probeAbi, bytecode: PROBE_CODE }) });
  const address = deployed.contractAddress;
  const hash = await wallet.writeContract({ address, abi: probeAbi, functionName: "tolerate", args: [30n] });
  assert.equal((await reader.waitForTransactionReceipt({ hash })).status, "success");
  assert.equal(await reader.readContract({ address, abi: probeAbi, functionName: "inner" }), true);
});

test("subscriptions over a WebSocket", async () => {
  const heads = [], logs = [], pending = [];
  const stop = [
    socket.watchBlocks({ onBlock: (block) => heads.push(block.number) }),
    socket.watchContractEvent({ address: token, abi: tokenAbi, eventName: "Transfer", onLogs: (found) => logs.push(...found) }),
    socket.watchPendingTransactions({ onTransactions: (hashes) => pending.push(...hashes) }),
  ];
  await new Promise((resolve) => setTimeout(resolve, 300));
  const hash = await wallet.writeContract({ address: token, abi: tokenAbi, functionName: "transfer", args: [OTHER, 1n] });
  const receipt = await reader.waitForTransactionReceipt({ hash });
  for (let waited = 0; waited < 100 && !(heads.length && logs.length && pending.length); waited++) {
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  stop.forEach((unwatch) => unwatch());
  assert.deepEqual(heads, [receipt.blockNumber]);
  assert.equal(logs[0].transactionHash, hash);
  assert.deepEqual(pending, [hash]);
  (await socket.transport.getRpcClient()).close();
});

test("polling filters", async () => {
  const filter = await reader.createContractEventFilter({ address: token, abi: tokenAbi, eventName: "Transfer" });
  const blocks = await reader.createBlockFilter();
  const hash = await wallet.writeContract({ address: token, abi: tokenAbi, functionName: "transfer", args: [OTHER, 1n] });
  const { blockHash } = await reader.waitForTransactionReceipt({ hash });
  assert.deepEqual((await reader.getFilterChanges({ filter })).map((log) => log.transactionHash), [hash]);
  assert.deepEqual(await reader.getFilterChanges({ filter: blocks }), [blockHash]);
  assert.equal(await reader.uninstallFilter({ filter }), true);
});
