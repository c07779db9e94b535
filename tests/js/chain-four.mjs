#!/usr/bin/env node
// What crates/chain/tests/js starts as CHAIN_NODE, here as four validators that decide together: the third is spoken to.
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { startValidators } from "./validators.mjs";

const folder = mkdtempSync(join(tmpdir(), "cortensor-four-"));
process.on("exit", () => rmSync(folder, { recursive: true, force: true }));
for (const signal of ["SIGTERM", "SIGINT"]) process.on(signal, () => process.exit(0));
const { urls } = await startValidators(join(folder, "net"), { chainId: 31337, emptyBlockMs: 600_000 });
console.log(`four validators, of which ${urls[2]} answers`);
