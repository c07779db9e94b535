import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { before, test } from "node:test";
import { promisify } from "node:util";
import { foundry, KEYS, OTHER, OWNER, startChain, TOKEN_CODE } from "./node.mjs";

const program = foundry("cast");
let url, token;
const cast = async (...args) => {
  const { stdout } = await promisify(execFile)(program, args, { env: { ETH_RPC_URL: url, PATH: process.env.PATH } });
  return stdout.trim();
};
const send = async (...args) => JSON.parse(await cast("send", "--json", "--private-key", KEYS[0], ...args));

before(async () => {
  url = await startChain();
});

test("cast sends, deploys, calls and looks around", { skip: !program }, async () => {
  assert.equal(await cast("chain-id"), "31337");
  assert.equal((await send(OTHER, "--value", "1ether")).status, "0x1");
  assert.equal(await cast("balance", OTHER), "10001000000000000000000");
  token = (await send("--create", TOKEN_CODE + "03e8".padStart(64, "0"))).contractAddress;
  const receipt = await send(token, "transfer(address,uint256)", OTHER, "3");
  assert.equal(await cast("call", token, "balanceOf(address)(uint256)", OTHER), "3");
  assert.match(await cast("receipt", receipt.transactionHash), /status\s+1 \(success\)/);
  assert.match(await cast("tx", receipt.transactionHash), new RegExp(OWNER, "i"));
  assert.match(await cast("block", "latest"), new RegExp(receipt.blockHash));
  assert.equal(await cast("nonce", OWNER), "3");
  assert.notEqual(await cast("code", token), "0x");
  assert.equal(await cast("storage", token, "1"), "0x" + "03e8".padStart(64, "0"));
  assert.match(await cast("logs", "--from-block", "0", "--address", token), new RegExp(receipt.transactionHash));
  assert.ok(BigInt(await cast("estimate", token, "transfer(address,uint256)", OTHER, "1", "--from", OWNER)) > 21000n);
  assert.ok(JSON.parse(await cast("proof", token)).accountProof.length > 0);
  assert.ok(BigInt(await cast("gas-price")) > 0n);
  assert.match(await cast("rpc", "debug_traceTransaction", receipt.transactionHash, '{"tracer":"callTracer"}'), /"type":"CALL"/);
  assert.match(await cast("access-list", token, "totalSupply()", "--from", OWNER), new RegExp(token, "i"));
  const failure = await cast("call", token, "transfer(address,uint256)", OTHER, "1", "--from", OTHER.replace("7", "8")).catch((error) => error.stderr);
  assert.match(failure, /execution reverted|invalid/);
});
