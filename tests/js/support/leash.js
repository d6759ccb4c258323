// Programs that end together with the test process that starts them.
import { spawnSync } from "node:child_process";

const hasSetpriv = spawnSync("setpriv", ["--pdeathsig", "KILL", "true"]).status === 0;

/**
 * The command that starts a program so that the kernel kills it when the test process is gone, even
 * after Ctrl-C, a time limit or `kill -9`. Without `setpriv` it is the plain command. In both cases
 * the process id is that of the program.
 */
export function leashed(command, args) {
  return hasSetpriv ? ["setpriv", ["--pdeathsig", "KILL", command, ...args]] : [command, args];
}
