// Finds the native forge, cast and anvil that npm installed; as a program, runs one: `node scripts/foundry.mjs forge test`.
// The launchers in node_modules/.bin (1.7.1) always exit with 0, so a failing test would pass: never go through them.
import { spawnSync } from "node:child_process";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = join(dirname(fileURLToPath(import.meta.url)), "..");
const ARCHITECTURES = { x64: "amd64", arm64: "arm64" };

/** Path of the native binary of `tool` for this platform; throws when npm did not install one. */
export function binary(tool) {
  const platform = `${process.platform}-${ARCHITECTURES[process.arch]}`;
  const file = process.platform === "win32" ? `${tool}.exe` : tool;
  try {
    return createRequire(import.meta.url).resolve(`@foundry-rs/${tool}-${platform}/bin/${file}`);
  } catch (cause) {
    throw new Error(`no ${tool} for ${platform}: run \`npm ci\` in contracts/`, { cause });
  }
}

if (process.argv[1] === fileURLToPath(import.meta.url)) {
  const [tool, ...args] = process.argv.slice(2);
  const { status, signal, error } = spawnSync(binary(tool), args, { cwd: root, stdio: "inherit" });
  if (error) throw error;
  if (signal) process.kill(process.pid, signal);
  process.exit(status);
}
