// Writes artifacts/<Contract>.json from a fresh build: what the Rust bindings and the deployer are made of.
// With --check it writes nothing and fails when a committed artifact differs from the rebuild by one byte.
import { execFileSync } from "node:child_process";
import { createHash } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { options, root } from "./foundry.mjs";

const CONTRACTS = [
  "CortensorToken",
  "NodeRegistry",
  "ModelRegistry",
  "Sessions",
  "Guards",
  "Scores",
  "Court",
  "Audits",
  "Batches",
  "Rewards",
  "Capabilities",
  "Usefulness",
  "Validators",
  "Equivocations",
  "Checkpoints",
  "ForeignBlocks",
  "Outbox",
  "Inbox",
  "LockBridge",
  "MintBridge",
  "Members",
  "TimelockController",
  "CheckpointKeys",
];

/** SHA-256 over every source the contract was compiled from, each as path, newline, content. */
function sourceHash(metadata) {
  const hash = createHash("sha256");
  for (const path of Object.keys(metadata.sources).sort()) {
    hash.update(`${path}\n`);
    hash.update(readFileSync(join(root, path)));
  }
  return `0x${hash.digest("hex")}`;
}

function artifact(name) {
  const output = JSON.parse(readFileSync(join(root, "out", `${name}.sol`, `${name}.json`), "utf8"));
  const { metadata } = output;
  const value = {
    contractName: name,
    compiler: metadata.compiler.version,
    evmVersion: metadata.settings.evmVersion,
    optimizerRuns: metadata.settings.optimizer.runs,
    sourceHash: sourceHash(metadata),
    abi: output.abi,
    bytecode: output.bytecode.object,
    deployedBytecode: output.deployedBytecode.object,
  };
  return `${JSON.stringify(value)}\n`;
}

execFileSync("forge", ["build", "--force", "src"], { ...options, stdio: ["ignore", "ignore", "inherit"] });
mkdirSync(join(root, "artifacts"), { recursive: true });

const check = process.argv.includes("--check");
let stale = 0;
for (const name of CONTRACTS) {
  const path = join(root, "artifacts", `${name}.json`);
  const built = artifact(name);
  if (!check) {
    writeFileSync(path, built);
    console.log(`wrote artifacts/${name}.json (${built.length} bytes)`);
  } else if (!existsSync(path) || readFileSync(path, "utf8") !== built) {
    console.error(`artifacts/${name}.json differs from a rebuild: run \`npm run artifacts\` and commit it`);
    stale += 1;
  } else {
    console.log(`artifacts/${name}.json matches`);
  }
}
process.exit(stale === 0 ? 0 : 1);
