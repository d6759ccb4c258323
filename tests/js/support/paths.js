// Paths on this machine.
import { join, resolve } from "node:path";
import { fileURLToPath } from "node:url";

/** The top of the repository. */
export const TOP = fileURLToPath(new URL("../../../", import.meta.url));

/** Cargo's folder: `CARGO_TARGET_DIR`, or `target` at the top if that is unset or empty. */
export const TARGET = resolve(TOP, process.env.CARGO_TARGET_DIR || "target");

/** The path of `parts` in cargo's folder. */
export const target = (...parts) => join(TARGET, ...parts);
