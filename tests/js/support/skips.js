// Skips tests that cannot run on this machine. `tools/test` lists them.

/** Skips a test that lacks a program. With CI=true, `tools/test` fails because of this text. */
export const lacks = (t, program, remedy) => t.skip(`${program} is not here: ${remedy}`);

/** Skips a test that this machine does not allow, whatever is installed. */
export const cannot = (t, why) => t.skip(`not possible here: ${why}`);
