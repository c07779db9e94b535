import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Contract, ContractFactory, isError, JsonRpcProvider, NonceManager, parseEther, Wallet, WebSocketProvider } from "ethers";
import { KEYS, OTHER, PROBE_ABI, PROBE_CODE, startChain, TOKEN_ABI, TOKEN_CODE } from "./node.mjs";

let url, provider, wallet, token;

before(async () => {
  url = await startChain();
  provider = new JsonRpcProvider(url, undefined, { cacheTimeout: -1, polling: true, pollingInterval: 20 });
  wallet = new NonceManager(new Wallet(KEYS[0], provider));
  token = await (await new ContractFactory(TOKEN_ABI, TOKEN_CODE, wallet).deploy(1000n)).waitForDeployment();
});

after(() => provider.destroy());

test("network and fees", async () => {
  assert.equal((await provider.getNetwork()).chainId, 31337n);
  const fees = await provider.getFeeData();
  assert.ok(fees.maxFeePerGas > 0n && fees.gasPrice > 0n);
});

test("a transfer of coins", async () => {
  const before = await provider.getBalance(OTHER);
  const receipt = await (await wallet.sendTransaction({ to: OTHER, value: parseEther("2") })).wait();
  assert.equal(receipt.status, 1);
  assert.equal(await provider.getBalance(OTHER), before + parseEther("2"));
  assert.equal(await provider.getBalance(OTHER, receipt.blockNumber - 1), before);
  const block = await provider.getBlock(receipt.blockNumber, true);
  assert.equal(block.prefetchedTransactions[0].hash, receipt.hash);
});

test("a contract is written and read, and its events are queried", async () => {
  const receipt = await (await token.transfer(OTHER, 5n)).wait();
  assert.equal(receipt.logs.length, 1);
  assert.equal(await token.balanceOf(OTHER), 5n);
  const events = await token.queryFilter(token.filters.Transfer(null, OTHER), 0);
  assert.deepEqual(events.map((event) => event.args.value), [5n]);
});

test("reverts are understood", async () => {
  const probe = await (await new ContractFactory(PROBE_ABI, PROBE_CODE, wallet).deploy()).waitForDeployment();
  const failure = (promise) => promise.then(() => assert.fail("it must fail"), (error) => error);
  const custom = await failure(probe.failCustom.staticCall());
  assert.ok(isError(custom, "CALL_EXCEPTION"));
  assert.equal(custom.revert.name, "Custom");
  assert.equal((await failure(probe.failReason.staticCall())).reason, "no reason at all");
  assert.equal((await failure(probe.failReason())).reason, "no reason at all", "found while estimating");
  assert.equal((await failure(probe.failPanic(0n))).revert.name, "Panic");
});

test("refusals have the codes that ethers knows", async () => {
  const failure = (promise) => promise.then(() => assert.fail("it must fail"), (error) => error.code);
  const plain = new Wallet(KEYS[0], provider);
  const fee = { gasLimit: 21000, maxFeePerGas: 10n ** 10n, maxPriorityFeePerGas: 1n };
  assert.equal(await failure(plain.sendTransaction({ to: OTHER, nonce: 0, ...fee })), "NONCE_EXPIRED");
  const poor = new Wallet("0x" + "11".repeat(32), provider);
  assert.equal(await failure(poor.sendTransaction({ to: OTHER, value: 1n, ...fee })), "INSUFFICIENT_FUNDS");
  const nonce = (await plain.getNonce()) + 1;
  await plain.sendTransaction({ to: OTHER, nonce, ...fee });
  assert.equal(await failure(plain.sendTransaction({ to: OTHER, nonce, value: 1n, ...fee })), "REPLACEMENT_UNDERPRICED");
});

test("events over a WebSocket", async () => {
  const socket = new WebSocketProvider(url.replace("http", "ws"));
  const watched = new Contract(await token.getAddress(), TOKEN_ABI, socket);
  const block = new Promise((resolve) => socket.once("block", resolve));
  const event = new Promise((resolve) => watched.once("Transfer", (from, to, value) => resolve(value)));
  await new Promise((resolve) => setTimeout(resolve, 300));
  wallet.reset();
  await (await token.transfer(OTHER, 9n)).wait();
  assert.ok((await block) > 0);
  assert.equal(await event, 9n);
  // Both listeners unsubscribe by themselves; a socket that is gone before they are done is an error of nobody's.
  await new Promise((resolve) => setTimeout(resolve, 100));
  await socket.destroy();
});
