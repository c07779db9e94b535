// Runs forge, cast and anvil: those that npm installed for Linux on x86-64, elsewhere those on the PATH.
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

export const root = join(dirname(fileURLToPath(import.meta.url)), "..");

/** Options for child processes that start a Foundry tool by its bare name, in the forge root. */
export const options = {
  cwd: root,
  env: { ...process.env, PATH: `${join(root, "node_modules", ".bin")}${delimiter}${process.env.PATH}` },
};
