// Programs that end with the test that starts them, however it ends.
import { spawnSync } from "node:child_process";

const hasSetpriv = spawnSync("setpriv", ["--pdeathsig", "KILL", "true"]).status === 0;

/**
 * The command with which to start a program: where the system can, the kernel kills it when the test process is gone,
 * also by Ctrl-C, a time limit or `kill -9`. The process id is the program's own.
 */
export function leashed(command, args) {
  return hasSetpriv ? ["setpriv", ["--pdeathsig", "KILL", command, ...args]] : [command, args];
}
