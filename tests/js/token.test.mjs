// The network's own token, as it is committed, in the hands of viem and ethers.
import assert from "node:assert/strict";
import { before, test } from "node:test";
import { setTimeout as sleep } from "node:timers/promises";
import { artifact, CHAIN_ID, ethers, KEYS, OTHER, OWNER, privateKeyToAccount, startChain, viem } from "./clients.mjs";

const { abi, bytecode } = artifact("CortensorToken");
const SUPPLY = 10n ** 24n;
let node, reader, wallet, other, token;

before(async () => {
  node = await startChain("--listen", "127.0.0.1:0");
  const chain = viem.defineChain({
    id: CHAIN_ID, name: "cortensor", nativeCurrency: { name: "Coin", symbol: "C", decimals: 18 }, rpcUrls: { default: { http: [node.rpc] } },
  });
  reader = viem.createPublicClient({ chain, transport: viem.http(node.rpc), pollingInterval: 20 });
  [wallet, other] = KEYS.map((key) => viem.createWalletClient({ chain, transport: viem.http(node.rpc), account: privateKeyToAccount(key) }));
  const hash = await wallet.deployContract({ abi, bytecode, args: [OWNER, OWNER, SUPPLY] });
  token = (await reader.waitForTransactionReceipt({ hash })).contractAddress;
});

const read = (functionName, ...args) => reader.readContract({ address: token, abi, functionName, args });

async function write(from, functionName, ...args) {
  const receipt = await reader.waitForTransactionReceipt({ hash: await from.writeContract({ address: token, abi, functionName, args }) });
  assert.equal(receipt.status, "success");
  return receipt;
}

test("viem: an error of the library is decoded with its arguments", async () => {
  const tooMuch = { address: token, abi, functionName: "transfer", args: [OTHER, SUPPLY + 1n], account: OWNER };
  const error = await reader.simulateContract(tooMuch).then(() => assert.fail("it must fail"), (error) => error);
  const revert = error.walk((inner) => inner instanceof viem.ContractFunctionRevertedError);
  assert.equal(revert.data.errorName, "ERC20InsufficientBalance");
  assert.deepEqual(revert.data.args.map((value) => String(value).toLowerCase()), [OWNER.toLowerCase(), String(SUPPLY), String(SUPPLY + 1n)]);
});

test("viem: a permit signed off the chain is accepted once", async () => {
  const domain = { name: await read("name"), version: "1", chainId: CHAIN_ID, verifyingContract: token };
  const fields = ["owner:address", "spender:address", "value:uint256", "nonce:uint256", "deadline:uint256"];
  const types = { Permit: fields.map((field) => ({ name: field.split(":")[0], type: field.split(":")[1] })) };
  const message = { owner: OWNER, spender: OTHER, value: 77n, nonce: await read("nonces", OWNER), deadline: 2n ** 40n };
  const signature = await wallet.signTypedData({ domain, types, primaryType: "Permit", message });
  const { r, s, v } = viem.parseSignature(signature);
  const permit = [OWNER, OTHER, 77n, message.deadline, Number(v), r, s];
  await write(other, "permit", ...permit);
  assert.equal(await read("allowance", OWNER, OTHER), 77n);
  await write(other, "transferFrom", OWNER, OTHER, 7n);
  assert.equal(await read("allowance", OWNER, OTHER), 70n);
  await assert.rejects(other.writeContract({ address: token, abi, functionName: "permit", args: permit }), /ERC2612InvalidSigner/);
});

test("viem: votes of the past are read at a block of the past", async () => {
  await write(wallet, "delegate", OWNER);
  const votes = await read("getVotes", OWNER);
  // The clock of this token is the time: in another second its votes take another slot, and more gas, than in the newest
  // block. An estimate must be for the block to come.
  await sleep(1_100);
  const { blockNumber } = await write(wallet, "transfer", OTHER, 5n);
  assert.equal(await read("getVotes", OWNER), votes - 5n);
  const at = (number) => reader.readContract({ address: token, abi, functionName: "getVotes", args: [OWNER], blockNumber: number });
  assert.equal(await at(blockNumber - 1n), votes);
  const logs = await reader.getContractEvents({ address: token, abi, eventName: "DelegateVotesChanged", fromBlock: blockNumber, toBlock: blockNumber });
  assert.deepEqual(logs.map((log) => [log.args.previousVotes, log.args.newVotes]), [[votes, votes - 5n]]);
});

test("ethers: write, read, events, a revert", async () => {
  const provider = new ethers.JsonRpcProvider(node.rpc, undefined, { cacheTimeout: -1, polling: true, pollingInterval: 20 });
  const contract = new ethers.Contract(token, abi, new ethers.Wallet(KEYS[0], provider));
  const before = await contract.balanceOf(OTHER);
  const receipt = await (await contract.transfer(OTHER, 11n)).wait();
  assert.equal(await contract.balanceOf(OTHER), before + 11n);
  const events = await contract.queryFilter(contract.filters.Transfer(OWNER, OTHER), receipt.blockNumber, receipt.blockNumber);
  assert.deepEqual(events.map((event) => event.args.value), [11n]);
  const error = await contract.transfer.staticCall(ethers.ZeroAddress, 1n).then(() => assert.fail("it must fail"), (error) => error);
  assert.equal(error.revert.name, "ERC20InvalidReceiver");
  provider.destroy();
});

test("both see the same proof of the same balance", async () => {
  const proof = await reader.getProof({ address: token, storageKeys: [] });
  const direct = await new ethers.JsonRpcProvider(node.rpc).send("eth_getProof", [token, [], viem.numberToHex((await reader.getBlock()).number)]);
  assert.deepEqual(proof.accountProof, direct.accountProof);
  assert.equal(proof.storageHash, direct.storageHash);
});
